"""What instruction models write: a corpus of first turns, each with the status and the calls that are wanted."""

from __future__ import annotations

import json
import string
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from iapo.records import Box, Sample, ToolCall, ToolResult
from iapo.tools import TOOLS, ToolError, define, edits, execute, offered_tools
from iapo.tools.own_boxes import check_boxes

CORPUS = [
    json.loads(line) for line in (Path(__file__).parent / "corpus" / "first-turns.jsonl").read_text().splitlines()
]

COLUMNS: dict[str, Box] = {
    name: (10 + 60 * place, 20, 60 + 60 * place, 280)
    for place, name in enumerate(("2018", "2019", "2020", "2021", "Men's", "Harbour, North"))
}
ROWS: dict[str, Box] = {
    name: (0, 60 * place, 400, 60 * place + 60) for place, name in enumerate(("Oats", "Rye", "Wheat"))
}
TABLE_COLUMNS: dict[str, Box] = {
    name: (130 * place, 0, 130 * place + 130, 300) for place, name in enumerate(("Team", "Won", "Lost"))
}
TABLE_ROWS: dict[str, Box] = {
    name: (0, 70 * place, 400, 70 * place + 70) for place, name in enumerate(("Team", 'Mill "B"', "Old Town"))
}


def _sample(kind: str, columns: dict[str, Box], rows: dict[str, Box]) -> Sample:
    image = Image.linear_gradient("L").resize((400, 300)).convert("RGB")
    table = "table" if kind == "table" else "chart"
    return Sample(kind, image, "?", ("1",), column_boxes=columns, row_boxes=rows, kind=table)


SAMPLES = {
    "chart": _sample("chart", COLUMNS, {}),
    "bars": _sample("bars", {}, ROWS),
    "table": _sample("table", TABLE_COLUMNS, TABLE_ROWS),
}
CHART = SAMPLES["chart"]
CALL = 'focus_on_columns_with_mask(image_1, ["2018"], columns_bbox)'


def fenced(program: str) -> str:
    return f"THOUGHT: look.\nACTION:\n```python\n{program}\n```"


def run(text: str, sample: Sample = CHART, **more: Any) -> ToolResult:
    return execute(text, sample, lenient=True, **more)


def test_the_corpus_is_large_and_of_all_kinds():
    assert len(CORPUS) >= 120
    assert len({turn["id"] for turn in CORPUS}) == len({turn["text"] for turn in CORPUS}) == len(CORPUS)
    for status in ("edited", "no_call", "refused", "failed"):
        assert sum(turn["status"] == status for turn in CORPUS) >= 12, status


@pytest.mark.parametrize("turn", CORPUS, ids=lambda turn: turn["id"])
def test_first_turns(turn: dict[str, Any]):
    before = SAMPLES[turn["sample"]].image.tobytes()
    result = run(turn["text"], SAMPLES[turn["sample"]])
    assert (result.status, result.error if turn["status"] != result.status else None) == (turn["status"], None)
    found = [{"name": one.name, "targets": list(one.targets), "boxes": one.boxes} for one in result.calls]
    assert found == turn["calls"]
    assert (result.image is not None) is (result.status == "edited")
    assert SAMPLES[turn["sample"]].image.tobytes() == before
    if result.status in ("refused", "failed"):
        assert turn.get("error", "") in (result.error or "")
        assert "\n" not in (result.error or "")
        assert 0 < len(result.error or "") < 900
    if result.status == "refused":
        assert all(tool in (result.error or "") for tool in TOOLS)
        assert result.calls == ()
    if result.status == "no_call":
        assert result.span is None
    else:
        assert result.span is not None
        assert 0 <= result.span[0] < result.span[1] <= len(turn["text"])
    if "program" in turn:
        assert result.span is not None
        assert turn["text"][slice(*result.span)] == turn["program"]


@pytest.mark.parametrize("turn", [one for one in CORPUS if one["status"] == "edited"], ids=lambda turn: turn["id"])
def test_the_image_is_what_the_tools_make_of_it(turn: dict[str, Any]):
    """The last call of a turn with one call or of a chain is the last edit; it is done again here by hand."""
    sample = SAMPLES[turn["sample"]]
    result = run(turn["text"], sample)
    last = result.calls[-1]
    if last.boxes == "own boxes" or len(result.calls) > 1:
        return
    boxes = sample.column_boxes if last.axis == "columns" else sample.row_boxes
    header = {"keep_header": sample.kind == "table"} if TOOLS[last.name].keeps_header else {}
    wanted = TOOLS[last.name].function(sample.image, last.targets, boxes, **header)
    assert result.image is not None
    assert result.image.tobytes() == wanted.tobytes()


