"""The six visual edits: pure functions from an image to a new RGB image.

The docstrings of the six functions are what a model reads as the tool's definition, so they hold one sentence
and nothing else; what holds for all of them stands here.

The given image is never changed and may have any Pillow mode. Boxes are `(x1, y1, x2, y2)` in pixels, are
clipped to the image, and are drawn 2 px smaller on each side (less where a box is too small for that).
*Highlight* lays translucent red, `(255, 0, 0, 50)`, over the chosen boxes; *mask* paints the other boxes
white, but no pixel of a chosen box; *draw* outlines the chosen boxes in red, 5 px wide on images whose
shorter side has 500 px or more and in proportion on smaller ones. Names match exactly: `"1"` is not `"100"`.
Only the first row of a table is special: `keep_header=True` keeps the top-most row when rows are masked. A
model cannot pass it; the executor does.

Each function raises `ToolError` where there are no boxes, no name is given, a name is unknown, or a chosen
box is empty or lies outside of the image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from PIL import Image, ImageChops

from iapo.images import to_rgb
from iapo.records import Axis, Box
from iapo.tools.canvas import Region, fill, inset, outline, region_of
from iapo.tools.errors import ToolError, listed, quoted

_RED = (255, 0, 0)
_WHITE = (255, 255, 255)
_HIGHLIGHT_ALPHA = 50
_OPAQUE = 255


def focus_on_columns_with_highlight(
    image: Image.Image, columns_to_focus_on: Sequence[str], all_columns_bounding_boxes: Mapping[str, Box]
) -> Image.Image:
    """Highlight the given columns of the picture in red."""
    return _highlight(image, "columns", columns_to_focus_on, all_columns_bounding_boxes)


def focus_on_columns_with_mask(
    image: Image.Image, columns_to_focus_on: Sequence[str], all_columns_bounding_boxes: Mapping[str, Box]
) -> Image.Image:
    """Mask every column of the picture but the given ones."""
    return _mask(image, "columns", columns_to_focus_on, all_columns_bounding_boxes)


def focus_on_columns_with_draw(
    image: Image.Image, columns_to_focus_on: Sequence[str], all_columns_bounding_boxes: Mapping[str, Box]
) -> Image.Image:
    """Draw a red outline around the given columns of the picture."""
    return _draw(image, "columns", columns_to_focus_on, all_columns_bounding_boxes)


def focus_on_rows_with_highlight(
    image: Image.Image, rows_to_focus_on: Sequence[str], all_rows_bounding_boxes: Mapping[str, Box]
) -> Image.Image:
    """Highlight the given rows of the picture in red."""
    return _highlight(image, "rows", rows_to_focus_on, all_rows_bounding_boxes)


def focus_on_rows_with_mask(
    image: Image.Image,
    rows_to_focus_on: Sequence[str],
    all_rows_bounding_boxes: Mapping[str, Box],
    *,
    keep_header: bool = False,
) -> Image.Image:
    """Mask every row of the picture but the given ones."""
    return _mask(image, "rows", rows_to_focus_on, all_rows_bounding_boxes, keep_header)


def focus_on_rows_with_draw(
    image: Image.Image, rows_to_focus_on: Sequence[str], all_rows_bounding_boxes: Mapping[str, Box]
) -> Image.Image:
    """Draw a red outline around the given rows of the picture."""
    return _draw(image, "rows", rows_to_focus_on, all_rows_bounding_boxes)


def _highlight(image: Image.Image, axis: Axis, names: Sequence[str], boxes: Mapping[str, Box]) -> Image.Image:
    regions = _chosen_regions(image.size, axis, names, boxes)
    # One mask for all boxes, so that where two of them overlap the red is not laid on twice.
    mask = Image.new("L", image.size, 0)
    fill(mask, map(inset, regions), _HIGHLIGHT_ALPHA)
    canvas = to_rgb(image)
    canvas.paste(_RED, mask=mask)
    return canvas


def _mask(
    image: Image.Image,
    axis: Axis,
    names: Sequence[str],
    boxes: Mapping[str, Box],
    keep_header: bool = False,
) -> Image.Image:
    kept = _chosen_regions(image.size, axis, names, boxes)
    canvas = to_rgb(image)
    canvas.paste(_WHITE, mask=_erased(image.size, kept, names, boxes, keep_header))
    return canvas


def _erased(
    size: tuple[int, int],
    kept: Sequence[Region],
    names: Sequence[str],
    boxes: Mapping[str, Box],
    keep_header: bool,
) -> Image.Image:
    """Returns the pixels that a mask paints, as an image of mode L."""
    header = min(boxes, key=lambda name: boxes[name][1]) if keep_header else None
    others = {name: region_of(box, size) for name, box in boxes.items() if name not in names}
    mask = Image.new("L", size, 0)
    fill(mask, (inset(region) for name, region in others.items() if region and name != header), _OPAQUE)
    # What stays is cleared last and without inset, so that no pixel of it is lost to an overlapping box.
    header_region = others.get(header) if header is not None else None
    fill(mask, kept if header_region is None else [*kept, header_region], 0)
    return mask


@dataclass(frozen=True, slots=True)
class Masking:
    """One call of a mask.

    Attributes:
        names: The names that it focuses on.
        boxes: All boxes.
        keep_header: Whether the top-most row stays.
    """

    names: Sequence[str]
    boxes: Mapping[str, Box]
    keep_header: bool


def erase_all(maskings: Sequence[Masking], size: tuple[int, int]) -> bool:
    """Tells whether masks, one after the other, erase whatever any of them focuses on.

    The rims that a mask leaves of each box count for nothing, nor does what lies outside of all boxes or is left as a
    table's header.

    Args:
        maskings: The calls, each of which succeeded.
        size: Width and height of the image.
    """
    erased = Image.new("L", size, 0)
    chosen: list[Region] = []
    for one in maskings:
        kept = [region for name in one.names if (region := region_of(one.boxes[name], size))]
        erased = ImageChops.lighter(erased, _erased(size, kept, one.names, one.boxes, one.keep_header))
        chosen += map(inset, kept)
    return all(erased.crop(region).getextrema() == (_OPAQUE, _OPAQUE) for region in chosen)


def _draw(image: Image.Image, axis: Axis, names: Sequence[str], boxes: Mapping[str, Box]) -> Image.Image:
    regions = _chosen_regions(image.size, axis, names, boxes)
    canvas = to_rgb(image)
    outline(canvas, map(inset, regions), _RED)
    return canvas


def _chosen_regions(size: tuple[int, int], axis: Axis, names: Sequence[str], boxes: Mapping[str, Box]) -> list[Region]:
    """Checks the arguments that all edits share and returns the pixels of the chosen boxes."""
    one = axis.removesuffix("s")
    if not boxes:
        other = "rows" if axis == "columns" else "columns"
        raise ToolError(f"this picture has no {one} boxes; focus on its {other} instead")
    if isinstance(names, str):
        raise ToolError(f"the {axis} to focus on are the text {quoted(names)}; give a list of names")
    if not names:
        raise ToolError(f"the list of {axis} to focus on is empty; name at least one of {listed(boxes)}")
    regions = []
    for name in names:
        if name not in boxes:
            raise ToolError(f"there is no {one} {quoted(name)} in this picture; use names from {listed(boxes)}")
        box = boxes[name]
        # Written so that not-a-number counts as empty too.
        if not (box[0] < box[2] and box[1] < box[3]):
            raise ToolError(f"the box of {one} {quoted(name)} is empty: {box}; give x1 < x2 and y1 < y2 in pixels")
        region = region_of(box, size)
        if region is None:
            raise ToolError(
                f"the box of {one} {quoted(name)}, {box}, lies outside of the picture of "
                f"{size[0]} x {size[1]} pixels; give boxes in pixels of this picture"
            )
        regions.append(region)
    return regions
