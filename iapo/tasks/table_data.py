"""Random data for synthetic tables: column names, row names and cells."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from iapo.tasks.chart_data import format_number, unique_top
from iapo.tasks.splits import Part, part_of

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
        decimals: For each column 0, or 1 where `raw` counts tenths.
    """

    columns: tuple[str, ...]
    rows: tuple[str, ...]
    raw: tuple[tuple[int, ...], ...]
    decimals: tuple[int, ...]

    def column(self, index: int) -> tuple[int, ...]:
        """The raw numbers of one column."""
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
    """3 columns named A to H, 3 rows named P to W, cells from 1 to 9; the names are of the part given."""
    while True:
        columns = tuple(_COLUMNS[index] for index in rng.permutation(len(_COLUMNS))[:CELLS])
        rows = tuple(_ROWS[index] for index in rng.permutation(len(_ROWS))[:CELLS])
        if part_of(columns, rows) == part:
            break
    by_column = [unique_top(rng, CELLS, 1, 9) for _ in columns]
    return TableData(columns, rows, tuple(zip(*by_column, strict=True)), (0,) * CELLS)
