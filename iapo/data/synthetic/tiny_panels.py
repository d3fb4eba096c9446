"""Draws one line or scatter plot of 4 points at 112 to 299 pixels a side, with Pillow alone.

Colours, marks, scale and grid are others than those of the tiny bar charts. All lengths below are pixels of a
112-pixel image; other sizes scale them and round each edge.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from PIL import Image, ImageDraw

from iapo.data.synthetic.chart_data import pick
from iapo.data.synthetic.panel_data import PanelData
from iapo.data.synthetic.tiny_glyphs import SIDE, put
from iapo.records import Box

Mark = Literal["disc", "ring", "square", "diamond", "triangle", "cross"]

HIGHEST = 9
PLACES = 4

_MARKS: tuple[Mark, ...] = ("disc", "ring", "square", "diamond", "triangle", "cross")
# Neither reddish, since red marks edits, nor among the bars' colours.
_COLOURS = ((0, 150, 220), (60, 170, 60), (150, 90, 210), (190, 140, 0), (0, 0, 0))
_PAGES = ((255, 255, 255), (240, 243, 250), (250, 247, 236))
_GRID = (212, 212, 212)
_INK = (40, 40, 40)

_SLOT = SIDE // PLACES
_MARGIN = 16
_UNIT = 9
_ZERO = 20
"""From the image's lower edge to the height of 0."""
_RADIUS = 4
_BAND = 5
"""From a point's height to its band's edges."""


@dataclass(frozen=True, slots=True)
class PanelStyle:
    """One look.

    Attributes:
        joined: Whether a line runs through the points.
        mark: The points' shape.
        colour: Colour of line and points.
        page: Page of the ground.
        grid: Whether faint lines stand at every other unit.
    """

    joined: bool
    mark: Mark
    colour: tuple[int, int, int]
    page: tuple[int, int, int]
    grid: bool


def draw_style(rng: np.random.Generator) -> PanelStyle:
    """Draws any look."""
    joined, grid = rng.random(2) < 0.5
    return PanelStyle(bool(joined), pick(rng, _MARKS), pick(rng, _COLOURS), pick(rng, _PAGES), bool(grid))


@lru_cache(maxsize=256)
def _page(page: tuple[int, int, int], grid: bool, size: int) -> Image.Image:
    """Returns the image before the data: ground, grid or tick marks, and the axis."""
    scale = size / SIDE
    image = Image.new("RGB", (size, size), page)
    thick = max(1, round(scale))
    for unit in range(1, HIGHEST + 1):
        y = round(size - (_ZERO + _UNIT * unit) * scale)
        image.paste(_GRID, (0, y, size if grid and unit % 2 else round(4 * scale), y + thick))
    y = round(size - (_MARGIN + 1) * scale)
    image.paste(_INK, (0, y, size, y + thick))
    return image


def _mark(draw: ImageDraw.ImageDraw, style: PanelStyle, x: float, y: float, radius: float, thick: int) -> None:
    box = (x - radius, y - radius, x + radius, y + radius)
    if style.mark == "disc":
        draw.ellipse(box, fill=style.colour)
    elif style.mark == "ring":
        draw.ellipse(box, fill=style.page, outline=style.colour, width=thick + 1)
    elif style.mark == "square":
        draw.rectangle((x - radius + 1, y - radius + 1, x + radius - 1, y + radius - 1), fill=style.colour)
    elif style.mark == "diamond":
        draw.polygon([(x, y - radius), (x + radius, y), (x, y + radius), (x - radius, y)], fill=style.colour)
    elif style.mark == "triangle":
        draw.polygon([(x, y - radius), (x + radius, y + radius), (x - radius, y + radius)], fill=style.colour)
    else:
        draw.line((box[0], box[1], box[2], box[3]), fill=style.colour, width=thick + 1)
        draw.line((box[0], box[3], box[2], box[1]), fill=style.colour, width=thick + 1)


def render(data: PanelData, style: PanelStyle, size: int = SIDE) -> tuple[Image.Image, dict[str, Box], dict[str, Box]]:
    """Draws one square plot.

    Args:
        data: One panel with one series over 4 letters, values from 1 to 9.
        style: Its look.
        size: Side in pixels.

    Returns:
        The RGB image, its column boxes and its row boxes by letter. A column's box is the place's slot with its
        letter, over the full height; a row's box is the band across the image around the point.
    """
    scale = size / SIDE
    image = _page(style.page, style.grid, size).copy()
    draw = ImageDraw.Draw(image)
    thick = max(1, round(scale))
    raw = data.panels[0].raw[0]
    points = [
        ((_SLOT * index + _SLOT / 2) * scale, size - (_ZERO + _UNIT * value) * scale) for index, value in enumerate(raw)
    ]
    if style.joined:
        draw.line(points, fill=style.colour, width=thick + 1)
    columns: dict[str, Box] = {}
    rows: dict[str, Box] = {}
    for index, (label, (x, y)) in enumerate(zip(data.places, points, strict=True)):
        _mark(draw, style, x, y, _RADIUS * scale, thick)
        put(image, label, size, (x, size - _MARGIN * scale / 2), _INK)
        columns[label] = (round(_SLOT * index * scale), 0, round(_SLOT * (index + 1) * scale), size)
        rows[label] = (0, round(y - _BAND * scale), size, round(y + _BAND * scale))
    return image, columns, rows
