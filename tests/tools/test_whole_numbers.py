"""Whole numbers of programs and tools: all their digits arrive, and no number of digits makes a call raise."""

from __future__ import annotations

import json
import math
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any

import pytest
from annotated_types import Ge
from PIL import Image

from iapo.errors import InputError
from iapo.records import Sample, ToolResult
from iapo.tools import define, execute, offered_tools
from iapo.tools.packaged.calculate import calculate

SAMPLE = Sample("s", Image.new("RGB", (40, 30), "white"), "q?", ("1",), column_boxes={"A": (0, 0, 20, 30)})
ODD = 2**53 + 1
"""The first whole number that is no float."""


def same(n: int) -> int:
    """Give a whole number back."""
    assert type(n) is int
    return n


def each(ns: list[int]) -> str:
    """Write whole numbers."""
    return " ".join(map(str, ns))


def above(n: Annotated[int, Ge(ODD)]) -> int:
    """Give a large number back."""
    return n


def factorial(n: int) -> int:
    """Compute a factorial."""
    return math.factorial(n)


def fraction(n: int) -> float:
    """Give a number that is larger than any float."""
    return Fraction(10) ** n  # type: ignore[return-value]


def real(n: float) -> float:
    """Give a number back."""
    return float(n)


FUNCTIONS: list[Any] = [same, each, above, factorial, fraction, real, calculate]
TOOLS = {one.__name__: define(one) for one in FUNCTIONS}


def run(call: str, *, lenient: bool = False) -> ToolResult:
    result = execute(f"```python\ndisplay({call})\n```", SAMPLE, TOOLS, lenient=lenient)
    # Whatever comes of a call can be written down and read again.
    assert ToolResult.from_json(json.loads(json.dumps(result.to_json()))) == result
    return result


@pytest.mark.parametrize("number", [ODD, -ODD, 20231127104512345, 10**60 + 7, 3, 0])
@pytest.mark.parametrize("lenient", [False, True])
def test_whole_numbers_keep_their_digits(number: int, lenient: bool) -> None:
    for call, text in ((f"same({number})", f"{number}"), (f"each([{number}, 1])", f"{number} 1")):
        result = run(call, lenient=lenient)
        assert (result.status, result.text) == ("edited", text), result.error
    assert run(f"same({number})").calls[0].arguments == (("n", number),)
    # And from one tool to the next.
    assert run(f"same(same({number}))").text == f"{number}"


def test_json_calls_keep_them_too() -> None:
    call = json.dumps({"name": "same", "arguments": {"n": ODD}})
    assert execute(f"<tool_call>{call}</tool_call>", SAMPLE, TOOLS, lenient=True).text == str(ODD)


def test_a_number_with_a_point_is_whole_where_it_is() -> None:
    assert run("same(2.0)").text == "2"
    assert "give a whole number" in str(run("same(2.5)").error)


def test_ranges_are_of_the_number_itself() -> None:
    assert run(f"above({ODD})").text == str(ODD)
    result = run(f"above({ODD - 1})")
    assert (result.status, f"at least {ODD}" in str(result.error)) == ("failed", True)
    # The definition says the bound with all its digits, and its example is inside.
    assert f"above({ODD})" in TOOLS["above"].text
    assert run(f"above({ODD})").status == "edited"


@pytest.mark.parametrize("call", ["factorial(2000)", "same(factorial(2000))", "fraction(400)"])
def test_a_number_that_cannot_be_written_is_a_failed_call(call: str) -> None:
    result = run(call)
    assert result.status == "failed"
    assert "return a smaller one" in str(result.error)
    assert result.broken in ("factorial", "fraction")


def test_so_it_is_from_a_process_of_its_own(tmp_path: Path) -> None:
    file = tmp_path / "large.py"
    file.write_text('def large(n: int) -> int:\n    """Give a large number."""\n    return 10**n\n')
    tools = offered_tools(f"{file}:large", 20.0)
    assert execute("```python\ndisplay(large(30))\n```", SAMPLE, tools).text == str(10**30)
    result = execute("```python\ndisplay(large(5000))\n```", SAMPLE, tools)
    assert (result.status, result.broken) == ("failed", "large")


def test_a_whole_number_that_no_float_is() -> None:
    """250 factorial has 493 digits: it is told, and no number for a tool that takes floats."""
    assert run("factorial(250)").text == str(math.factorial(250))
    result = run("real(factorial(250))")
    assert (result.status, "no finite number" in str(result.error)) == ("failed", True)


@pytest.mark.parametrize("value", [15241383936.0, 2.0**53 - 1, -4.0, 0.0])
def test_whole_floats_are_told_with_all_their_digits(value: float) -> None:
    assert run(f"real({value!r})").text == str(int(value))


def test_others_are_told_with_ten() -> None:
    assert run("real(1234567.8912345)").text == "1234567.891"
    assert run("real(1e300)").text == "1e+300"


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("123456 * 123456", 123456 * 123456),
        (f"{ODD} + 0", ODD),
        ("7 ** 30", 7**30),
        ("0 ** 0", 1),
        ("2 ** -1", 0.5),
        (f"sum({ODD}, 2)", ODD + 2),
        (f"max({ODD}, 2)", ODD),
        ("sum(0.1, 0.2, 0.3)", math.fsum((0.1, 0.2, 0.3))),
        ("round(2.6)", 3),
        ("round(1234567, -2)", 1234600),
        ("round(1234567, -1000000000)", 0),
    ],
)
def test_arithmetic_of_whole_numbers_is_exact(expression: str, value: float) -> None:
    assert calculate(expression) == value
    assert run(f'calculate("{expression}")').text == str(value)


@pytest.mark.parametrize("default", [10**5000, -(10**5000)], ids=["above", "below"])
@pytest.mark.parametrize("annotation", [int, float])
def test_defaults_that_cannot_be_written_are_refused(default: int, annotation: Any) -> None:
    def tool(n: Any = default) -> str:
        """Take a number."""
        return str(n)

    tool.__annotations__["n"] = annotation
    with pytest.raises(InputError, match="has the default a whole number of thousands of digits; give it one that is"):
        define(tool)
