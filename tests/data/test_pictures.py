"""Images as people have them: what the model sees, what the tools edit and what is looked at are the same."""

from __future__ import annotations

import io
import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from iapo.data.convert import convert
from iapo.data.damage import Damage, RowError
from iapo.data.loading import load
from iapo.data.pictures import encode_picture, read_picture
from iapo.images import open_image, to_rgb
from iapo.records import Sample

ORIENTATION = 0x0112


def drawing() -> Image.Image:
    """Black marks on light ground, with no symmetry."""
    image = Image.new("RGB", (60, 40), (200, 220, 240))
    image.paste((0, 0, 0), (5, 3, 20, 12))
    image.paste((200, 30, 40), (40, 25, 58, 38))
    return image


def file_of(image: Image.Image, format: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=format, **options)
    return buffer.getvalue()


def transparent() -> Image.Image:
    """A mark on a ground that is fully transparent and black underneath."""
    image = Image.new("RGBA", (60, 40), (0, 0, 0, 0))
    image.paste((255, 0, 0, 255), (10, 10, 20, 20))
    return image


def transparent_grey() -> Image.Image:
    return transparent().convert("LA")


def transparent_palette() -> Image.Image:
    image = Image.new("P", (60, 40), 0)
    image.putpalette([0, 0, 0, 255, 0, 0])
    image.paste(1, (10, 10, 20, 20))
    image.info["transparency"] = 0
    return image


@pytest.mark.parametrize("draw", [transparent, transparent_grey, transparent_palette])
@pytest.mark.parametrize("format", ["PNG", "WEBP"])
def test_transparency_is_white(draw: Callable[[], Image.Image], format: str) -> None:
    if format == "WEBP" and draw is not transparent:
        pytest.skip("WebP has RGBA alone")
    options = {"lossless": True} if format == "WEBP" else {}
    read = read_picture(file_of(draw(), format, **options), None)
    assert read.convert("RGB").getpixel((0, 0)) == (255, 255, 255)
    assert read.convert("RGB").getpixel((15, 15)) != (255, 255, 255)


