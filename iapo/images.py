"""Images as they are looked at: one conversion to RGB for the model, the tools and the displays."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

from PIL import Image, ImageChops, ImageOps

FORMATS = ("PNG", "JPEG", "MPO", "GIF", "BMP", "DIB", "TIFF", "WEBP", "AVIF", "PPM", "TGA", "ICO")
"""Image formats that are read: those that decode in this process; EPS, for one, starts a program."""

_GAP = 12
"""Pixels between images that are laid side by side."""

UNREADABLE: tuple[type[Exception], ...] = (
    *(OSError, SyntaxError, ValueError, TypeError, ArithmeticError, LookupError, RuntimeError, EOFError),
    *(struct.error, zlib.error, MemoryError, AssertionError, AttributeError),
)
"""What Pillow's decoders raise at damaged files."""

_GREY_STEPS = {"L;2": 85, "L;4": 17}
"""By how Pillow calls them: what PNG's greys of fewer bits are multiplied by for 8."""

_WHITE = (255, 255, 255)
_ORIENTATION = 0x0112


def open_image(source: Path | BinaryIO) -> Image.Image:
    """Opens an image of one of `FORMATS`, and of no other that Pillow knows.

    Raises:
        PIL.UnidentifiedImageError: If it is none of them.
        PIL.Image.DecompressionBombError: If it has more pixels than Pillow takes for harmless.
    """
    Image.init()
    # Some are built into Pillow or not.
    image = Image.open(source, formats=[name for name in FORMATS if name in Image.OPEN])
    most = Image.MAX_IMAGE_PIXELS
    if most is not None and image.width * image.height > most:
        # Pillow itself only warns until it is twice as many.
        raise Image.DecompressionBombError(f"{image.width} x {image.height} pixels are more than {most:,}")
    return _with_clear_colour(image, source)


def _with_clear_colour(image: Image.Image, source: Path | BinaryIO) -> Image.Image:
    """Returns a PNG image with its transparent colour as its pixels have it.

    Pillow scales the pixels of such a file to 8 bits, and not the colour that says which of them are transparent.
    """
    key, tiles = image.info.get("transparency"), getattr(image, "tile", None)
    if image.format != "PNG" or not tiles or isinstance(key, bytes) or key is None:
        return image
    kind = tiles[0][3]
    if kind in _GREY_STEPS and isinstance(key, int):
        image.info["transparency"] = key * _GREY_STEPS[kind]
    if kind != "RGB;16B" or not isinstance(key, tuple):
        return image
    if not isinstance(source, Path):
        source.seek(0)
    data = source.read_bytes() if isinstance(source, Path) else source.read()
    high, low = (Image.open(io.BytesIO(data), formats=["PNG"]) for _ in range(2))
    # The same bytes with the lower one of each two taken for the higher.
    cast(Any, low).tile = [(tile[0], tile[1], tile[2], "RGB;16L") for tile in tiles]
    clear = Image.new("L", image.size, 255)
    for part, values in ((high, [value >> 8 for value in key]), (low, [value & 255 for value in key])):
        part.load()
        for channel, value in zip(part.split(), values, strict=True):
            clear = ImageChops.darker(clear, channel.point([255 if one == value else 0 for one in range(256)]))
    found = Image.merge("RGBA", (*high.split(), ImageChops.invert(clear)))
    # An orientation is told there.
    found.info = {name: value for name, value in high.info.items() if name != "transparency"}
    return found


def upright(image: Image.Image) -> Image.Image:
    """Turns an image as its EXIF orientation says; the same object where it stands upright already."""
    if image.getexif().get(_ORIENTATION, 1) == 1:
        return image
    return ImageOps.exif_transpose(image)


def is_plain(image: Image.Image) -> bool:
    """Tells whether Pillow's own conversion to RGB shows the image as it is, so that its file can be kept.

    It does not with transparent pixels, which turn to what lies under them (mostly black), with more than 8 bits,
    which are cut off, and with an EXIF orientation, which it passes over.
    """
    if image.mode in ("I", "F", "La") or image.mode.startswith("I;16") or upright(image) is not image:
        return False
    if image.has_transparency_data:
        lowest, _ = image.convert("RGBA").getchannel("A").getextrema()
        return lowest == 255
    return True


def side_by_side(images: Sequence[Image.Image]) -> Image.Image:
    """Returns RGB images in one, from left to right with white between; of a single one it is that."""
    seen = [to_rgb(image) for image in images]
    width = sum(one.width for one in seen) + _GAP * (len(seen) - 1)
    canvas = Image.new("RGB", (width, max(one.height for one in seen)), _WHITE)
    left = 0
    for one in seen:
        canvas.paste(one, (left, 0))
        left += one.width + _GAP
    return canvas


def to_rgb(image: Image.Image) -> Image.Image:
    """Returns a new RGB image that looks the same; the given one, of any Pillow mode, is not changed.

    Transparent pixels are laid over white. 16-bit images are scaled from 0..65535. The open-ended modes I
    and F are scaled by what they hold: 0..1 (F alone), 0..255 or 0..65535 by that range, anything else from
    its own smallest to its own largest value. Pixels that are NaN or infinite, which hold nothing, are white.
    """
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        clear = _clear_pixels(image)
        image = _to_8_bit(image)
        if clear is not None:
            image.paste(255, mask=clear)
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


def _clear_pixels(image: Image.Image) -> Image.Image | None:
    """Returns which pixels of an image of more than 8 bits are transparent, as a mask; None where it does not say."""
    key = image.info.get("transparency")
    if not isinstance(key, int) or image.mode == "F":
        return None
    # Imported here, as below.
    import numpy as np

    return Image.fromarray(np.asarray(image.convert("I")) == key)


def _to_8_bit(image: Image.Image) -> Image.Image:
    is_16_bit = image.mode.startswith("I;16")
    # I;16 goes by way of I, since point() on it would clip to 16 bits.
    image = image.convert("I") if is_16_bit else _finite(image) if image.mode == "F" else image
    low, high = (0.0, 65535.0) if is_16_bit else _value_range(image)
    scale = 255 / (high - low)
    offset = 0.5 - low * scale  # convert("L") cuts decimals off, so a half makes it round
    return image.convert("F").point(lambda value: value * scale + offset).convert("L")


def _finite(image: Image.Image) -> Image.Image:
    """Returns a floating-point image with its largest value for NaN and infinity, its smallest for what is below all.

    One such pixel, as maps have where nothing was measured, would else be the range of all others.
    """
    # Imported here, since few images need it and it takes long.
    import numpy as np

    values = np.asarray(image)
    known = values[np.isfinite(values)]
    if known.size == values.size:
        return image
    low, high = _ends(float(known.min()), float(known.max()), fractions=True) if known.size else (0.0, 1.0)
    return Image.fromarray(np.nan_to_num(values, nan=high, posinf=high, neginf=low))


def _value_range(image: Image.Image) -> tuple[float, float]:
    extrema = image.getextrema() or (0, 0)  # a image without pixels has none
    low, high = (float(value) for value in extrema if not isinstance(value, tuple))
    return _ends(low, high, fractions=image.mode == "F")


def _ends(low: float, high: float, *, fractions: bool) -> tuple[float, float]:
    """Returns which values are black and white where these are the smallest and the largest."""
    if low >= 0 and high <= 65535:
        if fractions and high <= 1:
            return 0.0, 1.0
        return 0.0, 255.0 if high <= 255 else 65535.0
    return (low, high) if low < high else (low, low + 1)
