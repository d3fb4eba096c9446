"""A gold answer that is repeated is right under all rules, whatever its markup and words would mean elsewhere."""

from __future__ import annotations

import time

import pytest

from iapo.grading.extraction import read_answers
from iapo.grading.outcome import grade
from iapo.grading.rules import RULES

FRAMES = ["FINAL ANSWER: {}. TERMINATE", "FINAL ANSWER: {} TERMINATE", "FINAL ANSWER: {}", "**FINAL ANSWER:** {}"]
NAMES = [f"{first}{second}{third}" for first in "BCDFGKLMNP" for second in "aeiou" for third in "bdglmnrstz"]


def value(answer: str, gold: str | list[str], grading: str) -> float:
    return grade(f"FINAL ANSWER: {answer} TERMINATE", [gold] if isinstance(gold, str) else gold, grading).value


@pytest.mark.parametrize("grading", RULES)
@pytest.mark.parametrize(
    "gold",
    [
        # Words before an answer that say nothing, in the gold answer.
        "Only One", "Only Two", "There are 14", "In 2015", "The answer is 42", "=20", "It is 14", "ages 5",
        # Markup that is its own.
        "SMU*", "100*", "2026*", "A*", "*SMU", "_x_", "x_", "`x`", "τ_*", "**", "*", "***", "_", "* * *", "5_",
        '*"Ode To Billy Joe" by Lou Donaldson', "Eller*, Page*, Yary*", "C*.",
        # Marks that part, close or explain elsewhere.
        "...", ".", "A|", "|", "||", "[1]", "[", "$$$", "$", '"', "'", "Yahoo!", "etc.", "5。", "U.S.", "No. One",
        "Yes, Minister", "Red or Blue", "yes and no", "not 5", "more than 42", "Rocky (2)", "- A", "1. A",
    ],
)  # fmt: skip
def test_what_is_repeated_is_right(gold: str, grading: str):
    assert [frame for frame in FRAMES if not grade(frame.format(gold), [gold], grading).value] == []
    assert value("another", gold, grading) == 0


@pytest.mark.parametrize("grading", RULES)
@pytest.mark.parametrize("gold", ["A\nB", "- A\n- B", "1. A\n2. B.", "A*\n_B_", "one\n\ntwo", "Only\nNo", "A\nU.S."])
def test_lines_are_repeated(gold: str, grading: str):
    assert [frame for frame in FRAMES[:3] if not grade(frame.format(gold), [gold], grading).value] == []
    assert grade(f"FINAL ANSWER: {gold}\nC", [gold], grading).value == 0


@pytest.mark.parametrize("grading", RULES)
@pytest.mark.parametrize(
    ("golds", "answer"),
    [
        (["SMU*", "A*"], "A* || SMU*"),
        (["_x_", "y"], "y || _x_"),
        (["SMU*", "A"], "\n- SMU*\n- A."),
        (["A", "B"], "**A** || **B**"),
        (["SMU*"], "**SMU***"),
        (["SMU*"], "**SMU*.** "),
        (["SMU*"], "SMU* **TERMINATE**"),
        (["smu*"], "SMU*"),
        (["Only One", "Two"], "Two || Only One"),
        (["One", "Only One"], "Only One || One"),
    ],
)
def test_what_is_repeated_in_a_list_or_in_markup(golds: list[str], answer: str, grading: str):
    assert value(answer, golds, grading) == 1


@pytest.mark.parametrize("grading", RULES)
@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        ("Only One", "One"),
        ("Only One", "Only Two"),
        ("In 2015", "2016"),
        ("In 2015", "In 2015 and 2016"),
        ("*SMU", "SMU"),
        ("_x_", "x"),
        ("***", "**"),
        ("$$$", "$$"),
        ("$$$", "$$$$"),
        ("||", "$$$"),
        ("...", '"'),
        ('"', "'"),
        ("- A", "\n- A\n- B"),
        ("A\nB", "A"),
        ("1 234", "1\n234"),
        ("No, No, Nanette!", "Maybe"),
        ("5", "<= 5"),
        ("5", "< 5"),
        ("< 5", "> 5"),
        ("42", "42 || 43"),
        ("42*", "42* || 43*"),
        ("*42*", "*42* or *43*"),
    ],
)
def test_what_is_not_repeated_is_wrong(gold: str, answer: str, grading: str):
    assert value(answer, gold, grading) == 0


@pytest.mark.parametrize(("gold", "answer"), [("A*", "A**"), ("A*", "A***"), ("x_", "x"), ("SMU*", "SMU")])
def test_no_half_of_markup_is_left_out(gold: str, answer: str):
    """Footnotes' marks count in plain; elsewhere stars behind a text are notes, however many."""
    assert value(answer, gold, "plain") == 0


@pytest.mark.parametrize(
    ("text", "ways"),
    [
        ("FINAL ANSWER: 42. TERMINATE", ["42"]),
        ("FINAL ANSWER: SMU*. TERMINATE", ["SMU", "SMU*", "SMU*."]),
        ("FINAL ANSWER: _x_", ["x", "_x_"]),
        ("**FINAL ANSWER:** _x_", ["x", "_x_"]),
        ("**FINAL ANSWER: A*** TERMINATE", ["A", "A*"]),
        ("FINAL ANSWER: ...", ["..", "..."]),
        ("FINAL ANSWER: **", ["**"]),
        ("FINAL ANSWER:", []),
        ("42", []),
    ],
)
def test_ways_to_read_an_answer(text: str, ways: list[str]):
    assert read_answers(text) == ways


