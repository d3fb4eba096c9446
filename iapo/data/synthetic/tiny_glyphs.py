"""Letters and digits of the tiny images, as masks, each drawn once per size."""

from __future__ import annotations

from functools import lru_cache

from PIL import Image, ImageDraw, ImageFont

SIDE = 112
"""Side in pixels of the image in which all lengths of the tiny renderers are given; other sizes scale them."""

_FONT = 17


@lru_cache(maxsize=4096)
def glyph(letter: str, size: int) -> Image.Image:
    """Returns the character's ink as a mask, cropped, for an image of `size` pixels."""
    font = ImageFont.load_default(size=_FONT * size / SIDE)
    x1, y1, x2, y2 = (round(edge) for edge in font.getbbox(letter))
    mask = Image.new("L", (x2 - x1, y2 - y1), 0)
    ImageDraw.Draw(mask).text((-x1, -y1), letter, fill=255, font=font)
    return mask


def put(image: Image.Image, letter: str, size: int, centre: tuple[float, float], ink: tuple[int, int, int]) -> None:
    """Writes one character, its ink centred at a point."""
    mask = glyph(letter, size)
    corner = (round(centre[0] - mask.width / 2), round(centre[1] - mask.height / 2))
    image.paste(ink, corner, mask)