def test_boxes_of_its_own_are_drawn():
    box = (30, 40, 90, 120)
    result = run(fenced(f'display(focus_on_columns_with_draw(image_1, ["x"], {{"x": {list(box)}}}))'))
    assert result.calls == (ToolCall("focus_on_columns_with_draw", ("x",), "own boxes", "columns"),)
    assert result.image is not None
    assert result.image.tobytes() == edits.focus_on_columns_with_draw(CHART.image, ["x"], {"x": box}).tobytes()


@pytest.mark.parametrize(
    ("box", "fits"),
    [
        ((0, 0, 400, 300), True),
        ((-19, 0, 419, 314), True),
        ((0, 0, 421, 300), False),
        ((0, -16, 40, 30), False),
        ((400, 0, 410, 30), False),
        ((0.2, 0.2, 1, 1), False),
        ((5, 5, 5, 9), False),
    ],
)
def test_boxes_are_checked_against_the_image(box: Box, fits: bool):
    result = run(fenced(f'display(focus_on_rows_with_highlight(image_1, ["x"], {{"x": {list(box)}}}))'))
    assert (result.status == "edited") is fits, result.error


@pytest.mark.parametrize(
    "boxes",
    [
        "rows_bbox",
        '{"Team": rows_bbox["Team"], "Won": rows_bbox["Old Town"]}',
        '{"Team": [0, 0, 130, 300], "Won": rows_bbox["Team"]}',
        '{"Team": columns_bbox["Team"], "Won": rows_bbox["Team"]}',
    ],
)
@pytest.mark.parametrize(
    "lines",
    [
        'display(focus_on_columns_with_mask(image_1, ["Team"], {boxes}))',
        'mine = {boxes}\nother = mine\ndisplay(focus_on_columns_with_mask(image_1, ["Team"], other))',
        'columns_bbox = {boxes}\ndisplay(focus_on_columns_with_mask(image_1, ["Team"]))',
        "columns_bbox = {boxes}\n"
        'mine = {{"Team": columns_bbox["Team"], "Won": columns_bbox["Won"]}}\n'
        'display(focus_on_columns_with_mask(image_1, ["Team"], mine))',
        "display(circle(image_1, where={boxes}))",
    ],
)
def test_boxes_of_another_axis_are_no_others_in_a_dictionary(boxes: str, lines: str):
    def circle(picture: Image.Image, where: dict[str, Box]) -> Image.Image:
        """Circle bars."""
        return edits.focus_on_columns_with_draw(picture, list(where)[:1], where)

    table = _sample("table", TABLE_COLUMNS, {**TABLE_ROWS, "Won": (0, 210, 400, 280)})
    tools = {**TOOLS, "circle": define(circle, axis="columns")}
    result = run(fenced(lines.format(boxes=boxes)), table, tools=tools)
    assert result.status == "failed"
    said = "but was given rows_bbox; use a tool that works on rows", "where is rows_bbox; give the boxes columns_bbox"
    assert any(one in str(result.error) for one in said), result.error
    assert not result.calls
    # Those of its own axis, and a program's own, fit.
    for fitting in ('{"Team": columns_bbox["Won"], "Won": [0, 0, 130, 300]}', "columns_bbox"):
        assert run(fenced(lines.format(boxes=fitting)), table, tools=tools).status == "edited"


def test_which_program_counts():
    other = 'display(focus_on_columns_with_draw(image_1, ["2019"], columns_bbox))'
    call = '<tool_call>{"name": "focus_on_columns_with_highlight", "arguments": {"names": ["2020"]}}</tool_call>'

    def called(text: str) -> list[str]:
        return [target for one in run(text).calls for target in one.targets]

    first = f"display({CALL})"
    # The first that calls a tool, whatever its form.
    assert called(fenced(first) + fenced(other)) == ["2018"]
    assert called(call + fenced(other)) == ["2020"]
    assert called(fenced(other) + call) == ["2019"]
    assert called(fenced("import numpy") + call) == ["2020"]
    assert called("```\nTotal: 3\n```\n" + fenced(other)) == ["2019"]
    assert called(f"ACTION: {first}\n" + fenced(other)) == ["2019"]
    # What calls no tool counts where nothing does.
    assert run(fenced("import os") + "\nFINAL ANSWER: 3").status == "refused"


