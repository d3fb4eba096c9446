"""Samples that a reader of the user's own made, checked as the rows of the format `own` are."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from iapo.data.annotations import named_boxes
from iapo.data.damage import RowError
from iapo.data.fields import answers_of, is_blank, refuse_control_tokens, text_of
from iapo.data.pictures import check_picture
from iapo.records import Box, Sample

_TEXTS = ("source", "question_type", "judge")


def sound(sample: Sample) -> Sample:
    """Returns the sample, without boxes that are of no use, which its flaws then say.

    Raises:
        RowError: If it cannot be used: its id, its question or an answer is no text or an empty one, an image is none
            or damaged, its boxes cannot be trusted as a whole, or a control token stands in it.
    """
    if not isinstance(sample.id, str) or is_blank(sample.id):
        raise RowError(f"the id is {sample.id!r}; it must be a text that is not empty")
    for name in _TEXTS:
        if not isinstance(value := getattr(sample, name), str):
            raise RowError(f"the field {name!r} is of type {type(value).__name__}; it must be text")
    if sample.kind not in ("chart", "table"):
        raise RowError(f"the field 'kind' is {sample.kind!r}; use chart or table")
    if isinstance(sample.answers, str):
        raise RowError(f"the field 'answers' is the text {sample.answers[:80]!r}; give a tuple of texts")
    fields = {"question": sample.question, "answers": list(sample.answers)}
    question, answers = text_of(fields, "question"), answers_of(fields, "answers", None)
    for name, image in sample.named_images.items():
        check_picture(image, "the picture" if not sample.more_images else name)
    flaws = list(sample.flaws)
    columns = _boxes(sample.column_boxes, "column", sample.image.size, flaws)
    rows = _boxes(sample.row_boxes, "row", sample.image.size, flaws)
    refuse_control_tokens(sample)
    return dataclasses.replace(
        sample, question=question, answers=answers, column_boxes=columns, row_boxes=rows, flaws=tuple(flaws)
    )


def _boxes(boxes: Mapping[str, Box], what: str, size: tuple[int, int], flaws: list[str]) -> dict[str, Box]:
    for name in boxes:
        if not isinstance(name, str):
            raise RowError(f"the name {name!r} of a {what} box is of type {type(name).__name__}; it must be text")
    return named_boxes(dict(boxes), None, what, size, flaws)
