"""CharXiv: the hub's columns, the files of its repository, and the subset of ReFocus.

Descriptive questions are numbers in the data; they are asked here in words of our own.
"""

from __future__ import annotations

from typing import Any

from iapo.data.damage import RowError
from iapo.data.fields import answers_of, id_of, text_of
from iapo.data.pictures import read_picture
from iapo.data.repeated import CHARXIV
from iapo.data.rows import Row
from iapo.records import Sample

NAME, SUBSET_NAME = "charxiv", "charxiv-subset"
SHAPES = (("image", "reasoning_q", "reasoning_a"), ("figure_id", "query", "inst_category"), CHARXIV)
SUBSET_SHAPES = (("figure_path", "answer", "query"), ("figure_path", "answer", "question"))

_UNLESS = " If there is none, answer Not Applicable."
_DESCRIPTIVE = {
    1: "What is the title of {}?" + _UNLESS,
    2: "What is the label of the x-axis of {}?" + _UNLESS,
    3: "What is the label of the y-axis of {}?" + _UNLESS,
    4: "Which value is written at the leftmost labelled tick of the x-axis of {}?" + _UNLESS,
    5: "Which value is written at the rightmost labelled tick of the x-axis of {}?" + _UNLESS,
    6: "Which value is written at the lowest labelled tick of the y-axis of {}?" + _UNLESS,
    7: "Which value is written at the highest labelled tick of the y-axis of {}?" + _UNLESS,
    8: "By how much do neighbouring tick values on the x-axis of {} differ? If they do not differ by one number, "
    "answer Not Applicable.",
    9: "By how much do neighbouring tick values on the y-axis of {} differ? If they do not differ by one number, "
    "answer Not Applicable.",
    10: "How many lines does {} have? If it shows no lines, answer Not Applicable.",
    11: "Does any line of {} cross another one? If there are fewer than two lines, answer Not Applicable.",
    12: "How many entries does the legend of {} have?" + _UNLESS,
    13: "Which entries does the legend of {} have? List them, with commas between." + _UNLESS,
    14: "What is the difference between the largest and the smallest tick value of the continuous legend (the colour "
    "bar) of {}?" + _UNLESS,
    15: "What is the largest tick value of the continuous legend (the colour bar) of {}?" + _UNLESS,
    16: "What is the general trend of the data of {} from left to right? If there is none, answer Not Applicable.",
    17: "How many ticks of all axes of {} are labelled in all?",
    18: "How are the subplots laid out? Answer with rows by columns, such as 2 by 3.",
    19: "How many subplots are there?" + _UNLESS,
}
"""The descriptive questions by their number in the data set; the place of a subplot goes into the braces."""


def read(row: Row) -> Sample:
    """Makes a sample of a question.

    Raises:
        RowError: If the row is damaged.
    """
    fields = row.fields
    if "qid" in fields:
        question, answers = _described(fields.get("qid"), fields.get("subplot_loc")), answers_of(fields, "answer", None)
        return _sample(row, row.counted if row.key is None else row.key, question, answers, _figure(row), "descriptive")
    if "inst_category" in fields:
        question, answers = text_of(fields, "query"), answers_of(fields, "answer", None)
        return _sample(row, row.key or id_of(fields, "figure_id"), question, answers, _figure(row), "reasoning")
    question, answers = text_of(fields, "reasoning_q"), answers_of(fields, "reasoning_a", None)
    return _sample(row, _id(row), question, answers, fields.get("image"))


def read_subset(row: Row) -> Sample:
    """Makes a sample of an entry of the subset file.

    Raises:
        RowError: If the entry is damaged.
    """
    fields = row.fields
    question, answers = text_of(fields, "query", "question"), answers_of(fields, "answer", None)
    return _sample(row, _id(row), question, answers, fields.get("figure_path"))


def _sample(
    row: Row, sample_id: str, question: str, answers: tuple[str, ...], picture: Any, question_type: str = ""
) -> Sample:
    return Sample(
        id=sample_id,
        question=question,
        answers=answers,
        image=read_picture(picture, row.folder),
        kind="chart",
        source="charxiv",
        question_type=question_type,
        # The benchmark's own rubric has numbers equal in value, whatever their notation.
        grading="exact",
    )


def _figure(row: Row) -> str:
    return f"images/{id_of(row.fields, 'figure_id')}.jpg"


def _described(number: Any, place: Any) -> str:
    if number not in _DESCRIPTIVE:
        raise RowError(f"the descriptive question is number {number!r}; there are 1 to {max(_DESCRIPTIVE)}")
    if isinstance(place, str) and place.strip():
        where = place.strip()
    elif isinstance(place, list) and len(place) == 2 and all(isinstance(part, int) for part in place):
        where = f"the subplot in row {place[0]} and column {place[1]}" if place[0] else "the plot"
    else:
        raise RowError(f"the subplot's place is {place!r}; it must be [row, column] or a text")
    return _DESCRIPTIVE[number].format(where)


def _id(row: Row) -> str:
    if row.key is not None:
        return row.key
    path = row.fields.get("figure_path")
    return path if isinstance(path, str) and path else row.counted
