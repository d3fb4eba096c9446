"""Names of found boxes by OCR, where the extra `ocr` is installed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from PIL import Image

from iapo.control import spaced
from iapo.data.boxes.found import FoundBoxes
from iapo.data.boxes.tables import HEADER
from iapo.errors import InputError
from iapo.ocr import check_ocr, read_lines
from iapo.records import Box

Names = Literal["places", "ocr"]
"""How found boxes are named: by their places, or by what is written there."""
NAMES: tuple[Names, ...] = ("places", "ocr")

_SLANTED = 0.2
"""Lettering that rises or falls by more than this share of its length is slanted."""


@dataclass(frozen=True, slots=True)
class Text:
    """A line of text in an image.

    Attributes:
        text: What is written.
        corners: Shape (4, 2), pixels: its corners from the top left of the lettering, clockwise.
    """

    text: str
    corners: np.ndarray

    @property
    def slanted(self) -> bool:
        (x1, y1), (x2, y2) = self.corners[0], self.corners[1]
        return abs(y2 - y1) > _SLANTED * math.hypot(x2 - x1, y2 - y1)

    @property
    def middle(self) -> tuple[float, float]:
        x, y = self.corners.mean(axis=0)
        return float(x), float(y)

    @property
    def top(self) -> float:
        return float(self.corners[:, 1].min())

    @property
    def head(self) -> float:
        """Where its upper end is, in pixels from the left: the end at the axis, if it is a slanted label."""
        return float(self.corners[np.argsort(self.corners[:, 1])[:2], 0].mean())

    @property
    def ends(self) -> tuple[float, float]:
        return float(self.corners[:, 0].min()), float(self.corners[:, 0].max())


def check_names(names: str) -> None:
    """Checks a way to name boxes.

    Raises:
        InputError: If it is unknown, or needs what is not installed.
    """
    if not isinstance(names, str) or names not in NAMES:
        raise InputError(f"names is {names!r}; use one of {', '.join(NAMES)}")
    if names == "ocr":
        check_ocr("names by OCR need", "leave the names places")


def read_texts(image: Image.Image) -> list[Text]:
    """Reads the lines of text in an image.

    Raises:
        InputError: If the extra `ocr` is not installed.
    """
    check_names("ocr")
    # What is read in an image must not end the prompt that lists it.
    return [Text(spaced(text), corners) for text, corners in read_lines(image)]


def named(found: FoundBoxes, texts: Sequence[Text]) -> FoundBoxes:
    """Returns found boxes with the names that are written at them; those without one keep their places' numbers.

    Args:
        found: Boxes of a chart or, where they have no axis, of a table.
        texts: The texts of their image.
    """
    if not found.column_boxes or not found.row_boxes:
        return found
    if found.axis == "columns":
        names = _unique(_below(found, texts), found.column_boxes)
        return replace(
            found, column_boxes=_renamed(found.column_boxes, names), row_boxes=_renamed(found.row_boxes, names)
        )
    if found.axis == "rows":
        names = _unique(
            _beside(found.row_boxes, texts, min(box[0] for box in found.column_boxes.values())), found.row_boxes
        )
        return replace(
            found, column_boxes=_renamed(found.column_boxes, names), row_boxes=_renamed(found.row_boxes, names)
        )
    header = found.row_boxes[HEADER]
    heads = [text for text in texts if header[1] <= text.middle[1] <= header[3]]
    columns = _unique(_over(found.column_boxes, heads), found.column_boxes)
    first = min(box[0] for box in found.column_boxes.values())
    below = {name: box for name, box in found.row_boxes.items() if name != HEADER}
    rows = _unique(_beside(below, texts, first), below)
    if HEADER in rows.values():
        rows = {place: name if name != HEADER else place for place, name in rows.items()}
    return replace(found, column_boxes=_renamed(found.column_boxes, columns), row_boxes=_renamed(found.row_boxes, rows))


def _below(found: FoundBoxes, texts: Sequence[Text]) -> dict[str, str]:
    """Returns the names below upright bars; a slanted one stands where its upper end is."""
    base = max(box[3] for box in found.row_boxes.values())
    foot = max(box[3] for box in found.column_boxes.values())
    labels = [
        text for text in texts if base - 3 <= text.top and (text.top if text.slanted else text.middle[1]) <= foot + 2
    ]
    if any(text.slanted for text in labels):
        labels = [text for text in labels if text.slanted]
        names: dict[str, list[Text]] = {}
        for text in labels:
            for place, (start, _, end, _) in found.column_boxes.items():
                if start <= text.head < end:
                    names.setdefault(place, []).append(text)
        return {place: " ".join(text.text for text in sorted(some, key=_first)) for place, some in names.items()}
    return _over(found.column_boxes, labels)


def _first(text: Text) -> float:
    return text.head


def _over(boxes: Mapping[str, Box], texts: Sequence[Text]) -> dict[str, str]:
    """Returns what stands in each column; a line that runs through several is taken apart by words."""
    parts: dict[str, list[tuple[float, float, str]]] = {}
    for text in texts:
        start, end = text.ends
        y = text.middle[1]
        met = [place for place, box in boxes.items() if start < (box[0] + box[2]) / 2 < end]
        words = [(text.middle[0], text.text)] if len(met) < 2 else _words(text.text, start, end)
        for x, word in words:
            for place, (left, _, right, _) in boxes.items():
                if left <= x < right:
                    parts.setdefault(place, []).append((y, x, word))
    return {place: " ".join(word for _, _, word in _in_lines(some)) for place, some in parts.items()}


def _words(text: str, start: float, end: float) -> list[tuple[float, str]]:
    """Returns the words of a line with their middles, as if all letters were of one width."""
    words, place = [], 0
    for word in text.split():
        place = text.index(word, place)
        words.append((start + (place + len(word) / 2) / len(text) * (end - start), word))
        place += len(word)
    return words


def _beside(boxes: Mapping[str, Box], texts: Sequence[Text], right: float) -> dict[str, str]:
    """Returns what stands in each row left of a place."""
    parts: dict[str, list[tuple[float, float, str]]] = {}
    for text in texts:
        x, y = text.middle
        if x < right and text.ends[1] <= right + 0.5 * (text.ends[1] - text.ends[0]):
            for place, (_, top, _, bottom) in boxes.items():
                if top <= y < bottom:
                    parts.setdefault(place, []).append((y, x, text.text))
    return {place: " ".join(word for _, _, word in _in_lines(some)) for place, some in parts.items()}


def _in_lines(words: list[tuple[float, float, str]]) -> list[tuple[float, float, str]]:
    """Sorts words as they are read; those of one line may differ by some pixels in height."""
    words = sorted(words)
    lines: list[list[tuple[float, float, str]]] = []
    for word in words:
        if lines and word[0] - lines[-1][0][0] <= 5:
            lines[-1].append(word)
        else:
            lines.append([word])
    return [word for line in lines for word in sorted(line, key=lambda word: word[1])]


def _unique(names: Mapping[str, str], boxes: Mapping[str, Box]) -> dict[str, str]:
    """Returns names by place, one a box: a second one of a name has its place behind it."""
    given: dict[str, str] = {}
    for place in boxes:
        name = names.get(place, "") or place
        given[place] = name if name not in given.values() else f"{name} ({place})"
    return given


def _renamed(boxes: Mapping[str, Box], names: Mapping[str, str]) -> dict[str, Box]:
    return {names.get(place, place): box for place, box in boxes.items()}
