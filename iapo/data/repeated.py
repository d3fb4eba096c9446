"""Entries of a file that hold several questions each -> one row a question.

TabFact writes a table's statements beside their labels, CharXiv a figure's descriptive questions beside their answers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

TABFACT = ("table", "statement", "label", "caption")
"""Fields of the rows that TabFact's entries become."""

CHARXIV = ("figure_id", "qid", "answer", "subplot_loc", "num_subplots")
"""Fields of the rows that the entries of CharXiv's descriptive questions become."""

# In the files with linked entities, `#super lig;c5#` or `#super lig;3,5#` stands for `super lig`.
_LINKED = re.compile(r"#([^#;]*);[^#;]*#")


def rows_of(key: str | None, entry: Any) -> list[tuple[str, dict[str, Any] | None]] | None:
    """Returns the rows of an entry by their keys, None in the place of a row that the entry has no answer for; or None
    where an entry is one row.

    Args:
        key: The entry's key, in a file that is a map.
        entry: The entry, as JSON has it.
    """
    if key is None:
        return None
    if isinstance(entry, list) and len(entry) > 1 and _texts(entry[0]) and isinstance(entry[1], list):
        return _tabfact(key, entry)
    if isinstance(entry, Mapping) and isinstance(entry.get("qids"), list) and isinstance(entry.get("answers"), list):
        return _charxiv(key, entry)
    return None


def _texts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(text, str) for text in value)


def _tabfact(key: str, entry: list[Any]) -> list[tuple[str, dict[str, Any] | None]]:
    statements, labels = entry[:2]
    caption = entry[-1] if isinstance(entry[-1], str) else ""
    rows: list[tuple[str, dict[str, Any] | None]] = []
    for index, statement in enumerate(statements):
        label = labels[index] if index < len(labels) else None
        values = (key, _LINKED.sub(r"\1", statement), label, _LINKED.sub(r"\1", caption))
        # As TableVQA-Bench names them.
        rows.append((f"{key}_{index}", dict(zip(TABFACT, values, strict=True)) if label is not None else None))
    return rows


def _charxiv(key: str, entry: Mapping[str, Any]) -> list[tuple[str, dict[str, Any] | None]]:
    figure, answers = entry.get("figure_id", key), entry["answers"]
    place, count = entry.get("subplot_loc"), entry.get("num_subplots")
    rows: list[tuple[str, dict[str, Any] | None]] = []
    for index, number in enumerate(entry["qids"]):
        answer = answers[index] if index < len(answers) else None
        values = (figure, number, answer, place, count)
        rows.append((f"{key}-{index + 1}", dict(zip(CHARXIV, values, strict=True)) if answer is not None else None))
    return rows
