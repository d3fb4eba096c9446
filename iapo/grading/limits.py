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
_AGES = re.compile(r"(?:ages?|aged) (?=\S)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Limit:
    """A number that is only a bound.

    Attributes:
        kind: `>=`, `<=`, `>` or `<`.
        number: The number.
    """

    kind: str
    number: Quantity

    @property
    def key(self) -> str:
        """Equal for bounds that are equal, units aside."""
        return f"{self.kind} {self.number.value.normalize():f}"

    def accepts(self, answer: Limit, rules: Rules) -> bool:
        """Returns whether an answer is right where this is the gold one: the kind and the number are exact."""
        return self.kind == answer.kind and self.number.accepts(
            answer.number, dataclasses.replace(rules, tolerance=0, free_scale=False)
        )


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
    return None if number is None else Limit(kind, number)
