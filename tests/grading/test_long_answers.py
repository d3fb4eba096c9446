"""Answers of a megabyte and a thousand gold answers: graded, in a number of steps that grows with their size alone."""

from __future__ import annotations

import random
from itertools import groupby
from unicodedata import combining

import pytest

from iapo.grading.lists import MOST_PAIRED, pair_up
from iapo.grading.outcome import grade
from iapo.grading.text import clean, without_towers

LONG = 2**20
RULES = ("plain", "chart", "exact", "finance", "claim")
UNITS = ["\u0301", "\u0301\u0327", "a,", "1 ", "|", "[", "(", "1,", "and ", "$", "\\text{", "\u00b2", "*", "\ufdfa"]
UNITS += ["1/", ";", "\n- a", "St. ", "kg ", "final answer:", " (", "[1]"]


def longest_tower(text: str) -> int:
    return max((len(list(some)) for marked, some in groupby(text, lambda one: combining(one) > 0) if marked), default=0)


@pytest.mark.parametrize("unit", ["\u0301", "\u0301\u0327", "\u0327\u0301\u0316", "a" + "\u0301" * 500])
def test_towers_of_marks_are_cut(unit: str):
    """What puts them in order is never given more than 30 of them."""
    tower = "a" + unit * (LONG // len(unit))
    assert longest_tower(without_towers(tower)) == 30
    assert len(clean(tower)) <= len(tower)
    assert grade("FINAL ANSWER: " + tower, ["a"]).value == 0


@pytest.mark.parametrize("text", ["a\u0301" * 1000, "\u0e14\u0e49\u0e33", "e\u0301", "\u05e9\u05c1\u05bc\u05b8", "abc"])
def test_real_texts_keep_their_marks(text: str):
    assert without_towers(text) is text


@pytest.mark.parametrize("grading", RULES)
@pytest.mark.parametrize("unit", UNITS)
def test_long_answers_are_wrong(unit: str, grading: str):
    # One of the units is a single character that is written out with many.
    times = LONG // 16 // max(len(unit), len(clean(unit)))
    for golds in (["5"], ["5", "6"]):
        assert grade("FINAL ANSWER: 7 " + unit * times, golds, grading).value == 0


@pytest.mark.parametrize("grading", ["plain", "chart", "exact"])
def test_a_thousand_gold_answers(grading: str):
    golds = [str(3 * number) for number in range(1000)]
    said = list(golds)
    random.Random(0).shuffle(said)
    assert grade("FINAL ANSWER: " + " || ".join(said), golds, grading).value == 1
    said[500] = "x"
    assert grade("FINAL ANSWER: " + " || ".join(said), golds, grading).value == 0
    assert grade("FINAL ANSWER: " + " || ".join(said[:-1]), golds, grading).value == 0


@pytest.mark.parametrize("count", [1, 7, MOST_PAIRED, MOST_PAIRED + 1, 5000])
def test_each_pair_is_looked_at_once(count: int):
    asked: list[tuple[int, int]] = []

    def accepts(gold: int, one: int) -> bool:
        asked.append((gold, one))
        return abs(gold - one) <= 1 and gold > 0

    assert not pair_up(count, count, accepts)
    assert len(asked) == len(set(asked)) <= MOST_PAIRED**2
    assert pair_up(count, count, lambda gold, one: abs(gold - one) <= 1)
    assert pair_up(count, count, lambda gold, one: gold == (count - 1 - one if count <= MOST_PAIRED else one))
