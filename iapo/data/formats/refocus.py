"""ReFocus: its chain-of-thought JSONL, its hub set, and its test files with boxes.

The steps of a solution (`thoughts`, `edited_image`, `focus_areas`, the responses of `conversations`) are dropped where
rows are read (`iapo.data.rows`) and never come here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from iapo.data.annotations import named_boxes
from iapo.data.damage import RowError
from iapo.data.fields import JOINED, LISTED, answers_of, id_of, table_grading, text_of
from iapo.data.pictures import read_picture
from iapo.data.rows import Row
from iapo.records import Axis, Sample

COT_NAME, HUB_NAME, BOXES_NAME = "refocus-cot", "refocus-hub", "refocus-boxes"
NAME = "refocus"
"""Any of them, told row by row."""

_HUB, _TABLE_BOXES = ("image", "question", "answer"), ("columns_bbox", "rows_bbox")
COT_SHAPES = (("conversations", "answer"),)
HUB_SHAPES = ((*_HUB, "x_values_bbox"), (*_HUB, "y_values_bbox"))
BOXES_SHAPES = tuple(("figure_path", "answer", name) for name in ("x_bboxes", "y_bboxes", *_TABLE_BOXES))


def read(row: Row) -> Sample:
    """Makes a sample of a row of any of ReFocus' files.

    Raises:
        RowError: If the row is damaged.
    """
    if "conversations" in row.fields:
        return read_cot(row)
    return read_boxes(row) if "figure_path" in row.fields else read_hub(row)


def read_cot(row: Row) -> Sample:
    """Makes a sample of a row with `conversations`, of which the first holds the image's path.

    Raises:
        RowError: If the row is damaged.
    """
    turns = row.fields.get("conversations")
    if not isinstance(turns, list) or not turns or not isinstance(turns[0], Mapping):
        raise RowError("the field 'conversations' must be a list whose first element holds the picture")
    images = turns[0]["images"]
    if not isinstance(images, list) or not images:
        raise RowError("the first of the 'conversations' has no list of images")
    return _chart(row, id_of(row.fields, "id"), images[0], "x_values_bbox", "y_values_bbox")


def read_hub(row: Row) -> Sample:
    """Makes a sample of a row of the hub sets.

    Raises:
        RowError: If the row is damaged.
    """
    return _chart(row, id_of(row.fields, "id"), row.fields.get("image"), "x_values_bbox", "y_values_bbox")


def read_boxes(row: Row) -> Sample:
    """Makes a sample of an entry of a `*_wbb.json` file, a chart or a table.

    Raises:
        RowError: If the entry is damaged.
    """
    sample_id = row.key if row.key is not None else id_of(row.fields, "id")
    if not row.fields.keys() & _TABLE_BOXES:
        return _chart(row, sample_id, row.fields.get("figure_path"), "x_bboxes", "y_bboxes")
    fields = row.fields
    question, answers = text_of(fields, "query", "question"), answers_of(fields, "answer", LISTED)
    image = read_picture(fields.get("figure_path"), row.folder)
    flaws: list[str] = []
    columns = named_boxes(fields.get("columns_bbox"), fields.get("column_headers"), "column", image.size, flaws)
    rows = named_boxes(fields.get("rows_bbox"), fields.get("row_starters"), "row", image.size, flaws)
    return Sample(
        id=sample_id,
        image=image,
        question=question,
        answers=answers,
        column_boxes=columns,
        row_boxes=rows,
        kind="table",
        source=f"refocus/{row.stem}",
        list_names=bool(columns or rows),
        flaws=tuple(flaws),
        grading=table_grading(row.stem, sample_id, fields.get("figure_path")),
    )


def _chart(row: Row, sample_id: str, picture: Any, x_name: str, y_name: str) -> Sample:
    fields = row.fields
    question, answers = text_of(fields, "query", "question"), answers_of(fields, "answer", JOINED)
    image = read_picture(picture, row.folder)
    flaws: list[str] = []
    columns = named_boxes(fields.get(x_name), fields.get("x_values"), "column", image.size, flaws)
    rows = named_boxes(fields.get(y_name), fields.get("y_values"), "row", image.size, flaws)
    told = fields.get("source") or fields.get("type")
    kind = told.removeprefix("chartqa_") if isinstance(told, str) else ""
    return Sample(
        id=sample_id,
        image=image,
        question=question,
        answers=answers,
        column_boxes=columns,
        row_boxes=rows,
        kind="chart",
        axis=_axis(kind or row.stem),
        source=f"refocus/{kind or row.stem}",
        # Its prompts list them.
        list_names=bool(columns or rows),
        flaws=tuple(flaws),
        grading="chart",
    )


def _axis(text: str) -> Axis | None:
    """Returns the axis of a bar chart, from its type or, in the test files, from the file's name."""
    if "v_bar" in text:
        return "columns"
    return "rows" if "h_bar" in text else None
