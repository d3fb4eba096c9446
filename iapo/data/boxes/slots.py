"""Where a chart's slots are: from its bars, and from the labels and numbers of bars that have no length.

All is told in the frame of upright bars: labels are below the base line, numbers above the bars' ends. Lying bars
come here turned, so that a line of lettering stands upright and each label has lines of its own.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from iapo.data.boxes.groups import Bar, Group, group
from iapo.data.boxes.labels import Labels
from iapo.data.boxes.pixels import Mask, Pixels, distance, long_runs, spans

_OFF = 0.2
"""A slot may be so far from its place on a regular grid, in steps of the grid."""
_FAINT = 25
"""Least difference of an axis from the page."""


class DoubtError(Exception):
    """There are bars, but how many is in doubt; the message is one sentence."""


class Bars(NamedTuple):
    """The bars of an upright chart, from the left.

    Attributes:
        base: The row of pixels on which they stand.
        bars: One a column of pixels.
    """

    base: int
    bars: list[Bar]

    @property
    def area(self) -> int:
        return sum(bar.width * bar.height for bar in self.bars)


class Slot(NamedTuple):
    """The place of one label: its left and right edge, and its bars, none where they have no length."""

    start: float
    end: float
    bars: list[Bar]


def find_slots(pixels: Pixels, page: Pixels, ink: Mask, em: float, found: Bars, *, lying: bool) -> list[Slot]:
    """Returns the slots from the left.

    Args:
        pixels: The image, in the frame of upright bars.
        page: Colour of the page.
        ink: The lettering, in the same frame.
        em: Size of the lettering in pixels.
        found: The bars.
        lying: Whether the image was turned, so that lettering stands upright.

    Raises:
        DoubtError: If labels say that there may be more slots than are found.
    """
    labels = Labels(ink, em, found.base, found.bars, lying=lying)
    if lying and np.mean([labels.of_its_own(bar) for bar in found.bars]) >= 0.9:
        groups = [Group(bar.middle, [bar]) for bar in found.bars]
    else:
        groups = group(found.bars, lambda bar: labels.below(bar.middle, 0.5 * bar.width))
    middles = np.array([some.middle for some in groups])
    if len(groups) < 2:
        raise DoubtError("found one group of bars, so that where the next one would stand is not known")
    pitch = _pitch(middles)
    if pitch is None:
        if lying:
            groups = sorted([*groups, *_rows_between(groups, labels)], key=lambda some: some.middle)
        _check_gaps(groups, labels, lying=lying)
        return _uneven(groups)
    places = [round((middle - middles[0]) / pitch) for middle in middles]
    pitch = float(np.polyfit(places, middles, 1)[0])
    first = float(np.mean([middle - place * pitch for middle, place in zip(middles, places, strict=True)]))
    # Where bars of groups are missing, a series may be missing in all that are found.
    most = 0.1 if len({len(some.bars) for some in groups}) == 1 else 0.35
    axis = _axis(pixels, page, found, first, pitch, most)
    if axis is not None:
        shifted, *axis_places = axis
        if most > 0.1:
            first = shifted
        known = range(round(axis_places[0]), round(axis_places[1]))
    else:
        known = None
    by_place = dict(zip(places, groups, strict=True))
    wanted = _places(by_place, first, pitch, labels, known, width=pixels.shape[1], lying=lying)
    return [
        Slot(
            first + (place - 0.5) * pitch,
            first + (place + 0.5) * pitch,
            by_place[place].bars if place in by_place else [],
        )
        for place in wanted
    ]


def _pitch(middles: np.ndarray) -> float | None:
    """Returns the step of the grid on which all middles are; None where they are not on one."""
    steps = np.diff(middles)
    counts = np.round(steps / steps.min())
    pitch = float(steps.sum() / counts.sum())
    places = np.round((middles - middles[0]) / pitch)
    off = np.abs(middles - middles[0] - places * pitch).max()
    return pitch if off <= _OFF * pitch and len(set(places.tolist())) == len(middles) else None


def _axis(
    pixels: Pixels, page: Pixels, found: Bars, first: float, pitch: float, most: float
) -> tuple[float, float, float] | None:
    """Returns the middle of the slot at place 0, and the first place and the one after the last on the axis, where an
    axis line holds a whole number of slots; else None. They are moved by `most` of a slot at most.
    """
    height, width = pixels.shape[:2]
    need = round(0.6 * (found.bars[-1].x2 - found.bars[0].x1))
    rows = pixels[max(0, found.base - 1) : min(height, found.base + 3)]
    ends = spans(long_runs(distance(rows, page) > _FAINT, max(5, need), axis=1).any(axis=0))
    if len(ends) != 1:
        return None
    start, end = ends[0]
    count = round((end - start) / pitch)
    # A rule across the whole page is no axis.
    if start <= 2 or end >= width - 2 or abs((end - start) / pitch - count) > 0.15:
        return None
    place = round((start - first) / pitch + 0.5)
    shift = start + pitch / 2 - (first + place * pitch)
    low = min(bar.x1 for bar in found.bars)
    inside = start - 2 <= low and max(bar.x2 for bar in found.bars) <= end + 2
    return (first + shift, place, place + count) if inside and abs(shift) <= most * pitch else None


def _places(
    groups: dict[int, Group],
    first: float,
    pitch: float,
    labels: Labels,
    known: range | None,
    *,
    width: int,
    lying: bool,
) -> list[int]:
    """Returns the places of the grid that are slots: those with bars, and those of bars without length."""
    low, high = min(groups), max(groups)

    def middle(place: int) -> float:
        return first + place * pitch

    half = min(0.5 * pitch, max(0.25 * pitch, 0.6 * labels.em)) if lying else 0.3 * pitch
    here = {place: labels.below(middle(place), half) for place in groups}
    named = float(np.mean(list(here.values())))
    if lying and named >= 0.5:
        labels.keep_names([middle(place) for place in groups], half)
    numbered = float(np.mean([labels.above(middle(place), half, some.bars) for place, some in groups.items()])) >= 0.6

    def is_name(place: int) -> bool | None:
        """Whether a label is a bar's name; None where that is in doubt."""
        if not lying:
            return True
        if labels.runs_on(middle(place), half):
            return False
        aligned = labels.aligned(middle(place), half, [middle(other) for other in groups])
        if labels.above(middle(place), half, [], far=bool(aligned)):
            return True
        if aligned is None:
            # Titles and notes are beside the bars, headings between them.
            return None if low < place < high or known is not None else False
        # A name in a chart with numbers has one; else a heading does not end where names end.
        return None if aligned and numbered else aligned

    places = set(groups)
    for place in range(low + 1, high):
        if place in groups:
            continue
        if labels.below(middle(place), half):
            sure = is_name(place)
            if sure is None:
                raise DoubtError(f"found {len(groups)} bars, and between them a label without a bar or a number")
            if sure:
                places.add(place)
        elif named < 0.8:
            # No labels, or one at every second place: the grid alone tells.
            places.add(place)
    for step, end in ((1, high), (-1, low)):
        place = end + step
        while 0 <= middle(place) < width and (known is None or place in known):
            if named < 0.5 or not labels.below(middle(place), half):
                break
            # The zero of an axis without a line is no label.
            if not lying and labels.on_base(middle(place), half):
                break
            sure = is_name(place) if lying else known is not None or labels.above(middle(place), half, []) or None
            if sure is None:
                raise DoubtError(f"found {len(places)} bars where {len(places) + 1} labels stand")
            if not sure:
                break
            places.add(place)
            place += step
    between = [labels.between(middle(place), middle(place + 1)) for place in range(min(places), max(places))]
    more = sum(map(bool, between))
    if more and (max(between) == 1 or more >= 0.6 * len(between)):
        raise DoubtError(f"found {len(places)} bars where about {len(places) + more} labels stand")
    return sorted(places)


