"""Finds the bars of a bar chart, and from them the slots and bands of its labels."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np

from iapo.data.boxes.pixels import (
    Mask,
    Pixels,
    Rectangle,
    distance,
    long_runs,
    main_colours,
    page_colour,
    solid_rectangles,
    spans,
)
from iapo.records import Axis, Box

_INK = 50
"""Least difference from the page's colour that counts as lettering or a line."""
_NEAR = 2
"""Edges that are no further apart than this, in pixels, are meant to be one."""


class Bars(NamedTuple):
    """The bars of an upright chart, from the left.

    Attributes:
        base: The row of pixels on which they stand.
        bars: One rectangle a bar.
    """

    base: int
    bars: list[Rectangle]

    @property
    def area(self) -> int:
        return sum(bar.width * bar.height for bar in self.bars)


def find_bars(pixels: Pixels) -> tuple[Axis, dict[str, Box], dict[str, Box]] | None:
    """Finds slots and bands of a bar chart, as `iapo.data.synthetic` defines them, named `1`, `2`, ...

    Args:
        pixels: The image.

    Returns:
        The axis of the bars (`columns` for upright ones, counted from the left; `rows` for lying ones, counted from the
        top), the column boxes and the row boxes; None where there are not two bars of one width on one base line.
    """
    page = page_colour(pixels)
    rectangles = solid_rectangles(pixels, page)
    height, width = pixels.shape[:2]
    upright = _standing(rectangles, height)
    # Turned by a quarter, lying bars stand: what was left is at the bottom, what was on top is at the left.
    lying = _standing([Rectangle(y1, width - x2, y2, width - x1) for x1, y1, x2, y2 in rectangles], width)
    if upright is None and lying is None:
        return None
    if lying is None or (upright is not None and upright.area >= lying.area):
        assert upright is not None
        slots, bands = _measure(pixels, page, upright)
        return "columns", slots, bands
    turned = np.flip(pixels.transpose(1, 0, 2), axis=0)
    slots, bands = (_turn_back(boxes, width) for boxes in _measure(turned, page, lying))
    return "rows", bands, slots


def _turn_back(boxes: dict[str, Box], width: int) -> dict[str, Box]:
    return {name: (width - y2, x1, width - y1, x2) for name, (x1, y1, x2, y2) in boxes.items()}


def _standing(rectangles: list[Rectangle], height: int) -> Bars | None:
    """Returns the bars of one width on one base line that cover the most pixels.

    The longest must have a tenth of the image's height: letters and the marks of a line chart are shorter.
    """
    wide = _stacked([rectangle for rectangle in rectangles if rectangle.width >= 5])
    best: Bars | None = None
    for base in sorted({bar.y2 for bar in wide}):
        # Bars of negative values hang from the line.
        on_base = [bar for bar in wide if min(abs(bar.y2 - base), abs(bar.y1 - base)) <= _NEAR]
        for width in sorted({bar.width for bar in on_base}):
            alike = sorted(bar for bar in on_base if abs(bar.width - width) <= max(_NEAR, 0.1 * width))
            apart = all(left.x2 <= right.x1 + _NEAR for left, right in itertools.pairwise(alike))
            found = Bars(base, alike)
            long = max(bar.height for bar in alike) >= 0.1 * height
            if (
                len(alike) >= 2
                and long
                and apart
                and not _one_block(alike)
                and (best is None or found.area > best.area)
            ):
                best = found
    return best


def _one_block(bars: list[Rectangle]) -> bool:
    """Tells whether they touch and are of one length, as stripes and the steps of a colour scale are."""
    heights = [bar.height for bar in bars]
    touching = all(right.x1 - left.x2 <= _NEAR for left, right in itertools.pairwise(bars))
    return touching and max(heights) - min(heights) <= _NEAR


def _stacked(rectangles: list[Rectangle]) -> list[Rectangle]:
    """Joins rectangles that stand on one another, as in stacked bars."""
    joined: list[Rectangle] = []
    for upper in sorted(rectangles, key=lambda rectangle: -rectangle.y2):
        for place, lower in enumerate(joined):
            aligned = abs(lower.x1 - upper.x1) <= _NEAR and abs(lower.x2 - upper.x2) <= _NEAR
            if aligned and abs(lower.y1 - upper.y2) <= _NEAR:
                joined[place] = Rectangle(lower.x1, upper.y1, lower.x2, lower.y2)
                break
        else:
            joined.append(upper)
    return joined


def _groups(bars: list[Rectangle]) -> list[list[Rectangle]]:
    """Returns the bars by slot: one each, or several where they stand in groups of one size."""
    gaps = [max(0, right.x1 - left.x2) for left, right in itertools.pairwise(bars)]
    alone = [[bar] for bar in bars]
    close = 0.35 * float(np.median([bar.width for bar in bars]))
    if len(gaps) < 3 or min(gaps) > close or max(gaps) < 2.5 * min(gaps) + 4:
        return alone
    cut = (max(gaps) + min(gaps)) / 2
    groups = [[bars[0]]]
    for gap, bar in zip(gaps, bars[1:], strict=True):
        if gap > cut:
            groups.append([])
        groups[-1].append(bar)
    # Groups of several sizes are more likely single bars with some missing between them.
    return groups if len(groups) >= 2 and len({len(group) for group in groups}) == 1 else alone


