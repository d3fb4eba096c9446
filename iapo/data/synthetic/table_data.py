"""Random data for synthetic tables: column names, row names and cells."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from iapo.data.synthetic.chart_data import SMALL, format_number, pick, pick_labels, unique_top
from iapo.data.synthetic.chart_topics import TOPICS, Measure, Topic
from iapo.data.synthetic.splits import Part, part_of

HEADER = "header"
"""Name of the header row's box."""

CELLS = 3
"""Columns and rows of a tiny table, without names."""

_COLUMNS = "ABCDEFGH"
_ROWS = "PQRSTUVW"


@dataclass(frozen=True, slots=True)
class TableData:
    """What a table shows.

    Attributes:
        columns: The columns' names, distinct.
        rows: The rows' names, distinct, none of them a column's name.
        raw: A positive whole number per cell, by rows; the largest of each column occurs once in it.
        decimals: Decimals for each column 0, or 1 where `raw` counts tenths.
        topic: Topic of the rows; None for letters.
        measures: Measure of each column's numbers; none for letters.
        time: Noun for a column where all have one measure, `month` or `year`; else empty.
    """

    columns: tuple[str, ...]
    rows: tuple[str, ...]
    raw: tuple[tuple[int, ...], ...]
    decimals: tuple[int, ...]
    topic: Topic | None = None
    measures: tuple[Measure, ...] = ()
    time: str = ""

    def column(self, index: int) -> tuple[int, ...]:
        """Returns the raw numbers of one column."""
        return tuple(row[index] for row in self.raw)

    def text(self, raw: int, column: int) -> str:
        """Writes a raw number in a column's precision, without trailing zeros."""
        return format_number(raw, self.decimals[column])

    @property
    def cells(self) -> tuple[tuple[float | int, ...], ...]:
        """The values as shown, by rows: integers, or floats in columns with decimals."""
        return tuple(
            tuple(raw / 10**places if places else raw for raw, places in zip(row, self.decimals, strict=True))
            for row in self.raw
        )


def tiny_data(rng: np.random.Generator, part: Part) -> TableData:
    """Returns 3 columns named A to H, 3 rows named P to W, cells from 1 to 9; the names are of the part given."""
    while True:
        columns = tuple(_COLUMNS[index] for index in rng.permutation(len(_COLUMNS))[:CELLS])
        rows = tuple(_ROWS[index] for index in rng.permutation(len(_ROWS))[:CELLS])
        if part_of(columns, rows) == part:
            break
    by_column = [unique_top(rng, CELLS, 1, 9) for _ in columns]
    return TableData(columns, rows, tuple(zip(*by_column, strict=True)), (0,) * CELLS)


def real_data(rng: np.random.Generator, size: int, part: Part) -> TableData:
    """Returns 3 to 8 named rows with 3 to 6 columns: several measures of each row, or one measure over months or years.

    Args:
        rng: The source of all randomness.
        size: The image's longer side in pixels; below 400 there are at most 6 rows and 4 columns.
        part: Part that the combination of topic, measures, times and shape belongs to.
    """
    small = size < SMALL
    while True:
        topic = pick(rng, TOPICS)
        count = int(rng.integers(3, 7 if small else 9))
        times = pick(rng, [one for one in TOPICS if one.consecutive]) if _over_time(topic, rng) else None
        if times is None:
            width = int(rng.integers(3, (3 if small else len(topic.measures)) + 1))
            measures = tuple(topic.measures[index] for index in rng.permutation(len(topic.measures))[:width])
        else:
            measures = (pick(rng, topic.measures),) * int(rng.integers(3, 5 if small else 7))
        time = "" if times is None else times.noun
        shape = f"{count} x {len(measures)}"
        if part_of([topic.noun], {measure.name for measure in measures}, [time], [shape]) == part:
            break
    rows = pick_labels(rng, topic, count, 10 if small else 16)
    if times is None:
        columns = tuple(measure.name.capitalize() for measure in measures)
        scales = [_scale(rng, measure) for measure in measures]
    else:
        columns = pick_labels(rng, times, len(measures), 4)
        scales = [_scale(rng, measures[0])] * len(measures)
    by_column = [unique_top(rng, count, max(1, highest // 10), highest) for highest, _ in scales]
    raw = tuple(zip(*by_column, strict=True))
    return TableData(columns, rows, raw, tuple(decimals for _, decimals in scales), topic, measures, time)


def _over_time(topic: Topic, rng: np.random.Generator) -> bool:
    """Tells whether the columns are months or years; never where the rows are."""
    return bool(rng.integers(2)) and not topic.consecutive


def _scale(rng: np.random.Generator, measure: Measure) -> tuple[int, int]:
    """Returns the largest raw number that a column may hold, and its decimals."""
    return pick(rng, (20, 50, 100, 250, 500, 999, 5000)), 0 if measure.whole else int(rng.integers(2))
