"""Boxes as whole pixels on an image, filled and outlined."""

from __future__ import annotations

import math
from collections.abc import Iterable

from PIL import Image

from iapo.records import Box

Region = tuple[int, int, int, int]
"""``(left, top, right, bottom)`` in whole pixels inside the image; right and bottom are not included."""

_INSET = 2
_OUTLINE = 5
_OUTLINE_SIDE = 500


def region_of(box: Box, size: tuple[int, int]) -> Region | None:
    """Returns the whole pixels of an image of `size` that a box touches; None where there are none."""
    width, height = size
    # Clipped before rounding, since an infinite edge cannot be rounded.
    left, right = (min(max(value, 0.0), float(width)) for value in (box[0], box[2]))
    top, bottom = (min(max(value, 0.0), float(height)) for value in (box[1], box[3]))
    if left >= right or top >= bottom:
        return None
    return math.floor(left), math.floor(top), math.ceil(right), math.ceil(bottom)


def inset(region: Region) -> Region:
    """Returns the region 2 px smaller on each side; less than that where nothing of it would be left."""
    left, top, right, bottom = region
    x = min(_INSET, (right - left - 1) // 2)
    y = min(_INSET, (bottom - top - 1) // 2)
    return left + x, top + y, right - x, bottom - y


def outline_width(size: tuple[int, int]) -> int:
    """Returns the width of an outline, in pixels, on an image of `size`.

    5 px where the shorter side has 500 px or more, in proportion below that, never less than 1 px.
    """
    return max(1, min(_OUTLINE, round(_OUTLINE * min(size) / _OUTLINE_SIDE)))


def fill(mask: Image.Image, regions: Iterable[Region], value: int) -> None:
    """Sets every pixel of the regions to `value` in a mask of mode L, in place."""
    for region in regions:
        mask.paste(value, region)


def outline(canvas: Image.Image, regions: Iterable[Region], color: tuple[int, int, int]) -> None:
    """Draws the inner border of each region on an RGB canvas, in place, `outline_width` thick."""
    widest = outline_width(canvas.size)
    for left, top, right, bottom in regions:
        # Four bars, since Pillow's own outline leaves a rectangle that is 1 px wide.
        width = min(widest, right - left, bottom - top)
        canvas.paste(color, (left, top, right, top + width))
        canvas.paste(color, (left, bottom - width, right, bottom))
        canvas.paste(color, (left, top, left + width, bottom))
        canvas.paste(color, (right - width, top, right, bottom))