def test_strict_reading_stays_as_it_was():
    for program in (
        f"print({CALL})",
        CALL,
        f"import numpy\ndisplay({CALL})",
        "display(" + CALL.replace(", columns_bbox", ")"),
    ):
        assert execute(fenced(program), CHART).status in ("refused", "failed")
        assert run(fenced(program)).status == "edited"


def test_a_tool_of_the_users_own():
    def circle(picture: Image.Image, bars: list[str], where: dict[str, Box]) -> Image.Image:
        """Circle bars."""
        return edits.focus_on_columns_with_draw(picture, bars, where)

    tools = {"circle": define(circle, axis="columns", style="draw")}
    for program in (
        'display(circle(image_1, ["2018"], columns_bbox))',
        'display(circle(picture=image_1, bars=["2018"], where=columns_bbox))',
        'display(circle(picture, bars="2018", where=where))',
        'circle("2018")',
    ):
        assert run(fenced(program), tools=tools).calls == (ToolCall("circle", ("2018",), "columns_bbox", "columns"),)
    text = '<tool_call>{"name": "circle", "arguments": {"bars": ["2018"], "where": "columns_bbox"}}</tool_call>'
    assert run(text, tools=tools).status == "edited"
    refused = run(fenced("circle.__globals__"), tools=tools)
    assert refused.status == "refused"
    assert "'circle'" in (refused.error or "")
    assert "focus_on" not in (refused.error or "")
    # A standard tool that is not offered is known, but not to be had.
    assert run(fenced(f"display({CALL})"), tools=tools).status == "failed"


PARTS = st.lists(
    st.sampled_from(
        [
            "ACTION:",
            "\n",
            "```",
            "```python\n",
            "```json\n",
            "<tool_call>",
            "</tool_call>",
            '{"name": "',
            "arguments",
            '": ',
            "[",
            "]",
            "{",
            "}",
            "(",
            ")",
            '"2018"',
            "image_1",
            "columns_bbox",
            "display(",
            "print(",
            ".show()",
            "import ",
            "os",
            " = ",
            "focus_on_columns_with_mask(",
            ", ",
            "**",
            "lambda: ",
            "\ud800",
            "\0",
            "  ",
            "'",
            "#",
            "`",
            "FINAL ANSWER: 3",
        ]
    ),
    max_size=40,
).map("".join)


@given(st.one_of(PARTS, st.text(alphabet=string.printable, max_size=200)))
@settings(max_examples=400, deadline=None)
def test_nothing_raises(text: str):
    result = run(text)
    assert result.status in ("edited", "no_call", "refused", "failed")
    assert (result.error is None) is (result.status in ("edited", "no_call"))


@pytest.mark.parametrize(
    "text",
    [
        "`" * 100_000,
        "ACTION:" * 20_000,
        "ACTION: \n" * 20_000,
        "<tool_call>" * 20_000,
        "action" + " " * 100_000,
        "#" * 100_000 + "x",
        "```\n" * 20_000,
        "ACTION: focus_on_columns_with_mask(\n" * 5_000,
        "<tool_call>{" * 20_000,
        "```python\nfocus_on_columns_with_mask(" * 5_000,
        "ACTION:\n" + "focus_on_columns_with_mask((\n" * 130,
    ],
    ids=lambda text: text[:12],
)
def test_hostile_texts_take_no_time(text: str):
    started = time.process_time()
    assert run(text).status != "edited"
    assert time.process_time() - started < 5


def tell(image: Image.Image, words: list[str], scale: float = 1.0) -> str:
    """Say what was given."""
    return f"{image.size} {sorted(words)} {scale}"


TELL = {"tell": define(tell)}


