"""TabFact and WikiTableQuestions as their repositories have them: questions beside tables as text, drawn here.

The table's text is what a question is answered from; it reaches a sample as an image and as names of boxes alone.
"""

from __future__ import annotations

import csv
import io
from functools import lru_cache
from pathlib import Path
from typing import Any

from iapo.data.damage import RowError
from iapo.data.fields import LISTED, answers_of, id_of, text_of
from iapo.data.pictures import read_picture
from iapo.data.rows import WTQ_COLUMNS, Row
from iapo.errors import why
from iapo.records import Box, Grading, Sample

TABFACT_NAME, WTQ_NAME = "tabfact", "wtq"
WTQ_SHAPES = (WTQ_COLUMNS,)

_CLAIM = "Is this statement true or false, by the table? {}"


def read_tabfact(row: Row) -> Sample:
    """Makes a sample of a statement.

    Raises:
        RowError: If the statement or its table is damaged.
    """
    fields = row.fields
    label = fields.get("label")
    if label not in (0, 1) or isinstance(label, bool):
        raise RowError(f"the label is {label!r}; it must be 1, a true statement, or 0, a false one")
    statement = text_of(fields, "statement")
    table = text_of(fields, "table")
    return _sample(
        row,
        row.key or table,
        _CLAIM.format(statement),
        ("true" if label else "false",),
        _find(row, f"data/all_csv/{table}", "all_csv/" + table),
        separator="#",
        source="tabfact",
        grading="claim",
    )


def read_wtq(row: Row) -> Sample:
    """Makes a sample of a line of `data/*.tsv`.

    Raises:
        RowError: If the line or its table is damaged.
    """
    fields = row.fields
    answers = tuple(_plain(part) for part in answers_of(fields, "targetValue", LISTED))
    if not all(answers):
        raise RowError("the answer is missing: a part of the field 'targetValue' is empty")
    question, table = _plain(text_of(fields, "utterance")), text_of(fields, "context")
    return _sample(
        row,
        id_of(fields, "id"),
        question,
        answers,
        _find(row, table),
        separator=",",
        source="wikitablequestions",
        grading="exact",
    )


def _plain(text: str) -> str:
    """Takes back the escapes of these files: a line break, a bar, a backslash."""
    parts = text.split("\\\\")
    return "\\".join(part.replace("\\n", " ").replace("\\p", "|") for part in parts).strip()


def _find(row: Row, *paths: str) -> Path:
    if row.folder is None:
        raise RowError(f"the table {paths[0]!r} is a path, and this source carries no files")
    roots = [row.folder, row.folder.absolute().parent]
    for path in paths:
        if ".." in Path(path).parts or Path(path).is_absolute():
            raise RowError(f"the table's path {path!r} leads out of the data's folder")
    found = next((root / path for path in paths for root in roots if (root / path).is_file()), None)
    if found is None:
        raise RowError(f"there is no table {paths[0]!r} in {row.folder} or the folder above it")
    return found


def _sample(
    row: Row,
    sample_id: str,
    question: str,
    answers: tuple[str, ...],
    path: Path,
    *,
    separator: str,
    source: str,
    grading: Grading,
) -> Sample:
    encoded, columns, rows, flaws = _drawn(path, separator)
    return Sample(
        id=sample_id,
        image=read_picture(encoded, None),
        question=question,
        answers=answers,
        column_boxes=columns,
        row_boxes=rows,
        kind="table",
        source=source,
        # A name may bear a number that its header does not.
        list_names=True,
        flaws=flaws,
        grading=grading,
    )


# WikiTableQuestions asks of its 2,108 tables in mixed order; samples of one table share its encoded image.
@lru_cache(maxsize=2500)
def _drawn(path: Path, separator: str) -> tuple[bytes, dict[str, Box], dict[str, Box], tuple[str, ...]]:
    # With matplotlib, which other formats do without.
    from iapo.data.drawn import draw_table

    image, columns, rows, flaws = draw_table(_lines(path, separator))
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", compress_level=3)
    return buffer.getvalue(), columns, rows, tuple(flaws)


def _lines(path: Path, separator: str) -> list[list[str]]:
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise RowError(f"the table {path.name} cannot be read: {why(error)}") from error
    if separator == "#":
        # TabFact's files quote nothing.
        return [line.split("#") for line in text.split("\n") if line.strip()]
    options: dict[str, Any] = {"doublequote": False, "escapechar": "\\"}
    try:
        return [line for line in csv.reader(text.splitlines(keepends=True), **options) if line]
    except csv.Error as error:
        raise RowError(f"the table {path.name} is damaged: {error}") from error
