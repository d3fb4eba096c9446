"""TableVQA-Bench: its hub columns, and drawn tables of that kind in a folder, with the boxes of their cells."""

from __future__ import annotations

import json
from pathlib import Path, PurePath
from typing import Any

from iapo.data.annotations import named_boxes, unique_names
from iapo.data.damage import RowError
from iapo.data.fields import LISTED, answers_of, id_of, table_grading, text_of
from iapo.data.pictures import read_picture
from iapo.data.rows import CELLS, Row
from iapo.records import Box, Sample

NAME = "tablevqa"
SHAPES = (("qa_id", "image", "question", "gt"), ("qa_id", "picture", "question", "gt"))


def read(row: Row) -> Sample:
    """Makes a sample of a row; the table's text, which holds the answer, is not read.

    Raises:
        RowError: If the row is damaged.
    """
    fields = row.fields
    picture = fields.get("image", fields.get("picture"))
    question, answers = text_of(fields, "question"), answers_of(fields, "gt", LISTED)
    image = read_picture(picture, row.folder)
    flaws: list[str] = []
    columns: dict[str, Box] = {}
    rows: dict[str, Box] = {}
    if isinstance(picture, str) and row.folder is not None:
        columns, rows = _boxes(row.folder / PurePath(picture).with_suffix(CELLS), image.size, flaws)
    return Sample(
        id=id_of(fields, "qa_id"),
        question=question,
        answers=answers,
        image=image,
        column_boxes=columns,
        row_boxes=rows,
        kind="table",
        source=f"tablevqa/{row.stem}",
        list_names=bool(columns or rows),
        flaws=tuple(flaws),
        grading=table_grading(row.stem, fields.get("qa_id")),
    )


def _boxes(path: Path, size: tuple[int, int], flaws: list[str]) -> tuple[dict[str, Box], dict[str, Box]]:
    """Returns the boxes of columns and rows from those of the cells, `[line, column, lines, columns, x1, y1, x2, y2,
    text]`; nothing where there is no such file.

    Names stand in the first line in which no cell is wider than a column, and in each row's first cell.
    """
    if not path.is_file():
        return {}, {}
    try:
        cells = [_cell(cell) for cell in json.loads(path.read_text("utf-8-sig"))["cells"]]
        lines = sorted({cell[0] for cell in cells})
        head = next(line for line in lines if all(cell[3] == 1 for cell in cells if cell[0] == line))
    except (OSError, ValueError, KeyError, TypeError, IndexError, StopIteration, RecursionError) as error:
        flaws.append(f"the boxes of cells in {path.name} cannot be read ({error!r}); they are left out")
        return {}, {}
    body = [cell for cell in cells if cell[0] > head]
    columns, column_names, rows, row_names = [], [], [], []
    for cell in sorted((cell for cell in cells if cell[0] == head), key=lambda cell: cell[1]):
        below = [other[4:8] for other in body if other[1] == cell[1] and other[3] == 1]
        columns.append(_around([cell[4:8], *below]))
        column_names.append(cell[8])
    for line in lines:
        # A cell of several lines belongs to all of them, and its box to none.
        own = sorted((cell for cell in body if cell[0] <= line < cell[0] + cell[2]), key=lambda cell: cell[1])
        flat = [cell[4:8] for cell in own if cell[2] == 1]
        if own and flat:
            top, bottom = _around(flat)[1], _around(flat)[3]
            rows.append((min(cell[4] for cell in own), top, max(cell[6] for cell in own), bottom))
            row_names.append(own[0][8])
    try:
        return (
            named_boxes(columns, unique_names(column_names, "column"), "column", size, flaws),
            named_boxes(rows, unique_names(row_names, "row"), "row", size, flaws),
        )
    except RowError as error:
        flaws.append(f"{error}; the boxes of cells in {path.name} are left out")
        return {}, {}


def _cell(cell: Any) -> tuple[Any, ...]:
    line, column, down, across, *edges, text = cell
    numbers = [int(number) for number in (line, column, down, across)]
    x1, y1, x2, y2 = (float(edge) for edge in edges)
    return (*numbers, x1, y1, x2, y2, str(text))


def _around(boxes: list[Any]) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = zip(*boxes, strict=True)
    return min(x1), min(y1), max(x2), max(y2)
