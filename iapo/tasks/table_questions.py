"""Questions and claims about a synthetic table, answered from its data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from iapo.records import Axis
from iapo.tasks.chart_data import pick
from iapo.tasks.table_data import TableData

TRUE, FALSE = "true", "false"


class AskedTable(NamedTuple):
    """A question, its one answer, and the names that it is about, by axis."""

    question: str
    answer: str
    focus: Mapping[Axis, tuple[str, ...]]


_TINY = {
    "value": ("value of {a} in {p}?",),
    "largest": ("largest in {a}?",),
    "total": ("total of {a}?",),
}

_TINY_CLAIMS = {
    "value": ("{a} in {p} is {v}?",),
    "largest": ("largest in {a} is {p}?",),
}


def ask(question_type: str, data: TableData, rng: np.random.Generator) -> AskedTable:
    """Asks for something in the table.

    Args:
        question_type: `value` (a cell), `largest` (the row with the largest number of a column) or `total` (the sum of
            a column).
        data: The table.
        rng: The source of all randomness.

    Returns:
        The question; `focus` is the column and the row of the cell asked for, for `total` the column alone.

    Raises:
        KeyError: If the question type is unknown.
    """
    column, row = int(rng.integers(len(data.columns))), int(rng.integers(len(data.rows)))
    numbers = data.column(column)
    if question_type == "value":
        answer = data.text(numbers[row], column)
    elif question_type == "largest":
        row = numbers.index(max(numbers))
        answer = data.rows[row]
    elif question_type == "total":
        answer = data.text(sum(numbers), column)
    else:
        raise KeyError(question_type)
    names = {"a": data.columns[column], "p": data.rows[row]}
    focus: dict[Axis, tuple[str, ...]] = {"columns": (data.columns[column],)}
    if question_type != "total":
        focus["rows"] = (data.rows[row],)
    return AskedTable(pick(rng, _TINY[question_type]).format(**names), answer, focus)


def claim(question_type: str, data: TableData, rng: np.random.Generator) -> AskedTable:
    """Claims something about the table; half of the claims are true.

    Args:
        question_type: `value` (what a cell holds) or `largest` (which row has the largest number of a column).
        data: The table.
        rng: The source of all randomness.

    Returns:
        The claim, with the answer `true` or `false`; a false claim about a cell names a number that stands elsewhere
        in its column, else elsewhere in the table, else one that is off by one. `focus` is the column and the row of
        the cell, for `largest` the column alone, since all of it has to be seen.

    Raises:
        KeyError: If the question type is unknown.
    """
    column, row = int(rng.integers(len(data.columns))), int(rng.integers(len(data.rows)))
    numbers = data.column(column)
    holds = bool(rng.integers(2))
    focus: dict[Axis, tuple[str, ...]] = {"columns": (data.columns[column],)}
    names = {"a": data.columns[column]}
    if question_type == "value":
        focus["rows"] = (data.rows[row],)
        names["v"] = data.text(numbers[row], column) if holds else _other_text(data, column, row, rng)
    elif question_type == "largest":
        winner = numbers.index(max(numbers))
        row = winner if holds else pick(rng, [index for index in range(len(data.rows)) if index != winner])
    else:
        raise KeyError(question_type)
    names["p"] = data.rows[row]
    return AskedTable(pick(rng, _TINY_CLAIMS[question_type]).format(**names), TRUE if holds else FALSE, focus)


def _other_text(data: TableData, column: int, row: int, rng: np.random.Generator) -> str:
    """A number that the cell does not hold, as text."""
    right = data.text(data.raw[row][column], column)
    same_column = [data.text(raw, column) for raw in data.column(column)]
    anywhere = [data.text(raw, index) for line in data.raw for index, raw in enumerate(line)]
    for texts in (same_column, anywhere):
        wrong = [text for text in texts if text != right]
        if wrong:
            return pick(rng, wrong)
    return data.text(data.raw[row][column] + 1, column)
