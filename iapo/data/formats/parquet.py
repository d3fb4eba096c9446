"""Our own parquet: samples with their images as PNG or JPEG bytes, in row groups; constant memory both ways."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from iapo.data.annotations import named_boxes
from iapo.data.damage import Damage, RowError
from iapo.data.fields import answers_of, id_of, text_of
from iapo.data.pictures import encode_picture, read_picture, read_pictures
from iapo.data.rows import Row
from iapo.data.rows import read_rows as read_raw
from iapo.errors import InputError
from iapo.records import AXES, GRADINGS, Box, Sample
from iapo.storage import whole_file

NAME = "iapo"

_IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_BOXES = pa.list_(pa.struct([("name", pa.string()), *((edge, pa.float64()) for edge in ("x1", "y1", "x2", "y2"))]))
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        # As the hub's data sets have images, so that `datasets` shows them too.
        ("image", _IMAGE),
        ("question", pa.string()),
        ("answers", pa.list_(pa.string())),
        ("column_boxes", _BOXES),
        ("row_boxes", _BOXES),
        ("kind", pa.string()),
        ("axis", pa.string()),
        ("source", pa.string()),
        ("question_type", pa.string()),
        ("list_names", pa.bool_()),
        ("flaws", pa.list_(pa.string())),
        # Null where it is plain.
        ("grading", pa.string()),
        # Null where there is none.
        ("judge", pa.string()),
        # Those behind the first; null where there are none.
        ("more_images", pa.list_(_IMAGE)),
    ],
    metadata={"iapo": "samples 1"},
)
"""The columns; boxes are in pixels."""

NEEDED = tuple(name for name in SCHEMA.names if name not in ("flaws", "grading", "judge", "more_images"))
"""Those that tell the format; files of earlier versions have no more."""


def write_rows(samples: Iterable[Sample], path: Path, *, row_group: int = 64) -> int:
    """Writes samples; an image that was read from PNG or JPEG keeps its bytes, any other becomes PNG.

    The file appears under its name when it is complete.

    Args:
        samples: The samples; read once, a row group in memory at a time.
        path: The file.
        row_group: Samples in a row group.

    Returns:
        How many were written.

    Raises:
        InputError: If `row_group` is not positive.
    """
    if row_group < 1:
        raise InputError(f"row_group is {row_group}; give at least 1")
    count = 0
    with whole_file(path) as part, pq.ParquetWriter(part, SCHEMA, compression="zstd") as writer:
        group: list[dict[str, Any]] = []
        for sample in samples:
            group.append(_packed(sample))
            count += 1
            if len(group) == row_group:
                writer.write_table(pa.Table.from_pylist(group, SCHEMA), row_group_size=row_group)
                group = []
        if group:
            writer.write_table(pa.Table.from_pylist(group, SCHEMA), row_group_size=row_group)
    return count


def read_rows(path: Path) -> Iterator[Sample | Damage]:
    """Yields what `write_rows` wrote, or the damage in its place."""
    for row in read_raw(path):
        if isinstance(row, Damage):
            yield row
            continue
        try:
            yield read(row)
        except RowError as error:
            found = row.fields.get("id")
            yield Damage(row.number, found if isinstance(found, str) else None, str(error), row.file)


def read(row: Row) -> Sample:
    """Makes a sample of a row.

    Raises:
        RowError: If the row is damaged.
    """
    fields = row.fields
    axis, kind, grading = fields.get("axis"), fields.get("kind"), fields.get("grading") or "plain"
    if axis is not None and axis not in AXES:
        raise RowError(f"the field 'axis' is {axis!r}; use columns, rows or null")
    if kind not in ("chart", "table"):
        raise RowError(f"the field 'kind' is {kind!r}; use chart or table")
    if grading not in GRADINGS:
        raise RowError(f"the field 'grading' is {grading!r}; use one of {', '.join(GRADINGS)}")
    image = read_picture(fields.get("image"), row.folder)
    more = fields.get("more_images") or []
    more_images = read_pictures(more, row.folder) if more else ()
    flaws = fields.get("flaws") or []
    if not isinstance(flaws, list) or not all(isinstance(flaw, str) for flaw in flaws):
        raise RowError("the field 'flaws' is no list of texts")
    flaws = list(flaws)
    return Sample(
        id=id_of(fields, "id"),
        image=image,
        question=text_of(fields, "question"),
        answers=answers_of(fields, "answers", None),
        column_boxes=_unpacked(fields.get("column_boxes"), "column", image.size, flaws),
        row_boxes=_unpacked(fields.get("row_boxes"), "row", image.size, flaws),
        kind=kind,
        axis=axis,
        source=_text(fields, "source"),
        question_type=_text(fields, "question_type"),
        list_names=bool(fields.get("list_names")),
        flaws=tuple(flaws),
        grading=grading,
        judge=text_of(fields, "judge") if fields.get("judge") else "",
        more_images=more_images,
    )


def _text(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name) or ""
    if not isinstance(value, str):
        raise RowError(f"the field {name!r} is of type {type(value).__name__}; it must be text")
    return value


def _packed(sample: Sample) -> dict[str, Any]:
    record = sample.to_json(image_path="")
    for name in ("column_boxes", "row_boxes"):
        record[name] = [
            {"name": key, "x1": x1, "y1": y1, "x2": x2, "y2": y2} for key, (x1, y1, x2, y2) in record[name].items()
        ]
    more = [_packed_image(image) for image in sample.more_images]
    return {**record, "image": _packed_image(sample.image), "more_images": more or None}


def _packed_image(image: Image.Image) -> dict[str, Any]:
    return {"bytes": encode_picture(image), "path": None}


def _unpacked(value: Any, what: str, size: tuple[int, int], flaws: list[str]) -> dict[str, Box]:
    if value is None:
        return {}
    if not isinstance(value, list) or not all(isinstance(box, dict) for box in value):
        raise RowError(f"the {what} boxes must be a list of structs")
    return named_boxes(value, [box.get("name") for box in value], what, size, flaws)
