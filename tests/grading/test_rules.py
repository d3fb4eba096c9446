"""The rules of the data sets: what else is the gold answer, and what is not although it looks like it."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from iapo.errors import InputError
from iapo.grading.outcome import grade
from iapo.grading.rules import RULES, find_rules
from iapo.records import GRADINGS


def read_cases(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (Path(__file__).parent / name).read_text().splitlines()]


NEAR_MISSES = read_cases("near_misses.jsonl")
RIGHT_ANSWERS = read_cases("right_answers.jsonl")
WIDE = [name for name, rules in RULES.items() if rules.wide]


LONG = 40_000


@contextmanager
def time_of(seconds: float) -> Iterator[None]:
    """Fails where the block takes more processor time; a quadratic pattern would take minutes."""
    start = time.process_time()
    yield
    assert time.process_time() - start < seconds


def value(answer: str, gold: str | list[str], grading: str) -> float:
    return grade(f"FINAL ANSWER: {answer} TERMINATE", [gold] if isinstance(gold, str) else gold, grading).value


def test_every_name_has_rules():
    assert tuple(RULES) == GRADINGS
    for name in GRADINGS:
        assert find_rules(name) is RULES[name]
    with pytest.raises(InputError, match="unknown grading 'strict'; use one of plain, chart"):
        grade("FINAL ANSWER: 1", ["1"], "strict")


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        # The axis says the scale and the unit, the gold answer does not.
        ("7.1", "7.1 billion U.S. dollars"),
        ("7.1", "7.1 billion"),
        ("7.1", "$7.1 billion"),
        ("7.1", "$7.1bn"),
        ("7.1", "£7.1m"),
        ("7.1", "7.1 billions"),
        ("239", "239 billion U.S. dollars"),
        ("1300", "1300 million"),
        ("2119", "2,119 million barrels"),
        ("262786", "262,786 million GBP"),
        ("78.1", "78.1 billion Mexican pesos"),
        ("2197", "2,197 million Australian dollars"),
        ("10.6", "10.6 million metric tons"),
        ("1.91", "1.92 million"),
        ("1.91", "1.92 million people"),
        # The same, written out.
        ("6.3", "6,300,000"),
        ("6.3", "6,300,000 people"),
        ("6.3", "$6,300,000"),
        ("6.3", "6,300"),
        ("0.38", "380 million"),
        ("775", "775,000,000"),
        ("1,625,942", "1.63 million"),
        # Within 5%.
        ("52.3", "53"),
        ("52.3%", "53 percent"),
        ("45000", "45.1 thousand"),
        # Ratios.
        ("4", "4:1"),
        ("4:1", "4"),
        ("4:1", "4 to 1"),
        ("1:2", "0.5"),
    ],
)
def test_charts(gold: str, answer: str):
    assert value(answer, gold, "chart") == 1


@pytest.mark.parametrize("grading", [name for name in WIDE if name != "claim"])
@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        # Units.
        ("67", "67 metric tons"),
        ("67", "67 tons"),
        ("67 tons", "67 metric tons"),
        ("530036", "530,036 NOK"),
        ("530036", "NOK 530,036"),
        ("9.9", "9.9 Mbps"),
        ("5", "5 U.S. dollars"),
        ("5", "5 US dollars"),
        ("$5", "5 U.S. dollars"),
        ("$5", "5 dollars per barrel"),
        ("5", "US$5"),
        ("5", "C$5"),
        ("5 CAD", "5 Canadian dollars"),
        ("1,200,000", "1.2 million"),
        ("42", "42 apples"),
        ("5 credits", "5"),
        ("5 credits", "5 Credits"),
        ("12", "12 percentage points"),
        ("576,000", "576,000 square feet"),
        # Fractions and percentages.
        ("0.22", "22%"),
        ("22%", "0.22"),
        (".497", "49.7%"),
        ("0.22%", "0.22"),
        ("0.22", "0.22%"),
        ("-0.05", "-5%"),
        # Ratios, ranges, ordinals.
        ("0.5", "1:2"),
        ("1:2", "0.5"),
        ("0.5", "1/2"),
        ("0.33", "1:3"),
        ("4:1", "4 : 1"),
        ("2003 to 2005", "2003-2005"),
        ("2003-2005", "2003 to 2005"),
        ("2003\u20132005", "from 2003 to 2005"),
        ("2003-2005", "between 2003 and 2005"),
        ("2003-2005", "2003-05"),
        ("18-34", "18 - 34 years old"),
        ("6.6 - 10.5 years", "6.6 to 10.5"),
        ("5-10%", "5% to 10%"),
        ("$5-$10 million", "$5 million to $10 million"),
        ("1st", "first"),
        ("First", "1st"),
        ("12th", "twelfth"),
        # Signs and powers.
        ("-16.7", "(16.7)"),
        ("(16.7)", "-16.7"),
        ("$(16.7) million", "-$16.7 million"),
        ("(7.0)%", "(7.0%)"),
        ("(7.0%)", "-7%"),
        ("(1,160)", "-1160"),
        ("10^-3", "0.001"),
        ("10^{-3}", "10^-3"),
        ("10⁻³", "1e-3"),
        ("0.001", "$10^{-3}$"),
        ("100", "10^2"),
        ("three", "3"),
        # Words.
        ("Rožok", "Róžok"),
        ("Łódź", "Lodz"),
        ("(c)", "c"),
        ("c", "(c)"),
        ("(C)", "c."),
        ("2026*", "2026"),
        ("Chain stores*", "chain stores"),
        ("2026", "2026*"),
        ("Gold[1]", "Gold"),
        ("Gold [note 2]", "gold"),
        ("China (CHN)", "China"),
        ("China (CHN)", "China (CHN)"),
        ("Young adults (ages 18-33)", "Young adults"),
        ("Melissa and Joey", "Melissa & Joey"),
        ('"The Long Way"', "the long way"),
        ("Gold, Silver", "Gold and Silver"),
        ("A, B", "A and B"),
        # Dates.
        ("January 26, 1995", "26 January 1995"),
        ("January 26, 1995", "Jan. 26th, 1995"),
        ("1995-01-26", "26 Jan 1995"),
        ("January 1995", "Jan 1995"),
        ("January 26", "the 26th of January"),
        # Yes and no.
        ("Yes", "Yes, it is larger."),
        ("Yes", "yes it did"),
        ("Yes", "Yes. The bar of 2010 is larger than the one of 2011."),
        ("Yes", "Yes - all of them are"),
        ("Yes", "Yes, no country is larger."),
        ("Yes", "Yes, because it is not below 50."),
        ("No", "No, the sum is not greater."),
        ("No", "No, it isn't."),
        ("No", "No the sum of both bars is smaller"),
        ("No", "No, that is not true."),
        ("No", "No, the difference is not half the value of the third bar."),
        ("true", "Yes, they are equal."),
        ("No", "False, it is smaller"),
    ],
)
def test_other_forms(grading: str, gold: str, answer: str):
    assert value(answer, gold, grading) == 1


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        ("$641.8", "$641.8 million"),
        ("$1,304", "$1,304 thousand"),
        ("757,839", "$757,839 million"),
        ("12.7", "12.7 million"),
        ("(23.5)", "$(23.5) million"),
        ("2,170 mbpd", "2,170"),
        ("4,852", "4,852 MBbls"),
    ],
)
def test_finance(gold: str, answer: str):
    assert value(answer, gold, "finance") == 1
    assert value(answer, gold, "exact") == ("million" not in answer and "thousand" not in answer)


@pytest.mark.parametrize("grading", ["exact", "finance"])
@pytest.mark.parametrize(
    ("gold", "answer", "right"),
    [
        ("37935", "37,935", 1),
        ("37935", "36,469", 0),
        ("52.3", "52.4", 0),
        ("52.30", "52.3", 1),
        ("11.7", "11.8%", 0),
        ("180.3 million", "181.3 million", 0),
        ("84.9%", "85.0%", 0),
        ("1.2 million", "1,200,000", 1),
        ("4 years", "4", 1),
        ("56.98 m", "56.98", 1),
        (".366 seconds", "0.366", 1),
    ],
)
def test_cells_are_exact(grading: str, gold: str, answer: str, right: int):
    assert value(answer, gold, grading) == right


@pytest.mark.parametrize(
    ("gold", "answer", "right"),
    [
        ("0", "False", 1),
        ("1", "True", 1),
        ("1", "true.", 1),
        ("0", "no", 1),
        ("1", "Yes", 1),
        ("1", "Supported", 1),
        ("0", "Refuted", 1),
        ("0", "The statement is false.", 1),
        ("1", "It is true that the game was in May.", 1),
        ("0", "False, there is no such row.", 1),
        ("0", "not true", 1),
        ("0", "The claim is not supported by the table", 1),
        ("1", "Yes, the claim is supported", 1),
        ("0", "No, the statement is incorrect.", 1),
        ("0", "No, there are three.", 1),
        ("0", "0", 1),
        ("1", "1", 1),
        ("true", "1", 1),
        ("0", "True", 0),
        ("1", "False", 0),
        ("1", "Refuted", 0),
        ("0", "Supported", 0),
        ("1", "not true", 0),
        ("1", "True or false", 0),
        ("0", "True or false", 0),
        ("1", "true, false", 0),
        ("0", "The statement may be false", 0),
        ("1", "partially true", 0),
        ("1", "Yes, it is false", 0),
        ("0", "10", 0),
        ("1", "The table is about games", 0),
    ],
)
def test_claims(gold: str, answer: str, right: int):
    assert value(answer, gold, "claim") == right


@pytest.mark.parametrize("grading", WIDE)
@pytest.mark.parametrize(
    ("gold", "answer", "right"),
    [
        # Words before an answer that say nothing.
        ("14", "The answer is 14", 1),
        ("14", "So the correct answer is: 14", 1),
        ("14", "It's 14", 1),
        ("14", "There were 14 games", 1),
        ("2015", "In 2015", 1),
        ("2015", "in the year 2015", 1),
        ("June 4, 1990", "On 4 June 1990", 1),
        ("Paris", "The answer is Paris", 1),
        ("yes", "The answer is yes, it is larger", 1),
        ("14", "The answer is not 14", 0),
        ("14", "It is not 14", 0),
        ("14", "There are 14 or 15", 0),
        ("2015", "In 2015 and 2016", 0),
        ("2015", "In 2015 dollars", 0),
        ("2015", "the year 2016", 0),
        ("Rainbows", "In Rainbows", 0),
        ("Paris", "The answer is Paris or Rome", 0),
        ("yes", "The answer is no", 0),
        # A word for a number before a plural; names stay names.
        ("3", "three categories", 1),
        ("3", "Three bars", 1),
        ("1", "One Direction", 0),
        ("3", "three or four", 0),
        ("25", "25 times", 1),
        ("2.5", "2.5x", 1),
        ("25", "25 times more", 0),
        ("25", "25 x 2", 0),
        ("Light blue", "light-blue", 1),
        ("Very/Somewhat", "very / somewhat", 1),
        ("A-B", "A, B", 0),
        ("12-13", "12 13", 0),
    ],
)
def test_leads_and_counts(grading: str, gold: str, answer: str, right: int):
    if grading == "claim" and gold == "1":
        gold, answer = "11", answer.replace("One", "Eleven")
    assert value(answer, gold, grading) == right


@pytest.mark.parametrize("grading", WIDE)
@pytest.mark.parametrize(
    ("golds", "answer"),
    [
        (["2017", "2023"], "2017 and 2023"),
        (["2017", "2023"], "2023, 2017"),
        (["2017", "2023"], "2017,2023"),
        (["2017", "2023"], "[2017, 2023]"),
        (["2017", "2023"], "2017 | 2023"),
        (["2017", "2023"], "2017; 2023"),
        (["2017", "2023"], "both 2017 and 2023"),
        (["Paris, France", "Rome, Italy"], "Rome, Italy, Paris, France"),
        (["Paris, France", "Rome, Italy"], "Rome, Italy and Paris, France"),
        (["Paris, France", "Rome, Italy"], "[Paris, France, Rome, Italy]"),
        (["Paris, France", "Rome, Italy"], "Rome, Italy || Paris, France"),
        (["rock and roll", "jazz"], "jazz and rock and roll"),
        (["rock and roll", "jazz", "soul, funk"], "soul, funk, rock & roll, and jazz"),
        (["1,234", "5"], "5, 1,234"),
        (["Samuel Sánchez (ESP)", "Haimar Zubeldia (ESP)"], "Haimar Zubeldia and Samuel Sanchez"),
        (["2004", "2005", "2006"], "2004, 2005, and 2006"),
        (["Yes", "3"], "3, yes"),
    ],
)
def test_lists(grading: str, golds: list[str], answer: str):
    assert value(answer, golds, grading) == 1


@pytest.mark.parametrize(
    ("golds", "answer", "right"),
    [
        (["Gold"], "Gold || gold", 1),
        (["Gold", "Gold"], "Gold", 1),
        (["Gold", "Silver"], "Gold || Gold", 0),
        (["Gold"], "Gold (metal)", 1),
        (["Gold"], "Gold (or silver)", 0),
        (["42"], "42 (or 43)", 0),
        (["42"], "42 (43)", 0),
        (["xx-10-23"], "October 23", 1),
    ],
)
def test_sets(golds: list[str], answer: str, right: int):
    assert value(answer, golds, "exact") == right


@pytest.mark.parametrize("grading", RULES)
def test_near_misses(grading: str):
    mine = [near for near in NEAR_MISSES if near["grading"] == grading]
    assert [near for near in mine if value(near["answer"], near["gold"], grading)] == []


@pytest.mark.parametrize("grading", RULES)
def test_answers_as_models_write_them(grading: str):
    mine = [one for one in RIGHT_ANSWERS if one["grading"] == grading]
    assert len(mine) >= 40
    assert [one for one in mine if not value(one["answer"], one["gold"], grading)] == []


def test_there_are_enough_near_misses():
    assert len({json.dumps(one) for one in NEAR_MISSES}) == len(NEAR_MISSES) >= 300
    assert min(Counter(one["grading"] for one in NEAR_MISSES)[name] for name in WIDE) >= 20


@pytest.mark.parametrize("grading", WIDE)
@pytest.mark.parametrize(
    "text",
    [
        "(" * LONG,
        "(1" * LONG,
        "1 (" * LONG,
        "1" + " (a)" * LONG,
        "*" * LONG + "x",
        "x" + "*" * LONG,
        "x" + "*#" * LONG,
        "[1]" * LONG,
        "x" + "[1]" * LONG,
        "yes, " * LONG,
        'no, "no" is 5, ' * LONG,
        "no, it is actually " * LONG,
        "true, almost " * LONG,
        "<answer>" * LONG,
        "## " * LONG,
        "no" + " not" * LONG,
        "true " * LONG,
        "a, b and " * LONG,
        "1,2," * LONG,
        "1" + "-1" * LONG,
        "1" + ":1" * LONG,
        "1" + " to 1" * LONG,
        "1 " + "ton " * LONG,
        "1" + " " * LONG + "ton",
        "10^" + "9" * LONG,
        "$(" + "1" * LONG + ")",
        "|" * LONG,
        "a|" * (LONG // 20),
        "1 || " * (LONG // 20),
        "January 1" + "1" * LONG,
        "\u0301" * LONG,
        "e\u0301" * LONG,
        "x (" + "y " * LONG + ")",
        "A" * 3 + " " + "1" * LONG,
        "10" + " " * LONG + "^2",
    ],
    ids=lambda text: f"{text[:10]}..{text[-6:]}",
)
def test_long_texts_take_linear_time(grading: str, text: str):
    with time_of(1.2):
        for golds in (["42"], ["42", "A, B"], ["Yes"]):
            assert value(text, golds, grading) == 0
        assert value("42", text, grading) == 0


@pytest.mark.parametrize("grading", WIDE)
@pytest.mark.parametrize("length", [90, 300, 900])
@pytest.mark.parametrize(
    "piece",
    [
        "1,",
        "a, ",
        "a and ",
        "(1) ",
        "1-",
        "a [1]",
        "yes no ",
        "1 ton ",
        "10^",
        "a (b) ",
        "| a ",
        "5 or more ",
        "q1-",
        "1h ",
    ],
)
def test_texts_of_a_usual_length_are_quick(grading: str, length: int, piece: str):
    """What is read in full is short; many equal gold answers make the most work."""
    text = (piece * length)[:length]
    with time_of(1):
        assert value(text, ["a"] * 15 + ["z"], grading) == 0
        assert value(text, ["a"] * 11 + ["y, z"], grading) == 0


@pytest.mark.parametrize("grading", ["chart", "finance"])
def test_equal_gold_answers_are_quick(grading: str):
    with time_of(3):
        assert value("7, " * 39 + "8", ["7"] * 40, grading) == 0
        assert value("7, " * 40 + "7", ["7"] * 41, grading) == 1
        assert value("7, " * 12 + "8", ["7"] * 11 + ["7, 7"], grading) == 0


def test_nothing_crashes():
    odd = [
        "\x00",
        "\ud800",
        "½",
        "٣",
        "²",
        "(",
        ")",
        "()",
        " ()",
        "[]",
        "[1]",
        "*",
        "''",
        "$",
        "($)",
        "(.)",
        "1:0",
        "0:0",
        "1/0",
        "-",
        "to",
        "1 to",
        "10^",
        "1e999",
        "(1e999)",
        "1e999 million",
        "9" * 99,
        "x" * 999,
        "January 99",
        "0-0",
    ]
    for grading in WIDE:
        for one in odd:
            for other in odd:
                assert value(one, other, grading) in (0, 1)
