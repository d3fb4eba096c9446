"""The rules of the data sets: which forms of an answer are equal to the gold one, and how near a number must be.

`Sample.grading` names one of them; docs/grading.md has the same table in words.
"""

from __future__ import annotations

from dataclasses import dataclass

from iapo.errors import InputError
from iapo.records import GRADINGS, Grading

TOLERANCE = 0.05
"""How far a measured value may be off, as a share of the gold value (ChartQA's relaxed accuracy, arXiv 2203.10244)."""


@dataclass(frozen=True, slots=True)
class Rules:
    """How the answers of a kind of data set are graded.

    Attributes:
        tolerance: Largest error of a measured value, as a share of the gold one; years and counts are always exact.
        judge: The same for a model as judge, a sentence.
        wide: Other ways to write an answer count too: unknown units, fractions for percentages, ratios, ranges,
            ordinals, dates, accountants' negatives, notes and diacritics left out, yes or no with an explanation,
            lists with commas inside an item.
        free_scale: A scale counts only where the gold answer names one: the axis' or the header's `in billions` may
            stand in the answer or not.
        ratios: `4:1` is 4. Elsewhere that may be a score or a time.
        claims: The gold answers 0 and 1 are false and true, and so are `refuted` and `supported`.
        sets: Of equal answers in a list one counts, and a note in brackets behind the answer does not.
    """

    tolerance: float
    judge: str
    wide: bool = True
    free_scale: bool = False
    ratios: bool = False
    claims: bool = False
    sets: bool = False


_NEAR = "Years and counts must be exact, and measured values may be off by at most 5%."
_EXACT = "Numbers must be exact, whatever their format; units may be left out."
_FREE = "A scale such as millions counts only if a gold answer names one."

RULES: dict[Grading, Rules] = {
    "plain": Rules(TOLERANCE, _NEAR, wide=False),
    "chart": Rules(
        TOLERANCE,
        f"{_NEAR} {_FREE}",
        free_scale=True,
        ratios=True,
    ),
    "exact": Rules(0.0, _EXACT, sets=True),
    "finance": Rules(0.0, f"{_EXACT} {_FREE}", free_scale=True),
    "claim": Rules(0.0, "The gold answer 0 means that the claim is false, 1 that it is true.", claims=True),
}
"""By the name that a sample gives."""


def find_rules(name: str) -> Rules:
    """Returns the rules of that name.

    Raises:
        InputError: If there are none.
    """
    for known, rules in RULES.items():
        if known == name:
            return rules
    raise InputError(f"unknown grading {name!r}; use one of {', '.join(GRADINGS)}")
