"""Boxes as data sets write them -> boxes by name, in pixels of the image.

Data sets write boxes in pixels or as fractions of the image's sides, as a map from name to box, as a list beside a
list of names, or as a list for each edge; they write "no boxes" as nothing, as an empty map, as `{"x1": "none"}`, or as
the empty places that a table of structs has for other rows' names.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from iapo.answer_texts import answer_text
from iapo.box_names import one_form, unique_names
from iapo.data.damage import RowError
from iapo.kinds import plain
from iapo.records import Box

EDGES = ("x1", "y1", "x2", "y2")

SPILL = 0.05
"""How far a box may reach out of the image, as a share of its side; it is cut off there."""

# Numbers up to here are fractions, though those above 1 are outside; no box in pixels lies within two pixels.
_FRACTION = 2.0

_FAR = 1e12

ALIKE = 0.25
"""How far the width of a box with two edges in the wrong order may be from the others', as a share of theirs."""

WRONG = 1 / 3
"""Where two boxes and this share of all lie outside of the image, all of them are meant for another one."""


_MOST_MENDED = 20
"""Crossed boxes of an axis that may be put in order."""


def named_boxes(
    value: Any, names: Any, what: str, size: tuple[int, int], flaws: list[str] | None = None
) -> dict[str, Box]:
    """Reads the boxes of one axis.

    Args:
        value: The boxes, in any of the forms that the module describes.
        names: Their names, where they stand apart from the boxes.
        what: Noun for messages, `column` or `row`.
        size: Width and height of the image in pixels.
        flaws: List to which a sentence is added for each box that is crossed, empty, not finite, outside of the image,
            in other units than most, or, among more good ones, no box at all; it is left out, or sorted where its edges
            are merely in the wrong order. None refuses such boxes.

    Returns:
        The boxes by name, in pixels, cut off at the image's border; empty where there are none. A name that stands
        twice in a list gets a number: `2001`, `2001 (2)`.

    Raises:
        RowError: If half of the boxes or more are no boxes at all, if the boxes as a whole are meant for another image
            or have no common units, or if `flaws` is None and one of them has a flaw.
    """
    raw = _by_name(value, names, what)
    every, found = _read(raw, what, strictly=flaws is None)
    crossed = {name: box for name, box in every.items() if all(map(_finite, box)) and _empty(box)}
    boxes = {name: box for name, box in every.items() if all(map(_finite, box)) and name not in crossed}
    for name, box in every.items():
        edge = next((edge for edge, number in zip(EDGES, box, strict=True) if not _finite(number)), None)
        if edge is not None:
            number = str(box[EDGES.index(edge)])[:20]
            found[name] = f"{edge} of the box of {what} {name!r} is {number}; it must be less than {_FAR:g} in size"
    # In the order of the row.
    small = dict.fromkeys(name for name, box in boxes.items() if max(box) <= _FRACTION)
    fractions = 2 * len(small) > len(boxes)
    if small and len(small) < len(boxes):
        other = next(name for name in boxes if name not in small)
        first = next(iter(small))
        reason = f"the {what} boxes mix units: {first!r} has fractions of the picture's sides, {other!r} has pixels"
        if flaws is None or 2 * len(small) == len(boxes):
            raise RowError(reason)
        found |= {name: reason for name in boxes if (name in small) != fractions}
    scale = (size[0], size[1], size[0], size[1]) if fractions else (1, 1, 1, 1)
    good: dict[str, Box] = {}
    outside: dict[str, str] = {}
    for name, box in boxes.items():
        if name not in found:
            pixels = _scaled(box, scale)
            if reason := _outside(pixels, box, name, what, size):
                outside[name] = reason
            else:
                good[name] = _cut(pixels, size)
    if len(outside) > 1 and len(outside) >= WRONG * len(boxes):
        raise RowError(next(iter(outside.values())))
    found |= outside
    for name, box in crossed.items():
        side = "width" if box[0] >= box[2] else "height"
        found[name] = f"the box of {what} {name!r} has no {side}: {_shown(box)}"
    if found and flaws is None:
        raise RowError(next(iter(found[name] for name in every if name in found)))
    mended: dict[str, Box] = {}
    usual = _usual(good)
    for name in (name for name in raw if name in found):
        # Each is compared with all good ones; where many are crossed, none is a slip of the pen.
        slip = name in crossed and len(crossed) <= _MOST_MENDED
        mending = _scaled(_in_order(crossed[name]), scale) if slip else None
        in_order = (
            mending is not None and not _outside(mending, mending, name, what, size) and _fits(mending, good, usual)
        )
        if mending is not None and in_order:
            mended[name] = _cut(mending, size)
        if flaws is not None:
            flaws.append(f"{found[name]}; {'its edges were put in order' if in_order else 'it is left out'}")
    kept = {**good, **mended}
    return {name: kept[name] for name in every if name in kept}


def _by_name(value: Any, names: Any, what: str) -> dict[str, Any]:
    if value is None:
        return {}
    if isinstance(value, Mapping):
        if set(value) == set(EDGES) and all(isinstance(edge, list) for edge in value.values()):
            if len({len(edge) for edge in value.values()}) > 1:
                raise RowError(f"the edges of the {what} boxes are lists of different lengths")
            return _zipped(list(zip(*(value[edge] for edge in EDGES), strict=True)), names, what)
        there = ((name, box) for name, box in value.items() if not _nothing(box) and (name, box) != ("x1", "none"))
        return _labelled(there, what)
    if isinstance(value, list):
        if value and all(isinstance(pair, tuple) and len(pair) == 2 for pair in value):
            # Arrow's maps come as pairs.
            return _by_name(_labelled(value, what), names, what)
        return _zipped(value, names, what)
    raise RowError(f"the {what} boxes are of type {type(value).__name__}; they must be a map or a list")


