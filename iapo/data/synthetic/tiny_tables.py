"""Draws tables of 3 x 3 digits at 112 to 299 pixels a side, with Pillow alone.

At 112 pixels a cell measures 28 x 28, which is what one vision token of the tiny models sees: the corner is empty, the
columns' letters stand in the first row of cells and the rows' letters in the first column. Other sizes scale the edges
and round them, so that cells still touch.
"""

from __future__ import annotations

import itertools
from functools import lru_cache

from PIL import Image

from iapo.data.synthetic.table_data import CELLS, HEADER, TableData
from iapo.data.synthetic.table_styles import WHITE, TableStyle
from iapo.data.synthetic.tiny_glyphs import SIDE, put
from iapo.records import Box

_COUNT = CELLS + 1


@lru_cache(maxsize=1024)
def _page(style: TableStyle, size: int) -> Image.Image:
    """Returns the table without its lettering."""
    edges = _edges(size)
    page = Image.new("RGB", (size, size), WHITE)
    for line in range(1, _COUNT):
        fill = WHITE if line % 2 else style.stripe
        page.paste(fill, (0, edges[line], size, edges[line + 1]))
        page.paste(style.names if fill == WHITE else fill, (0, edges[line], edges[1], edges[line + 1]))
    page.paste(style.header, (0, 0, size, edges[1]))
    thick = max(1, round(size / SIDE))
    if style.rules == "none":
        return page
    lines = {"grid": edges[1:-1], "horizontal": edges[1:-1]}.get(style.rules, edges[1:2])
    for edge in lines:
        page.paste(style.rule, (0, edge, size, edge + thick))
        if style.rules == "grid":
            page.paste(style.rule, (edge, 0, edge + thick, size))
    if style.rules in ("grid", "frame"):
        for box in ((0, 0, size, thick), (0, size - thick, size, size)):
            page.paste(style.rule, box)
        for box in ((0, 0, thick, size), (size - thick, 0, size, size)):
            page.paste(style.rule, box)
    return page


def _edges(size: int) -> tuple[int, ...]:
    return tuple(round(size * index / _COUNT) for index in range(_COUNT + 1))


def render(data: TableData, style: TableStyle, size: int = SIDE) -> tuple[Image.Image, dict[str, Box], dict[str, Box]]:
    """Draws one square table.

    Args:
        data: 3 columns and 3 rows named by single letters, cells of one digit.
        style: Its look.
        size: Side in pixels.

    Returns:
        The RGB image, its column boxes and its row boxes by name, edges exact. A column's box reaches from its
        letter to the bottom, a row's from its letter to the right edge; the header row is a row box too (`HEADER`).
    """
    edges = _edges(size)
    image = _page(style, size).copy()
    centres = [(start + end) / 2 for start, end in itertools.pairwise(edges)]
    columns: dict[str, Box] = {}
    rows: dict[str, Box] = {HEADER: (0, 0, size, edges[1])}
    for index, name in enumerate(data.columns, start=1):
        put(image, name, size, (centres[index], centres[0]), style.header_ink)
        columns[name] = (edges[index], 0, edges[index + 1], size)
    for line, (name, cells) in enumerate(zip(data.rows, data.raw, strict=True), start=1):
        put(image, name, size, (centres[0], centres[line]), style.ink)
        rows[name] = (0, edges[line], size, edges[line + 1])
        for index, raw in enumerate(cells, start=1):
            put(image, str(raw), size, (centres[index], centres[line]), style.ink)
    return image, columns, rows
