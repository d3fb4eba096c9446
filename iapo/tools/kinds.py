"""The types that an argument of a free tool may have: how a prompt says them, and what is checked of a value."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from PIL import Image

from iapo.records import Axis, Box, Sample
from iapo.tools.bounds import ANY, MOST_DIGITS, Bounds, is_writable, written
from iapo.tools.errors import ToolError, listed, quoted
from iapo.tools.names import known_name
from iapo.tools.own_boxes import FRACTION, check_box, check_boxes
from iapo.tools.values import NamedBoxes, Picture, Said, Scene, Value, described

LONGEST_LIST = 64
"""Most entries of a list that is given to a tool."""

_BEYOND = 0.05
"""Share of a side that a point or box may lie beyond the image; it is then moved to its edge."""


class Kind(Protocol):
    """One type of argument."""

    @property
    def told(self) -> str:
        """What a prompt says of it: what it is, its unit and its range."""

    @property
    def plural(self) -> str:
        """The same of several."""

    def take(self, value: Value, scene: Scene) -> Any:
        """Returns what the tool's function is given for a value of a program.

        Raises:
            ToolError: If the value is of another type, or outside of its range or of the image.
        """

    def example(self, sample: Sample | None) -> str | None:
        """Writes a value as a program would; None where none can be made up."""


@dataclass(frozen=True, slots=True)
class ImageKind:
    """An image."""

    told = "an image: image_1, or what a tool returned"
    plural = "images: image_1, or what tools returned"

    def take(self, value: Value, scene: Scene) -> Image.Image:
        """Takes an image."""
        if not isinstance(value, Picture):
            given = ", ".join(scene.sample.named_images)
            raise ToolError(f"is {described(value)}; give it {given} or an image that a tool returned")
        return value.image

    def example(self, sample: Sample | None) -> str:
        """Writes the sample's image."""
        return "image_1"


@dataclass(frozen=True, slots=True)
class BoxKind:
    """Four numbers: a box in pixels of the image, clipped to it."""

    told = "a box [x1, y1, x2, y2] in pixels of the image"
    plural = "boxes [x1, y1, x2, y2] in pixels of the image"

    def take(self, value: Value, scene: Scene) -> Box:
        """Takes four numbers, or one of the sample's boxes."""
        x1, y1, x2, y2 = _numbers(value, 4, "[x1, y1, x2, y2]")
        width, height = scene.size
        if max(x2, y2) <= FRACTION:
            raise ToolError(f"is in fractions; give pixels of this image of {width} x {height}")
        check_box((x1, y1, x2, y2), scene.size)
        return max(0.0, x1), max(0.0, y1), min(float(width), x2), min(float(height), y2)

    def example(self, sample: Sample | None) -> str:
        """Writes the middle of the image."""
        if sample is None:
            return "[x1, y1, x2, y2]"
        width, height = sample.image.size
        return f"[{width // 4}, {height // 4}, {width - width // 4}, {height - height // 4}]"


@dataclass(frozen=True, slots=True)
class PointKind:
    """Two numbers: a point in pixels of the image."""

    told = "a point [x, y] in pixels of the image"
    plural = "points [x, y] in pixels of the image"

    def take(self, value: Value, scene: Scene) -> tuple[float, float]:
        """Takes two numbers."""
        point = _numbers(value, 2, "[x, y]")
        inside = [-_BEYOND * side <= one <= (1 + _BEYOND) * side for one, side in zip(point, scene.size, strict=True)]
        if not all(inside):
            width, height = scene.size
            raise ToolError(f"lies outside of the image; give pixels of this image of {width} x {height}")
        x, y = (min(max(0.0, one), float(side)) for one, side in zip(point, scene.size, strict=True))
        return x, y

    def example(self, sample: Sample | None) -> str:
        """Writes the middle of the image."""
        return "[x, y]" if sample is None else f"[{sample.image.width // 2}, {sample.image.height // 2}]"


