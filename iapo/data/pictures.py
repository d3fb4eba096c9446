"""Images as data sets carry them: encoded bytes, a path, or both in a dict."""

from __future__ import annotations

import contextlib
import dataclasses
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError

from iapo.data.damage import RowError
from iapo.images import FORMATS, UNREADABLE, is_plain, open_image, to_rgb, upright
from iapo.records import MOST_IMAGES, Sample, save_png
from iapo.samples import EFFORT

SHORTEST_SIDE = 28
"""Shortest side of an image in pixels: one token of Qwen2.5-VL."""

WIDEST_ASPECT = 200
"""Longest side of an image divided by its shortest, at most; the image processors refuse more."""

_KEPT = ("PNG", "JPEG", "MPO")
_ATTRIBUTE = "_iapo_encoded"
_DECODED = "_iapo_decoded"
_LONGEST = 200


def read_picture(value: Any, folder: Path | None, *, inside: bool = False) -> Image.Image:
    """Decodes an image completely, so that a truncated one is found now, and opens it anew.

    It comes as it is looked at (`iapo.images.to_rgb`): upright, transparent pixels over white, more than 8 bits scaled
    to 8. An image that Pillow's plain conversion to RGB shows rightly comes as its file has it. Of several frames the
    first is taken.

    What is returned holds its encoded bytes until its pixels are asked for, so that a long list of samples needs little
    memory.

    Args:
        value: Encoded bytes; a path; or a dict with `bytes` or `path`, as the hub's data sets have it.
        folder: Folder that relative paths start from; the two folders above it are searched as well, since the paths in
            ReFocus files start from the folder of its code.
        inside: Whether the path must lie in `folder` itself.

    Raises:
        RowError: If there is no image, it cannot be decoded, or it is too small or too narrow for the models.
    """
    if isinstance(value, Mapping):
        value = value.get("bytes") or value.get("path")
    if isinstance(value, (bytes, bytearray)):
        return _decode(bytes(value), "the picture")
    if isinstance(value, str) and value.strip():
        shown = repr(value if len(value) <= _LONGEST else value[:_LONGEST] + "...")
        try:
            return _decode(_find(value, shown, folder, inside).read_bytes(), f"picture {shown}")
        except OSError as error:
            raise RowError(f"picture {shown} cannot be read: {error.strerror}") from error
    if value is None or value in ("", b""):
        raise RowError("there is no picture")
    raise RowError(f"the picture is of type {type(value).__name__}; it must be encoded bytes or a path")


def read_pictures(value: Any, folder: Path | None, *, inside: bool = False) -> tuple[Image.Image, ...]:
    """Decodes the images of one sample, in order, each as `read_picture` does.

    Args:
        value: A list of what `read_picture` takes.
        folder: Folder that relative paths start from.
        inside: Whether the paths must lie in `folder` itself.

    Raises:
        RowError: If it is no list, there is none or there are too many, or one of them is damaged; the sentence says
            which.
    """
    if not isinstance(value, list):
        raise RowError(f"the pictures are of type {type(value).__name__}; they must be a list")
    if not 1 <= len(value) <= MOST_IMAGES:
        raise RowError(f"there are {len(value)} pictures; give 1 to {MOST_IMAGES}")
    found = []
    for number, one in enumerate(value, 1):
        try:
            found.append(read_picture(one, folder, inside=inside))
        except RowError as error:
            if len(value) == 1:
                raise
            raise RowError(f"picture {number} of {len(value)}: {error}") from error
    return tuple(found)


def encode_picture(image: Image.Image, *, compression: int = EFFORT) -> bytes:
    """Returns the file that an image was read from, if it was PNG or JPEG, else a PNG of it.

    An image that was changed in place after `read_picture` must be copied first.

    Args:
        image: Image to encode.
        compression: Effort of zlib for the PNG, 0 to 9: with 12 million pixels 6 takes seconds, 1 a quarter.
    """
    encoded: bytes | None = getattr(image, _ATTRIBUTE, None)
    if encoded is not None:
        return encoded
    buffer = io.BytesIO()
    save_png(image, buffer, compression=compression)
    return buffer.getvalue()