def _edges(middles: list[float]) -> list[float]:
    """Returns the slot edges around the slots' middles: evenly spaced where the middles allow it, also across
    missing bars.
    """
    steps = np.diff(middles)
    count = round((middles[-1] - middles[0]) / float(steps.min()))
    pitch = (middles[-1] - middles[0]) / count
    whole = steps / pitch
    if np.abs(whole - whole.round()).max() <= 0.2:
        return [middles[0] + (place - 0.5) * pitch for place in range(count + 2)]
    inner = [(left + right) / 2 for left, right in itertools.pairwise(middles)]
    return [2 * middles[0] - inner[0], *inner, 2 * middles[-1] - inner[-1]]


def _measure(pixels: Pixels, page: Pixels, found: Bars) -> tuple[dict[str, Box], dict[str, Box]]:
    """Slots and bands of upright bars."""
    groups = _groups(found.bars)
    edges = _edges([(group[0].x1 + group[-1].x2) / 2 for group in groups])
    left, right, top = _plot_area(pixels, page, found, edges)
    foot = _foot(pixels, page, found, edges)
    slots: dict[str, Box] = {}
    bands: dict[str, Box] = {}
    for place, (start, end) in enumerate(itertools.pairwise(edges), start=1):
        slots[str(place)] = (max(0.0, start), top, min(float(pixels.shape[1]), end), foot)
        inside = [bar for group in groups for bar in group if start <= (group[0].x1 + group[-1].x2) / 2 < end]
        if inside:
            high = _tip(pixels, page, min(inside, key=lambda bar: bar.y1))
            bands[str(place)] = (left, high, right, float(max(bar.y2 for bar in inside)))
    return slots, bands


def _tip(pixels: Pixels, page: Pixels, bar: Rectangle) -> float:
    """Returns the bar's upper end with its outline, which has another colour than the bar."""
    tip = bar.y1
    while tip > max(0, bar.y1 - 2):
        line = pixels[tip - 1, bar.x1 : bar.x2]
        if (distance(line, page) > _INK).mean() < 0.9:
            break
        tip -= 1
    return float(tip)


def _plot_area(pixels: Pixels, page: Pixels, found: Bars, edges: list[float]) -> tuple[float, float, float]:
    """Returns the left, right and top of the plot area."""
    base, bars = found
    high = min(bar.y1 for bar in bars)
    tall = max(bar.y2 for bar in bars) - high
    first, last = max(0, round(edges[0])), min(pixels.shape[1], round(edges[-1]))
    # The ground between the bars, where it is not the page's, is the plot area's.
    between = np.ones(last - first, dtype=np.bool_)
    for bar in bars:
        between[max(0, bar.x1 - first - 3) : max(0, bar.x2 - first + 3)] = False
    ground = main_colours(pixels[high:base, first:last][:, between])
    if ground and np.abs(ground[0] - page).max() > 3:
        same = distance(pixels, ground[0]) <= 2
        upright, across = spans(same.mean(axis=0) > 0.1), spans(same[:, first:last].mean(axis=1) > 0.1)
        if upright and across and upright[-1].end - upright[0].start >= 0.8 * (last - first):
            return upright[0].start, upright[-1].end, min(high, across[0].start)
    ink = distance(pixels, page) > _INK
    line = long_runs(ink[max(0, base - 2) : base + 3], round(0.6 * (last - first)), axis=1).any(axis=0)
    ends = spans(line)
    left, right = (ends[0].start, ends[-1].end) if ends else (edges[0], edges[-1])
    # Upright lines that reach from the base beyond the highest bar, at the plot area's sides.
    upright_lines = long_runs(ink[: base + 3], max(5, round(0.8 * tall)), axis=0)
    beside = np.r_[0 : max(0, bars[0].x1 - 2), min(pixels.shape[1], bars[-1].x2 + 2) : pixels.shape[1]]
    standing = upright_lines[:, beside] & upright_lines[max(0, base - 3), beside]
    rows = np.flatnonzero(standing.any(axis=1))
    if rows.size and rows[0] <= high:
        return left, right, float(rows[0])
    # No side line: as far as what is written or ruled above the bars without a wide gap, and a little air.
    return left, right, _above(ink[:high, first:last], high, tall)


def _above(ink: Mask, high: int, tall: int) -> float:
    near = [span for span in spans(ink.any(axis=1)) if high - span.end <= 0.08 * tall + 4]
    return max(0.0, (near[-1].start if near else high) - 0.04 * tall)


def _foot(pixels: Pixels, page: Pixels, found: Bars, edges: list[float]) -> float:
    """Returns the lower end of the labels under the base line; the line itself where there are none."""
    first, last = max(0, round(edges[0])), min(pixels.shape[1], round(edges[-1]))
    size = max(pixels.shape[:2])
    lowest = max(bar.y2 for bar in found.bars)
    ink = (distance(pixels[lowest:, first:last], page) > _INK).any(axis=1)
    foot = 0
    for span in spans(ink, gap=2 + round(0.008 * size)):
        if span.start - foot > 6 + 0.03 * size:
            break
        foot = span.end
        if span.length >= 6:  # The labels; what is shorter is the axis with its ticks.
            break
    return float(lowest + foot)