def _rows_between(groups: list[Group], labels: Labels) -> Iterator[Group]:
    """Yields rows of no length in a chart in sections: lines with a label and a number, apart from all bars."""
    middles = np.array([some.middle for some in groups])
    pitch = float(np.quantile(np.diff(middles), 0.25))
    taken = list(middles)
    for line in labels.lines():
        apart = min(abs(line.middle - middle) for middle in taken)
        inside = middles[0] - 1.5 * pitch <= line.middle <= middles[-1] + 1.5 * pitch
        half = 0.5 * line.length
        if inside and apart >= 0.75 * pitch and labels.above(line.middle, half, []):
            taken.append(line.middle)
            yield Group(line.middle, [])


def _check_gaps(groups: list[Group], labels: Labels, *, lying: bool) -> None:
    """Raises if a label stands between bars that are further apart than others; a heading of a section may."""
    middles = [some.middle for some in groups]
    pitch = float(np.quantile(np.diff(middles), 0.25))
    half = 0.25 * pitch
    for left, right in itertools.pairwise(middles):
        for count in range(1, round((right - left) / pitch)):
            place = left + count * pitch
            if labels.below(place, half) and (not lying or labels.aligned(place, half, middles)):
                raise DoubtError(f"found {len(groups)} bars, and between them a label without a bar or a number")


def _uneven(groups: list[Group]) -> list[Slot]:
    """Returns slots around middles that are on no grid; what is between sections is no slot."""
    middles = [some.middle for some in groups]
    half = 0.55 * float(np.quantile(np.diff(middles), 0.25))
    widest = max(half, max((some.bars[-1].x2 - some.bars[0].x1) / 2 for some in groups if some.bars))
    slots = []
    for place, some in enumerate(groups):
        start, end = some.middle - widest, some.middle + widest
        if place:
            start = max(start, (middles[place - 1] + some.middle) / 2)
        if place + 1 < len(groups):
            end = min(end, (some.middle + middles[place + 1]) / 2)
        slots.append(Slot(start, end, some.bars))
    return slots