def _labelled(pairs: Iterable[tuple[Any, Any]], what: str) -> dict[str, Any]:
    """Returns boxes by name as text: a map of parquet may have years or dates for names."""
    found: dict[str, Any] = {}
    forms: set[str] = set()
    for name, box in pairs:
        text = name if isinstance(name, str) else answer_text(name)
        if text is None:
            raise RowError(
                f"a name of the {what} boxes is of type {type(name).__name__}; it must be text, a number or a date"
            )
        form = one_form(text)
        if form in forms:
            same = "" if text in found else ", which is written in two ways"
            raise RowError(f"there are two boxes of the {what} {text!r}{same}; leave one of them")
        forms.add(form)
        found[text] = box
    return found


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
    texts = ["" if name is None else str(name) for name in names]
    return dict(zip(unique_names(texts, None), boxes, strict=True))


def _read(raw: Mapping[str, Any], what: str, *, strictly: bool) -> tuple[dict[str, Box], dict[str, str]]:
    """Returns the boxes that are four numbers, and why the others are not.

    Raises:
        RowError: If one is not, strictly, and otherwise if half of them or more are not.
    """
    every: dict[str, Box] = {}
    found: dict[str, str] = {}
    for name, box in raw.items():
        try:
            every[name] = _numbers(box, name, what)
        except RowError as error:
            if strictly or 2 * (len(found) + 1) >= len(raw):
                raise
            found[name] = str(error)
    return every, found


def _numbers(box: Any, name: str, what: str) -> Box:
    if isinstance(box, Mapping):
        missing = [edge for edge in EDGES if edge not in box]
        if missing:
            raise RowError(f"the box of {what} {name!r} has no {missing[0]}; it needs {', '.join(EDGES)}")
        box = [box[edge] for edge in EDGES]
    box = plain(box)
    if not isinstance(box, Sequence) or isinstance(box, (str, bytes)):
        raise RowError(f"the box of {what} {name!r} is of type {type(box).__name__}; it must hold {', '.join(EDGES)}")
    if len(box) != 4:
        raise RowError(f"the box of {what} {name!r} has {len(box)} numbers; it must have 4: {', '.join(EDGES)}")
    for edge, number in zip(EDGES, box, strict=True):
        # Nothing in the place of one edge is a number that is missing, and not another kind of data.
        if number is not None and (isinstance(number, bool) or not isinstance(number, (int, float))):
            raise RowError(f"{edge} of the box of {what} {name!r} is of type {type(number).__name__}, not a number")
    # An integer of JSON may be too long for a float.
    x1, y1, x2, y2 = (
        math.nan if number is None else float(number) if -_FAR < number < _FAR else number for number in box
    )
    return x1, y1, x2, y2


def _finite(number: float) -> bool:
    return -_FAR < number < _FAR


def _empty(box: Box) -> bool:
    return box[0] >= box[2] or box[1] >= box[3]


def _shown(box: Box) -> tuple[float, ...]:
    return tuple(round(number, 4) for number in box)


def _scaled(box: Box, scale: Sequence[int]) -> Box:
    x1, y1, x2, y2 = (number * factor for number, factor in zip(box, scale, strict=True))
    return x1, y1, x2, y2


def _in_order(box: Box) -> Box:
    return min(box[0], box[2]), min(box[1], box[3]), max(box[0], box[2]), max(box[1], box[3])


def _outside(pixels: Box, box: Box, name: str, what: str, size: tuple[int, int]) -> str:
    """Returns why a box lies outside of the image; empty where it lies inside."""
    x1, y1, x2, y2 = pixels
    for low, high, length in ((x1, x2, size[0]), (y1, y2, size[1])):
        if low < -SPILL * length or high > (1 + SPILL) * length or low >= length or high <= 0:
            return (
                f"the box of {what} {name!r}, {_shown(box)}, lies outside of the picture of {size[0]} x {size[1]} "
                "pixels; its boxes may be meant for another size or in other units"
            )
    return ""


def _cut(box: Box, size: tuple[int, int]) -> Box:
    x1, y1, x2, y2 = box
    return max(x1, 0.0), max(y1, 0.0), min(x2, float(size[0])), min(y2, float(size[1]))


def _usual(good: Mapping[str, Box]) -> tuple[float, float] | None:
    """Returns the median width and height of the good boxes; None where there is none."""
    if not good:
        return None
    width, height = (statistics.median(box[high] - box[low] for box in good.values()) for low, high in ((0, 2), (1, 3)))
    return width, height


def _fits(box: Box, good: Mapping[str, Box], usual: tuple[float, float] | None) -> bool:
    """Tells whether a box is as wide and as high as the good ones, and none of them lies in its place."""
    if usual is None or _empty(box):
        return False
    for length, other in zip((box[2] - box[0], box[3] - box[1]), usual, strict=True):
        if abs(length - other) > ALIKE * other:
            return False
    return all(_shared(box, other) <= 0.5 for other in good.values())


def _shared(box: Box, other: Box) -> float:
    """Returns which share of a box lies in another one."""
    width = min(box[2], other[2]) - max(box[0], other[0])
    height = min(box[3], other[3]) - max(box[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    return width * height / ((box[2] - box[0]) * (box[3] - box[1]))