@pytest.mark.parametrize(
    "arguments",
    [
        '["a", "b"], 2',
        'image_1, ["a", "b"], 2',
        'words=["a", "b"], scale=2',
        'scale=2, image=image_1, words=("a", "b")',
        'image, {"a", "b"}, 2',
    ],
)
@pytest.mark.parametrize("beside", [{}, TOOLS], ids=["alone", "beside the six"])
def test_arguments_of_a_free_tool(arguments: str, beside: Any) -> None:
    """As docs/prompts.md has them: the image may be left out, the others stand in their order or have their names."""
    result = run(fenced(f"print(tell({arguments}))"), tools={**beside, **TELL})
    assert (result.status, result.text) == ("edited", "(400, 300) ['a', 'b'] 2.0"), result.error


@pytest.mark.parametrize("arguments", ['2, ["a"]', 'image_1, 2, ["a"]', '"a"', "texts=['a']"])
def test_what_is_no_call_of_a_free_tool(arguments: str) -> None:
    assert run(fenced(f"print(tell({arguments}))"), tools=TELL).status == "failed"


@pytest.mark.parametrize(
    "arguments",
    [
        'columns_bbox, ["2018"], image_1',
        '["2018"]',
        '"2018"',
        '{"2018"}',
        'boxes=columns_bbox, columns="2018", image=image_1',
    ],
)
@pytest.mark.parametrize("beside", [{}, TELL], ids=["alone", "beside a free tool"])
def test_arguments_of_a_tool_that_focuses(arguments: str, beside: Any) -> None:
    result = run(fenced(f"display(focus_on_columns_with_mask({arguments}))"), tools={**TOOLS, **beside})
    assert (result.status, result.calls[0].targets) == ("edited", ("2018",)), result.error


def test_a_key_twice_is_refused() -> None:
    sample = Sample("s", Image.new("RGB", (200, 100), "white"), "q?", ("1",), column_boxes={"a": (0, 0, 50, 100)})
    tools = {**TOOLS, **offered_tools("crop")}
    for arguments in (
        '{"box": [0, 0, 50, 99], "box": [50, 0, 99, 99]}',
        '"{\\"box\\": [0, 0, 9, 9], \\"box\\": [0, 0, 50, 99]}"',
    ):
        call = f'<tool_call>{{"name": "crop", "arguments": {arguments}}}</tool_call>'
        result = execute(call, sample, tools, lenient=True)
        assert (result.status, str(result.error).partition(";")[0]) == (
            "refused",
            "the tool call was given 'box' twice",
        )
    twice = '{"a": [0, 0, 50, 99], "b": [50, 0, 99, 99], "a": [50, 0, 99, 99]}'
    program = f'```python\ndisplay(focus_on_columns_with_mask(image_1, ["a"], {twice}))\n```'
    assert execute(program, sample, lenient=True).error == "line 1: the boxes have the name 'a' twice; give it once"
    data = f'{{"name": "focus_on_columns_with_mask", "arguments": {{"columns": ["a"], "boxes": {twice}}}}}'
    assert execute(f"<tool_call>{data}</tool_call>", sample, lenient=True).status == "refused"


def test_labels_that_stand_twice_get_numbers() -> None:
    image = Image.new("RGB", (200, 100), "black")
    sample = Sample("s", image, "q?", ("1",), column_boxes={"a": (0, 0, 50, 100)})
    listed = '[{"label": "bar", "bbox_2d": [0, 0, 50, 99]}, {"label": "bar", "bbox_2d": [100, 0, 150, 99]}]'
    for name, white in (("bar", (125, 50)), ("bar (2)", (25, 50))):
        program = f'```python\ndisplay(focus_on_columns_with_mask(image_1, ["{name}"], {listed}))\n```'
        call = f'{{"name": "focus_on_columns_with_mask", "arguments": {{"columns": ["{name}"], "boxes": {listed}}}}}'
        for text in (program, f"<tool_call>{call}</tool_call>"):
            result = execute(text, sample, lenient=True)
            assert result.image is not None, result.error
            points = ((25, 50), (125, 50))
            assert [one for one in points if result.image.getpixel(one) == (255, 255, 255)] == [white]


def test_boxes_in_two_units_are_refused() -> None:
    with pytest.raises(ToolError, match="the box of 'a' has fractions and others have pixels; give pixels"):
        check_boxes({"b": (50, 0, 100, 100), "a": (0, 0, 0.25, 1)}, (200, 100))
