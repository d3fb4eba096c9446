"""The grader on what models really write."""

from __future__ import annotations

import time

import pytest
from PIL import Image

from iapo.records import Sample, ToolResult, Trace
from iapo.rewards.outcome import extract_answer, grade, outcome_reward


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        # Decimals, abbreviations and full stops.
        ("FINAL ANSWER: 3.5 TERMINATE", "3.5"),
        ("FINAL ANSWER: 3.5. TERMINATE", "3.5"),
        ("FINAL ANSWER: 42\nTERMINATE", "42"),
        ("FINAL ANSWER: 42. TERMINATE", "42"),
        ("FINAL ANSWER: 42.TERMINATE", "42"),
        ("FINAL ANSWER: 42", "42"),
        ("FINAL ANSWER: 42.", "42"),
        ("FINAL ANSWER: U.S. dollar. TERMINATE", "U.S. dollar"),
        ("FINAL ANSWER: U.S. TERMINATE", "U.S."),
        ("FINAL ANSWER: made in the U.S.A.\nTERMINATE", "made in the U.S.A."),
        ("FINAL ANSWER: St. Louis||Dr. Dre. TERMINATE", "St. Louis||Dr. Dre"),
        ("FINAL ANSWER: Acme Inc. TERMINATE", "Acme Inc."),
        ("FINAL ANSWER: plan B. TERMINATE", "plan B"),
        # Case, markup, other ways of writing the mark.
        ("**FINAL ANSWER:** 42.", "42"),
        ("**FINAL ANSWER: 42.** TERMINATE", "42"),
        ("**Final Answer**: 42 **TERMINATE**", "42"),
        ("__Final Answer:__ 42. _TERMINATE_", "42"),
        ("Final Answer: 42.", "42"),
        ("final answer: 42. terminate", "42"),
        ("FINAL_ANSWER: 42 TERMINATE", "42"),
        ("FINAL ANSWER = 42 TERMINATE", "42"),
        ("FINAL ANSWER: `42` TERMINATE", "42"),
        ("FINAL ANSWER: **42**. TERMINATE", "42"),
        ("FINAL ANSWER:42.TERMINATE", "42"),
        # Lines.
        ("FINAL ANSWER:\n42\nTERMINATE", "42"),
        ("FINAL ANSWER:\n\n  **42**  \nbecause I counted.\nTERMINATE", "42"),
        ("FINAL ANSWER: 42. TERMINATE\nOr was it 43?", "42"),
        ("FINAL ANSWER: 42.\r\nTERMINATE", "42"),
        ("FINAL ANSWER: 42 || TERMINATE", "42"),
        # Several marks, repeated ends.
        ("FINAL ANSWER: 41. No, wait.\nFINAL ANSWER: 42. TERMINATE", "42"),
        ("FINAL ANSWER: 41. TERMINATE FINAL ANSWER: 42. TERMINATE", "42"),
        ("FINAL ANSWER: 42. TERMINATE TERMINATE\nTERMINATE", "42"),
        ("I end with FINAL ANSWER: and TERMINATE.\nFINAL ANSWER: 42. TERMINATE", "42"),
        # Words that hold the end's letters.
        ("FINAL ANSWER: Terminated. TERMINATE", "Terminated"),
        ("FINAL ANSWER: TERMINATES_42 TERMINATE", "TERMINATES_42"),
        # No answer.
        ("", None),
        ("42", None),
        ("The answer is 42. TERMINATE", None),
        ("ANSWER: 42", None),
        ("FINAL ANSWER 42", None),
        ("FINAL ANSWER:", None),
        ("FINAL ANSWER: TERMINATE", None),
        ("FINAL ANSWER: ** ** . TERMINATE", None),
        ("FINAL ANSWER: .", None),
    ],
)
def test_extraction(text: str, answer: str | None):
    assert extract_answer(text) == answer


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        ("1,234", "1234"),
        ("1,234,567.50", "1234567.5"),
        ("69%", "69"),
        ("69 %", "69%"),
        ("$5", "5"),
        ("-$5", "-5"),
        ("$-5", "-5"),
        ("€ 5", "£5"),
        ("0.0", "0"),
        ("-0", "0"),
        ("+7", "7"),
        ("007", "7"),
        (".5", "0.5"),
        ("1e3", "1000"),
        ("2.50E-1", "0.25"),
        ("\u22125", "-5"),
        ("\u22121.5 %", "-1.5"),
        ("\uff14\uff12", "42"),
        ("1e999", "10e998"),
        ("Yes", "yes"),
        ("yes", "Yes."),
        ("yes.", "Yes"),
        ("The United States", "united states"),
        ("an apple", "Apple"),
        ("New   York", "new york"),
        ('"Men\'s"', "Men's"),
        ("\u201cMen\u2019s\u201d", "Men's"),
        ('"42."', "42"),
        ("caf\u0065\u0301", "Caf\u00e9"),
        ("STRASSE", "straße"),
        ("U.S", "U.S."),
        ("the", "The"),
    ],
)
def test_equal(answer: str, gold: str):
    for one, other in ((answer, gold), (gold, answer)):
        assert grade(f"FINAL ANSWER: {one} TERMINATE", [other]).value == 1.0


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        ("50", "100"),
        ("2019", "2020"),
        ("2015", "2011"),
        ("-5", "5"),
        ("0.69", "69%"),
        ("3.50001", "3.5"),
        ("12,34", "1234"),
        ("1234,567", "1234567"),
        ("1,2", "12"),
        ("1.2.3", "1.23"),
        ("e5", "100000"),
        ("1e9999", "1"),
        ("1e999", "1e998"),
        ("42 apples", "42"),
        ("Paris, France", "Paris"),
        ("U.K.", "U.S."),
        ("another", "other"),
        ("yes", "no"),
        # A part of the gold answer, more than it, or the end mark itself are no answer.
        ("yes no", "yes"),
        ("42 or 43", "42"),
        ("$", "0"),
        ("%", "0"),
        ("equals the gold answer", "1"),
    ],
)
def test_different(answer: str, gold: str):
    for one, other in ((answer, gold), (gold, answer)):
        assert grade(f"FINAL ANSWER: {one} TERMINATE", [other]).value == 0.0


