"""The grader on what models really write."""

from __future__ import annotations

import decimal
import time

import pytest
from PIL import Image

from iapo.grading.extraction import extract_answer
from iapo.grading.outcome import grade, outcome_reward
from iapo.records import Sample, ToolResult, Trace


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
        ("FINAL ANSWER IS: 42. TERMINATE", "42"),
        ("The **final answer is**: 42.", "42"),
        ("FINAL ANSWER\uff1a42", "42"),
        ("## Final Answer\n42\n", "42"),
        ("### **Final answer**\n\n42", "42"),
        ("**Final Answer**\n42. TERMINATE", "42"),
        ("FINAL ANSWER: -5 TERMINATE", "-5"),
        # Lines.
        ("FINAL ANSWER:\n42\nTERMINATE", "42"),
        ("FINAL ANSWER:\n\n  **42**  \nbecause I counted.\nTERMINATE", "42"),
        ("FINAL ANSWER: 42. TERMINATE\nOr was it 43?", "42"),
        ("FINAL ANSWER: 42.\r\nTERMINATE", "42"),
        ("FINAL ANSWER: 42 || TERMINATE", "42"),
        ("FINAL ANSWER:\n- A\n- B.\nTERMINATE", "A || B"),
        ("FINAL ANSWER:\n1. A\n2. **B**\nTERMINATE", "A || B"),
        ("FINAL ANSWER:\n* A\n* B\n* C\n\nAll of them.", "A || B || C"),
        ("FINAL ANSWER:\n- 5\nTERMINATE", "- 5"),
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
        ("That was my final answer\n42", None),
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
        ("€ 5", "5 euros"),
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
        # Grouping, signs, scientific notation.
        ("1 234 567", "1234567"),
        ("1\u202f234", "1234"),
        ("$1,234", "1234"),
        ("+1,234", "1234"),
        ("\u20115", "-5"),
        ("1.2 × 10^3", "1200"),
        ("1.2x10^3", "1.2e3"),
        ("1.2·10³", "1200"),
        ("5 × 10⁻²", "0.05"),
        ("0.5e1", "5"),
        ("~50", "50"),
        ("about 50", "50"),
        # Scales and units.
        ("1.2 million", "1,200,000"),
        ("1.2M", "1200000"),
        ("3K", "3 thousand"),
        ("3k", "3000"),
        ("$2 billion", "2000000000"),
        ("2bn USD", "$2B"),
        ("69 percent", "69%"),
        ("69 per cent", "69 %"),
        ("\uff16\uff19\uff05", "69"),
        ("5 dollars", "$5"),
        ("US$5", "5 USD"),
        ("12 km", "12"),
        ("12 km", "12 kilometres"),
        ("12km²", "12 square kilometers"),
        ("20 ℃", "20°C"),
        ("3 years", "3"),
        # Yes and no.
        ("True", "true"),
        ("TRUE.", "true"),
        ("yes", "true"),
        ("No", "FALSE"),
        # Words.
        ("U.S. dollar", "US dollar"),
        ("St. Louis", "St Louis"),
        ("rock & roll", "Rock and Roll"),
        ("non\u2011profit", "non-profit"),
        ("A\u200b", "A"),
        ("\ufb01ve", "five"),
        ("\\boxed{42}", "42"),
        ("$\\text{Paris}$", "Paris"),
        ("$42$", "42"),
        ("69\\%", "69"),
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
        ("€ 5", "£5"),
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
        # The value, the unit or the scale is another.
        ("5 km", "5 m"),
        ("5 minutes", "5 hours"),
        ("$5", "5 euros"),
        ("5 million", "5"),
        ("5M", "5 m"),
        ("10³", "103"),
        ("$5 euros", "5"),
        ("+-5", "-5"),
        ("5x", "5"),
        # Years and counts are exact.
        ("2015", "2016"),
        ("2015.0", "2014.0"),
        ("1999", "2000"),
        ("98", "100"),
        ("1,234", "1,230"),
        ("20 years", "21 years"),
        # Negation.
        ("not yes", "yes"),
        ("true or false", "true"),
        ("Y", "yes"),
        # A decade is no number of seconds.
        ("1990", "1990s"),
        ("1990s", "1980s"),
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
        ("A, B", ["A", "B"], 1),
        ("A, B", ["A"], 0),
        ("A | B", ["A", "B"], 0),
        ("", ["A"], 0),
    ],
)
def test_several_answers(answer: str, golds: list[str], value: int):
    assert grade(f"FINAL ANSWER: {answer} TERMINATE", golds).value == value