@dataclass(frozen=True, slots=True)
class NumberKind:
    """A number.

    Attributes:
        whole: Whether it is a whole one.
        bounds: Its range.
    """

    whole: bool
    bounds: Bounds = ANY

    @property
    def told(self) -> str:
        return f"a {'whole ' if self.whole else ''}number{self.bounds.told}"

    @property
    def plural(self) -> str:
        return f"{'whole ' if self.whole else ''}numbers{self.bounds.told}"

    def take(self, value: Value, scene: Scene) -> int | float:
        """Takes a number; `2.0` is a whole one, and so is a tool's."""
        value = value.value if isinstance(value, Said) else value
        # A whole number stays one: a float has 53 bits of it.
        number = _whole(value) if self.whole else _number(value)
        if not self.bounds.hold(number):
            raise ToolError(f"is {quoted(value)}; give {self.told}")
        return number

    def example(self, sample: Sample | None) -> str | None:
        """Writes a number inside of its range."""
        number = self.bounds.inside(whole=self.whole)
        return None if number is None else written(number)


@dataclass(frozen=True, slots=True)
class TextKind:
    """A text; a number stands for the text that `str` makes of it, as it does in lists of names.

    Attributes:
        bounds: Range of its length in characters.
    """

    bounds: Bounds = ANY

    @property
    def told(self) -> str:
        return f"a text{self._length}"

    @property
    def plural(self) -> str:
        return f"texts{self._length}"

    @property
    def _length(self) -> str:
        return f"{self.bounds.told} characters" if self.bounds.told else ""

    def take(self, value: Value, scene: Scene) -> str:
        """Takes a text, a tool's as well."""
        text = _text(value)
        if not self.bounds.hold(len(text)):
            raise ToolError(f"has {len(text)} characters; give {self.told}")
        return text

    def example(self, sample: Sample | None) -> str | None:
        """Makes up none: what a text may say, only the tool knows."""
        return '"..."' if sample is None else None


@dataclass(frozen=True, slots=True)
class NameKind:
    """A name of one of the sample's boxes.

    Attributes:
        axis: Axis of its boxes; None for either.
    """

    axis: Axis | None

    @property
    def told(self) -> str:
        return f"a name from {self._from}"

    @property
    def plural(self) -> str:
        return f"names from {self._from}"

    @property
    def _from(self) -> str:
        return "columns_bbox or rows_bbox" if self.axis is None else f"{self.axis}_bbox"

    def take(self, value: Value, scene: Scene) -> str:
        """Takes a name that the sample has."""
        known = _names(scene.sample, self.axis)
        name = known_name(_text(value), known)
        if name not in known:
            raise ToolError(f"is {quoted(name)}, which is no name of this image; use one of {listed(known) or 'none'}")
        return name

    def example(self, sample: Sample | None) -> str | None:
        """Writes the first name."""
        if sample is None:
            return '"a name"'
        names = _names(sample, self.axis)
        return json.dumps(names[0], ensure_ascii=False) if names else None


@dataclass(frozen=True, slots=True)
class FlagKind:
    """True or false."""

    told = "True or False"
    plural = "True or False, several"

    def take(self, value: Value, scene: Scene) -> bool:
        """Takes a truth value."""
        if not isinstance(value, bool):
            raise ToolError(f"is {described(value)}; give True or False")
        return value

    def example(self, sample: Sample | None) -> str:
        """Writes one."""
        return "True"


@dataclass(frozen=True, slots=True)
class ChoiceKind:
    """One of some values.

    Attributes:
        values: The values: texts, numbers or truth values.
    """

    values: tuple[str | int | bool, ...]

    @property
    def told(self) -> str:
        return f"one of {', '.join(map(_written, self.values))}"

    @property
    def plural(self) -> str:
        return f"each {self.told}"

    def take(self, value: Value, scene: Scene) -> str | int | bool:
        """Takes one of the values."""
        value = value.value if isinstance(value, Said) else value
        for one in self.values:
            # `True == 1`.
            if type(one) is type(value) and one == value:
                return one
        raise ToolError(f"is {described(value)}; give {self.told}")

    def example(self, sample: Sample | None) -> str:
        """Writes the first of them."""
        return _written(self.values[0])


