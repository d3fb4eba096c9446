"""The outcome reward: is the final answer right?"""

from __future__ import annotations

import contextlib
import re
import unicodedata
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from iapo.records import Score, Trace

_MARKUP = "*_` \t"
_MARK = re.compile(r"final[ _]*answer[*_ ]*[:=]", re.IGNORECASE)
# Not \b, for which the underscore of _TERMINATE_ is part of the word.
_END = re.compile(r"(?<![^\W_])TERMINATE(?![^\W_])", re.IGNORECASE)
_NUMBER = re.compile(r"[+-]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+)?(?:e[+-]?\d{1,3})?", re.IGNORECASE)
_SEPARATOR = re.compile(r"\|{2,3}")
_ABBREVIATION = re.compile(r"\b(?:[A-Za-z]\.)+[A-Za-z]\.$|\b(?:Dr|Mr|Mrs|Ms|St|Jr|Sr|Inc|Co)\.$")
_CURRENCY = re.compile(r"^([+-]?)\s*[$€£]\s*")
_ARTICLE = re.compile(r"^(?:the|an|a)\s+")
_CHARACTERS = str.maketrans({"\u2212": "-", "\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"'})


def extract_answer(text: str) -> str | None:
    """Finds the final answer in a model's text: what follows the last `FINAL ANSWER:`, up to `TERMINATE`.

    Any case, markdown emphasis, and a missing or repeated `TERMINATE` are accepted; decimals and abbreviations such
    as `3.5`, `U.S.` and `St. Louis` stay whole.

    Returns:
        The answer without surrounding white space, markup and closing full stop, or None if there is none.
    """
    marks = list(_MARK.finditer(text))
    if not marks:
        return None
    answer = _END.split(text[marks[-1].end() :], maxsplit=1)[0]
    # The answer is one line: the first that holds anything.
    lines = (line.strip(_MARKUP) for line in answer.splitlines())
    answer = next((line for line in lines if line), "").rstrip("|" + _MARKUP)
    # A closing full stop ends the sentence, unless the word is an abbreviation such as U.S. or Dr.; only the last few
    # characters are looked at, since the pattern takes quadratic time.
    if answer.endswith(".") and not _ABBREVIATION.search(answer[-12:]):
        answer = answer[:-1].rstrip(_MARKUP)
    return answer or None


def grade(text: str, answers: Sequence[str]) -> Score:
    """Grades a model's final turn: 1 if its final answer is the gold one, else 0.

    Several gold answers are all asked for, in any order, and are matched one to one with the parts of the model's
    answer between `||`. Numbers are compared as numbers (thousands separators, `$` and `%` aside), words without
    regard to case, articles, outer quotes and Unicode form.

    Args:
        text: The turn that ends the rollout.
        answers: The gold answers.
    """
    answer = extract_answer(text)
    if answer is None:
        return Score(0.0, None, "no final answer in the text")
    found = sorted(_canonical(part) for part in _SEPARATOR.split(answer))
    gold = sorted(_canonical(answer) for answer in answers)
    if found == gold:
        return Score(1.0, answer, "equals the gold answer")
    return Score(0.0, answer, f"differs from the gold answer {' || '.join(answers)}")


def outcome_reward(trace: Sequence[Trace], **columns: Any) -> list[float]:
    """The outcome as a TRL reward function: 1 for a right final answer, else 0.

    Args:
        trace: The batch's rollouts.
        columns: The data set's other columns; unused.
    """
    return [grade(one.final_text, one.sample.answers).value for one in trace]


def _canonical(answer: str) -> str:
    """A form in which equal answers are equal texts; made without patterns that a long answer could slow down."""
    text = unicodedata.normalize("NFKC", answer).translate(_CHARACTERS)
    # The gold answer may end its sentence too.
    text = text.strip().removesuffix(".").strip("\"' ").removesuffix(".").casefold()
    number = _CURRENCY.sub(r"\1", text).removesuffix("%").rstrip()
    if re.search(r"\d", number) and _NUMBER.fullmatch(number):
        # Decimal raises on what only looks like a number, such as "e5", and on exponents out of its range.
        with contextlib.suppress(ArithmeticError):
            return f"number {Decimal(number.replace(',', '')).normalize() + 0:f}"
    return "text " + " ".join(_ARTICLE.sub("", text).split())
