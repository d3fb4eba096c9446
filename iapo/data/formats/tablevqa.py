"""TableVQA-Bench: its hub columns, and drawn tables of that kind in a folder, with the boxes of their cells."""

from __future__ import annotations

from pathlib import PurePath

from iapo.data.cells import read_cells
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
        cells = row.folder / PurePath(picture).with_suffix(CELLS)
        if cells.is_file():
            columns, rows = read_cells(cells, image.size, flaws)
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
