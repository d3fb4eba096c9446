"""The outcome reward: is the final answer right? The rules stand in docs/grading.md."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from iapo.grading.numbers import TOLERANCE, Quantity, read_quantity
from iapo.records import Score, Trace

_MARKUP = "*_` \t"
# Possessive quantifiers keep the time linear on long runs of markup.
_MARK = re.compile(
    r"final[ _]*+answer[*_ ]*+(?:is[*_ ]*+)?[:=\uff1a]"
    # A heading, or a bold line of its own.
    r"|^[ \t]*+(?:\#++[ \t]*+[*_]*+|\*\*|__)final[ _]*+answer[*_ \t]*+$",
    re.IGNORECASE | re.MULTILINE,
)
# Not \b, for which the underscore of _TERMINATE_ is part of the word.
_END = re.compile(r"(?<![^\W_])TERMINATE(?![^\W_])", re.IGNORECASE)
_BULLET = re.compile(r"[-*\u2022][ \t]+(?=\S)|\d{1,2}[.)][ \t]+(?=\S)")
_ABBREVIATION = re.compile(r"\b(?:[A-Za-z]\.)+[A-Za-z]\.$|\b(?:Dr|Mr|Mrs|Ms|St|Jr|Sr|Inc|Co|Corp|Ltd|No|vs|etc)\.$")

_PIPES = re.compile(r"\|{2,3}")
_LOOSE = re.compile(r", and |, & |, | and | & ")
_SUPERSCRIPT = re.compile("[\u207b\u207a]?[\u2070\u00b9\u00b2\u00b3\u2074-\u2079]+")
_LATEX = re.compile(r"\\(?:boxed|text|textbf|mathbf|mathrm)\{([^{}]*)\}")
_DOT = re.compile(r"\.(?!\d)")
_ARTICLE = re.compile(r"^(?:the|an|a) ")
_CHARACTERS = str.maketrans(
    {
        **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2212", "-"),
        **dict.fromkeys("\u2018\u2019\u02bc", "'"),
        **dict.fromkeys("\u201c\u201d\u00ab\u00bb", '"'),
        **dict.fromkeys("\u200b\u200c\u200d\u2060\ufeff\u200e\u200f", None),
    }
)
_TRUTH = {"yes": True, "true": True, "no": False, "false": False}


def extract_answer(text: str) -> str | None:
    """Finds the final answer in a model's text: what follows the last `FINAL ANSWER:`, up to `TERMINATE`.

    Any case, markdown emphasis and headings, and a missing or repeated `TERMINATE` are accepted; decimals and
    abbreviations such as `3.5`, `U.S.` and `St. Louis` stay whole. The answer is one line; the items of a bullet list
    are joined by `||`.

    Returns:
        The answer without surrounding white space, markup and closing full stop, or None if there is none.
    """
    marks = list(_MARK.finditer(text))
    if not marks:
        return None
    answer = _END.split(text[marks[-1].end() :], maxsplit=1)[0]
    answer = _first_line_or_list([line for line in map(str.strip, answer.splitlines()) if line.strip(_MARKUP)])
    # A closing full stop ends the sentence, unless the word is an abbreviation such as U.S. or Dr.; only the last few
    # characters are looked at, since the pattern takes quadratic time.
    if answer.endswith(".") and not _ABBREVIATION.search(answer[-12:]):
        answer = answer[:-1].rstrip(_MARKUP)
    return answer or None


def grade(text: str, answers: Sequence[str], *, tolerance: float = TOLERANCE) -> Score:
    """Grades a model's final turn: 1 if its final answer is the gold one, else 0.

    Several gold answers are all asked for, in any order, and are matched one to one with the parts of the model's
    answer. Years and counts must be exact, measured values may be off by `tolerance`; words are compared without regard
    to case, articles, outer quotes and Unicode form.

    Args:
        text: The turn that ends the rollout.
        answers: The gold answers; one text may hold several, joined by `||` or as a bracketed list.
        tolerance: Largest error of a measured value, as a share of the gold one.
    """
    answer = extract_answer(text)
    if answer is None:
        return Score(0.0, None, "no final answer in the text")
    gold = [_Value.read(part) for one in answers for part in _marked_parts(_clean(one))]
    for parts in _readings(_clean(answer), len(gold)):
        found = [_Value.read(part) for part in parts]
        if len(found) == len(gold) and _matches(found, gold, tolerance):
            same = sorted(one.key for one in found) == sorted(one.key for one in gold)
            return Score(
                1.0, answer, "equals the gold answer" if same else f"within {tolerance:.0%} of the gold answer"
            )
    return Score(0.0, answer, f"differs from the gold answer {' || '.join(answers)}")


def outcome_reward(trace: Sequence[Trace], **columns: Any) -> list[float]:
    """Grades a batch as a TRL reward function: 1 for a right final answer, else 0.

    Args:
        trace: The batch's rollouts.
        columns: The data set's other columns; unused.
    """
    return [score.value for score in Outcome().scores(trace)]


class Outcome:
    """Grades batches, each once however many reward columns ask.

    Args:
        review: Has the last word on scores of 0, for example `iapo.grading.judge.Judge.review`.
    """

    __name__ = "outcome_reward"

    def __init__(self, review: Callable[[Sequence[Trace], Sequence[Score]], list[Score]] | None = None) -> None:
        self._review = review
        self._last: tuple[Sequence[Trace], list[Score]] | None = None

    def scores(self, traces: Sequence[Trace]) -> list[Score]:
        """Returns scores of the final answers, 0 or 1, one a trace."""
        # The columns of one batch share the list itself.
        if self._last is None or self._last[0] is not traces:
            scores = [grade(one.final_text, one.sample.answers) for one in traces]
            self._last = (traces, scores if self._review is None else self._review(traces, scores))
        return self._last[1]

    def __call__(self, trace: Sequence[Trace], **columns: Any) -> list[float]:
        return [score.value for score in self.scores(trace)]


@dataclass(frozen=True, slots=True)
class _Value:
    """One answer, read.

    Attributes:
        key: Equal for answers that are equal without any tolerance.
        quantity: The number, where it is one.
        truth: Yes or no, where it says so.
    """

    key: str
    quantity: Quantity | None
    truth: bool | None

    @classmethod
    def read(cls, text: str) -> _Value:
        text = text.strip("\"' ").removesuffix(".").rstrip("\"',; ")
        quantity = read_quantity(text)
        if quantity is not None:
            return cls(f"number {quantity.value.normalize():f}", quantity, None)
        words = _DOT.sub("", text.casefold()).replace(" & ", " and ")
        words = " ".join(_ARTICLE.sub("", " ".join(words.split())).split())
        truth = _truth(words)
        return cls(f"text {words}" if truth is None else f"truth {truth}", None, truth)

    def accepts(self, answer: _Value, tolerance: float) -> bool:
        """Returns whether an answer is right where this is the gold one."""
        if self.quantity is not None and answer.quantity is not None:
            return self.quantity.accepts(answer.quantity, tolerance)
        return self.key == answer.key


def _truth(words: str) -> bool | None:
    """Reads yes or no, also with words after a comma, colon or semicolon that do not say it again."""
    head, comma, rest = re.split(r"([,:;])", words, maxsplit=1) if re.match(r"\w+[,:;]", words) else (words, "", "")
    if comma and not {"not", *_TRUTH}.isdisjoint(re.findall(r"\w+", rest)):
        return None
    return _TRUTH.get(head)


def _matches(found: Sequence[_Value], gold: Sequence[_Value], tolerance: float) -> bool:
    """Returns whether answers and gold answers pair up one to one (augmenting paths, for tolerances may overlap)."""
    taken: dict[int, int] = {}

    def place(index: int, tried: set[int]) -> bool:
        for other, one in enumerate(gold):
            if other not in tried and one.accepts(found[index], tolerance):
                tried.add(other)
                if other not in taken or place(taken[other], tried):
                    taken[other] = index
                    return True
        return False

    return all(place(index, set()) for index in range(len(found)))


def _readings(answer: str, wanted: int) -> Iterator[list[str]]:
    """Yields the ways to take an answer apart; commas and `and` part it only where several answers are asked for."""
    parts = _marked_parts(answer)
    yield parts
    if len(parts) == 1 and wanted > 1:
        yield [part for part in parts[0].split(";") if part.strip()]
        yield _LOOSE.split(parts[0])


def _marked_parts(text: str) -> list[str]:
    """Returns the parts of an answer that is clearly several: between pipes, or a bracketed list."""
    if text.startswith("[") and text.endswith("]"):
        if _PIPES.search(text) is None:
            return _bracketed(text)
        text = text[1:-1]
    return [part.strip() for part in _PIPES.split(text) if part.strip()]


def _bracketed(text: str) -> list[str]:
    try:
        values = json.loads(text)
    # Too many digits are a plain ValueError, too many brackets a RecursionError.
    except (ValueError, RecursionError):
        values = None
    if isinstance(values, list) and all(isinstance(value, (str, int, float)) for value in values):
        return [str(value) for value in values]
    return [part for part in re.split(r"[;,]", text[1:-1]) if part.strip()]


def _clean(text: str) -> str:
    """Gives one spelling to what looks alike: Unicode forms, quotes, dashes, powers, LaTeX, white space."""
    text = _SUPERSCRIPT.sub(lambda power: "^" + power[0], text)
    text = unicodedata.normalize("NFKC", text).translate(_CHARACTERS)
    if "\\" in text:
        for _ in range(2):
            text = _LATEX.sub(r"\1", text)
        text = text.replace("\\%", "%").replace("\\$", "$").replace("\\times", "x").replace("\\,", "")
    text = " ".join(text.split())
    return text.strip("$") if len(text) > 2 and text.startswith("$") and text.endswith("$") else text


def _first_line_or_list(lines: Sequence[str]) -> str:
    """Returns the first line, or the items of the bullet list that begins there, without markup."""
    items = []
    for line in lines:
        bullet = _BULLET.match(line)
        if bullet is None:
            break
        items.append(line[bullet.end() :].strip(_MARKUP).removesuffix("."))
    # One line that begins with a dash is a negative number rather than a list.
    if len(items) > 1:
        return " || ".join(items)
    return lines[0].strip(_MARKUP).rstrip("|" + _MARKUP) if lines else ""