@pytest.mark.parametrize(
    ("answer", "golds", "value"),
    [
        # Lists in other forms.
        ('["A", "B"]', ["B", "A"], 1),
        ("['A', 'B']", ["B", "A"], 1),
        ("[A, B]", ["A", "B"], 1),
        ("[A || B]", ["A", "B"], 1),
        ("A || B", ["[A, B]"], 1),
        ("[1, 2]", ["2", "1.0"], 1),
        ("A||B", ["A|||B"], 1),
        ("B||A", ["A||B"], 1),
        ("A; B", ["A", "B"], 1),
        ("Paris, France; Rome, Italy", ["Rome, Italy", "Paris, France"], 1),
        ("A, B and C", ["C", "B", "A"], 1),
        ("A, B, and C", ["C", "B", "A"], 1),
        ("A & B", ["A", "B"], 1),
        ("1,234, 5", ["5", "1234"], 1),
        ("true || 3", ["3", "Yes"], 1),
        # Not one to one.
        ("[A, B, C]", ["A", "B"], 0),
        ("A, A", ["A", "B"], 0),
        ("1,234", ["1", "234"], 0),
        ("A and B", ["A"], 0),
        ("Paris, France", ["Paris"], 0),
        ("[" * 5000 + "]" * 5000, ["A"], 0),
        ("[" + "9" * 5000 + "]", ["A"], 0),
        # Tolerances overlap: the pairs must be looked for.
        ("10.4 || 10.0", ["10.05", "10.5"], 1),
        ("10.0 || 10.4", ["10.5", "10.05"], 1),
        ("10.5 || 9.6", ["10.0", "10.9"], 1),
        ("10.5 || 11.0", ["10.0", "10.0"], 0),
    ],
)
def test_lists(answer: str, golds: list[str], value: int):
    assert grade(f"FINAL ANSWER: {answer} TERMINATE", golds).value == value


@pytest.mark.parametrize(
    ("answer", "gold", "value"),
    [
        # Measured: with a fraction, a unit, a scale, or too large for a count.
        ("53", "52.3", 1),
        ("52.3", "52.31", 1),
        ("0.69", "0.7", 1),
        ("-3.4", "-3.5", 1),
        ("70%", "69%", 1),
        ("$5.1", "$5", 1),
        ("12.3 km", "12 km", 1),
        ("45,100", "45000", 1),
        ("1.23 million", "1.2 million", 1),
        ("50.5", "50.0", 1),
        ("105", "100.0", 1),
        ("105.1", "100.0", 0),
        ("95", "100.0", 1),
        ("94.9", "100.0", 0),
        ("55", "52.3", 0),
        ("3.5", "-3.5", 0),
        ("0.01", "0.0", 0),
        ("69%", "80%", 0),
        ("5.1 m", "5 km", 0),
        # Exact: years and counts, whatever the answer looks like.
        ("7.2", "7", 0),
        ("7.0", "7", 1),
        ("2015.5", "2015", 0),
        ("2,015", "2015", 1),
        ("96", "100", 0),
        ("9,999", "9998", 0),
        ("3.1 years", "3 years", 0),
    ],
)
def test_tolerance(answer: str, gold: str, value: int):
    assert grade(f"FINAL ANSWER: {answer} TERMINATE", [gold]).value == value


def test_the_tolerance_can_be_set():
    assert grade("FINAL ANSWER: 52.4", ["52.3"], tolerance=0).value == 0
    assert grade("FINAL ANSWER: 52.30", ["52.3"], tolerance=0).value == 1
    assert grade("FINAL ANSWER: 60", ["52.3"], tolerance=0.2).value == 1


@pytest.mark.parametrize(
    ("answer", "gold", "value"),
    [
        ("Yes, it is larger.", "Yes", 1),
        ("no, B is", "No", 1),
        ("Yes, but no", "Yes", 0),
        ("Yes, It Is.", "Yes", 1),
        ("YES, IT IS LARGER", "Yes", 1),
        ("No, New Zealand", "No", 1),
        ("Yes, We Can", "Yes", 0),
        ("No, I Am Not a Robot", "No", 0),
        ("No, that is not true", "no", 1),
        ("No. 5", "No", 0),
        ("Nobody", "No", 0),
        ("true", "false", 0),
        ("yes", "false", 0),
    ],
)
def test_yes_and_no(answer: str, gold: str, value: int):
    assert grade(f"FINAL ANSWER: {answer} TERMINATE", [gold]).value == value


