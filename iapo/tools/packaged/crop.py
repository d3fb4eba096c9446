"""`crop`: a part of the image."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Interval
from PIL import Image

from iapo.records import Box
from iapo.tools.definitions import moves_pixels
from iapo.tools.packaged.regions import part_of


@moves_pixels
def crop(
    image: Image.Image, box: Box, margin: Annotated[int, "in pixels, on each side", Interval(ge=0, le=200)] = 0
) -> Image.Image:
    """Cut a part out of the image, as large as it is there."""
    return part_of(image, box, margin)
