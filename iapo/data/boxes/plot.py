"""What surrounds a chart's bars: the plot area, the labels' lower end; from them the boxes of slots and bands."""

from __future__ import annotations

import numpy as np

from iapo.data.boxes.groups import Bar
from iapo.data.boxes.pixels import Mask, Pixels, distance, long_runs, main_colours, spans
from iapo.data.boxes.slots import Bars, Slot
from iapo.records import Box

_INK = 50
"""Least difference from the page's colour that counts as lettering or a line."""


def measure(pixels: Pixels, page: Pixels, found: Bars, slots: list[Slot]) -> tuple[dict[str, Box], dict[str, Box]]:
    """Returns the boxes of the slots and the bands of their bars, by place.

    A slot without a bar has no band.
    """
    edges = [slots[0].start, slots[-1].end]
    left, right, top = _plot_area(pixels, page, found, edges)
    foot = _foot(pixels, page, found, edges)
    slot_boxes: dict[str, Box] = {}
    bands: dict[str, Box] = {}
    for place, slot in enumerate(slots, start=1):
        slot_boxes[str(place)] = (max(0.0, slot.start), top, min(float(pixels.shape[1]), slot.end), foot)
        if slot.bars:
            high = _tip(pixels, page, min(slot.bars, key=lambda bar: bar.y1))
            bands[str(place)] = (left, high, right, float(max(bar.y2 for bar in slot.bars)))
    return slot_boxes, bands


def _tip(pixels: Pixels, page: Pixels, bar: Bar) -> float:
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
