"""Draws tables of 300 to 1000 pixels with Pillow, in many styles, all edges on whole pixels.

The fonts are those that come with matplotlib, so that an image is the same on every machine.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from iapo.data.synthetic.chart_data import pick
from iapo.data.synthetic.table_data import HEADER, TableData
from iapo.data.synthetic.table_styles import WHITE, TableStyle
from iapo.records import Box

_FONTS = ("DejaVuSans", "DejaVuSerif", "DejaVuSansMono")
_SMALLEST_FONT = 8
_LINE = 1.25
"""Height of a line of text over the font size."""
_AIR = 4
"""Least distance in pixels from lettering to a cell's edge, so that neither rules nor a mask's rim touch it."""
_INK = (0, 0, 0)

Align = Literal["left", "middle", "right"]
_ALIGNS: tuple[Align, ...] = ("left", "middle", "right")


@lru_cache(maxsize=256)
def _font(name: str, bold: bool, size: int) -> ImageFont.FreeTypeFont:
    path = Path(matplotlib.get_data_path(), "fonts", "ttf", f"{name}{'-Bold' if bold else ''}.ttf")
    return ImageFont.truetype(str(path), size)


def _wrap(text: str, font: ImageFont.FreeTypeFont, width: float) -> list[str]:
    """Breaks a text between words, so that no line but that of a single long word is wider than `width`."""
    lines: list[str] = []
    for word in text.split():
        joined = f"{lines[-1]} {word}" if lines else word
        if lines and font.getlength(joined) <= width:
            lines[-1] = joined
        else:
            lines.append(word)
    return lines


@dataclass(frozen=True, slots=True)
class _Look:
    """What a style leaves open; lengths in pixels."""

    font: str
    font_size: int
    bold_header: bool
    bold_names: bool
    align: Align
    row_height: float
    spread: float
    centred: bool
    titled: bool
    margin: int

    def body(self) -> ImageFont.FreeTypeFont:
        return _font(self.font, False, self.font_size)

    def header(self) -> ImageFont.FreeTypeFont:
        return _font(self.font, self.bold_header, self.font_size)

    def names(self) -> ImageFont.FreeTypeFont:
        return _font(self.font, self.bold_names, self.font_size)

    def title(self) -> ImageFont.FreeTypeFont:
        return _font(self.font, True, self.font_size)


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where everything goes, in whole pixels."""

    look: _Look
    title: list[str]
    headers: list[list[str]]
    x: tuple[int, ...]
    y: tuple[int, ...]
    height: int


def _draw_look(rng: np.random.Generator, size: int) -> _Look:
    return _Look(
        font=pick(rng, _FONTS),
        bold_header=bool(rng.random() < 0.7),
        bold_names=bool(rng.random() < 0.3),
        font_size=max(9, round(size * float(rng.uniform(0.02, 0.034)))),
        align=pick(rng, _ALIGNS),
        row_height=float(rng.uniform(1.6, 2.4)),
        spread=pick(rng, (0.0, 0.5, 1.0)),
        centred=bool(rng.integers(2)),
        titled=bool(rng.random() < 0.7),
        margin=max(6, round(size * float(rng.uniform(0.02, 0.04)))),
    )


def _title(data: TableData) -> str:
    assert data.topic is not None
    if not data.time:
        return f"Key figures by {data.topic.noun}"
    measure = data.measures[0]
    unit = f", in {measure.unit}" if measure.unit else ""
    return f"{measure.name.capitalize()} by {data.topic.noun} and {data.time}{unit}"


def _header_texts(data: TableData) -> list[str]:
    """Returns the header row: the corner, then each column with its unit."""
    assert data.topic is not None
    units = ["" if data.time else measure.unit for measure in data.measures]
    named = [f"{name} ({unit})" if unit else name for name, unit in zip(data.columns, units, strict=True)]
    return [data.topic.noun.capitalize(), *named]


def _pad(font_size: float) -> float:
    """Returns the distance from a cell's side to its text."""
    return max(_AIR + 1, 0.5 * font_size)


def _longest_word(text: str, font: ImageFont.FreeTypeFont) -> float:
    return max(font.getlength(word) for word in text.split())


def _lay_out(data: TableData, look: _Look, size: int) -> _Layout | None:
    """Measures the table; None where it is too wide or too high at this font size."""
    pad = _pad(look.font_size)
    header_texts = _header_texts(data)
    header, names, body = look.header(), look.names(), look.body()
    cells = [[data.text(raw, index) for raw in data.column(index)] for index in range(len(data.columns))]
    widths = []
    for text, lines, font in zip(header_texts, [list(data.rows), *cells], [names] + [body] * len(cells), strict=True):
        content = max(font.getlength(line) for line in lines)
        # A header is broken where it would make its column much wider than what stands below it.
        room = max(_longest_word(text, header), content, 6 * look.font_size)
        broken = max(header.getlength(line) for line in _wrap(text, header, room))
        widths.append(max(content, broken) + 2 * pad)
    room = size - 2 * look.margin
    extra = room - sum(widths)
    if extra < 0:
        return None
    widths = [width + extra * look.spread / len(widths) for width in widths]
    left = look.margin + (room - sum(widths)) / 2 if look.centred else look.margin
    headers = [_wrap(text, header, width - 2 * pad + 1) for text, width in zip(header_texts, widths, strict=True)]
    title = _wrap(_title(data), look.title(), room) if look.titled or data.time else []
    line = _LINE * look.font_size
    top = look.margin + (len(title) * line + pad if title else 0)
    head = max(map(len, headers)) * line + 2 * _AIR
    rows = [max(look.row_height * look.font_size, line + 2 * _AIR)] * len(data.rows)
    height = round(top + head + sum(rows) + look.margin)
    if height > size:
        return None
    x = tuple(round(edge) for edge in itertools.accumulate(widths, initial=left))
    y = tuple(round(edge) for edge in itertools.accumulate([head, *rows], initial=top))
    return _Layout(look, title, headers, x, y, max(height, round(0.45 * size)))


