"""`zoom`: a part of the image, enlarged."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Interval
from PIL import Image

from iapo.records import Box
from iapo.tools.definitions import moves_pixels
from iapo.tools.packaged.regions import part_of

LONGEST_SIDE = 2048
"""Longest side of what is returned, in pixels: no image is made that fills the memory."""


@moves_pixels
def zoom(image: Image.Image, box: Box, factor: Annotated[float, Interval(ge=1, le=8)] = 2.0) -> Image.Image:
    """Cut a part out of the image and enlarge it so many times, to 2048 pixels a side at most."""
    part = part_of(image, box)
    factor = max(1.0, min(factor, LONGEST_SIDE / max(part.size)))
    return part.resize((round(part.width * factor), round(part.height * factor)), Image.Resampling.LANCZOS)
