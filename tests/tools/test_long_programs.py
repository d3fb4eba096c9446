"""Turns of a megabyte: read to the end in steps that grow with their size, and none of them is an edit.

Seconds are in benchmarks/long_inputs.py; what grows with the square of the size would not end within a test's time.
"""

from __future__ import annotations

import pytest
from PIL import Image

from iapo.records import Sample
from iapo.tools import execute

LONG = 2**20
SAMPLE = Sample("s", Image.new("RGB", (60, 40), "grey"), "?", ("1",), column_boxes={"a": (0, 0, 20, 40)})
TOOL = "focus_on_columns_with_mask"
CALL = f'display({TOOL}(image_1, ["a"], columns_bbox))'

TURNS = {
    "fences": ("```\n" * (LONG // 4), "no_call"),
    "fences and actions": ("ACTION:\n```\n```\n" * (LONG // 16), "no_call"),
    "actions": (f"ACTION: {TOOL}(\n" * (LONG // 36), "refused"),
    "open tags": ("<tool_call>" * (LONG // 11), "no_call"),
    "keys": ("<tool_call>{" + ", ".join(f'"k{index}": 1' for index in range(30_001)) + "}</tool_call>", "refused"),
    "nesting": ("<tool_call>" + "[" * LONG, "refused"),
    "unary chain": ("```python\n" + "-" * LONG + "1\n```", "refused"),
    "operator chain": ("```python\n" + "1+" * (LONG // 2) + "1\n```", "refused"),
    "digits": ("```python\nx = " + "9" * LONG + "\n```", "refused"),
    "calls": (f"```python\n{CALL}\n" + f"{CALL}\n" * (LONG // 66) + "```", "refused"),
    "backticks": ("`" * LONG, "no_call"),
    "blank lines": (" \n" * (LONG // 2), "no_call"),
}


@pytest.mark.parametrize("name", TURNS)
def test_a_long_turn_is_read_to_its_end(name: str) -> None:
    text, status = TURNS[name]
    result = execute(text, SAMPLE, lenient=True)
    assert result.status == status, result.error
    assert len(result.error or "") < 900
    assert execute(text, SAMPLE).status in ("no_call", "refused")


@pytest.mark.parametrize(
    "program",
    [
        *("-" * 3900 + "1", "not " * 900 + "1", "(" * 1900, "[" * 3900, "1+" * 1900 + "1", "x = " + "9" * 3900),
        *("display(" * 480, "x" + ".a" * 1900, "x = " + "a if b else " * 300 + "c", "lambda: " * 480 + "1"),
    ],
)
def test_what_is_just_short_enough(program: str) -> None:
    """Below the limit of the length, deep nesting is refused by the parser and not by the interpreter's stack."""
    for lenient in (False, True):
        assert execute(f"```python\n{program}\n```", SAMPLE, lenient=lenient).status == "refused"
