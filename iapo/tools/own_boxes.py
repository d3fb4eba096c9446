"""Boxes that a program gives itself, as grounding models do, checked against the image."""

from __future__ import annotations

from collections.abc import Mapping

from iapo.records import Box
from iapo.tools.errors import ToolError, quoted

OWN_BOXES = "own boxes"
"""What a record of a call names instead of `columns_bbox` and `rows_bbox`."""

FRACTION = 1.0
"""Largest number up to which all four of a box are fractions of the image's sides."""

_BEYOND = 0.05
"""Share of a side that a box may reach beyond the image; models see images a little smaller or larger."""


def check_boxes(boxes: Mapping[str, Box], size: tuple[int, int]) -> None:
    """Refuses boxes that cannot be pixels of an image.

    Args:
        boxes: Boxes by name, in pixels.
        size: Width and height of the image.

    Raises:
        ToolError: If there is none, or one is empty, in fractions of the image, or not in it.
    """
    width, height = size
    if not boxes:
        raise ToolError('the boxes are an empty dictionary; give {"a name": [x1, y1, x2, y2]} in pixels of the image')
    small = [name for name, box in boxes.items() if max(box) <= FRACTION]
    if len(small) == len(boxes):
        raise ToolError(f"the boxes are fractions; give pixels of this image of {width} x {height}")
    if small:
        raise ToolError(
            f"the box of {quoted(small[0])} has fractions and others have pixels; give pixels of this image of "
            f"{width} x {height} in all"
        )
    for name, box in boxes.items():
        try:
            check_box(box, size)
        except ToolError as error:
            raise ToolError(f"the box of {quoted(name)} {error}") from error


def check_box(box: Box, size: tuple[int, int]) -> None:
    """Refuses one box that is empty or not in an image; the sentence is without its subject.

    Raises:
        ToolError: If so.
    """
    (x1, y1, x2, y2), (width, height) = box, size
    if not (x1 < x2 and y1 < y2):
        raise ToolError("is empty; give [x1, y1, x2, y2] with x1 < x2 and y1 < y2")
    far = min(x1, width - x2) < -_BEYOND * width or min(y1, height - y2) < -_BEYOND * height
    if far or x1 >= width or y1 >= height or x2 <= 0 or y2 <= 0:
        raise ToolError(f"lies outside of the image; give pixels of this image of {width} x {height}")
