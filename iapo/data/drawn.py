"""Draws a table of texts as Wikipedia shows one, with the exact boxes of its columns and rows.

The font is the one that comes with matplotlib, so that an image is the same on every machine.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import matplotlib
from matplotlib.ft2font import FT2Font
from PIL import Image, ImageDraw, ImageFont

from iapo.box_names import unique_names
from iapo.data.damage import RowError
from iapo.data.synthetic.table_data import HEADER
from iapo.records import Box

WIDTH = 1000
"""Width in pixels that a table is fitted to; one of many columns may be wider."""

_FONT_SIZE, _LINE = 14, 22
_SIDE, _TOP, _MARGIN = 6, 3, 10
"""Space in a cell left and right, above and below, and around the table, in pixels."""
_GROUND, _HEAD, _RULE, _INK = "#f8f9fa", "#eaecf0", "#a2a9b1", "#202122"
_NARROWEST = 60


@lru_cache(maxsize=2)
def _path(bold: bool) -> str:
    return str(Path(matplotlib.get_data_path(), "fonts", "ttf", f"DejaVuSans{'-Bold' if bold else ''}.ttf"))


@lru_cache(maxsize=2)
def _font(bold: bool) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(_path(bold), _FONT_SIZE)


@lru_cache(maxsize=1)
def _letters() -> frozenset[int]:
    return frozenset(FT2Font(_path(False)).get_charmap())


def draw_table(
    lines: Sequence[Sequence[str]],
) -> tuple[Image.Image, dict[str, Box], dict[str, Box], list[str]]:
    """Draws a table.

    Args:
        lines: Texts of its cells, line by line; the first line is the header.

    Returns:
        The RGB image; its column boxes by the header's texts and its row boxes by the text of their first cell
        (`HEADER` for the header), in whole pixels, neighbours touching; and a sentence for what cannot be shown.
        A name that stands twice gets a number, as in `2001 (2)`; an empty one becomes `column 2` or `row 2`.

    Raises:
        RowError: If the table has no header, or no line below it.
    """
    if len(lines) < 2 or not lines[0]:
        raise RowError(f"the table has {len(lines)} line(s); it must have a header and at least one line below it")
    count = max(map(len, lines))
    cells = [[" ".join(text.split()) for text in line] + [""] * (count - len(line)) for line in lines]
    widths = _widths(cells)
    broken = [
        [_wrap(text, widths[index] - 2 * _SIDE, bold=not row) for index, text in enumerate(line)]
        for row, line in enumerate(cells)
    ]
    heights = [max(1, *map(len, line)) * _LINE + 2 * _TOP for line in broken]
    x = list(itertools.accumulate(widths, initial=_MARGIN))
    y = list(itertools.accumulate(heights, initial=_MARGIN))
    image = Image.new("RGB", (x[-1] + _MARGIN + 1, y[-1] + _MARGIN + 1), "white")
    draw = ImageDraw.Draw(image)
    for row, line in enumerate(broken):
        for index, texts in enumerate(line):
            cell = (x[index], y[row], x[index + 1], y[row + 1])
            draw.rectangle(cell, fill=_GROUND if row else _HEAD, outline=_RULE)
            _write(draw, texts, cell, bold=not row)
    columns: dict[str, Box] = {
        name: (x[index], y[0], x[index + 1], y[-1]) for index, name in enumerate(unique_names(cells[0], "column"))
    }
    firsts = unique_names([line[0] for line in cells[1:]], "row", [HEADER])
    rows: dict[str, Box] = {HEADER: (x[0], y[0], x[-1], y[1])}
    rows |= {name: (x[0], y[row], x[-1], y[row + 1]) for row, name in enumerate(firsts, start=1)}
    return image, columns, rows, _unshown(cells)


def _widths(cells: Sequence[Sequence[str]]) -> list[int]:
    """Returns the columns' widths in pixels: as wide as their texts, the widest broken where all are too wide."""
    natural, least = [], []
    for column in zip(*cells, strict=True):
        fonts = [_font(not row) for row in range(len(column))]
        natural.append(max(font.getlength(text) for font, text in zip(fonts, column, strict=True)))
        words = [(font, word) for font, text in zip(fonts, column, strict=True) for word in text.split()]
        least.append(min(natural[-1], max([_NARROWEST, *(font.getlength(word) for font, word in words)])))
    room = WIDTH - len(natural) * 2 * _SIDE
    cap = max(natural)
    while sum(min(width, cap) for width in natural) > room and cap > _NARROWEST:
        cap -= 10
    return [
        int(max(low, min(width, cap), _FONT_SIZE)) + 1 + 2 * _SIDE for low, width in zip(least, natural, strict=True)
    ]


def _wrap(text: str, width: float, *, bold: bool) -> list[str]:
    lines: list[str] = []
    for word in text.split():
        joined = f"{lines[-1]} {word}" if lines else word
        if lines and _font(bold).getlength(joined) <= width:
            lines[-1] = joined
        else:
            lines.append(word)
    return lines


def _write(draw: ImageDraw.ImageDraw, texts: Sequence[str], cell: tuple[int, int, int, int], *, bold: bool) -> None:
    """Writes lines into a cell: a header in its middle, other cells from the left."""
    first = (cell[1] + cell[3]) / 2 - (len(texts) - 1) * _LINE / 2
    left = (cell[0] + cell[2]) / 2 if bold else cell[0] + _SIDE
    for index, text in enumerate(texts):
        place = (left, first + index * _LINE)
        draw.text(place, text, fill=_INK, font=_font(bold), anchor="mm" if bold else "lm")


def _unshown(cells: Sequence[Sequence[str]]) -> list[str]:
    letters = {letter for line in cells for text in line for letter in text if ord(letter) not in _letters()}
    if not letters:
        return []
    shown = " ".join(sorted(letters)[:5])
    return [f"the font has no glyph for {len(letters)} letter(s) of the table ({shown}); boxes stand in their places"]
