"""The paper's averages of Table 1, to stand beside measured ones; its numbers by test set are not known here."""

from __future__ import annotations

from collections.abc import Iterable

from iapo.data.benchmarks import BENCHMARKS

AVERAGES = {
    "off-the-shelf-3b": 0.241,
    "grpo": 0.529,
    "trm": 0.534,
    "torl": 0.538,
    "iapo": 0.559,
    "off-the-shelf-7b": 0.475,
    "teacher": 0.643,
    "gpt-4o": 0.729,
}
"""Average accuracy over the six test sets by row (Table 1): the 3B student's by its reward, the 7B teacher trained with
GRPO, and what is not trained."""


def on_paper_sets(sets: Iterable[str]) -> bool:
    """Tells whether these are the paper's six test sets, each from where it lies (`vwtq@FOLDER`), and no other.

    Synthetic images that bear a test set's name are none.
    """
    names = [name.partition("@")[::2] for name in sets]
    return all(where for _, where in names) and sorted(name for name, _ in names) == sorted(BENCHMARKS)


def paper_average(row: str) -> float | None:
    """Returns the paper's average of a row; None where it has no such row."""
    return AVERAGES.get(row.lower())
