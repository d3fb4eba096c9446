"""Random data for synthetic bar charts: labels, values and what they are said to measure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from iapo.data.synthetic.chart_topics import TOPICS, Measure, Topic
from iapo.data.synthetic.splits import Part, part_of
from iapo.data.synthetic.tiny_charts import BARS, HIGHEST

_Option = TypeVar("_Option")

_TINY_LABELS = "ABCDEFGH"
SMALL = 400
"""Below this side in pixels, images of real sizes hold less: fewer bars, shorter labels, coarser scales."""


@dataclass(frozen=True, slots=True)
class ChartData:
    """What a chart shows.

    Values are kept as whole numbers of the last decimal place (`raw`), so that differences are exact.

    Attributes:
        labels: The bars' labels, distinct.
        raw: A positive whole number for each; the largest occurs once.
        decimals: 0, or 1 where `raw` counts tenths.
        unit: The step, in `raw`, in which round thresholds are asked; where values are not printed they are
            all multiples of it.
        tick: The distance between labelled ticks, in `raw`.
        printed: Whether each bar carries its value in print.
        topic: Topic of the labels; None for letters.
        measure: Measure of the values; None for bare numbers.
    """

    labels: tuple[str, ...]
    raw: tuple[int, ...]
    decimals: int = 0
    unit: int = 1
    tick: int = 1
    printed: bool = False
    topic: Topic | None = None
    measure: Measure | None = None

    @property
    def values(self) -> tuple[float | int, ...]:
        """The values as shown: integers, or floats where there are decimals."""
        return tuple(value / 10**self.decimals if self.decimals else value for value in self.raw)

    def text(self, raw: int) -> str:
        """Writes a raw number in the chart's precision, without trailing zeros: 30 tenths are `3`."""
        return format_number(raw, self.decimals)


def format_number(raw: int, decimals: int) -> str:
    """Writes `raw` / 10**`decimals` without trailing zeros."""
    if not decimals:
        return str(raw)
    return f"{raw / 10**decimals:.{decimals}f}".rstrip("0").rstrip(".")


def pick(rng: np.random.Generator, options: Sequence[_Option]) -> _Option:
    """Returns one of the options, all equally likely."""
    return options[int(rng.integers(len(options)))]


def unique_top(rng: np.random.Generator, count: int, low: int, high: int) -> tuple[int, ...]:
    """Returns the whole numbers from `low` to `high`, drawn again until the largest is unique."""
    while True:
        values = tuple(rng.integers(low, high + 1, count).tolist())
        if values.count(max(values)) == 1:
            return values


def tiny_data(rng: np.random.Generator, part: Part) -> ChartData:
    """Returns 4 letters in random order, with values from 1 to 9; the set of letters is of the part given."""
    while True:
        labels = tuple(_TINY_LABELS[index] for index in rng.permutation(len(_TINY_LABELS))[:BARS])
        if part_of(labels) == part:
            break
    return ChartData(labels, unique_top(rng, BARS, 1, HIGHEST))


def _round_step(target: float) -> int:
    """Returns the smallest of 1, 2, 5, 10, 20, 50, ... that is at least `target`."""
    power = 1
    while True:
        for digit in (1, 2, 5):
            if digit * power >= target:
                return digit * power
        power *= 10


def pick_labels(rng: np.random.Generator, topic: Topic, count: int, longest: int) -> tuple[str, ...]:
    """Returns `count` of a topic's labels, none longer than `longest` characters; neighbours where the topic asks
    for it.
    """
    pool = [label for label in topic.labels if len(label) <= longest]
    if topic.consecutive:
        start = int(rng.integers(len(pool) - count + 1))
        return tuple(pool[start : start + count])
    return tuple(pool[index] for index in rng.permutation(len(pool))[:count])


def real_data(rng: np.random.Generator, size: int, part: Part) -> ChartData:
    """Returns 3 to 8 named bars whose values can be read off the chart.

    Half of the charts print each value on its bar and take any value. In the others, all values are multiples
    of a unit that the chart marks with a tick, so that reading them needs no guess.

    Args:
        rng: The source of all randomness.
        size: The image's longer side in pixels; below 400 there are at most 6 bars.
        part: Part that the combination of topic, measure and number of bars belongs to.
    """
    small = size < SMALL
    while True:
        topic = pick(rng, TOPICS)
        measure = pick(rng, topic.measures)
        count = int(rng.integers(3, 7 if small else 9))
        if part_of([topic.noun], [measure.name], [str(count)]) == part:
            break
    labels = pick_labels(rng, topic, count, 10 if small else 16)
    decimals = 0 if measure.whole else int(rng.integers(2))
    printed = bool(rng.integers(2))
    if printed:
        highest = pick(rng, (20, 50, 100, 250, 500, 999))
        raw = unique_top(rng, count, max(1, highest // 10), highest)
        tick = _round_step(max(raw) / 5)
        return ChartData(labels, raw, decimals, max(1, tick // 2), tick, True, topic, measure)
    unit = pick(rng, (1, 2, 5) if decimals else (1, 2, 5, 10, 20, 50))
    per_tick = pick(rng, (2, 5))
    raw = tuple(unit * value for value in unique_top(rng, count, 1, 12 if small else int(rng.integers(10, 21))))
    return ChartData(labels, raw, decimals, unit, unit * per_tick, False, topic, measure)