@pytest.mark.parametrize(
    ("answer", "golds", "value"),
    [
        ("A || B", ["A", "B"], 1),
        ("b||a", ["A", "B"], 1),
        ("A|||B", ["A", "B"], 1),
        ("B || A ||", ["A", "B"], 1),
        ("1,000 || St. Louis.", ["St. Louis", "1000"], 1),
        ("A || A", ["A", "A"], 1),
        ("100||100||100", ["100"], 0),
        ("100", ["100", "100"], 0),
        ("A || A", ["A", "B"], 0),
        ("A || A || B", ["A", "B", "B"], 0),
        ("A || B || C", ["A", "B"], 0),
        ("A", ["A", "B"], 0),
        ("A, B", ["A", "B"], 0),
        ("A | B", ["A", "B"], 0),
        ("", ["A"], 0),
    ],
)
def test_several_answers(answer: str, golds: list[str], value: int):
    assert grade(f"FINAL ANSWER: {answer} TERMINATE", golds).value == value


def test_what_is_said_about_a_score():
    right = grade("FINAL ANSWER: 42. TERMINATE", ["42"])
    assert (right.value, right.answer) == (1.0, "42")
    wrong = grade("FINAL ANSWER: 42. TERMINATE", ["A", "B"])
    assert (wrong.value, wrong.answer, wrong.explanation) == (0.0, "42", "differs from the gold answer A || B")
    nothing = grade("I do not know.", ["A"])
    assert (nothing.value, nothing.answer, nothing.explanation) == (0.0, None, "no final answer in the text")


LONG = 100_000


@pytest.mark.parametrize(
    "text",
    [
        "FINAL ANSWER: " + " " * LONG,
        "FINAL ANSWER: " + " " * LONG + "x",
        "FINAL ANSWER: a" + " " * LONG + "b TERMINATE",
        "FINAL ANSWER: the" + " " * LONG + "b TERMINATE",
        "FINAL ANSWER: $" + " " * LONG + "5 TERMINATE",
        "FINAL ANSWER: " + "*" * LONG,
        "FINAL ANSWER: a" + "*" * LONG + "b",
        "FINAL ANSWER: " + "|" * LONG,
        "FINAL ANSWER: " + "_ " * LONG,
        "FINAL ANSWER: " + "\n" * LONG,
        "FINAL ANSWER: " + "A." * LONG,
        "FINAL ANSWER: " + "A." * LONG + "1.",
        "FINAL ANSWER: " + "9" * LONG,
        "FINAL ANSWER: " + "9" * LONG + "x",
        "FINAL ANSWER: 1" + ",000" * LONG,
        "FINAL ANSWER: 1" + ",000" * LONG + "x",
        "FINAL ANSWER: 0." + "0" * LONG + "1",
        "FINAL ANSWER: 1" + "%" * LONG,
        "FINAL ANSWER: " + '"' * LONG,
        "FINAL ANSWER: 1e" + "9" * LONG,
        "FINAL ANSWER: " + "TERMINATE" * LONG,
        "FINAL ANSWER: " + "TERMINATE " * LONG,
        "FINAL ANSWER" * LONG,
        "FINAL ANSWER:" * LONG,
        "FINAL" + " " * LONG,
        "FINAL ANSWER" + "*" * LONG,
        "final " * LONG + "answer",
        "x" * 10 * LONG,
    ],
    ids=lambda text: f"{text[:18]}..{text[-6:]}",
)
def test_long_texts_take_linear_time(text: str):
    """A quadratic pattern would take minutes here."""
    start = time.process_time()
    assert grade(text, ["42"]).value == 0.0
    assert grade("FINAL ANSWER: 42", [text]).value == 0.0
    assert time.process_time() - start < 2


@pytest.mark.parametrize("answer", ["1" + "0" * 1_100_000, "0." + "0" * 1_100_000 + "1", "\x00", "\ud800", "½", "٣"])
def test_nothing_crashes_the_grader(answer: str):
    assert grade(f"FINAL ANSWER: {answer}", ["42"]).value == 0.0


def test_the_reward_grades_the_last_turn():
    sample = Sample("s", Image.new("RGB", (2, 2)), "?", ("42",))
    result = ToolResult("no_call")
    right, wrong = "FINAL ANSWER: 42. TERMINATE", "FINAL ANSWER: 41. TERMINATE"
    traces = [
        Trace(sample, right, result),
        Trace(sample, wrong, result),
        Trace(sample, wrong, result, turn_2=right),
        Trace(sample, right, result, turn_2=wrong),
        Trace(sample, right, result, turn_2=""),
    ]
    assert outcome_reward(traces, completions=[], answers=["x"] * 5) == [1.0, 0.0, 1.0, 0.0, 0.0]
