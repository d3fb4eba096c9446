"""Single fields of a row, checked: texts, answers, ids."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from iapo.answer_texts import answer_text, is_blank
from iapo.data.damage import RowError
from iapo.grading.outcome import grade
from iapo.records import Grading, Sample

JOINED = "|||"
"""Between the answers of one question in VTool-R1's and ReFocus's charts."""

LISTED = "|"
"""Between them in TableVQA-Bench, once or several times in a row, as in the WikiTableQuestions that it comes from."""


# What may be one; whether it is, grading tells.
_MARK = re.compile(r"terminate|final[ _]*answer", re.IGNORECASE)

_CONTROL = re.compile(r"<\|\w+\|>")


def refuse_control_tokens(sample: Sample) -> None:
    """Refuses a question, or a name of a box, that would end the prompt it stands in.

    Raises:
        RowError: If one of them holds a control token such as `<|im_end|>`.
    """
    texts = {"the question": sample.question}
    texts |= {f"the name {name!r}": name for boxes in (sample.column_boxes, sample.row_boxes) for name in boxes}
    for what, text in texts.items():
        if found := _CONTROL.search(text):
            raise RowError(f"{what} holds the control token {found[0]}; remove it from the text")


def with_answer_flaws(sample: Sample) -> Sample:
    """Returns a sample with a flaw for each answer that nothing can be graded equal to: one that holds what ends an
    answer, or begins one (docs/grading.md).
    """
    flaws = [
        f"the answer {answer[:80]!r} holds a mark of the final answer itself, so that no answer is graded equal to it"
        for answer in sample.answers
        if _MARK.search(answer) and not grade(f"FINAL ANSWER: {answer}", [answer], sample.grading).value
    ]
    # What was converted has its flaws already.
    flaws = [flaw for flaw in flaws if flaw not in sample.flaws]
    return dataclasses.replace(sample, flaws=(*sample.flaws, *flaws)) if flaws else sample


def text_of(fields: Mapping[str, Any], *names: str) -> str:
    """Returns the first of these fields that is there, without space around it.

    Raises:
        RowError: If none of them is there, or it is no text, or an empty one.
    """
    name = next((name for name in names if fields.get(name) is not None), None)
    if name is None:
        raise RowError(f"the field {names[0]!r} is missing")
    value = fields[name]
    if not isinstance(value, str):
        raise RowError(f"the field {name!r} is of type {type(value).__name__}; it must be text")
    if is_blank(value):
        raise RowError(f"the field {name!r} is empty")
    return value.strip()


def answers_of(fields: Mapping[str, Any], name: str, separator: str | None = JOINED) -> tuple[str, ...]:
    """Returns the answers of a row: a text, several joined by a separator, a number, a date, or a list of these.

    Args:
        fields: The row.
        name: The field with the answer.
        separator: `JOINED`, `LISTED`, or None where a text is one answer whatever it holds.

    Raises:
        RowError: If there is none, or one of them is no answer.
    """
    value = fields.get(name)
    if value is None or value == []:
        raise RowError(f"the answer is missing: there is nothing in the field {name!r}")
    if isinstance(value, str) and separator is not None and separator in value:
        value = [part for part in value.split(separator) if separator == JOINED or part]
    return tuple(_answer(part, name) for part in (value if isinstance(value, list) else [value]))


def _answer(value: Any, name: str) -> str:
    text = answer_text(value)
    if text is None:
        if isinstance(value, (float, Decimal)):
            raise RowError(f"the answer in the field {name!r} is {value}; it must be finite")
        raise RowError(
            f"an answer in the field {name!r} is of type {type(value).__name__}; it must be text, a number or a date"
        )
    if is_blank(text):
        raise RowError(f"the answer is missing: the field {name!r} holds an empty text")
    return text.strip()


def object_of(value: Any, what: str) -> Any:
    """Returns a value that may be a JSON object's text, read.

    Args:
        value: The value; what is no text is returned as it is.
        what: Noun for it with its verb, for the message, for example `the metadata are`.

    Raises:
        RowError: If it is a text but no JSON, or a key stands twice in it.
    """
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value, object_pairs_hook=_unique_keys)
    except _TwiceError as error:
        raise RowError(f"{what} JSON in which the key {error} stands twice") from error
    except (ValueError, RecursionError) as error:
        raise RowError(f"{what} not JSON: {error}") from error


class _TwiceError(ValueError):
    """A key stands twice in an object of JSON."""


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise _TwiceError(repr(key))
        found[key] = value
    return found


def table_grading(*names: Any) -> Grading:
    """Returns the rules for a question about a table, which differ between the parts of TableVQA-Bench.

    Args:
        names: Names that may tell the part: of the file, the row, the image.
    """
    told = " ".join(name for name in names if isinstance(name, str)).casefold()
    if "tabfact" in told or ".html.csv" in told:
        return "claim"
    return "finance" if "fintabnet" in told or ("_page_" in told and ".pdf" in told) else "exact"


def id_of(fields: Mapping[str, Any], name: str) -> str:
    """Returns the row's id, a text or a whole number.

    Raises:
        RowError: If it is missing or something else.
    """
    value = fields.get(name)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return text_of(fields, name)
