"""`read_text`: what is written in the image, by OCR (the extra `ocr`)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from iapo.ocr import read_lines
from iapo.records import Box
from iapo.tools.packaged.regions import part_of

NOTHING = "(no text was found)"


def read_text(image: Image.Image, box: Box | None = None) -> str:
    """Read what is written in the image or in a part of it, one line of text a line, from top to bottom."""
    found = read_lines(image if box is None else part_of(image, box))
    return "\n".join(" ".join(row) for row in _rows(found)) or NOTHING


def _rows(found: Sequence[tuple[str, np.ndarray]]) -> list[list[str]]:
    """Returns texts as they stand: row by row, and in a row from left to right."""
    rows: list[list[tuple[float, str]]] = []
    middle = height = 0.0
    for text, corners in sorted(found, key=lambda one: float(one[1][:, 1].mean())):
        center, (top, bottom) = float(corners[:, 1].mean()), (float(corners[:, 1].min()), float(corners[:, 1].max()))
        # Words of one row are found apart, and a little higher or lower.
        if not rows or center - middle > max(height, bottom - top) / 2:
            rows.append([])
            middle, height = center, bottom - top
        rows[-1].append((float(corners[:, 0].min()), text))
    return [[text for _, text in sorted(row)] for row in rows]
