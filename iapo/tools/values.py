"""What a tool program works with: images, boxes by name, and what tools returned."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self, TypeAlias

from PIL import Image

from iapo.records import FIRST_IMAGE, Axis, Box, Sample
from iapo.tools.edits import Masking
from iapo.tools.errors import ToolError, quoted


@dataclass(frozen=True, slots=True)
class Observation:
    """What a tool of one's own may return: an image, a text or number, or both; at least one of them.

    Attributes:
        image: The image that the model is shown next; None where there is none.
        text: Text or number that it is told; None where there is none.
    """

    image: Image.Image | None = None
    text: str | int | float | None = None


@dataclass(frozen=True, slots=True)
class Picture:
    """An image in a program.

    Attributes:
        image: The image.
        name: Name of it in records of calls: `image_1`, or the tool that made it, as `crop(...)`.
        edited: Whether a tool made it.
        text: Text that the tool gave with it, if it did.
        made_of: Name of the sample's image that it is or was made of; of several the first that is not `image_1`.
        moved_by: Name of the tool that moved what is in that image to other places; empty where none has.
        free: Whether a free tool made it, or what it was made of.
        misused: Whether a tool of the wrong axis did.
        maskings: The packaged masks that were laid over it, in order.
    """

    image: Image.Image
    name: str
    edited: bool
    text: str | None = None
    made_of: str = FIRST_IMAGE
    moved_by: str = ""
    free: bool = False
    misused: bool = False
    maskings: tuple[Masking, ...] = ()


@dataclass(frozen=True, slots=True)
class NamedBoxes:
    """Boxes by name.

    Attributes:
        name: `columns_bbox`, `rows_bbox` or `own boxes`.
        axis: Axis of what they are round; None for the program's own, which a tool of either axis takes.
        boxes: The boxes.
    """

    name: str
    axis: Axis | None
    boxes: Mapping[str, Box]

    def of_another_axis(self, axis: Axis | None) -> tuple[str, Axis] | None:
        """Returns the name and the axis of the sample's boxes among these that are round something else.

        One of them in a dictionary of the program's own is still of its axis.

        Args:
            axis: The axis of the tool that they are given to; None where it takes either.
        """
        origins = [(self.name, self.axis)]
        origins += [(box.boxes, box.axis) for box in self.boxes.values() if isinstance(box, NamedBox)]
        return next(((name, its) for name, its in origins if its is not None and axis not in (None, its)), None)


class NamedBox(tuple[float, float, float, float]):
    """One of the sample's boxes, as `columns_bbox["2019"]` gives it: four numbers like any box.

    Attributes:
        boxes: Where it is from, `columns_bbox` or `rows_bbox`.
        axis: Axis of what it is round.
    """

    boxes: str
    axis: Axis | None

    @classmethod
    def of(cls, name: str, boxes: NamedBoxes) -> Self:
        """Makes one of the sample's boxes of that name."""
        found = cls(boxes.boxes[name])
        found.boxes, found.axis = boxes.name, boxes.axis
        return found


@dataclass(frozen=True, slots=True)
class Said:
    """A text or a number that a tool returned.

    Attributes:
        value: What it returned.
        text: The same as the model is told it.
    """

    value: str | int | float
    text: str


Value: TypeAlias = Picture | NamedBoxes | Said | str | int | float | bool | tuple[Any, ...] | None
"""What an expression of a program stands for; a tuple is a list of values."""


@dataclass(frozen=True, slots=True)
class Scene:
    """What the arguments of one call are checked against.

    Attributes:
        sample: The sample.
        size: Width and height in pixels of the image that its boxes and points are in: the call's own, or the sample's.
    """

    sample: Sample
    size: tuple[int, int]


def check_places(picture: Picture, values: Iterable[Any]) -> None:
    """Refuses the sample's boxes with an image in which they are of other places.

    Args:
        picture: The image.
        values: Values that are given with it, lists of values among them.

    Raises:
        ToolError: If so; the sentence begins behind the tool's name.
    """
    boxes = _named(values)
    if boxes and (picture.made_of != FIRST_IMAGE or picture.moved_by):
        moved = f"what {picture.moved_by} gave, in which all lies elsewhere,"
        other = moved if picture.made_of == FIRST_IMAGE else picture.made_of
        raise ToolError(f"was given {other} with {boxes}, whose boxes are on {FIRST_IMAGE}; give it {FIRST_IMAGE}")


def _named(values: Iterable[Any]) -> str:
    """Returns where the first of the sample's boxes among some values is from; empty where there is none."""
    for value in values:
        if isinstance(value, NamedBox):
            return value.boxes
        if isinstance(value, NamedBoxes) and value.axis is not None:
            return value.name
        inner = value.boxes.values() if isinstance(value, NamedBoxes) else value if isinstance(value, tuple) else ()
        if found := _named(inner):
            return found
    return ""


def origin(values: Iterable[Any]) -> str:
    """Returns the name of the sample's image that a call's result is made of; of several the first but `image_1`.

    Args:
        values: Values of its arguments, lists of values among them.
    """
    return next((name for name in _origins(values) if name != FIRST_IMAGE), FIRST_IMAGE)


def _origins(values: Iterable[Any]) -> Iterator[str]:
    for value in values:
        if isinstance(value, Picture):
            yield value.made_of
        elif isinstance(value, tuple):
            yield from _origins(value)


def described(value: Value) -> str:
    """Says what a value is, for the sentence that refuses it."""
    if isinstance(value, Picture):
        return "a picture"
    if isinstance(value, NamedBoxes):
        return f"the boxes {value.name}"
    if isinstance(value, Said):
        return f"the result {quoted(value.value)}"
    if isinstance(value, str):
        return f"the text {quoted(value)}"
    if isinstance(value, tuple):
        return "a list of names" if all(isinstance(one, str) for one in value) else "a list"
    return quoted(value)
