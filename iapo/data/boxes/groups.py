"""Which bars share a slot: single bars, or groups of one bar a colour, also where some of them are missing."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np


class Bar(NamedTuple):
    """A bar with all that is stacked in it, in whole pixels; `x2` and `y2` are exclusive.

    Attributes:
        colour: Which of the image's colours its largest part has.
    """

    x1: int
    y1: int
    x2: int
    y2: int
    colour: int

    @property
    def width(self) -> int:
        return self.x2 - self.x1

    @property
    def height(self) -> int:
        return self.y2 - self.y1

    @property
    def middle(self) -> float:
        return (self.x1 + self.x2) / 2


class Group(NamedTuple):
    """The bars of one slot; `middle` is the slot's, also where a bar of it is missing."""

    middle: float
    bars: list[Bar]


def group(bars: list[Bar], labelled: Callable[[Bar], bool]) -> list[Group]:
    """Returns the bars by slot.

    Args:
        bars: Bars from the left, two or more.
        labelled: Tells whether a bar has a label of its own; asked where colours do not tell.
    """
    by_colour = _by_colour(bars)
    if by_colour is not None:
        return by_colour
    alone = [Group(bar.middle, [bar]) for bar in bars]
    groups = _by_gaps(bars)
    # Rows in sections of one size have gaps like groups, but a label each.
    if groups is None or np.mean([labelled(bar) for bar in bars]) >= 0.7:
        return alone
    return [Group((some[0].x1 + some[-1].x2) / 2, some) for some in groups]


def _by_gaps(bars: list[Bar]) -> list[list[Bar]] | None:
    """Returns groups of one size with narrow gaps inside and wide ones between; None where there are none."""
    gaps = [max(0, right.x1 - left.x2) for left, right in itertools.pairwise(bars)]
    close = 0.35 * float(np.median([bar.width for bar in bars]))
    if len(gaps) < 3 or min(gaps) > close or max(gaps) < 2.5 * min(gaps) + 4:
        return None
    cut = (max(gaps) + min(gaps)) / 2
    groups = [[bars[0]]]
    for gap, bar in zip(gaps, bars[1:], strict=True):
        if gap > cut:
            groups.append([])
        groups[-1].append(bar)
    # Groups of several sizes are more likely single bars with some missing between them.
    return groups if len(groups) >= 2 and len({len(some) for some in groups}) == 1 else None


def _by_colour(bars: list[Bar]) -> list[Group] | None:
    """Returns groups in which every colour has its place; None where the bars are not so.

    Bars of one colour stand whole slots apart, so that a missing bar leaves the others where they are.
    """
    colours: dict[int, list[Bar]] = {}
    for bar in bars:
        colours.setdefault(bar.colour, []).append(bar)
    steps = np.array([b.middle - a.middle for same in colours.values() for a, b in itertools.pairwise(same)])
    if len(colours) < 2 or not steps.size:
        return None
    pitch = _common_step(steps)
    if pitch is None:
        return None
    width = float(np.median([bar.width for bar in bars]))
    places: dict[int, float] = {}
    for colour, same in colours.items():
        offsets = np.array([bar.middle - bars[0].middle for bar in same])
        offsets -= pitch * np.round((offsets - offsets[0]) / pitch)
        if np.ptp(offsets) > max(3.0, 0.3 * width):
            return None
        places[colour] = float(np.mean(offsets)) % pitch
    order = sorted(places.values())
    ends = [*order[1:], order[0] + pitch]
    gaps = [after - before - width for before, after in zip(order, ends, strict=True)]
    between = max(gaps)
    inside = sorted(gaps)[:-1]
    # Highlighted bars of one series have several colours in one place; bars in turn have equal gaps everywhere.
    if min(inside) < -0.3 * width or min(inside) > 0.5 * width or between < 1.3 * min(inside) + 3:
        return None
    first = ends[gaps.index(between)] % pitch
    from_first = {colour: (place - first) % pitch for colour, place in places.items()}
    from_first = {colour: 0.0 if pitch - place < 0.3 * width else place for colour, place in from_first.items()}
    span = max(from_first.values())
    slots: dict[int, list[Bar]] = {}
    origin = bars[0].middle - from_first[bars[0].colour]
    for bar in bars:
        slots.setdefault(round((bar.middle - from_first[bar.colour] - origin) / pitch), []).append(bar)
    if any(len({bar.colour for bar in some}) < len(some) for some in slots.values()):
        return None
    return [
        Group(float(np.mean([bar.middle - from_first[bar.colour] for bar in some])) + span / 2, some)
        for _, some in sorted(slots.items())
    ]


def _common_step(steps: np.ndarray) -> float | None:
    """Returns the step of which all are whole multiples; None where there is none."""
    counts = np.round(steps / steps.min())
    pitch = float(steps.sum() / counts.sum())
    return pitch if np.abs(steps - counts * pitch).max() <= max(3.0, 0.06 * pitch) else None
