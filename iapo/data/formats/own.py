"""Your own data: a folder of images and a JSONL file, one question a line (docs/data.md)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from iapo.data.annotations import named_boxes
from iapo.data.damage import RowError
from iapo.data.fields import answers_of, id_of, object_of, text_of
from iapo.data.pictures import read_pictures
from iapo.data.rows import Row
from iapo.records import GRADINGS, Grading, Sample

NAME = "own"
SHAPES = (("image", "question"), ("images", "question"))
FIELDS = {
    "image": "path of the picture, from the file's folder",
    "images": "instead of image: list of the paths of several pictures, in order; boxes and axis are of the first",
    "question": "the question",
    "answer": "the answer: a text, a number or a date; or a list, if all of them are asked for",
    "id": "unique; the file's name and the line's number if not given",
    "column_boxes": "map from each column's name to [x1, y1, x2, y2]",
    "row_boxes": "map from each row's name to [x1, y1, x2, y2]",
    "kind": "chart or table; chart if not given",
    "axis": "columns or rows: the axis along which the picture is cleanly divisible; null if both are or neither is",
    "question_type": "what is asked, a name of your own",
    "list_names": "true if the names cannot be read off the picture, so that prompts list them; false if not given",
    "grading": f"the rules by which answers are graded: {', '.join(GRADINGS)}; plain if not given",
    "judge": "name of the judge that tells misuse on this row (`iapo.tools.add_judge`); none if not given",
    "split": "the split that the line belongs to",
}
"""The fields of a line and what they hold; one of the first two and the next two must be there."""

REQUIRED = ("question", "answer")


def read(row: Row) -> Sample:
    """Makes a sample of a line.

    Raises:
        RowError: If the line does not follow the schema.
    """
    fields = row.fields
    unknown = [name for name in fields if name not in FIELDS]
    if unknown:
        raise RowError(f"the field {unknown[0]!r} is unknown; the fields are {', '.join(FIELDS)}")
    pictured = [name for name in ("image", "images") if fields.get(name) is not None]
    if len(pictured) == 2:
        raise RowError("the fields 'image' and 'images' are both there; give one of them")
    missing = [*([] if pictured else ["image"]), *(name for name in REQUIRED if fields.get(name) is None)]
    if missing:
        raise RowError(f"the field {missing[0]!r} is missing; image (or images), {', '.join(REQUIRED)} must be there")
    kind = _choice(fields, "kind", ("chart", "table")) or "chart"
    axis = _choice(fields, "axis", ("columns", "rows"))
    question, answers = text_of(fields, "question"), answers_of(fields, "answer", None)
    question_type = text_of(fields, "question_type") if fields.get("question_type") is not None else ""
    pictures = fields["images"] if pictured == ["images"] else [fields["image"]]
    image, *more = read_pictures(pictures, row.folder, inside=True)
    flaws: list[str] = []
    return Sample(
        id=id_of(fields, "id") if fields.get("id") is not None else row.numbered,
        image=image,
        question=question,
        answers=answers,
        column_boxes=_boxes(fields, "column_boxes", "column", image.size, flaws),
        row_boxes=_boxes(fields, "row_boxes", "row", image.size, flaws),
        kind="table" if kind == "table" else "chart",
        axis=None if axis is None else "columns" if axis == "columns" else "rows",
        source=f"own/{row.stem}",
        question_type=question_type,
        list_names=_flag(fields, "list_names"),
        # Filled by the boxes above.
        flaws=tuple(flaws),
        grading=_grading(fields),
        judge=text_of(fields, "judge") if fields.get("judge") is not None else "",
        more_images=tuple(more),
    )


def _choice(fields: Mapping[str, Any], name: str, choices: tuple[str, ...]) -> str | None:
    value = fields.get(name)
    if value is not None and value not in choices:
        raise RowError(f"the field {name!r} is {value!r}; use {' or '.join(choices)}")
    return value


def _grading(fields: Mapping[str, Any]) -> Grading:
    value = fields.get("grading")
    for name in GRADINGS:
        if value == name:
            return name
    if value is not None:
        raise RowError(f"the field 'grading' is {value!r}; use {', '.join(GRADINGS[:-1])} or {GRADINGS[-1]}")
    return "plain"


def _flag(fields: Mapping[str, Any], name: str) -> bool:
    value = fields.get(name)
    if value is not None and not isinstance(value, bool):
        raise RowError(f"the field {name!r} is {value!r}; use true or false")
    return bool(value)


def _boxes(fields: Mapping[str, Any], name: str, what: str, size: tuple[int, int], flaws: list[str]) -> Any:
    # Of parquet a map of Arrow comes as a list of pairs, and a map may be kept as the text of a JSON object.
    value = object_of(fields.get(name), f"the field {name!r} is")
    pairs = isinstance(value, list) and all(isinstance(pair, tuple) and len(pair) == 2 for pair in value)
    if value is not None and not pairs and not isinstance(value, Mapping):
        raise RowError(f"the field {name!r} is of type {type(value).__name__}; it must map names to boxes")
    return named_boxes(value, None, what, size, flaws)
