"""What a model writes as its first turn: one of four statuses, in time, and nothing of it is carried out."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fuzzing import JSON, ODD_NUMBERS, ODD_TEXTS, fuzz
from hypothesis import strategies as st
from PIL import Image

from iapo.records import Box, Sample
from iapo.tools import TOOLS, ToolDefinition, execute

COLUMNS: dict[str, Box] = {"2018": (10, 20, 60, 280), "Men's": (70, 20, 120, 280), '5" pipe': (130, 20, 160, 280)}
ROWS: dict[str, Box] = {"Oats": (0, 0, 200, 60), "Rye": (0, 60, 200, 120)}
SAMPLE = Sample(
    "a", Image.linear_gradient("L").resize((200, 300)).convert("RGB"), "?", ("1",), column_boxes=COLUMNS, row_boxes=ROWS
)
PIXELS = SAMPLE.image.tobytes()

_HARM = (
    "exec",
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "subprocess.Popen",
    "socket.connect",
    "socket.bind",
    "import",
)
_watched: list[str] = []
_watching = 0
"""The thread whose doings are looked at; 0 for none."""


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if _watching != threading.get_ident():
        return
    writes = (
        event == "open" and len(arguments) > 1 and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")
    )
    if event in _HARM or writes:
        _watched.append(f"{event} {arguments[:1]}"[:200])


# The interpreter itself says what is carried out. What the tools import late is there beforehand.
sys.addaudithook(_watch)


def carry_out(text: str, lenient: bool, tools: Mapping[str, ToolDefinition] = TOOLS) -> None:
    """Executes a turn, and checks what can be checked of any."""
    global _watching
    _watched.clear()
    _watching = threading.get_ident()
    try:
        result = execute(text, SAMPLE, tools, lenient=lenient)
    finally:
        _watching = 0
    assert _watched == []
    assert result.status in ("no_call", "refused", "failed", "edited")
    assert (result.image is not None or bool(result.text)) is (result.status == "edited")
    assert (result.error is not None) is (result.status in ("refused", "failed"))
    assert not result.broken
    assert SAMPLE.image.tobytes() == PIXELS
    if result.error is not None:
        assert "\n" not in result.error
        assert 0 < len(result.error) < 2000
    if result.status == "no_call":
        assert result.span is None
    else:
        assert result.span is not None
        assert 0 <= result.span[0] <= result.span[1] <= len(text)
    if result.status == "edited":
        json.dumps([(one.name, one.targets, one.boxes) for one in result.calls])


# The package's own annotations are read once, as its records are first made: Python compiles those that are texts.
for one in ('display(focus_on_columns_with_draw(image_1, ["2018"], columns_bbox))', "gone", "display(image_1)"):
    execute(f"```python\n{one}\n```", SAMPLE, TOOLS, lenient=True)
carry_out('```python\ndisplay(focus_on_columns_with_draw(image_1, ["2018"], columns_bbox))\n```', True)

NAMES = st.sampled_from(["image_1", "columns_bbox", "rows_bbox", "edited", "x", "display", "None", "True", "é", "os"])
TOOL_NAMES = st.sampled_from([*TOOLS, "display", "print", "exec", "eval", "open", "__import__", "getattr", "crop"])
TARGETS = st.sampled_from([*COLUMNS, *ROWS, "gone"]) | ODD_TEXTS
CONSTANTS = TARGETS.map(repr) | ODD_NUMBERS.map(lambda one: repr(one) if abs(one) < 1e308 else "1e999")
KEYWORDS = st.sampled_from(
    ["image", "columns_to_focus_on", "all_columns_bounding_boxes", "rows_to_focus_on", "x", "**"]
)
FORBIDDEN = st.sampled_from(
    [
        "open('harm.txt', 'w').write('x')",
        "__import__('os').system('touch harm.txt')",
        "(lambda: exec('import os'))()",
        "[x for x in ().__class__.__base__.__subclasses__()]",
        "f'{__import__(\"os\")}'",
        "(y := image_1)",
        "columns_bbox['2018']",
        "image_1.copy()",
        "9 ** 9 ** 9",
        "'a' * 10 ** 10",
        "await x",
        "*x",
        "...",
        "b'x'",
        "not x",
        "{'x': [1, 2, 3, 4]}",
        "{'bbox_2d': [1, 2, 3, 4], 'label': 'x'}",
        "{**x}",
        "-(1)",
        "1j",
    ]
)


def _calls(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    keyword = st.tuples(KEYWORDS, inner).map(lambda pair: f"{pair[0]}={pair[1]}" if pair[0] != "**" else f"**{pair[1]}")
    arguments = st.lists(inner, max_size=4)
    call = st.tuples(TOOL_NAMES, arguments, st.lists(keyword, max_size=2)).map(
        lambda parts: f"{parts[0]}({', '.join([*parts[1], *parts[2]])})"
    )
    listed = arguments.map(lambda parts: f"[{', '.join(parts)}]")
    mapped = st.lists(st.tuples(inner, inner), max_size=3).map(
        lambda pairs: "{" + ", ".join(f"{key}: {value}" for key, value in pairs) + "}"
    )
    return call | call | listed | mapped | inner.map(lambda one: f"({one})") | inner.map(lambda one: f"-{one}")


COLUMN_TOOLS, ROW_TOOLS = ([name for name in TOOLS if axis in name] for axis in ("columns", "rows"))
GOOD = st.one_of(
    st.tuples(st.sampled_from(COLUMN_TOOLS), st.sampled_from(list(COLUMNS)), st.just("columns_bbox")),
    st.tuples(st.sampled_from(ROW_TOOLS), st.sampled_from(list(ROWS)), st.just("rows_bbox")),
).map(lambda parts: f"{parts[0]}(image_1, [{parts[1]!r}], {parts[2]})")
EXPRESSIONS = st.recursive(NAMES | CONSTANTS | FORBIDDEN | GOOD, _calls, max_leaves=8)
STATEMENTS = st.one_of(
    EXPRESSIONS,
    EXPRESSIONS.map(lambda one: f"display({one})"),
    GOOD.map(lambda one: f"display({one})"),
    st.tuples(NAMES, EXPRESSIONS).map(" = ".join),
    st.tuples(NAMES, NAMES, EXPRESSIONS).map(" = ".join),
    st.tuples(NAMES, EXPRESSIONS).map(lambda pair: f"{pair[0]}: object = {pair[1]}"),
    st.sampled_from(
        ["import os", "from PIL import Image", "import numpy as display", "from tools import *", "pass", "# x", "del x",
         "while True: pass", "def f(): f()", "x.show()", "raise SystemExit", "return 1", "\\", "'''", "\t", "\x0c"]
    ),
)  # fmt: skip
PROGRAMS = st.tuples(st.lists(STATEMENTS, max_size=2), GOOD, st.lists(STATEMENTS, max_size=1)).map(
    lambda parts: "\n".join([*parts[0], f"display({parts[1]})", *parts[2]])
)
CALL_OBJECTS = st.fixed_dictionaries(
    {"name": TOOL_NAMES | JSON},
    optional={
        "arguments": st.dictionaries(KEYWORDS | ODD_TEXTS, JSON | st.lists(TARGETS, max_size=3), max_size=4)
        | JSON
        | JSON.map(json.dumps),
        "parameters": JSON,
    },
)
JSON_CALLS = (CALL_OBJECTS | st.lists(CALL_OBJECTS, max_size=3) | JSON).map(json.dumps)
BLOCKS = st.one_of(
    PROGRAMS.map(lambda one: f"```python\n{one}\n```"),
    GOOD.map(lambda one: f"THOUGHT: look.\n```python\nx = {one}\ndisplay(x)\n```"),
    st.lists(STATEMENTS, min_size=1, max_size=4).map("\n".join).map(lambda one: f"```python\n{one}\n```"),
    st.lists(STATEMENTS, min_size=1, max_size=4).map("\n".join).map(lambda one: f"```\n{one}"),
    STATEMENTS.map(lambda one: f"ACTION: {one}"),
    JSON_CALLS.map(lambda one: f"<tool_call>{one}</tool_call>"),
    JSON_CALLS.map(lambda one: f"```json\n{one}\n```"),
    JSON_CALLS,
    st.sampled_from(["THOUGHT: look.\n", "\r\n", "````", "`" * 100, "<tool_call>", "FINAL ANSWER: 3. TERMINATE"]),
    ODD_TEXTS,
)
PIECES = st.lists(
    st.sampled_from(
        ["```", "python", "\n", "(", ")", "[", "]", "{", "}", '"', "'", "=", ",", ":", "display", "image_1", *TOOLS,
         "columns_bbox", "<tool_call>", "</tool_call>", '{"name": "', '"arguments": ', "\\", "#", "\ud800", "\0"]
    )
    | st.text(max_size=3),
    max_size=40,
).map("".join)  # fmt: skip


@fuzz("programs by the grammar", st.tuples(st.lists(BLOCKS, min_size=1, max_size=3).map("\n".join), st.booleans()), 120)
def test_programs(turn: tuple[str, bool], folder: Path) -> None:
    carry_out(*turn)


@fuzz("first turns of any text", st.tuples(PIECES | st.text(), st.booleans()), 80)
def test_texts(turn: tuple[str, bool], folder: Path) -> None:
    carry_out(*turn)


@fuzz(
    "long and deep programs", st.tuples(STATEMENTS, st.sampled_from("([{-~"), st.integers(1, 5000), st.booleans()), 25
)
def test_long(parts: tuple[str, str, int, bool], folder: Path) -> None:
    statement, opening, count, lenient = parts
    carry_out(f"```python\n{opening * count}{statement}\n```", lenient)
    carry_out("<tool_call>" + opening * count + statement, lenient)
    carry_out(f"```python\n{statement}\n```\n" * min(count, 300), lenient)
