"""Calls of free tools with any arguments, and any arithmetic: what they promise, or a sentence."""

from __future__ import annotations

import math
from pathlib import Path

from fuzzing import JSON, ODD_NUMBERS, ODD_TEXTS, fuzz, is_sentence
from hypothesis import strategies as st
from test_fuzz_programs import carry_out

from iapo.tools import TOOLS
from iapo.tools.errors import ToolError
from iapo.tools.packaged import PACKAGED
from iapo.tools.packaged.calculate import calculate

# What reads texts needs an optional package.
FREE = {name: tool for name, tool in PACKAGED.items() if name != "read_text"}
OFFERED = {**TOOLS, **FREE}

NUMBERS = (
    st.integers(-20, 320).map(str)
    | st.floats(-1, 2).map(repr)
    | ODD_NUMBERS.map(repr)
    | st.sampled_from(["1e999", "-0", "0x10", "1_000", "1j", "True", "007", ".5", "1e308", "9" * 400])
)
BOXES = st.one_of(
    st.lists(NUMBERS, min_size=3, max_size=5).map(lambda sides: f"[{', '.join(sides)}]"),
    st.sampled_from(["[10, 20, 60, 280]", 'columns_bbox["2018"]', "columns_bbox", 'rows_bbox["gone"]', "image_1"]),
)
VALUES = st.one_of(
    NUMBERS,
    BOXES,
    ODD_TEXTS.map(repr),
    JSON.map(repr),
    st.sampled_from(["[[1, 2], [3, 4]]", "[[1, 1], [1, 1]]", '"vertical"', '"horizontal"', "x", "None", "[]", "{}"]),
)
PARAMETERS = st.sampled_from(sorted({name for tool in FREE.values() for name in tool.parameters})) | st.just("x")


def _call(name: str, box: str, more: list[str], named: list[tuple[str, str]]) -> str:
    first = ["image_1", box] if name != "calculate" else []
    return f"{name}({', '.join([*first, *more, *(f'{key}={value}' for key, value in named)])})"


CALLS = st.builds(
    _call,
    st.sampled_from(sorted(FREE)),
    BOXES,
    st.lists(VALUES, max_size=3),
    st.lists(st.tuples(PARAMETERS, VALUES), max_size=2),
)
PROGRAMS = st.lists(
    CALLS.map(lambda one: f"display({one})") | CALLS.map(lambda one: f"x = {one}") | st.just("display(x)"),
    min_size=1,
    max_size=4,
).map("\n".join)


@fuzz("calls of free tools", st.tuples(PROGRAMS, st.booleans()), 100)
def test_calls(turn: tuple[str, bool], folder: Path) -> None:
    program, lenient = turn
    carry_out(f"```python\n{program}\n```", lenient, OFFERED)


TERMS = NUMBERS | st.sampled_from(
    ["pi", "x", "__import__('os')", "'a'", "[1]", "", "not 1", "1 < 2", "lambda: 1", "sum"]
)
FUNCTIONS = st.sampled_from(["abs", "round", "sqrt", "min", "max", "sum", "mean", "exp", "eval"])
ARITHMETIC = st.recursive(
    TERMS,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["+", "-", "*", "/", "//", "%", "**", "@", "<<"]), inner).map(" ".join),
        inner.map(lambda one: f"({one})"),
        inner.map(lambda one: f"-{one}"),
        st.tuples(FUNCTIONS, st.lists(inner, max_size=3)).map(lambda pair: f"{pair[0]}({', '.join(pair[1])})"),
    ),
    max_leaves=8,
)


@fuzz("arithmetic", ARITHMETIC | st.text("0123456789.+-*/%()eE, ", max_size=40) | ODD_TEXTS, 120)
def test_arithmetic(expression: str, folder: Path) -> None:
    try:
        value = calculate(expression)
    except ToolError as error:
        is_sentence(error)
        return
    assert math.isfinite(value)
