"""Reads what is written in an image, where the extra `ocr` is installed."""

from __future__ import annotations

import functools
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
from PIL import Image

from iapo.errors import InputError
from iapo.images import to_rgb

_SURE = 0.5
"""Least score of a text that is used."""


def check_ocr(what: str, instead: str) -> None:
    """Refuses OCR where it is not installed.

    Args:
        what: What needs it, with its verb.
        instead: What to do without it.

    Raises:
        InputError: If so.
    """
    if find_spec("rapidocr") is None or find_spec("onnxruntime") is None:
        raise InputError(f"{what} rapidocr and onnxruntime; pip install 'iapo[ocr]', or {instead}")


def read_lines(image: Image.Image) -> list[tuple[str, np.ndarray]]:
    """Reads the lines of text in an image; `check_ocr` comes first.

    Returns:
        Each line with its corners from the top left of the lettering, clockwise, in pixels, shape (4, 2).
    """
    read = _engine()(np.ascontiguousarray(np.asarray(to_rgb(image))[:, :, ::-1]))
    if read.boxes is None:
        return []
    lines = zip(read.boxes, read.txts, read.scores, strict=True)
    return [(text.strip(), np.asarray(box, float)) for box, text, score in lines if score >= _SURE and text.strip()]


@functools.cache
def _engine() -> Callable[[np.ndarray], Any]:
    from rapidocr import RapidOCR

    return RapidOCR(params={"Global.log_level": "error"})
