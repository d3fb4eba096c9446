"""The arguments of a free tool's call: from values of a program to what the function is given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from iapo.records import FIRST_IMAGE, Sample
from iapo.tools.errors import ToolError, listed, quoted
from iapo.tools.kinds import BoxesKind, ImageKind, Kind, ListKind, NameKind
from iapo.tools.signature import Parameter, Signature
from iapo.tools.values import NamedBoxes, Picture, Scene, Value, check_places, origin

Given = Sequence[tuple[str | None, Value]]
"""Values of a call in order, each with its keyword; None for a positional one."""


@dataclass(frozen=True, slots=True)
class Bound:
    """Checked arguments of a call.

    Attributes:
        values: What the function is given, by parameter.
        record: The same for the record of the call (`iapo.records.ToolCall.arguments`).
        targets: The names among it.
        boxes: Name of the boxes among it; empty without such.
        made_of: Name of the sample's image that the images among it are or were made of (`iapo.tools.values.origin`).
        image: The first image among it; None without one.
        moved_by: Name of the tool that moved what is in one of these images; empty where none has.
    """

    values: dict[str, Any]
    record: tuple[tuple[str, Any], ...]
    targets: tuple[str, ...]
    boxes: str
    made_of: str = FIRST_IMAGE
    image: Image.Image | None = None
    moved_by: str = ""


def bind(signature: Signature, given: Given, sample: Sample, image: Value, *, lenient: bool) -> Bound:
    """Checks the arguments of a call.

    Args:
        signature: What the tool takes.
        given: What the program gave.
        sample: The sample.
        image: Image that stands for one that a lenient program leaves out.
        lenient: Whether the image may be left out.

    Raises:
        ToolError: If they do not fit; the sentence begins behind the tool's name.
    """
    values = _by_parameter(signature, given, image, lenient=lenient)
    flat = [one for value in values.values() for one in (value if isinstance(value, tuple) else (value,))]
    pictures = [one for one in flat if isinstance(one, Picture)]
    first = pictures[0].image if pictures else None
    scene = Scene(sample, (first or sample.image).size)
    if pictures:
        # Of several images the boxes are in pixels of the first.
        check_places(pictures[0], values.values())
    taken: dict[str, Any] = {}
    targets: list[str] = []
    boxes = ""
    for one in signature.parameters:
        if one.name not in values:
            continue
        value = values[one.name]
        if value is None and one.optional:
            taken[one.name] = None
            continue
        try:
            taken[one.name] = one.kind.take(value, scene)
        except ToolError as error:
            raise ToolError(f"{one.name} {error}") from error
        if _is_name(one.kind):
            targets += taken[one.name] if isinstance(taken[one.name], list | tuple) else [taken[one.name]]
        if isinstance(one.kind, BoxesKind) and isinstance(value, NamedBoxes):
            boxes = value.name
    record = tuple((name, _recorded(values[name], taken[name])) for name in taken)
    moved_by = next((one.moved_by for one in pictures if one.moved_by), "")
    return Bound(taken, record, tuple(targets), boxes, origin(pictures), first, moved_by)


def _by_parameter(signature: Signature, given: Given, image: Value, *, lenient: bool) -> dict[str, Value]:
    positional = [one for one in signature.parameters if not one.by_name]
    values: dict[str, Value] = {}
    plain = [value for keyword, value in given if keyword is None]
    named = [(keyword, value) for keyword, value in given if keyword is not None]
    takes_image = bool(positional) and isinstance(positional[0].kind, ImageKind) and positional[0].needed
    by_name = {keyword for keyword, _ in named}
    if lenient and takes_image and positional[0].name not in by_name and not (plain and isinstance(plain[0], Picture)):
        plain.insert(0, image)
    if len(plain) > len(positional):
        raise ToolError(f"takes {len(positional)} arguments by place, but was given {len(plain)}")
    values |= {one.name: value for one, value in zip(positional, plain, strict=False)}
    known = {one.name: one for one in signature.parameters}
    for keyword, value in named:
        if keyword not in known:
            raise ToolError(f"has no argument {quoted(keyword)}; its arguments are {listed(known) or 'none'}")
        if keyword in values:
            raise ToolError(f"was given the argument {quoted(keyword)} twice; give it once")
        values[keyword] = value
    missing = [one.name for one in signature.parameters if one.needed and one.name not in values]
    if missing:
        raise ToolError(f"is missing {listed(missing)}; its arguments are {listed(known)}")
    return values


def meant(parameter: Parameter) -> type[Picture] | type[NamedBoxes] | None:
    """Says what a parameter's own name stands for, where a lenient program gives it as a value."""
    if isinstance(parameter.kind, ImageKind):
        return Picture
    return NamedBoxes if isinstance(parameter.kind, BoxesKind) else None


def _is_name(kind: Kind) -> bool:
    return isinstance(kind.of if isinstance(kind, ListKind) else kind, NameKind)


def _recorded(value: Value, taken: Any) -> Any:
    """Returns an argument as JSON can have it: of images and boxes by name their names."""
    if isinstance(value, Picture | NamedBoxes):
        return value.name
    # What was taken is as deep as the parameter's type is.
    if isinstance(value, tuple) and isinstance(taken, list | tuple):
        return tuple(_recorded(one, its) for one, its in zip(value, taken, strict=True))
    return tuple(taken) if isinstance(taken, list) else taken
