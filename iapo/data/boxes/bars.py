"""Finds the bars of a bar chart, and from them the slots and bands of its labels."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np

from iapo.data.boxes.groups import Bar
from iapo.data.boxes.lettering import lettering
from iapo.data.boxes.pixels import Patch, Pixels, Rectangle, page_colour, solid_patches
from iapo.data.boxes.plot import measure
from iapo.data.boxes.slots import Bars, find_slots
from iapo.records import Axis, Box

_THINNEST = 5
"""Thinner areas of one colour, in pixels, are lines and parts of letters."""


class Chart(NamedTuple):
    """What was found in a bar chart.

    Attributes:
        axis: The axis of the bars: `columns` for upright ones, `rows` for lying ones.
        columns: The column boxes by name.
        rows: The row boxes by name.
    """

    axis: Axis
    columns: dict[str, Box]
    rows: dict[str, Box]


def find_bars(pixels: Pixels) -> Chart | None:
    """Finds slots and bands of a bar chart, as `iapo.data.synthetic` defines them, named `1`, `2`, ...

    Upright bars are counted from the left, lying ones from the top.

    Args:
        pixels: The image.

    Returns:
        The boxes; None where there are not two bars of one width on one base line.

    Raises:
        DoubtError: If there are bars, and labels say that there may be more of them.
    """
    page = page_colour(pixels)
    height, width = pixels.shape[:2]
    patches = solid_patches(pixels, page)
    # What reaches from side to side is ground, also where bars cut it.
    ground = {colour for box, colour in patches if _spans_all(box, width, height)}
    patches = [patch for patch in patches if patch.colour not in ground]
    letters = lettering(pixels, page)
    near = 2 + max(height, width) // 500
    upright = _standing(patches, height, near)
    # Turned by a quarter, lying bars stand: what was left is at the bottom, what was on top is at the left.
    turned = [Patch(Rectangle(y1, width - x2, y2, width - x1), colour) for (x1, y1, x2, y2), colour in patches]
    lying = _standing(turned, width, near)
    if upright is None and lying is None:
        return None
    if lying is None or (upright is not None and upright.area >= lying.area):
        assert upright is not None
        slots = find_slots(pixels, page, letters.ink, letters.em, upright, lying=False)
        columns, rows = measure(pixels, page, upright, slots)
        return Chart("columns", columns, rows)
    pixels = np.flip(pixels.transpose(1, 0, 2), axis=0)
    slots = find_slots(pixels, page, np.flip(letters.ink.T, axis=0), letters.em, lying, lying=True)
    columns, rows = (_turn_back(boxes, width) for boxes in measure(pixels, page, lying, slots))
    return Chart("rows", rows, columns)


def _spans_all(box: Rectangle, width: int, height: int) -> bool:
    return (box.x1 <= 1 and box.x2 >= width - 1) or (box.y1 <= 1 and box.y2 >= height - 1)


def _turn_back(boxes: dict[str, Box], width: int) -> dict[str, Box]:
    return {name: (width - y2, x1, width - y1, x2) for name, (x1, y1, x2, y2) in boxes.items()}


def _standing(patches: list[Patch], height: int, near: int) -> Bars | None:
    """Returns the bars of one width on one base line that cover the most pixels.

    The longest must have a tenth of the image's height: letters and the marks of a line chart are shorter.
    """
    wide = [patch for patch in patches if patch.box.width >= _THINNEST]
    best: Bars | None = None
    bases = sorted({edge for patch in wide for edge in (patch.box.y1, patch.box.y2)})
    for base in bases:
        # Bars of negative values hang from the line.
        on_base = [patch for patch in wide if _away(patch, base) <= near]
        for width in sorted({patch.box.width for patch in on_base}):
            same = [patch for patch in wide if abs(patch.box.width - width) <= max(2, 0.1 * width)]
            if best is not None and sum(_area(patch) for patch in same) < 0.98 * best.area:
                continue
            bars = _columns([patch for patch in same if patch in on_base], near)
            if len(bars) < 2 or not _apart(bars, near) or _one_block(bars, near):
                continue
            found, loose = _with_stacks(Bars(base, bars), same, near)
            if max(bar.height for bar in found.bars) >= 0.1 * height:
                found = _with_loose(found, loose, near)
                if best is None or _better(found, best, near):
                    best = found
    return best


def _better(one: Bars, other: Bars, near: int) -> bool:
    """Tells whether the bars cover more; where they cover as much, whether more of them end at the base line, as all
    do at the foot of stacked bars, at the lower of two.
    """
    if abs(one.area - other.area) > 0.02 * other.area:
        return one.area > other.area

    def ends(found: Bars) -> tuple[int, int, int]:
        feet = [bar.y2 - found.base for bar in found.bars]
        heads = [bar.y1 - found.base for bar in found.bars]
        off = [min(abs(foot), abs(head)) for foot, head in zip(feet, heads, strict=True)]
        standing = sum(abs(foot) <= near for foot in feet)
        return sum(away <= near for away in off), standing, -sum(away for away in off if away <= near)

    return ends(one) > ends(other)


def _area(patch: Patch) -> int:
    return patch.box.width * patch.box.height


def _columns(patches: list[Patch], near: int) -> list[Bar]:
    """Joins patches that stand above one another, also across the base line; from the left."""
    bars: list[Bar] = []
    for box, colour in sorted(patches, key=lambda patch: (patch.box.x1, -_area(patch))):
        for place, bar in enumerate(bars):
            if abs(bar.x1 - box.x1) <= near and abs(bar.x2 - box.x2) <= near:
                larger = box.width * box.height > bar.width * bar.height
                bars[place] = Bar(
                    bar.x1, min(bar.y1, box.y1), bar.x2, max(bar.y2, box.y2), colour if larger else bar.colour
                )
                break
        else:
            bars.append(Bar(*box, colour))
    return sorted(bars)


def _apart(bars: list[Bar], near: int) -> bool:
    return all(left.x2 <= right.x1 + near for left, right in itertools.pairwise(bars))


def _one_block(bars: list[Bar], near: int) -> bool:
    """Tells whether they touch and are of one length, as stripes and the steps of a colour scale are."""
    heights = [bar.height for bar in bars]
    touching = all(right.x1 - left.x2 <= near for left, right in itertools.pairwise(bars))
    return touching and max(heights) - min(heights) <= near


def _with_stacks(found: Bars, patches: list[Patch], near: int) -> tuple[Bars, list[Patch]]:
    """Returns the bars with what is stacked on them, and the patches that are not."""
    bars = list(found.bars)
    loose: list[Patch] = []
    for patch in sorted(patches, key=lambda patch: _away(patch, found.base)):
        box = patch.box
        for place, bar in enumerate(bars):
            if abs(bar.x1 - box.x1) <= near and abs(bar.x2 - box.x2) <= near:
                if box.y1 - bar.y2 <= near and bar.y1 - box.y2 <= near:
                    bars[place] = bar._replace(y1=min(bar.y1, box.y1), y2=max(bar.y2, box.y2))
                else:
                    loose.append(patch)
                break
        else:
            if all(box.x2 <= bar.x1 + near or bar.x2 <= box.x1 + near for bar in bars):
                loose.append(patch)
    return Bars(found.base, bars), loose


def _with_loose(found: Bars, loose: list[Patch], near: int) -> Bars:
    """Returns the bars with those of the same width that have another foot: because a number is written over it, or
    because they stand in another panel.
    """
    bars = list(found.bars)
    low, high = min(bar.y1 for bar in bars), max(bar.y2 for bar in bars)
    feet = {patch.box.y2 for patch in loose}
    panels = [foot for foot in feet if sum(abs(patch.box.y2 - foot) <= near for patch in loose) >= 0.5 * len(bars)]
    beside = [
        patch for patch in loose if all(patch.box.x1 >= bar.x2 - near or patch.box.x2 <= bar.x1 + near for bar in bars)
    ]
    for bar in _columns(beside, near):
        # A box of a legend stands alone.
        pieces = [patch for patch in beside if abs(patch.box.x1 - bar.x1) <= near]
        stacked = len(pieces) >= 2 and low - near <= bar.y1 and bar.y2 <= high + near
        on_panel = any(abs(patch.box.y2 - foot) <= near for patch in pieces for foot in panels)
        if (stacked or on_panel) and _apart(sorted([*bars, bar]), near):
            bars.append(bar)
    # The labels are below the lowest panel.
    return Bars(max([found.base, *panels]), sorted(bars))


def _away(patch: Patch, base: int) -> int:
    return min(abs(patch.box.y1 - base), abs(patch.box.y2 - base))
