"""Image files with bytes changed: an image of RGB, or the error that says the picture is damaged."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

from fuzzing import fuzz, is_sentence, mutated
from hypothesis import strategies as st
from PIL import Image, features

from iapo.data.damage import RowError
from iapo.data.pictures import encode_picture, read_picture
from iapo.images import to_rgb

GRADIENT = Image.linear_gradient("L").resize((40, 30))
MODES = {"PNG": ("RGB", "P", "LA", "I;16", "1"), "JPEG": ("RGB", "L", "CMYK"), "GIF": ("P",), "BMP": ("RGB", "P", "1"),
         "TIFF": ("RGB", "I;16", "F", "CMYK", "P"), "WEBP": ("RGB", "RGBA"), "PPM": ("RGB", "L"), "ICO": ("RGBA",),
         "TGA": ("RGB", "P")}  # fmt: skip


def _file(format: str, mode: str, **more: Any) -> bytes:
    buffer = io.BytesIO()
    image = GRADIENT.convert("I").convert("I;16") if mode == "I;16" else GRADIENT.convert("RGB").convert(mode)
    image.save(buffer, format=format, **more)
    return buffer.getvalue()


FILES = [
    _file(format, mode)
    for format, modes in MODES.items()
    for mode in modes
    if format != "WEBP" or features.check("webp")
]
FILES += [_file("TIFF", "RGB", compression=name) for name in ("tiff_lzw", "packbits", "tiff_adobe_deflate")]
FILES += [
    _file("GIF", "P", save_all=True, append_images=[GRADIENT.convert("P")] * 2),
    _file("JPEG", "L", progressive=True),
]


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    return mutated(draw(st.sampled_from(FILES)), draw)


# One may have 89 million pixels.
@fuzz("image files", damaged() | st.binary(max_size=200), 150, seconds=10)
def test_pictures(data: bytes, folder: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            image = read_picture(data, None)
        except RowError as error:
            is_sentence(error)
            return
        assert to_rgb(image).size == image.size
        assert image.width > 0
        assert encode_picture(image)
