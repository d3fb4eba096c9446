"""`read_text`: what is written in the image, by OCR (the extra `ocr`)."""

from __future__ import annotations

from PIL import Image

from iapo.ocr import read_lines
from iapo.records import Box
from iapo.tools.packaged.regions import part_of

NOTHING = "(no text was found)"


def read_text(image: Image.Image, box: Box | None = None) -> str:
    """Read what is written in the image or in a part of it, one line of text a line, from top to bottom."""
    lines = read_lines(image if box is None else part_of(image, box))
    lines.sort(key=lambda line: (float(line[1][:, 1].min()), float(line[1][:, 0].min())))
    return "\n".join(text for text, _ in lines) or NOTHING
