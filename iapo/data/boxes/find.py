"""Boxes of an image that comes without, and a sample that has them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from PIL import Image

from iapo.data.boxes.bars import find_bars
from iapo.data.boxes.found import FoundBoxes
from iapo.data.boxes.names import Names, check_names, named, read_texts
from iapo.data.boxes.pixels import to_pixels
from iapo.data.boxes.slots import DoubtError
from iapo.data.boxes.tables import find_table
from iapo.kinds import checks_kinds
from iapo.records import Axis, Box, Kind, Sample

_LARGEST = 1600
"""Larger images are searched at this size: their longer side in pixels."""
_SMALLEST = 48
"""In smaller ones lettering cannot be told from lines."""


@checks_kinds
def find_boxes(image: Image.Image, kind: Kind) -> FoundBoxes:
    """Finds the boxes of a bar chart or of a table, from the image alone.

    Nothing is read, so that the names are places. A chart's bars are `1`, `2`, ... from the left, lying bars from the
    top, with a box on either axis as in `iapo.data.synthetic`. A table's rows are `header`, `1`, `2`, ... from the
    top, its columns `1`, `2`, ... from the left without the left-most one, which holds the rows' names and is never
    masked.

    Args:
        image: The image, any Pillow mode; it is not changed.
        kind: Content of the image.

    Returns:
        The boxes, within the image, or none with the reason.

    Raises:
        InputError: If `kind` is neither `chart` nor `table`.
    """
    if min(image.size) < _SMALLEST:
        return FoundBoxes(reason=f"the picture has {image.width} x {image.height} pixels, too few to find boxes in")
    scale = max(1.0, max(image.size) / _LARGEST)
    smaller = image
    if scale > 1:
        smaller = image.convert("RGBA").resize((round(image.width / scale), round(image.height / scale)))
    pixels = to_pixels(smaller)
    axis: Axis | None = None
    if kind == "chart":
        try:
            bars = find_bars(pixels)
        except DoubtError as doubt:
            return FoundBoxes(reason=str(doubt))
        if bars is None:
            return FoundBoxes(reason="there are no two bars of one width on one base line")
        axis, columns, rows = bars
    else:
        table = find_table(pixels)
        if table is None:
            return FoundBoxes(reason="there are no two rows and two columns of text")
        columns, rows = table
    return FoundBoxes(_within(columns, image.size, scale), _within(rows, image.size, scale), axis)


@checks_kinds
def add_boxes(sample: Sample, names: Names = "places") -> tuple[Sample, str]:
    """Returns a sample with found boxes, where it has none.

    Args:
        sample: Any sample.
        names: How the boxes are named: by their `places`, or by `ocr`, which reads what is written at them; boxes at
            which nothing is read are named by their places.

    Returns:
        The sample itself where it has boxes already or none are found, otherwise one with the boxes and their axis
        that has prompts list their names; and why none were found, empty where there are some.

    Raises:
        InputError: If `names` is unknown, or needs what is not installed.
    """
    check_names(names)
    if sample.column_boxes or sample.row_boxes:
        return sample, ""
    found = find_boxes(sample.image, sample.kind)
    if found.reason:
        return sample, found.reason
    if names == "ocr":
        found = named(found, read_texts(sample.image))
    axis = sample.axis or found.axis
    found_sample = replace(
        sample, column_boxes=found.column_boxes, row_boxes=found.row_boxes, axis=axis, list_names=True
    )
    return found_sample, ""


def _within(boxes: Mapping[str, Box], size: tuple[int, int], scale: float) -> dict[str, Box]:
    """Scales and clips boxes to the image; boxes that lie outside of it are dropped."""
    clipped = {}
    for name, box in boxes.items():
        x1, y1, x2, y2 = (max(0.0, round(value * scale, 1)) for value in box)
        inside = (x1, y1, min(x2, float(size[0])), min(y2, float(size[1])))
        if inside[0] < inside[2] and inside[1] < inside[3]:
            clipped[name] = inside
    return clipped
