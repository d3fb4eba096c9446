"""Questions and claims about a synthetic table, answered from its data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from iapo.data.synthetic.chart_data import pick
from iapo.data.synthetic.table_data import TableData
from iapo.records import Axis

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

_NATURAL = {
    "value": (
        "What is the {measure} for {p}{when}?",
        "According to the table, what is the {measure} of {p}{when}?",
        "What value does the table give for {p} in the column {a}?",
        "Which number stands in the row {p} under {a}?",
    ),
    "largest": (
        "Which {noun} has the largest {measure}{when}?",
        "Which {noun} has the highest value in the column {a}?",
        "For which {noun} is the {measure} greatest{when}?",
    ),
    "total": (
        "What is the total of the column {a}?",
        "What is the sum of the {measure} over all {plural} listed{when}?",
        "What do the numbers in the column {a} add up to?",
    ),
}

_NATURAL_CLAIMS = {
    "value": (
        "The {measure} of {p}{when} is {v}. True or false?",
        "Is it true or false that the table gives {v} for {p} in the column {a}?",
        "True or false: the {measure} for {p}{when} is {v}.",
    ),
    "largest": (
        "{p} has the largest {measure}{when}. True or false?",
        "Is it true or false that {p} has the highest value in the column {a}?",
        "True or false: no other {noun} has a {measure} as high as {p}{when}.",
    ),
}


def _words(data: TableData, column: int, row: int) -> dict[str, str]:
    """Returns what a sentence about a cell may name."""
    words = {"a": data.columns[column], "p": data.rows[row]}
    if data.topic is None:
        return words
    when = f" in {data.columns[column]}" if data.time else ""
    return words | {
        "noun": data.topic.noun,
        "plural": data.topic.plural,
        "measure": data.measures[column].name,
        "when": when,
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
    focus: dict[Axis, tuple[str, ...]] = {"columns": (data.columns[column],)}
    if question_type != "total":
        focus["rows"] = (data.rows[row],)
    wordings = _TINY if data.topic is None else _NATURAL
    return AskedTable(pick(rng, wordings[question_type]).format(**_words(data, column, row)), answer, focus)


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
    value = ""
    if question_type == "value":
        focus["rows"] = (data.rows[row],)
        value = data.text(numbers[row], column) if holds else _other_text(data, column, row, rng)
    elif question_type == "largest":
        winner = numbers.index(max(numbers))
        row = winner if holds else pick(rng, [index for index in range(len(data.rows)) if index != winner])
    else:
        raise KeyError(question_type)
    wordings = _TINY_CLAIMS if data.topic is None else _NATURAL_CLAIMS
    words = _words(data, column, row) | {"v": value}
    return AskedTable(pick(rng, wordings[question_type]).format(**words), TRUE if holds else FALSE, focus)


def _other_text(data: TableData, column: int, row: int, rng: np.random.Generator) -> str:
    """Returns a number that the cell does not hold, as text."""
    right = data.text(data.raw[row][column], column)
    same_column = [data.text(raw, column) for raw in data.column(column)]
    anywhere = [data.text(raw, index) for line in data.raw for index, raw in enumerate(line)]
    for texts in (same_column, anywhere):
        wrong = [text for text in texts if text != right]
        if wrong:
            return pick(rng, wrong)
    return data.text(data.raw[row][column] + 1, column)
