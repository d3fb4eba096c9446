"""VTool-R1 parquet: charts and tables with their images, `metadata` as a struct or as JSON text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from iapo.data.annotations import named_boxes
from iapo.data.damage import RowError
from iapo.data.fields import answers_of, id_of, object_of, table_grading, text_of
from iapo.data.pictures import read_picture
from iapo.data.rows import Row
from iapo.records import Axis, Sample

NAME = "vtool"
SHAPES = (("metadata", "figure_id", "query", "answer", "images"),)

AXES: dict[str, Axis | None] = {"v_bar": "columns", "h_bar": "rows", "table": None}
"""What the type of an image says about its right axis; other types say nothing."""


def read(row: Row) -> Sample:
    """Makes a sample of a row.

    Raises:
        RowError: If the row is damaged.
    """
    fields = row.fields
    sample_id = id_of(fields, "figure_id")
    question = text_of(fields, "query")
    answers = answers_of(fields, "answer")
    metadata = _metadata(fields.get("metadata"))
    kind = metadata.get("type")
    image = read_picture(_first(fields.get("images")), row.folder)
    flaws: list[str] = []
    if kind == "table":
        columns = named_boxes(metadata.get("columns_bbox"), None, "column", image.size, flaws)
        # This key holds the rows' boxes and not, as its name says, what the rows start with.
        rows = named_boxes(metadata.get("row_starters"), None, "row", image.size, flaws)
    else:
        columns = named_boxes(metadata.get("x_values_bbox"), None, "column", image.size, flaws)
        rows = named_boxes(metadata.get("y_values_bbox"), None, "row", image.size, flaws)
    return Sample(
        id=sample_id,
        image=image,
        question=question,
        answers=answers,
        column_boxes=columns,
        row_boxes=rows,
        kind="table" if kind == "table" else "chart",
        axis=AXES.get(kind) if isinstance(kind, str) else None,
        source=f"vtool/{kind or 'chart'}",
        # Its prompts list them.
        list_names=bool(columns or rows),
        flaws=tuple(flaws),
        grading=table_grading(row.stem, sample_id, fields.get("figure_path")) if kind == "table" else "chart",
    )


def _metadata(value: Any) -> Mapping[str, Any]:
    value = object_of(value, "the metadata are")
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise RowError(f"the metadata are of type {type(value).__name__}; they must be a struct or a JSON object")
    return value


def _first(images: Any) -> Any:
    if not isinstance(images, list):
        raise RowError(f"the images are of type {type(images).__name__}; they must be a list")
    if len(images) != 1:
        raise RowError(f"there are {len(images)} images; there must be one")
    return images[0]