def reopen(image: Image.Image) -> Image.Image:
    """Returns the image without its pixels in memory, where `read_picture` made it; else itself."""
    encoded: bytes | None = getattr(image, _ATTRIBUTE, None)
    return image if encoded is None else _open(encoded)


def fresh(sample: Sample) -> Sample:
    """Returns the sample without its images' pixels, so that looking at all samples does not keep all of them."""
    return dataclasses.replace(sample, image=reopen(sample.image), more_images=tuple(map(reopen, sample.more_images)))


def _open(data: bytes) -> Image.Image:
    image = open_image(io.BytesIO(data))
    if image.format in _KEPT:
        # Copies and conversions are new objects without it, so it cannot outlive the pixels that it encodes.
        setattr(image, _ATTRIBUTE, data)
    return image


def _find(path: str, shown: str, folder: Path | None, inside: bool) -> Path:
    if folder is None:
        raise RowError(f"picture {shown} is a path, and this source carries no files")
    if any(letter == "\0" or "\ud800" <= letter <= "\udfff" for letter in path):
        raise RowError(f"the picture's path {shown} holds what no path can hold")
    if inside:
        try:
            within = (folder / path).resolve().is_relative_to(folder.resolve())
        except (OSError, RuntimeError) as error:
            # A link that leads to itself.
            raise RowError(f"the picture's path {shown} leads nowhere ({type(error).__name__})") from error
        if not within:
            raise RowError(f"picture {shown} lies outside of the data's folder; move it there")
        roots = [folder]
    else:
        roots = [folder, folder.absolute().parent, folder.absolute().parent.parent]
    found = next((root / path for root in roots if (root / path).is_file()), None)
    if found is None:
        above = "" if inside else ", nor in the two folders above it"
        raise RowError(f"there is no picture {shown} in {folder}{above}")
    return found


def _decode(data: bytes, what: str) -> Image.Image:
    with _told(what):
        image = _open(data)
        image.load()
        if not is_plain(image):
            buffer = io.BytesIO()
            save_png(to_rgb(upright(image)), buffer)
            data = buffer.getvalue()
    _check_sides(image, what)
    opened = _open(data)
    setattr(opened, _DECODED, True)
    return opened


def check_picture(image: Any, what: str) -> None:
    """Refuses what a reader of the user's own gives as an image and the models cannot take.

    An image that `read_picture` made was decoded there; another one is decoded now, and keeps its pixels.

    Args:
        image: What it gives.
        what: Noun for it, in messages.

    Raises:
        RowError: If it is no Pillow image, cannot be decoded, or is too small or too narrow.
    """
    if not isinstance(image, Image.Image):
        raise RowError(f"{what} is of type {type(image).__name__}; it must be a Pillow image")
    if not getattr(image, _DECODED, False):
        with _told(what):
            image.load()
    _check_sides(image, what)


def _check_sides(image: Image.Image, what: str) -> None:
    short, long = sorted(image.size)
    if short < SHORTEST_SIDE:
        raise RowError(
            f"{what} has {image.width} x {image.height} pixels; the models need {SHORTEST_SIDE} pixels on either side"
        )
    if long > WIDEST_ASPECT * short:
        raise RowError(
            f"{what} has {image.width} x {image.height} pixels; one side may be at most {WIDEST_ASPECT} times the other"
        )


@contextlib.contextmanager
def _told(what: str) -> Iterator[None]:
    """Turns what decoding an image raises into the reason of a damage."""
    try:
        yield
    except Image.DecompressionBombError as error:
        raise RowError(f"{what} is larger than {Image.MAX_IMAGE_PIXELS or 0:,} pixels") from error
    except UnidentifiedImageError as error:
        raise RowError(f"{what} is in no known picture format ({', '.join(FORMATS)})") from error
    except UNREADABLE as error:
        raise RowError(
            f"{what} is damaged: {str(error).strip().splitlines()[0] if str(error) else 'cut off'}"
        ) from error
