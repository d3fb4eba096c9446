"""Lettering in a chart, and its size."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import ndimage

from iapo.data.boxes.pixels import Mask, Pixels, long_runs

_CONTRAST = 40
"""Least contrast of lettering; that of charts may be of a light grey."""


class Lettering(NamedTuple):
    """Where there is lettering.

    Attributes:
        ink: True on it.
        em: The size of the font in pixels: that of most letters.
    """

    ink: Mask
    em: float


def lettering(pixels: Pixels, page: Pixels) -> Lettering:
    """Returns the thin strokes that stand out from a light page (or, light ones, from a dark page), without lines."""
    height, width = pixels.shape[:2]
    size = 2 * round(0.006 * max(height, width)) + 5
    if page.mean() < 128:
        pixels = 255 - pixels
    ink = np.zeros((height, width), dtype=np.bool_)
    # Coloured lettering may differ from its ground in one channel alone.
    for channel in (pixels.min(axis=2), pixels.max(axis=2)):
        ink |= ndimage.grey_closing(channel, size=(size, size)) - channel > _CONTRAST
    lines = long_runs(ink, max(24, width // 12), axis=1) | long_runs(ink, max(24, height // 12), axis=0)
    ink &= ~ndimage.binary_dilation(lines, np.ones((3, 3)))
    labels, _ = ndimage.label(ink, structure=np.ones((3, 3)))
    parts = [(rows.stop - rows.start, columns.stop - columns.start) for rows, columns in ndimage.find_objects(labels)]
    largest = 0.06 * max(height, width)
    letters = [tall for tall, wide in parts if 4 <= tall <= largest and 2 <= wide <= largest]
    # Half of the letters are small ones, with 0.52 of the font's size, half capitals and figures with 0.74.
    em = float(np.median(letters)) / 0.65 if letters else 8.0
    return Lettering(ink, em)