def png_with_clear_colour(colour: int, depth: int, line: bytes, key: bytes) -> bytes:
    """Writes a PNG of 40 x 40 pixels, all lines alike, as Pillow writes none."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", 40, 40, depth, colour, 0, 0, 0)
    parts = ((b"IHDR", head), (b"tRNS", key), (b"IDAT", zlib.compress(40 * (b"\0" + line))), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


@pytest.mark.parametrize(
    ("colour", "depth", "line", "key", "seen"),
    [
        # A colour that differs in the lower byte alone is another one.
        (2, 16, 20 * b"\xff\xfa\0\0\0\7" + 20 * b"\xff\xff\0\0\0\7", b"\xff\xff\0\0\0\7", (255, 0, 0)),
        (2, 8, 20 * b"\5\x64\7" + 20 * b"\6\x64\7", b"\0\6\0\x64\0\7", (5, 100, 7)),
        (0, 16, 20 * b"\x80\0" + 20 * b"\x80\1", b"\x80\1", (128, 128, 128)),
        (0, 8, 20 * b"\5" + 20 * b"\6", b"\0\6", (5, 5, 5)),
        (0, 4, 10 * b"\x22" + 10 * b"\x33", b"\0\3", (34, 34, 34)),
        (0, 2, 5 * b"\x55" + 5 * b"\xaa", b"\0\2", (85, 85, 85)),
    ],
)
def test_a_transparent_colour_is_white(colour: int, depth: int, line: bytes, key: bytes, seen: tuple[int, ...]) -> None:
    data = png_with_clear_colour(colour, depth, line, key)
    for image in (read_picture(data, None), open_image(io.BytesIO(data))):
        rgb = to_rgb(image)
        assert (rgb.getpixel((3, 5)), rgb.getpixel((36, 5))) == (seen, (255, 255, 255))
    assert to_rgb(read_picture(encode_picture(read_picture(data, None)), None)).getpixel((36, 5)) == (255, 255, 255)


def test_an_opaque_alpha_keeps_its_file() -> None:
    data = file_of(drawing().convert("RGBA"))
    assert encode_picture(read_picture(data, None)) == data


@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG"])
def test_exif_orientation_is_applied(orientation: int, format: str) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    options = {"quality": 95, "subsampling": 0} if format == "JPEG" else {}
    data = file_of(drawing(), format, exif=exif, **options)
    read = read_picture(data, None)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    assert read.size == ((40, 60) if orientation >= 5 else (60, 40)) == upright.size
    assert read.tobytes() == upright.convert("RGB").tobytes()
    # What is kept of it is not turned once more.
    assert ImageOps.exif_transpose(Image.open(io.BytesIO(encode_picture(read)))).tobytes() == read.tobytes()


def test_an_upright_photograph_keeps_its_file() -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 1
    data = file_of(drawing(), "JPEG", exif=exif)
    assert encode_picture(read_picture(data, None)) == data


def ramp(top: float, kind: str) -> Image.Image:
    return Image.fromarray(np.linspace(0, top, 64 * 64).reshape(64, 64).astype(kind))


@pytest.mark.parametrize(
    ("image", "format"),
    [
        (ramp(65535, "uint16"), "PNG"),
        (ramp(65535, "uint16"), "TIFF"),
        (ramp(65535, "int32"), "TIFF"),
        (ramp(1, "float32"), "TIFF"),
        (ramp(255, "float32"), "TIFF"),
    ],
)
def test_more_than_8_bits_are_scaled(image: Image.Image, format: str) -> None:
    seen = np.asarray(read_picture(file_of(image, format), None).convert("L"), dtype=float)
    assert np.abs(seen - np.linspace(0, 255, 64 * 64).reshape(64, 64)).max() <= 1


@pytest.mark.parametrize("mode", ["CMYK", "P", "1", "L"])
def test_other_modes_come_as_they_are(mode: str) -> None:
    format = "TIFF" if mode == "CMYK" else "PNG"
    image = drawing().convert(mode)
    read = read_picture(file_of(image, format), None)
    assert read.mode == mode
    assert to_rgb(read).tobytes() == image.convert("RGB").tobytes() == read.convert("RGB").tobytes()


@pytest.mark.parametrize(("format", "options"), [("EPS", {}), ("PDF", {}), ("PCX", {})])
def test_other_formats_are_refused(format: str, options: dict[str, Any]) -> None:
    with pytest.raises(RowError, match="in no known picture format"):
        read_picture(file_of(drawing(), format, **options), None)


@pytest.mark.parametrize(
    ("size", "message"),
    [((27, 100), "27 x 100 pixels; the models need 28"), ((28, 5601), "28 x 5601 pixels; one side may be at most 200")],
)
def test_sides_that_no_model_takes(size: tuple[int, int], message: str) -> None:
    with pytest.raises(RowError, match=message):
        read_picture(file_of(Image.new("RGB", size)), None)
    assert read_picture(file_of(Image.new("RGB", (28, 5600))), None).size == (28, 5600)


def write(folder: Path, rows: list[dict[str, Any]]) -> Path:
    (folder / "a.png").write_bytes(file_of(drawing()))
    (folder / "clear.png").write_bytes(file_of(transparent()))
    (folder / "thin.png").write_bytes(file_of(Image.new("RGB", (20, 60))))
    text = "".join(json.dumps({"image": "a.png", "question": "What?", "answer": "1", **row}) + "\n" for row in rows)
    (folder / "data.jsonl").write_text(text)
    return folder / "data.jsonl"


def test_damage_has_its_row(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {},
        {"image": "thin.png"},
        {"question": "What <|im_end|>?"},
        {"column_boxes": {"<|image_pad|>": [1, 1, 9, 9]}},
        {"question": "Is <|x| or a < |b| right?"},
    ]
    items = list(load(write(tmp_path, rows)))
    assert [item.row for item in items if isinstance(item, Damage)] == [2, 3, 4]
    reasons = [item.reason for item in items if isinstance(item, Damage)]
    assert "20 x 60 pixels" in reasons[0]
    assert "the question holds the control token <|im_end|>" in reasons[1]
    assert "the name '<|image_pad|>' holds the control token" in reasons[2]


def test_convert_keeps_what_is_seen(tmp_path: Path) -> None:
    source = write(tmp_path, [{"image": "clear.png"}, {"image": "thin.png"}])
    done = convert(str(source), tmp_path / "out.parquet")
    assert (done.samples, done.damaged) == (1, 1)
    first, again = (next(iter(load(path))) for path in (source, tmp_path / "out.parquet"))
    assert isinstance(first, Sample)
    assert isinstance(again, Sample)
    assert again.image.convert("RGB").tobytes() == to_rgb(transparent()).tobytes() == first.image.tobytes()


def test_model_and_tools_see_the_same(encoder: Any) -> None:
    """Also where a sample was made by hand, past the loader."""
    image = transparent()
    seen, white = (encoder.pixels([one])["pixel_values"] for one in (image, to_rgb(image)))
    assert (seen == white).all()
    assert (seen != encoder.pixels([image.convert("RGB")])["pixel_values"]).any()
