"""Draws bar charts of 4 bars at 112 to 299 pixels a side, with Pillow alone.

Millions of these are drawn, so that everything which does not depend on the data (the page with its tick
marks, the letters) is drawn once per size and copied. All lengths below are pixels of a 112-pixel image;
other sizes scale them and round each edge, so that neighbours still touch.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from PIL import Image

from iapo.data.synthetic.tiny_glyphs import SIDE, put
from iapo.records import Box

BARS = 4
HIGHEST = 9
"""The largest value that fits."""

COLOURS: tuple[tuple[int, int, int], ...] = (
    (31, 78, 160),
    (20, 110, 60),
    (96, 50, 140),
    (0, 105, 115),
    (95, 90, 20),
    (60, 60, 80),
)
"""Bar colours. None is reddish, since red marks edits."""

_SLOT = SIDE // BARS
_BAR = 16
_GAP = (_SLOT - _BAR) // 2
_UNIT = 10
_MARGIN = 16
_BASE = 18
"""From the image's edge to the foot of the bars: the letters' margin and 2 pixels of air."""
_TICK = (200, 200, 200)
_AXIS = (120, 120, 120)


@lru_cache(maxsize=512)
def _page(family: str, size: int) -> Image.Image:
    """Returns the image before the data: white, the base line, and a faint tick mark per unit at the edge."""
    scale = size / SIDE
    page = Image.new("RGB", (size, size), (255, 255, 255))
    length, thick = max(1, round(3 * scale)), max(1, round(scale))
    for unit in range(1, HIGHEST + 1):
        along = round((_BASE + _UNIT * unit) * scale)
        if family == "vbar":
            page.paste(_TICK, (0, size - along, length, size - along + thick))
        else:
            page.paste(_TICK, (along - thick, size - length, along, size))
    base = round(_BASE * scale)
    if family == "vbar":
        page.paste(_AXIS, (0, size - base, size, size - base + thick))
    else:
        page.paste(_AXIS, (base - thick, 0, base, size))
    return page


def render(
    family: str, labels: Sequence[str], values: Sequence[int], colour: tuple[int, int, int], size: int = SIDE
) -> tuple[Image.Image, dict[str, Box], dict[str, Box]]:
    """Draws one square chart.

    Args:
        family: `vbar` or `hbar`.
        labels: 4 distinct capital letters, from the left (`vbar`) or from the top (`hbar`).
        values: A whole number from 1 to 9 for each.
        colour: Colour of the bars.
        size: Side in pixels.

    Returns:
        The RGB image, its column boxes and its row boxes by label, in pixels, edges exact. Along the
        family's axis a box is the bar's slot; on the other it is the band across the image that the bar
        itself spans.
    """
    scale = size / SIDE
    image = _page(family, size).copy()
    slots: dict[str, Box] = {}
    bands: dict[str, Box] = {}
    base = round(_BASE * scale)
    middle_of_margin = _MARGIN * scale / 2
    for index, (label, value) in enumerate(zip(labels, values, strict=True)):
        start, end = round(_SLOT * index * scale), round(_SLOT * (index + 1) * scale)
        low, high = round((_SLOT * index + _GAP) * scale), round((_SLOT * index + _GAP + _BAR) * scale)
        tip = round((_BASE + _UNIT * value) * scale)
        middle = (start + end) / 2
        if family == "vbar":
            image.paste(colour, (low, size - tip, high, size - base))
            centre = (middle, size - middle_of_margin)
            slots[label] = (start, 0, end, size)
            bands[label] = (0, size - tip, size, size - base)
        else:
            image.paste(colour, (base, low, tip, high))
            centre = (middle_of_margin, middle)
            slots[label] = (0, start, size, end)
            bands[label] = (base, 0, tip, size)
        put(image, label, size, centre, (0, 0, 0))
    return (image, slots, bands) if family == "vbar" else (image, bands, slots)
