"""Samples that a reader of the user's own made, checked as the rows of the format `own` are."""

from __future__ import annotations

import dataclasses

from iapo.answer_texts import is_blank
from iapo.data.annotations import named_boxes
from iapo.data.damage import RowError
from iapo.data.fields import answers_of, refuse_control_tokens, text_of, with_answer_flaws
from iapo.data.pictures import check_picture
from iapo.records import Sample


def sound(sample: Sample) -> Sample:
    """Returns the sample, without boxes that are of no use, which its flaws then say.

    Raises:
        RowError: If it cannot be used: its id, its question or an answer is empty, an image is damaged, its boxes
            cannot be trusted as a whole, or a control token stands in it.
    """
    if is_blank(sample.id):
        raise RowError(f"the id is {sample.id!r}; it must be a text that is not empty")
    fields = {"question": sample.question, "answers": list(sample.answers)}
    question, answers = text_of(fields, "question"), answers_of(fields, "answers", None)
    for name, image in sample.named_images.items():
        check_picture(image, "the picture" if not sample.more_images else name)
    flaws = list(sample.flaws)
    columns = named_boxes(dict(sample.column_boxes), None, "column", sample.image.size, flaws)
    rows = named_boxes(dict(sample.row_boxes), None, "row", sample.image.size, flaws)
    refuse_control_tokens(sample)
    return with_answer_flaws(
        dataclasses.replace(
            sample, question=question, answers=answers, column_boxes=columns, row_boxes=rows, flaws=tuple(flaws)
        )
    )
