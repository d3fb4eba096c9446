"""`rotate`: the image, turned."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Interval
from PIL import Image

from iapo.images import to_rgb


def rotate(
    image: Image.Image, degrees: Annotated[float, "counter-clockwise", Interval(ge=-360, le=360)]
) -> Image.Image:
    """Turn the image, for example for slanted labels; its corners are filled with white."""
    return to_rgb(image).rotate(degrees, Image.Resampling.BICUBIC, expand=True, fillcolor=(255, 255, 255))