def _fit(data: TableData, rng: np.random.Generator, size: int) -> _Layout:
    """Returns the layout with the largest font that fits, from the drawn one down."""
    look = _draw_look(rng, size)
    for font_size in range(look.font_size, _SMALLEST_FONT - 1, -1):
        layout = _lay_out(data, replace(look, font_size=font_size), size)
        if layout is not None:
            return layout
    raise ValueError(
        f"a table of {len(data.rows)} x {len(data.columns)} does not fit in {size} pixels; draw it for this size"
    )


def _ground(draw: ImageDraw.ImageDraw, layout: _Layout, style: TableStyle, thick: int) -> None:
    """Fills and rules."""
    x, y = layout.x, layout.y

    def fill(box: tuple[int, int, int, int], colour: tuple[int, int, int]) -> None:
        draw.rectangle((box[0], box[1], box[2] - 1, box[3] - 1), fill=colour)

    fill((x[0], y[0], x[-1], y[1]), style.header)
    for index, (top, bottom) in enumerate(itertools.pairwise(y[1:])):
        colour = style.stripe if index % 2 else WHITE
        fill((x[0], top, x[-1], bottom), colour)
        if colour == WHITE:
            fill((x[0], top, x[1], bottom), style.names)
    if style.rules == "none":
        return
    across = {"grid": y, "horizontal": y, "frame": (y[0], y[1], y[-1])}.get(style.rules, y[1:2])
    upright = {"grid": x, "frame": (x[0], x[-1])}.get(style.rules, ())
    # The last rules lie inside of the table, so that boxes hold them.
    for edge in across:
        start = min(edge, y[-1] - thick)
        fill((x[0], start, x[-1], start + thick), style.rule)
    for edge in upright:
        start = min(edge, x[-1] - thick)
        fill((start, y[0], start + thick, y[-1]), style.rule)


def _write(
    draw: ImageDraw.ImageDraw,
    lines: list[str],
    box: tuple[int, int, int, int],
    font: ImageFont.FreeTypeFont,
    align: Align,
    ink: tuple[int, int, int],
) -> None:
    """Writes lines into a cell, centred from top to bottom."""
    pad = _pad(font.size)
    x = {"left": box[0] + pad, "middle": (box[0] + box[2]) / 2, "right": box[2] - pad}[align]
    anchor = {"left": "lm", "middle": "mm", "right": "rm"}[align]
    first = (box[1] + box[3]) / 2 - (len(lines) - 1) * _LINE * font.size / 2
    for index, line in enumerate(lines):
        draw.text((x, first + index * _LINE * font.size), line, fill=ink, font=font, anchor=anchor)


def render(
    data: TableData, style: TableStyle, rng: np.random.Generator, size: int
) -> tuple[Image.Image, dict[str, Box], dict[str, Box]]:
    """Draws one table.

    Args:
        data: Data to draw, with a topic and measures.
        style: Its fills and rules; fonts, widths and title are drawn at random.
        rng: The source of all randomness.
        size: The image's width in pixels, 300 to 1000; its height is 0.45 of it to all of it.

    Returns:
        The RGB image, its column boxes and its row boxes by name, in whole pixels. A column's box reaches from the
        top of its header to the bottom of the table, a row's from the left edge of its name to the right edge of the
        table; the header row is a row box too (`HEADER`). Boxes of neighbours touch.
    """
    layout = _fit(data, rng, size)
    look, x, y = layout.look, layout.x, layout.y
    image = Image.new("RGB", (size, layout.height), WHITE)
    draw = ImageDraw.Draw(image)
    _ground(draw, layout, style, 2 if size > 700 else 1)
    # Above the table where there is room, further left where the title is wider than what lies right of that.
    widest = max((look.title().getlength(line) for line in layout.title), default=0)
    start = max(look.margin, min(x[0], size - look.margin - widest))
    for index, line in enumerate(layout.title):
        height = look.margin + (index + 0.5) * _LINE * look.font_size
        draw.text((start, height), line, fill=_INK, font=look.title(), anchor="lm")
    for index, lines in enumerate(layout.headers):
        align: Align = look.align if index else "left"
        _write(draw, lines, (x[index], y[0], x[index + 1], y[1]), look.header(), align, style.header_ink)
    for row, name in enumerate(data.rows):
        top, bottom = y[row + 1], y[row + 2]
        _write(draw, [name], (x[0], top, x[1], bottom), look.names(), "left", style.ink)
        for column, raw in enumerate(data.raw[row]):
            box = (x[column + 1], top, x[column + 2], bottom)
            _write(draw, [data.text(raw, column)], box, look.body(), look.align, style.ink)
    columns: dict[str, Box] = {
        name: (x[index], y[0], x[index + 1], y[-1]) for index, name in enumerate(data.columns, start=1)
    }
    rows: dict[str, Box] = {HEADER: (x[0], y[0], x[-1], y[1])}
    rows |= {name: (x[0], y[row], x[-1], y[row + 1]) for row, name in enumerate(data.rows, start=1)}
    return image, columns, rows
