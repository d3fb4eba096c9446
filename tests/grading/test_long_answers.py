"""Answers of a megabyte and a thousand gold answers: graded, in a number of steps that grows with their size alone."""

from __future__ import annotations

import random
from itertools import groupby
from unicodedata import combining

import pytest

from iapo.grading import outcome
from iapo.grading.lists import MOST_PAIRED, pair_up
from iapo.grading.outcome import LONGEST_ANSWER, grade
from iapo.grading.rules import Rules
from iapo.grading.text import clean, without_towers
from iapo.grading.units import Side
from iapo.grading.values import Alternatives

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


@pytest.mark.parametrize("grading", RULES)
def test_what_is_longer_than_any_answer_is_wrong(grading: str):
    """It is compared with nothing, so that its size takes no time; a long gold answer allows a long answer."""
    golds = ["3", "4"]
    filler = "3 || 4 || " * ((LONGEST_ANSWER + 200) // 10)
    found = grade("FINAL ANSWER: " + filler + "3 || 4", golds, grading)
    assert (found.value, "states more" in found.explanation) == (0, True)
    assert grade("FINAL ANSWER: " + "\ufdfa" * LONG, golds, grading).value == 0
    long = "word " * (LONG // 20)
    assert grade("FINAL ANSWER: " + long, [long], grading).value == 1
    assert grade("FINAL ANSWER: " + long + "more", [long], grading).value == 0


@pytest.mark.parametrize("grading", ["plain", "exact"])
def test_what_is_repeated_is_read_once(grading: str, monkeypatch: pytest.MonkeyPatch):
    read: list[str] = []

    def reading(text: str, rules: Rules, side: Side) -> Alternatives:
        read.append(text)
        return Alternatives(text, rules, side)

    monkeypatch.setattr(outcome, "Alternatives", reading)
    for unit in ("1||", "A || ", "\u00bd||"):
        read.clear()
        assert grade("FINAL ANSWER: 5", [unit * 10_000], grading).value == 0
        grade("FINAL ANSWER: " + unit * 9_000, [unit * 10_000], grading)
        assert len(read) < 10


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
