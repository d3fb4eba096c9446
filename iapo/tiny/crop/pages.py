"""Pages of 4 x 4 panels, each with a number in a fine screen; the question is about one panel.

A page is 448 pixels wide and high, and the student sees 112 of whatever it is shown. A panel's name is solid ink, and
can be told on the whole page. Its number is a screen of single pixels, in turn darker and lighter than the grey plate
that it stands on: four times reduced, they are that grey, and the plate looks empty. A panel alone is 112 pixels wide
and high, and is shown as it is.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from iapo.data.synthetic.tiny_glyphs import put
from iapo.records import Box, Sample

VIEW = 112
"""Side in pixels of what the student sees, whatever the size of the picture."""

PANELS = 4
"""Panels along each side of a page."""

SIDE = PANELS * VIEW
"""Side of a page in pixels; a panel is as large as the student's view."""

COLUMNS, ROWS = "ABCD", "1234"
"""What columns and rows of panels are called."""

_LINE = 225
_NAME = (24, 34), (54, 34)
"""Centres of a panel's letter and digit in it."""
_AT, _PLATE = 85, 26
"""The upper left corner of a plate in its panel, along both axes, and its side."""
_GREY, _SHADE, _GRAIN, _CONTRAST = 171, 8, 14, 60
_FONT, _INK = 13, 110


@dataclass(frozen=True, slots=True)
class Page:
    """A sample with the data behind it.

    Attributes:
        sample: The question about the page.
        numbers: The panels' numbers, row by row.
        asked: Place of the panel that the question names.
    """

    sample: Sample
    numbers: tuple[int, ...]
    asked: int

    def asking(self, place: int) -> Page:
        """Returns the page with the question about another panel."""
        return replace(self, asked=place, sample=replace(self.sample, **_question(self.numbers, place)))


def draw(count: int, *, seed: int, split: str) -> Iterator[Page]:
    """Yields pages; the same arguments give the same bytes, and a longer run starts with the shorter one.

    Args:
        count: Number of them.
        seed: Not negative; other seeds give other pages.
        split: Any name; other splits give other pages.
    """
    return (_page(f"crop-{split}-{seed}-{index}", _rng(seed, split, index)) for index in range(count))


def panel(place: int) -> Box:
    """Returns the box of a panel.

    Args:
        place: Its place, row by row from 0.
    """
    left, top = place % PANELS * VIEW, place // PANELS * VIEW
    return left, top, left + VIEW, top + VIEW


def _rng(seed: int, split: str, index: int) -> np.random.Generator:
    return np.random.default_rng([seed, zlib.crc32(f"crop/{split}".encode()), index])


def _page(name: str, rng: np.random.Generator) -> Page:
    numbers = tuple(int(one) for one in rng.integers(10, size=PANELS**2))
    asked = int(rng.integers(PANELS**2))
    edges = [(place * VIEW, (place + 1) * VIEW) for place in range(PANELS)]
    sample = Sample(
        id=name,
        image=_drawn(numbers, rng),
        **_question(numbers, asked),
        column_boxes={one: (low, 0, high, SIDE) for one, (low, high) in zip(COLUMNS, edges, strict=True)},
        row_boxes={one: (0, low, SIDE, high) for one, (low, high) in zip(ROWS, edges, strict=True)},
        source="synthetic/crop",
        question_type="value",
    )
    return Page(sample, numbers, asked)


def _question(numbers: tuple[int, ...], asked: int) -> dict[str, Any]:
    name = f"column {COLUMNS[asked % PANELS]}, row {ROWS[asked // PANELS]}"
    return {"question": f"number in {name}?", "answers": (str(numbers[asked]),)}


def _drawn(numbers: tuple[int, ...], rng: np.random.Generator) -> Image.Image:
    paper = _paper().copy()
    shade = rng.integers(-_SHADE, _SHADE + 1, size=(PANELS**2, 1, 1))
    plates = _GREY + shade + rng.integers(-_GRAIN, _GRAIN + 1, size=(PANELS**2, _PLATE, _PLATE))
    # Whole squares of the screen, as everything else of a plate.
    corners = 2 * rng.integers(1, 4, size=(PANELS**2, 2))
    for place, number in enumerate(numbers):
        screen, (y, x) = screen_of(number), corners[place]
        plates[place, y : y + screen.shape[0], x : x + screen.shape[1]] += _CONTRAST * screen
        left, top = (int(edge) + _AT for edge in panel(place)[:2])
        paper[top : top + _PLATE, left : left + _PLATE] = plates[place]
    return Image.fromarray(paper)


@lru_cache
def _paper() -> npt.NDArray[np.uint8]:
    """Returns the page before the data: the panels' names, and a faint line between panels."""
    image = Image.new("L", (SIDE, SIDE), 255)
    for edge in range(VIEW, SIDE, VIEW):
        image.paste(_LINE, (edge, 0, edge + 1, SIDE))
        image.paste(_LINE, (0, edge, SIDE, edge + 1))
    colour = image.convert("RGB")
    for place in range(PANELS**2):
        left, top, _, _ = panel(place)
        for sign, (x, y) in zip(COLUMNS[place % PANELS] + ROWS[place // PANELS], _NAME, strict=True):
            put(colour, sign, SIDE * 2 // 3, (left + x, top + y), (0, 0, 0))
    return np.asarray(colour.convert("L"))


@lru_cache
def screen_of(number: int) -> npt.NDArray[np.int64]:
    """Returns a digit as a screen: -1 and 1 in turn where its ink is, 0 elsewhere.

    Ink comes in squares of 2 x 2 pixels, each of which has as much of either.
    """
    font = ImageFont.load_default(size=_FONT)
    x1, y1, x2, y2 = (round(edge) for edge in font.getbbox(str(number)))
    mask = Image.new("L", (x2 - x1, y2 - y1), 0)
    ImageDraw.Draw(mask).text((-x1, -y1), str(number), fill=255, font=font)
    return np.kron(np.asarray(mask) >= _INK, np.array([[-1, 1], [1, -1]]))
