"""`rotate`: the image, turned."""

from __future__ import annotations

import math
from typing import Annotated

from annotated_types import Interval
from PIL import Image

from iapo.images import to_rgb
from iapo.tools.bounds import MOST_PIXELS
from iapo.tools.definitions import moves_pixels
from iapo.tools.errors import ToolError


@moves_pixels
def rotate(
    image: Image.Image, degrees: Annotated[float, "counter-clockwise", Interval(ge=-360, le=360)]
) -> Image.Image:
    """Turn the image, for example for slanted labels; its corners are filled with white."""
    turned = math.radians(degrees)
    sides = [abs(image.width * math.cos(turned)) + abs(image.height * math.sin(turned))]
    sides.append(abs(image.width * math.sin(turned)) + abs(image.height * math.cos(turned)))
    # Each may be a pixel or two more, for what begins inside of one.
    if (round(sides[0]) + 2) * (round(sides[1]) + 2) > max(MOST_PIXELS, (image.width + 2) * (image.height + 2)):
        raise ToolError(f"the turned image would have more than {MOST_PIXELS:,} pixels; crop it first")
    return to_rgb(image).rotate(degrees, Image.Resampling.BICUBIC, expand=True, fillcolor=(255, 255, 255))
