"""Bounds in answers: `at least 5`, `5 or more`, `5+` and `≥ 5` are one (docs/grading.md)."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass

from iapo.grading.numbers import LONGEST, Quantity, read_quantity
from iapo.grading.rules import Rules
from iapo.grading.units import Side

_MORE = "more|greater|higher|larger|older"
_LESS = "less|fewer|lower|smaller|younger"
_BEFORE = re.compile(
    rf"(?:(?P<least>at least|(?:no|not) (?:{_LESS}) than|(?:{_MORE}) than or equal to|(?:a )?minimum of|\u2265|>=)"
    rf"|(?P<most>at most|(?:no|not) (?:{_MORE}) than|(?:{_LESS}) than or equal to|(?:a )?maximum of|up to|\u2264|<=)"
    rf"|(?P<more>(?:{_MORE}) than|over|above|exceeding|>)"
    rf"|(?P<less>(?:{_LESS}) than|under|below|<)) ?(?=\S)",
    re.IGNORECASE,
)
# What follows it is the number's unit: `5 + 3` and `5 or more than 6` are no bounds.
_BEHIND = re.compile(
    rf"(?: ?\+|,? (?:or|and|&) (?:(?:{_MORE}|above|over|up|upwards?|later)|(?P<most>{_LESS}|below|under|earlier)))"
    r"(?=$| (?!than\b)[^\W\d_])",
    re.IGNORECASE,
)
_BEGINS_WITH_A_NUMBER = re.compile(r"[$\u20ac\u00a3]?\d")
_NUMBER_WORDS = 2
"""Words of a number before what it counts: `5 million`."""
_AGES = re.compile(r"(?:ages?|aged) (?=\S)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Limit:
    """A number that is only a bound.

    Attributes:
        kind: `>=`, `<=`, `>` or `<`.
        number: The number; None where more follows it in a gold answer than a unit, `5% of adults`.
        said: What is written behind the bound, in lower case, its number in one way: `1,000 men` is `1000 men`.
    """

    kind: str
    number: Quantity | None
    said: str

    @property
    def key(self) -> str:
        """Equal for bounds that are equal, units aside."""
        return f"{self.kind} {self.said if self.number is None else format(self.number.value.normalize(), 'f')}"

    def accepts(self, answer: Limit, rules: Rules) -> bool:
        """Returns whether an answer is right where this is the gold one: the kind and the number are exact."""
        if self.kind != answer.kind:
            return False
        if self.number is None or answer.number is None:
            return self.said == answer.said
        return self.number.accepts(answer.number, dataclasses.replace(rules, tolerance=0, free_scale=False))


def read_limit(text: str, side: Side) -> Limit | None:
    """Reads a bound, `at least 5`, `5 or more`, `65+`, `65 years and older` or `< $5`; None where it is none.

    Args:
        text: The text, cleaned.
        side: Who wrote it.
    """
    if len(text) > LONGEST:
        return None
    text = _AGES.sub("", text, count=1) if _AGES.match(text) else text
    if (found := _BEFORE.match(text)) is not None:
        kind = {"least": ">=", "most": "<=", "more": ">", "less": "<"}[str(found.lastgroup)]
        rest = text[found.end() :]
    elif (found := _BEHIND.search(text)) is not None:
        kind = "<=" if found["most"] else ">="
        rest = text[: found.start()] + text[found.end() :]
    else:
        return None
    number = read_quantity(rest, side)
    if number is None and not (found.re is _BEFORE and _BEGINS_WITH_A_NUMBER.match(rest)):
        return None
    return Limit(kind, number, _in_one_way(rest, side))


def _in_one_way(text: str, side: Side) -> str:
    """Returns a number and its words, the number as its digits say and the words in lower case."""
    words = text.split(" ")
    for count in range(min(_NUMBER_WORDS, len(words) - 1), 0, -1):
        if (number := read_quantity(" ".join(words[:count]), side)) is not None:
            parts = (f"{number.value.normalize():f}", number.unit, *words[count:])
            return " ".join(filter(None, parts)).casefold()
    return text.casefold()
