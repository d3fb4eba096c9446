"""The part of an image in a box, for tools that look at one."""

from __future__ import annotations

from PIL import Image

from iapo.images import to_rgb
from iapo.records import Box
from iapo.tools.canvas import Region, region_of
from iapo.tools.errors import ToolError

_LEAST = 4
"""Least side of a part in pixels."""
_NARROWEST = 50
"""Most times that its longer side may be its shorter one."""


def region_in(image: Image.Image, box: Box, margin: float = 0) -> Region:
    """Returns the whole pixels of a box and a margin round it, inside the image.

    Raises:
        ToolError: If it is too small or too narrow to be seen.
    """
    x1, y1, x2, y2 = box
    region = region_of((x1 - margin, y1 - margin, x2 + margin, y2 + margin), image.size)
    width, height = (0, 0) if region is None else (region[2] - region[0], region[3] - region[1])
    if region is None or min(width, height) < _LEAST or max(width, height) > _NARROWEST * min(width, height):
        raise ToolError(f"the part of {width} x {height} pixels is too small or too narrow to be seen; take more of it")
    return region


def part_of(image: Image.Image, box: Box, margin: float = 0) -> Image.Image:
    """Returns that part as an RGB image."""
    return to_rgb(image).crop(region_in(image, box, margin))
