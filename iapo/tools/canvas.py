"""Images as RGB canvases, and boxes as whole pixels on them."""

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
_WHITE = (255, 255, 255)


def to_rgb(image: Image.Image) -> Image.Image:
    """Returns a new RGB image that looks the same; the given one, of any Pillow mode, is not changed.

    Transparent pixels are laid over white. 16-bit images are scaled from 0..65535. The open-ended modes I
    and F are scaled by what they hold: 0..1 (F alone), 0..255 or 0..65535 by that range, anything else from
    its own smallest to its own largest value.
    """
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        image = _to_8_bit(image)
    elif image.mode == "La":
        image = image.convert("LA")  # Pillow has no direct way from La to RGBA
    # A fresh canvas, since convert() keeps `info`, whose transparency entry would no longer be true.
    canvas = Image.new("RGB", image.size, _WHITE)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        canvas.paste(image.convert("RGB"), mask=image.getchannel("A"))
    else:
        canvas.paste(image.convert("RGB"))
    return canvas


def _to_8_bit(image: Image.Image) -> Image.Image:
    is_16_bit = image.mode.startswith("I;16")
    # I;16 goes by way of I, since point() on it would clip to 16 bits.
    image = image.convert("I") if is_16_bit else image
    low, high = (0.0, 65535.0) if is_16_bit else _value_range(image)
    scale = 255 / (high - low)
    offset = 0.5 - low * scale  # convert("L") cuts decimals off, so a half makes it round
    return image.convert("F").point(lambda value: value * scale + offset).convert("L")


def _value_range(image: Image.Image) -> tuple[float, float]:
    extrema = image.getextrema() or (0, 0)  # an image without pixels has none
    low, high = (float(value) for value in extrema if not isinstance(value, tuple))
    if not (math.isfinite(low) and math.isfinite(high)):
        return 0.0, 255.0
    if low >= 0 and high <= 65535:
        if image.mode == "F" and high <= 1:
            return 0.0, 1.0
        return 0.0, 255.0 if high <= 255 else 65535.0
    return (low, high) if low < high else (low, low + 1)


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
