"""Random data for line and scatter panels: places along the axis, series, and their values."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from iapo.data.synthetic import chart_data
from iapo.data.synthetic.chart_data import SMALL, format_number, pick, pick_labels, unique_top
from iapo.data.synthetic.chart_topics import TOPICS, Measure, Topic
from iapo.data.synthetic.splits import Part, part_of


@dataclass(frozen=True, slots=True)
class Panel:
    """One plot of an image.

    Attributes:
        raw: A positive whole number per series and place; the largest of each series occurs once in it.
        unit: All of `raw` are multiples of it.
        tick: The distance between labelled ticks, in `raw`.
        decimals: 0, or 1 where `raw` counts tenths.
        measure: Measure of the values; None for bare numbers.
    """

    raw: tuple[tuple[int, ...], ...]
    unit: int = 1
    tick: int = 1
    decimals: int = 0
    measure: Measure | None = None

    def text(self, raw: int) -> str:
        """Writes a raw number in the panel's precision, without trailing zeros."""
        return format_number(raw, self.decimals)


@dataclass(frozen=True, slots=True)
class PanelData:
    """What an image of panels shows.

    Attributes:
        places: Tick labels along the horizontal axis, the same in every panel, distinct.
        panels: The plots.
        series: The lines' or point clouds' names; one without a name in tiny images.
        topic: Topic of the series; None in tiny images.
        time: Noun for a place, for example `month`; empty for letters.
    """

    places: tuple[str, ...]
    panels: tuple[Panel, ...]
    series: tuple[str, ...] = ("",)
    topic: Topic | None = None
    time: str = ""

    def name(self, panel: int, place: int) -> str:
        """Returns the name of a place's boxes: its tick label, after the panel's letter where there are several
        panels.
        """
        label = self.places[place]
        return label if len(self.panels) == 1 else f"{letter(panel)} {label}"

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all boxes, panel by panel."""
        return tuple(self.name(one, place) for one in range(len(self.panels)) for place in range(len(self.places)))

    @property
    def values(self) -> tuple[tuple[float | int, ...], ...]:
        """For each series its values at `names`: integers, or floats in panels with decimals."""
        return tuple(
            tuple(
                raw / 10**panel.decimals if panel.decimals else raw for panel in self.panels for raw in panel.raw[index]
            )
            for index in range(len(self.series))
        )


def letter(panel: int) -> str:
    """Returns how a panel is called: `(a)`, `(b)`, ..."""
    return f"({'abcdefgh'[panel]})"


def tiny_data(rng: np.random.Generator, part: Part) -> PanelData:
    """Returns one unnamed series over 4 letters, with values from 1 to 9; the set of letters is of the part given."""
    bars = chart_data.tiny_data(rng, part)
    return PanelData(bars.labels, (Panel((bars.raw,)),))


def real_data(rng: np.random.Generator, size: int, part: Part) -> PanelData:
    """Returns 1 to 4 panels, each with another measure of 1 to 3 named series over 3 to 6 months or years.

    All values are multiples of a unit that the panel marks with a tick, and no two series meet in a point.

    Args:
        rng: The source of all randomness.
        size: The image's longer side in pixels; below 400 there are at most 2 panels and 2 series.
        part: Part that the combination of topic, measures, times and shape belongs to.
    """
    small = size < SMALL
    while True:
        topic = pick(rng, [one for one in TOPICS if not one.consecutive])
        times = pick(rng, [one for one in TOPICS if one.consecutive])
        count = int(rng.integers(1, (2 if small else len(topic.measures)) + 1))
        measures = tuple(topic.measures[index] for index in rng.permutation(len(topic.measures))[:count])
        lines, width = int(rng.integers(1, 3 if small else 4)), int(rng.integers(3, 7 if count == 1 else 6))
        names = {measure.name for measure in measures}
        if part_of([topic.noun], names, [times.noun], [f"{count} x {lines} x {width}"]) == part:
            break
    panels = tuple(_panel(rng, measure, lines, width, 10 if small or count > 1 else 16) for measure in measures)
    series = pick_labels(rng, topic, lines, 10 if small else 16)
    return PanelData(pick_labels(rng, times, width, 4), panels, series, topic, times.noun)


def _panel(rng: np.random.Generator, measure: Measure, lines: int, width: int, highest: int) -> Panel:
    decimals = 0 if measure.whole else int(rng.integers(2))
    unit = pick(rng, (1, 2, 5) if decimals else (1, 2, 5, 10, 20, 50))
    while True:
        steps = [unique_top(rng, width, 1, highest) for _ in range(lines)]
        if all(len(set(place)) == lines for place in zip(*steps, strict=True)):
            break
    raw = tuple(tuple(unit * step for step in line) for line in steps)
    return Panel(raw, unit, unit * pick(rng, (2, 5)), decimals, measure)