@dataclass(frozen=True, slots=True)
class ListKind:
    """A list of values of one kind.

    Attributes:
        of: Kind of its entries.
        bounds: Range of its length.
        as_tuple: Whether the function is given a tuple.
    """

    of: Kind
    bounds: Bounds = ANY
    as_tuple: bool = False

    @property
    def told(self) -> str:
        return f"a list of {self.of.plural}" + (f", its length{self.bounds.told}" if self.bounds.told else "")

    @property
    def plural(self) -> str:
        return f"lists of {self.of.plural}"

    def take(self, value: Value, scene: Scene) -> Any:
        """Takes a list."""
        if not isinstance(value, tuple):
            raise ToolError(f"is {described(value)}; give {self.told}")
        if len(value) > LONGEST_LIST:
            raise ToolError(f"has {len(value)} entries; give at most {LONGEST_LIST}")
        if not self.bounds.hold(len(value)):
            raise ToolError(f"has {len(value)} entries; give {self.told}")
        found = []
        for place, one in enumerate(value, 1):
            try:
                found.append(self.of.take(one, scene))
            except ToolError as error:
                raise ToolError(f"has an entry that does not fit: number {place} {error}") from error
        return tuple(found) if self.as_tuple else found

    def example(self, sample: Sample | None) -> str | None:
        """Writes a list of one entry, or of as many as there must be."""
        one = self.of.example(sample)
        count = self.bounds.inside(whole=True)
        return None if one is None or count is None else f"[{', '.join([one] * int(count))}]"


@dataclass(frozen=True, slots=True)
class BoxesKind:
    """Boxes by name.

    Attributes:
        axis: Axis of what they are round; None for either.
    """

    axis: Axis | None

    @property
    def told(self) -> str:
        return "the boxes " + ("columns_bbox or rows_bbox" if self.axis is None else f"{self.axis}_bbox")

    plural = "boxes by name"

    def take(self, value: Value, scene: Scene) -> Mapping[str, Box]:
        """Takes the sample's boxes or the program's own, of the tool's axis."""
        if not isinstance(value, NamedBoxes):
            raise ToolError(f"is {described(value)}; give {self.told}")
        if (other := value.of_another_axis(self.axis)) is not None:
            raise ToolError(f"is {other[0]}; give {self.told}")
        if value.axis is None:
            check_boxes(value.boxes, scene.size)
        return value.boxes

    def example(self, sample: Sample | None) -> str:
        """Writes the boxes of its axis, or of the one that has some."""
        columns = self.axis == "columns" or (self.axis is None and (sample is None or bool(sample.column_boxes)))
        return "columns_bbox" if columns else "rows_bbox"


def _written(value: object) -> str:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)


def _names(sample: Sample, axis: Axis | None) -> list[str]:
    columns = [] if axis == "rows" else sample.column_boxes
    rows = [] if axis == "columns" else sample.row_boxes
    return list(dict.fromkeys([*columns, *rows]))


def _text(value: Value) -> str:
    value = value.text if isinstance(value, Said) else value
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ToolError(f"is {described(value)}; give a text, in quotes")
    return str(value)


def _whole(value: Value) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        if not is_writable(value):
            raise ToolError(f"is a whole number of more than {MOST_DIGITS:,} digits; give a smaller one")
        return value
    number = _number(value)
    if not number.is_integer():
        raise ToolError(f"is {quoted(value)}; give a whole number")
    return int(number)


def _number(value: Value) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ToolError(f"is {described(value)}; give a number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ToolError(f"is {quoted(value)}, which is no finite number")
    return number


def _numbers(value: Value, count: int, form: str) -> list[float]:
    if not isinstance(value, tuple) or len(value) != count:
        what = f"a list of {len(value)}" if isinstance(value, tuple) else described(value)
        raise ToolError(f"is {what}; give {form}, numbers in pixels of the image")
    try:
        return [_number(one.value if isinstance(one, Said) else one) for one in value]
    except ToolError as error:
        raise ToolError(f"has a value that {error}; give {form}, numbers in pixels of the image") from error