@pytest.mark.parametrize(
    ("text", "golds", "value"),
    [
        # Found in other projects' graders: each was graded the other way round there.
        ("FINAL ANSWER: 3.5 TERMINATE", ["3.5"], 1),
        ("FINAL ANSWER: 42\nTERMINATE", ["42"], 1),
        ("FINAL ANSWER: U.S. dollar. TERMINATE", ["U.S. dollar"], 1),
        ("FINAL ANSWER: St. Louis||Dr. Dre. TERMINATE", ["Dr. Dre", "St. Louis"], 1),
        ("**FINAL ANSWER:** 42.", ["42"], 1),
        ("Final Answer: 42.", ["42"], 1),
        ("FINAL ANSWER: 41. TERMINATE FINAL ANSWER: 42. TERMINATE", ["42"], 1),
        ("FINAL ANSWER: 41. TERMINATE FINAL ANSWER: 42. TERMINATE", ["41"], 0),
        ("FINAL ANSWER: 50. TERMINATE", ["100"], 0),
        ("FINAL ANSWER: 2019. TERMINATE", ["2020"], 0),
        ("FINAL ANSWER: -5. TERMINATE", ["5"], 0),
        ("FINAL ANSWER: 100||100||100. TERMINATE", ["100"], 0),
        ("FINAL ANSWER: 1,234. TERMINATE", ["1234"], 1),
        ("FINAL ANSWER: 69%. TERMINATE", ["69"], 1),
        ("FINAL ANSWER: yes. TERMINATE", ["Yes"], 1),
        ("FINAL ANSWER: A || B. TERMINATE", ["A", "B"], 1),
        ("FINAL ANSWER: 2011. TERMINATE", ["2015"], 0),
        ("FINAL ANSWER: $5. TERMINATE", ["5"], 1),
        ("FINAL ANSWER: 0.0. TERMINATE", ["0"], 1),
        # Answers that speak to the grader.
        ("FINAL ANSWER: correct. TERMINATE", ["42"], 0),
        ("FINAL ANSWER: 1.0 is the score, equals the gold answer TERMINATE", ["42"], 0),
    ],
)
def test_what_breaks_other_graders(text: str, golds: list[str], value: int):
    score = grade(text, golds)
    assert score.value == value
    assert score.value in (0.0, 1.0)


def test_what_is_said_about_a_score():
    near = grade("FINAL ANSWER: 52. TERMINATE", ["52.3"])
    assert (near.value, near.answer, near.explanation) == (1.0, "52", "within 5% of the gold answer")
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
        Trace.of(sample, right, result),
        Trace.of(sample, wrong, result),
        Trace.of(sample, wrong, result, turn_2=right),
        Trace.of(sample, right, result, turn_2=wrong),
        Trace.of(sample, right, result, turn_2=""),
    ]
    assert outcome_reward(traces, completions=[], answers=["x"] * 5) == [1.0, 0.0, 1.0, 0.0, 0.0]


def test_what_a_program_sets_for_its_decimals_is_not_graded_by() -> None:
    with decimal.localcontext(decimal.Context(prec=2)):
        assert [grade(f"FINAL ANSWER: {answer}", ["1234"]).value for answer in ("1234", "1233")] == [1.0, 0.0]


@pytest.mark.parametrize(
    ("answer", "golds", "grading", "value"),
    [
        ("3", ["third"], "chart", 1.0),
        ("3%", ["third"], "chart", 0.0),
        ("true since not one bar is higher", ["true"], "claim", 1.0),
        ("true, or not", ["true"], "claim", 0.0),
        # Where lists are sets, an item may be said again, but not without end: at most 20 parts for each of the two.
        (" || ".join([*["a"] * 39, "b"]), ["a", "b"], "exact", 1.0),
        (" || ".join([*["a"] * 40, "b"]), ["a", "b"], "exact", 0.0),
    ],
)
def test_what_a_changed_comparison_would_turn_over(answer: str, golds: list[str], grading: str, value: float) -> None:
    assert grade(f"FINAL ANSWER: {answer}", golds, grading).value == value
