"""What the box finder measures on pixels: page colour, solid patches, long runs, bands of ink."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image
from scipy import ndimage

from iapo.images import to_rgb

Pixels = NDArray[np.int16]
"""Shape (height, width, 3), 0 to 255; signed so that differences do not wrap around."""
Mask = NDArray[np.bool_]
"""Shape (height, width)."""

_SAME = 30
"""Colours that differ by no more than this in any channel are one colour; JPEG noise stays below it."""
_BELONGS = 40
"""A pixel further than this from every colour is of none, for example on a soft edge."""
_MOST_COLOURS = 24


class Rectangle(NamedTuple):
    """Whole pixels, `x2` and `y2` exclusive."""

    x1: int
    y1: int
    x2: int
    y2: int

    @property
    def width(self) -> int:
        return self.x2 - self.x1

    @property
    def height(self) -> int:
        return self.y2 - self.y1


class Patch(NamedTuple):
    """An area of one colour that fills a rectangle.

    Attributes:
        box: The rectangle.
        colour: Which of the image's colours it has.
    """

    box: Rectangle
    colour: int


class Span(NamedTuple):
    """Whole pixels along one axis, `end` exclusive."""

    start: int
    end: int

    @property
    def length(self) -> int:
        return self.end - self.start

    @property
    def middle(self) -> float:
        return (self.start + self.end) / 2


def to_pixels(image: Image.Image) -> Pixels:
    """Returns an image of any Pillow mode as the RGB values that the model is shown."""
    return np.asarray(to_rgb(image), dtype=np.int16)


def distance(pixels: Pixels, colour: Pixels) -> NDArray[np.int16]:
    """Returns the largest difference of a channel, one number a pixel."""
    return np.abs(pixels - colour).max(axis=-1)


def main_colours(pixels: Pixels, least: int = 1) -> list[Pixels]:
    """Returns the colours that occur in at least `least` pixels, most frequent first, 24 at most.

    Args:
        pixels: Any shape whose last axis is the channels.
        least: Fewest pixels that make a colour.
    """
    flat = pixels.reshape(-1, 3)
    # Five bits a channel: exact colours would split a fill with noise on it.
    keys = (flat[:, 0].astype(np.int32) >> 3 << 10) | (flat[:, 1] >> 3 << 5) | (flat[:, 2] >> 3)
    counts = np.bincount(keys, minlength=1)
    found: list[Pixels] = []
    for key in np.argsort(counts, kind="stable")[::-1]:
        if counts[key] < least or len(found) == _MOST_COLOURS:
            break
        colour = np.median(flat[keys == key], axis=0).astype(np.int16)
        if all(np.abs(colour - other).max() > _SAME for other in found):
            found.append(colour)
    return found


def page_colour(pixels: Pixels) -> Pixels:
    """Returns the most frequent colour of the image's outermost four pixels."""
    rim = [pixels[:4], pixels[-4:], pixels[:, :4], pixels[:, -4:]]
    return main_colours(np.concatenate([part.reshape(-1, 3) for part in rim]))[0]


def solid_patches(pixels: Pixels, page: Pixels) -> list[Patch]:
    """Areas of one colour that fill a rectangle, without those of the page's or a plot area's pale (or dark) ground."""
    patches: list[Patch] = []
    light = page.min() >= 128
    colours = main_colours(pixels, least=max(12, pixels.shape[0] * pixels.shape[1] // 5000))
    nearest = np.full(pixels.shape[:2], -1)
    least = np.full(pixels.shape[:2], _BELONGS + 1, dtype=np.int16)
    for index, colour in enumerate(colours):
        away = distance(pixels, colour)
        closer = away < least
        nearest[closer] = index
        least[closer] = away[closer]
    for index, colour in enumerate(colours):
        ground = colour.min() >= 222 if light else colour.max() <= 60
        if not ground and np.abs(colour - page).max() > _SAME:
            labels, _ = ndimage.label(nearest == index)
            for place, part in enumerate(ndimage.find_objects(labels), start=1):
                found = _rectangle(labels[part] == place, part[1].start, part[0].start)
                if found is not None:
                    patches.append(Patch(found, index))
    return patches


def _rectangle(part: Mask, x: int, y: int) -> Rectangle | None:
    """Returns the rectangle that a connected part fills, None where it has another shape; its first pixel is at (x,
    y).
    """
    if min(part.shape) < 2 or max(part.shape) < 5 or part.mean() < 0.4:
        return None
    # Lettering on a bar leaves holes, noise on its rim leaves fringes.
    part = ndimage.binary_fill_holes(part)
    rows, columns = np.flatnonzero(part.mean(axis=1) >= 0.5), np.flatnonzero(part.mean(axis=0) >= 0.5)
    if min(rows.size, columns.size) < 2 or max(rows.size, columns.size) < 5:
        return None
    if part[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].mean() < 0.85:
        return None
    return Rectangle(x + int(columns[0]), y + int(rows[0]), x + int(columns[-1]) + 1, y + int(rows[-1]) + 1)


def long_runs(mask: Mask, length: int, axis: int) -> Mask:
    """Returns the pixels that lie in an unbroken run of at least `length` pixels along an axis (0: upright, 1:
    across).
    """
    # Padded by one, so that the image's edge ends a run; the shift of even lengths goes there and back.
    eroded = ndimage.minimum_filter1d(mask.astype(np.uint8), length, axis=axis, mode="constant", cval=0)
    return ndimage.maximum_filter1d(eroded, length, axis=axis, mode="constant", origin=-1 if length % 2 == 0 else 0) > 0


def spans(flags: ArrayLike, gap: int = 0) -> list[Span]:
    """Returns the runs of true values along one axis; runs that stand `gap` or less apart count as one."""
    padded = np.concatenate([[False], np.asarray(flags), [False]]).astype(np.int8)
    edges = np.flatnonzero(np.diff(padded))
    found: list[Span] = []
    for start, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        if found and start - found[-1].end <= gap:
            found[-1] = Span(found[-1].start, end)
        else:
            found.append(Span(start, end))
    return found
