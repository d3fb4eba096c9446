"""Boxes as data sets write them -> boxes by name, in pixels of the image.

Data sets write boxes in pixels or as fractions of the image's sides, as a map from name to box, as a list beside a
list of names, or as a list for each edge; they write "no boxes" as nothing, as an empty map, as `{"x1": "none"}`, or as
the empty places that a table of structs has for other rows' names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from iapo.data.damage import RowError
from iapo.records import Box

EDGES = ("x1", "y1", "x2", "y2")

SPILL = 0.05
"""How far a box may reach out of the image, as a share of its side; it is cut off there."""

# Numbers up to here are fractions, though those above 1 are outside; no box in pixels lies within two pixels.
_FRACTION = 2.0

_FAR = 1e12


def named_boxes(value: Any, names: Any, what: str, size: tuple[int, int]) -> dict[str, Box]:
    """Reads the boxes of one axis.

    Args:
        value: The boxes, in any of the forms that the module describes.
        names: Their names, where they stand apart from the boxes.
        what: Noun for messages, `column` or `row`.
        size: Width and height of the image in pixels.

    Returns:
        The boxes by name, in pixels, cut off at the image's border; empty where there are none. A name that stands
        twice in a list gets a number: `2001`, `2001 (2)`.

    Raises:
        RowError: If a box is no box, empty, outside of the image, or in other units than the rest.
    """
    raw = _by_name(value, names, what)
    boxes = {name: _numbers(box, name, what) for name, box in raw.items()}
    small = [name for name, box in boxes.items() if max(box) <= _FRACTION]
    if small and len(small) < len(boxes):
        other = next(name for name in boxes if name not in small)
        raise RowError(
            f"the {what} boxes mix units: {small[0]!r} has fractions of the picture's sides, {other!r} has pixels"
        )
    width, height = size
    scale = (width, height, width, height) if small else (1, 1, 1, 1)
    return {name: _inside(box, scale, name, what, size) for name, box in boxes.items()}


def _by_name(value: Any, names: Any, what: str) -> dict[str, Any]:
    if value is None:
        return {}
    if isinstance(value, Mapping):
        if set(value) == set(EDGES) and all(isinstance(edge, list) for edge in value.values()):
            if len({len(edge) for edge in value.values()}) > 1:
                raise RowError(f"the edges of the {what} boxes are lists of different lengths")
            return _zipped(list(zip(*(value[edge] for edge in EDGES), strict=True)), names, what)
        return {name: box for name, box in value.items() if not _nothing(box) and (name, box) != ("x1", "none")}
    if isinstance(value, list):
        if value and all(isinstance(pair, tuple) and len(pair) == 2 for pair in value):
            # Arrow's maps come as pairs.
            return _by_name(dict(value), names, what)
        return _zipped(value, names, what)
    raise RowError(f"the {what} boxes are of type {type(value).__name__}; they must be a map or a list")


def _nothing(box: Any) -> bool:
    """Tells whether this is the empty place of another row's name."""
    return box is None or (isinstance(box, Mapping) and bool(box) and all(edge is None for edge in box.values()))


def _zipped(boxes: list[Any], names: Any, what: str) -> dict[str, Any]:
    if not boxes or not names:
        return {}
    if not isinstance(names, list):
        raise RowError(f"the names of the {what} boxes are of type {type(names).__name__}; they must be a list")
    if len(names) != len(boxes):
        raise RowError(f"there are {len(names)} {what} names and {len(boxes)} {what} boxes; each needs the other")
    named: dict[str, Any] = {}
    for name, box in zip(map(str, names), boxes, strict=True):
        unique, count = name, 1
        while unique in named:
            count += 1
            unique = f"{name} ({count})"
        named[unique] = box
    return named


def _numbers(box: Any, name: str, what: str) -> Box:
    if isinstance(box, Mapping):
        missing = [edge for edge in EDGES if edge not in box]
        if missing:
            raise RowError(f"the box of {what} {name!r} has no {missing[0]}; it needs {', '.join(EDGES)}")
        box = [box[edge] for edge in EDGES]
    if not isinstance(box, Sequence) or isinstance(box, (str, bytes)):
        raise RowError(f"the box of {what} {name!r} is of type {type(box).__name__}; it must hold {', '.join(EDGES)}")
    if len(box) != 4:
        raise RowError(f"the box of {what} {name!r} has {len(box)} numbers; it must have 4: {', '.join(EDGES)}")
    for edge, number in zip(EDGES, box, strict=True):
        if isinstance(number, bool) or not isinstance(number, (int, float)):
            raise RowError(f"{edge} of the box of {what} {name!r} is of type {type(number).__name__}, not a number")
        # Compared and not converted, since an integer of JSON may be too long for a float.
        if not -_FAR < number < _FAR:
            raise RowError(f"{edge} of the box of {what} {name!r} is {str(number)[:20]}; it must be finite")
    x1, y1, x2, y2 = (float(number) for number in box)
    return x1, y1, x2, y2


def _inside(box: Box, scale: Sequence[int], name: str, what: str, size: tuple[int, int]) -> Box:
    shown = tuple(round(number, 4) for number in box)
    x1, y1, x2, y2 = (number * factor for number, factor in zip(box, scale, strict=True))
    if x1 >= x2 or y1 >= y2:
        raise RowError(f"the box of {what} {name!r} has no {'width' if x1 >= x2 else 'height'}: {shown}")
    for low, high, length in ((x1, x2, size[0]), (y1, y2, size[1])):
        if low < -SPILL * length or high > (1 + SPILL) * length or low >= length or high <= 0:
            raise RowError(
                f"the box of {what} {name!r}, {shown}, lies outside of the picture of {size[0]} x {size[1]} pixels; "
                "its boxes may be meant for another size or in other units"
            )
    return max(x1, 0.0), max(y1, 0.0), min(x2, float(size[0])), min(y2, float(size[1]))
