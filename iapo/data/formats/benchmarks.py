"""ChartQA, TableVQA-Bench and CharXiv: questions about images without boxes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from iapo.data.fields import LISTED, answers_of, id_of, table_grading, text_of
from iapo.data.pictures import read_picture
from iapo.data.rows import Row
from iapo.records import Sample

CHARTQA_NAME, TABLEVQA_NAME = "chartqa", "tablevqa"
CHARXIV_NAME, SUBSET_NAME = "charxiv", "charxiv-subset"


def matches_chartqa(columns: frozenset[str]) -> bool:
    """Tells whether these are ChartQA's columns."""
    return {"image", "query", "label"} <= columns


def matches_tablevqa(columns: frozenset[str]) -> bool:
    """Tells whether these are TableVQA-Bench's columns."""
    return {"qa_id", "image", "question", "gt"} <= columns


def matches_charxiv(columns: frozenset[str]) -> bool:
    """Tells whether these are CharXiv's columns."""
    return {"image", "reasoning_q", "reasoning_a"} <= columns


def matches_subset(columns: frozenset[str]) -> bool:
    """Tells whether these are the columns of the CharXiv subset of ReFocus; its test files with boxes are asked
    first.
    """
    return {"figure_path", "answer"} <= columns and bool({"query", "question"} & columns)


def read_chartqa(row: Row) -> Sample:
    """Makes a sample of a row; the data set has no ids, so the row's number is one.

    Raises:
        RowError: If the row is damaged.
    """
    fields = row.fields
    asked_by = fields.get("human_or_machine")
    return Sample(
        id=f"{row.stem}-{row.ordinal}",
        question=text_of(fields, "query"),
        answers=answers_of(fields, "label", None),
        image=read_picture(fields.get("image"), row.folder),
        kind="chart",
        source="chartqa",
        grading="chart",
        # The hub's class label: 0 is human, 1 machine.
        question_type={0: "human", 1: "machine"}.get(asked_by, "") if isinstance(asked_by, int) else "",
    )


def read_tablevqa(row: Row) -> Sample:
    """Makes a sample of a row; the table's text, which holds the answer, is not read.

    Raises:
        RowError: If the row is damaged.
    """
    fields = row.fields
    return Sample(
        id=id_of(fields, "qa_id"),
        question=text_of(fields, "question"),
        answers=answers_of(fields, "gt", LISTED),
        image=read_picture(fields.get("image"), row.folder),
        kind="table",
        source=f"tablevqa/{row.stem}",
        grading=table_grading(row.stem, fields.get("qa_id")),
    )


def read_charxiv(row: Row) -> Sample:
    """Makes a sample of a row's reasoning question; the descriptive ones have no text in the data set.

    Raises:
        RowError: If the row is damaged.
    """
    fields = row.fields
    return _charxiv(row, text_of(fields, "reasoning_q"), answers_of(fields, "reasoning_a", None), fields.get("image"))


def read_subset(row: Row) -> Sample:
    """Makes a sample of an entry of the subset file.

    Raises:
        RowError: If the entry is damaged.
    """
    fields = row.fields
    return _charxiv(
        row, text_of(fields, "query", "question"), answers_of(fields, "answer", None), fields.get("figure_path")
    )


def _charxiv(row: Row, question: str, answers: tuple[str, ...], picture: Any) -> Sample:
    return Sample(
        id=_charxiv_id(row.fields, row),
        question=question,
        answers=answers,
        image=read_picture(picture, row.folder),
        kind="chart",
        source="charxiv",
        # The benchmark's own rubric has numbers equal in value, whatever their notation.
        grading="exact",
    )


def _charxiv_id(fields: Mapping[str, Any], row: Row) -> str:
    if row.key is not None:
        return row.key
    path = fields.get("figure_path")
    return path if isinstance(path, str) and path else f"{row.stem}-{row.ordinal}"