@pytest.mark.parametrize("grading", [name for name, rules in RULES.items() if rules.wide])
@pytest.mark.parametrize("joint", [", ", "; ", " and "])
@pytest.mark.parametrize("count", [2, 11, 12, 13, 60, 250])
def test_long_lists_with_an_item_that_is_a_list_itself(grading: str, joint: str, count: int):
    golds = [*NAMES[:count], "Trinidad and Tobago", "Paris, France"]
    said = [*golds[count // 2 :], *golds[: count // 2]]
    start = time.process_time()
    assert value(joint.join(said), golds, grading) == 1
    assert value(joint.join(said[:-1]), golds, grading) == 0
    assert value(joint.join([*said, "Rome"]), golds, grading) == 0
    assert value(joint.join([*said[:-1], "Rome"]), golds, grading) == 0
    assert time.process_time() - start < 2


@pytest.mark.parametrize(
    ("golds", "answer", "right"),
    [
        (["3", "3"], "3, 3", 1),
        (["3", "3"], "3; 3", 1),
        (["3", "3"], "3 and 3", 1),
        (["3", "3"], "3", 1),
        (["x", "y", "x"], "x; y; x", 1),
        (["3", "5"], "3, 5 and 3", 1),
        (["3", "5", "3"], "5, 3", 1),
        (["3", "5"], "3 / 5 / 3", 1),
        (["Trinidad and Tobago", "Cuba", "Cuba"], "Cuba, Trinidad and Tobago, Cuba", 1),
        (["Rocky (2)", "Rocky (2)"], "Rocky || Rocky", 1),
        (["3", "3"], "3, 4", 0),
        (["3", "3"], "3, 3, 4", 0),
        (["3", "5"], "3, 3", 0),
        (["3"], "3, 3", 0),
        (["Oslo", "Rome"], "Oslo || Rome || Oslo, Rome", 0),
        (["China (CHN)", "China (PRC)"], "China, China", 0),
    ],
)
def test_equal_items(golds: list[str], answer: str, right: int):
    assert value(answer, golds, "exact") == right


@pytest.mark.parametrize("grading", RULES)
@pytest.mark.parametrize(
    ("gold", "answer", "right"),
    [
        ("No", "No, it is not", 1),
        ("No", "No, they are not equal", 1),
        ("No", "No, it did not", 1),
        ("No", "No. It is smaller.", 1),
        ("No", "No - it is smaller", 1),
        ("No", "No, not at all", 1),
        ("No", "No, it isn't", 1),
        ("No", "No, it is smaller", 1),
        ("No", "No: the bar is not larger", 1),
        ("false", "No, no bar is larger", 1),
        ("Yes", "Yes, that is true.", 1),
        ("Yes", "Yes. The bar is larger.", 1),
        ("Yes", "Yes, because it is not below 50.", 1),
        ("No", "No, it is true", 0),
        ("No", "No, it is", 0),
        ("No", "No, they do.", 0),
        ("No", "No, yes", 0),
        ("No", "No. Yes.", 0),
        ("No", "No. 5", 0),
        ("No", "No-one", 0),
        ("No", "Yes, it is not larger", 0),
        ("No", "No?", 0),
        ("Yes", "Yes, it is not", 0),
        ("Yes", "Yes, it isn't", 0),
        ("Yes", "Yes. It is not.", 0),
        ("Yes", "Yes, not at all", 0),
        ("Yes", "Yes. No.", 0),
        ("Yes", "Yes, that is false", 0),
        ("Yes", "No, it is not", 0),
    ],
)
def test_a_sentence_behind_yes_or_no(gold: str, answer: str, right: int, grading: str):
    assert value(answer, gold, grading) == right


@pytest.mark.parametrize(("gold", "answer"), [("No, No, Nanette", "No"), ("No. It Is", "No"), ("No. One", "No")])
def test_a_gold_answer_that_begins_with_no_is_a_name(gold: str, answer: str):
    assert value(answer, gold, "plain") == 0


@pytest.mark.parametrize("grading", RULES)
@pytest.mark.parametrize(
    ("gold", "answer", "right"),
    [
        ("5", "5。", 1),
        ("Tokyo", "Tokyo｡", 1),
        ("Tokyo", "Tokyo．", 1),
        ("हाँ", "हाँ।", 1),
        ("Yes", "Yes。", 1),
        ("5。", "5", 1),
        ("Yahoo!", "Yahoo", 0),
        ("Who", "Who？", 0),
        ("<5", "< 5", 1),
        ("< 5", "<5", 1),
        ("<= 5", "<=5", 1),
        ("≥ 90%", "≥90%", 1),
        ("x = y", "x=y", 1),
        ("f(x)", "f( x )", 1),
        ("X, Y", "X , Y", 1),
        ("New York", "NewYork", 0),
        ("12 34", "1234", 0),
    ],
)
def test_closing_stops_and_white_space(gold: str, answer: str, right: int, grading: str):
    assert value(answer, gold, grading) == right


@pytest.mark.parametrize("grading", RULES)
def test_one_mark_of_joy_behind_an_answer(grading: str):
    """It says nothing but in a gold answer; in the narrow forms it counts."""
    wide = float(RULES[grading].wide)
    assert [value(answer, "Yahoo", grading) for answer in ("Yahoo!", "Yahoo\uff01", "Yahoo!!")] == [wide, wide, 0]
    assert [value(answer, "Yahoo!", grading) for answer in ("Yahoo!", "Yahoo")] == [1, 0]
