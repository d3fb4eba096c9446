"""Answers: graded 0 or 1 by each set of rules; what is equal to itself is right, and another number never."""

from __future__ import annotations

import re
from pathlib import Path

from fuzzing import ODD_NUMBERS, ODD_TEXTS, fuzz
from hypothesis import strategies as st

from iapo.data.fields import RowError, answers_of
from iapo.grading.outcome import grade
from iapo.grading.rules import RULES

RULE_SETS = st.sampled_from(sorted(RULES))
NUMBERS = st.integers(-(10**12), 10**12).map(str) | st.decimals(
    -(10**6), 10**6, allow_nan=False, allow_infinity=False, places=2
).map(str)
WORDS = st.sampled_from(
    ["yes", "no", "true", "false", "refuted", "million", "billion", "%", "percent", "$", "USD", "km", "°C", "x", "and",
     "or", "to", "-", "–", ":", ";", "||", "|", ",", ".", "(", ")", "[", "]", "'", '"', "½", "10^3", "e5", "third",
     "twenty-one", "Jan", "January", "1st", "2019", "Q3", "N/A", "none", "about", "\\frac{1}{2}", "\\boxed{", "}", "**",
     "FINAL ANSWER:", "TERMINATE", "thousand", "per", "the", "-5", "(5)", "5%", "1,000", "1.000,5", "3/4", "4:1", "\n",
     "- ", "1. ", "é", "Ⅷ", "٣", "①", "e\u0301", "=", "≈", "<", "nan", "inf", "infinity", "0", "1e999"]
)  # fmt: skip
ANSWERS = st.lists(WORDS | NUMBERS | ODD_TEXTS | ODD_NUMBERS.map(str), max_size=8).map(" ".join) | st.lists(
    WORDS | NUMBERS, max_size=6
).map("".join)
# Half of them are near to one another.
TEXTS = st.tuples(ANSWERS, st.lists(ANSWERS, min_size=1, max_size=3)) | st.tuples(
    st.lists(WORDS | NUMBERS | st.just(" "), min_size=1, max_size=4), WORDS, st.integers(0, 4)
).map(lambda parts: ("".join([*parts[0][: parts[2]], parts[1], *parts[0][parts[2] :]]), ["".join(parts[0])]))
FRAMES = st.sampled_from(
    [
        "FINAL ANSWER: {}. TERMINATE",
        "FINAL ANSWER: {}",
        "{}",
        "**Final answer**\n{}",
        "x\nFINAL ANSWER: 4\nfinal_answer={}",
    ]
)
LETTERS = st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", min_size=1, max_size=12)
NAMES = st.lists(LETTERS, min_size=1, max_size=3).map(" ".join)


@fuzz("answers", st.tuples(TEXTS, FRAMES, RULE_SETS), 150)
def test_answers(parts: tuple[tuple[str, list[str]], str, str], folder: Path) -> None:
    (answer, golds), frame, rules = parts
    score = grade(frame.format(answer), golds, rules)
    assert score.value in (0.0, 1.0)
    assert score == grade(frame.format(answer), golds, rules)


@fuzz("gold answers against themselves", st.tuples(NAMES | NUMBERS, RULE_SETS), 120)
def test_gold_is_right(parts: tuple[str, str], folder: Path) -> None:
    gold, rules = parts
    score = grade(f"FINAL ANSWER: {gold}. TERMINATE", [gold], rules)
    assert score.value == 1.0, score


PIECES = st.sampled_from(
    ["Only", "One", "Two", "There are", "In", "2015", "The answer is", "=", "*", "**", "_", "`", "`x`", "...", ".",
     "。", "!", "<", "5", "-", "- ", "1. ", "A", "B", "and", "or", ",", ";", "|", "||", "[", "]", "(", ")", "[1]", "$",
     '"', "\\boxed{", "}", "not", "No", "Yes,", "No.", "it is", "true", "the", "\n", "é", "½", "U.S.", "K = 0.8",
     "(45%)", "20 + 4 = 24", "1:2", "Q1", "million", "1,000", "about", "both", "65+", "in the chart"]
)  # fmt: skip
GOLDS = (
    st.lists(PIECES, min_size=1, max_size=5).map(" ".join)
    | st.lists(PIECES, min_size=1, max_size=5).map("".join)
    | st.text(min_size=1, max_size=12)
    | ODD_TEXTS
)
MARKS = re.compile(r"final[ _]*answer|terminate", re.IGNORECASE)


@fuzz("gold answers repeated", st.tuples(GOLDS, RULE_SETS), 150)
def test_what_is_repeated_is_right(parts: tuple[str, str], folder: Path) -> None:
    """Of all that the loader accepts, but what ends an answer."""
    said, rules = parts
    try:
        golds = answers_of({"answer": said}, "answer", None)
    except RowError:
        return
    if MARKS.search(said) is not None:
        return
    for frame in ("FINAL ANSWER: {}. TERMINATE", "FINAL ANSWER: {} TERMINATE", "FINAL ANSWER: {}"):
        score = grade(frame.format(golds[0]), golds, rules)
        assert score.value == 1.0, score


@fuzz("two answers for one", st.tuples(NUMBERS | NAMES, st.integers(1, 9), RULE_SETS), 80)
def test_two_answers_are_wrong(parts: tuple[str, int, str], folder: Path) -> None:
    gold, other, rules = parts
    said = gold.lower().split()
    if said[:1] in (["yes"], ["no"], ["true"], ["false"]) or (rules == "claim" and {"true", "false"} & {*said}):
        # What stands beside it may explain it.
        return
    for joint in (" or ", " || ", ", ", "; ", "* or *", " and "):
        for text in (f"{gold}{joint}{gold}{other}", f"*{gold}{other}{joint}{gold}*"):
            score = grade(f"FINAL ANSWER: {text} TERMINATE", [gold], rules)
            assert score.value == 0.0, score


INTEGERS = st.integers(-(10**9), 10**9) | st.integers(1800, 2100) | st.integers(-20, 120)
PAIRS = st.tuples(INTEGERS, INTEGERS | st.sampled_from([0.9, 0.94, 1.06, 1.1, 10, 100, 1000, -1]))


@fuzz("other numbers", st.tuples(PAIRS, RULE_SETS), 150)
def test_another_number_is_wrong(parts: tuple[tuple[int, float], str], folder: Path) -> None:
    (gold, other), rules = parts
    for answer in (other, round(gold * other)):
        if answer != int(answer) or abs(gold - answer) <= RULES[rules].tolerance * abs(gold):  # type: ignore[index]
            continue
        # A header's "in billions" may be left out of either.
        if RULES[rules].free_scale and answer in [gold * 1000**power for power in range(1, 5)]:  # type: ignore[index]
            continue
        for text in (f"{int(answer)}", f"{int(answer):,}", f"{int(answer)}.0"):
            score = grade(f"FINAL ANSWER: {text}. TERMINATE", [str(gold)], rules)
            assert score.value == 0.0, score
