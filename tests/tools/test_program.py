"""From a model's text to a result: fences, the language, wrong arguments, and hostile text."""

from __future__ import annotations

import dataclasses
import json
import time
import warnings
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from iapo.errors import InputError
from iapo.records import Box, Sample, Status, ToolResult
from iapo.tools import TOOLS, check_program, edits, errors, execute, extract_program, offered_tools

GREY = (100, 100, 100)
COLUMNS: dict[str, Box] = {
    "2005": (0, 0, 20, 40),
    "Men's": (20, 0, 40, 40),
    '5" pipe': (40, 0, 50, 40),
    "100": (50, 0, 60, 40),
}
ROWS: dict[str, Box] = {"head": (0, 0, 60, 10), "x": (0, 10, 60, 20), "y": (0, 20, 60, 40)}
SAMPLE = Sample(
    "s", Image.new("RGB", (60, 40), GREY), "?", ("1",), column_boxes=COLUMNS, row_boxes=ROWS, axis="columns"
)
CALL = 'focus_on_columns_with_mask(image_1, ["2005"], columns_bbox)'
GOOD = f"edited = {CALL}\ndisplay(edited)"


def fenced(program: str) -> str:
    return f"THOUGHT: look.\n```python\n{program}\n```\nDone."


def run(program: str, sample: Sample = SAMPLE) -> ToolResult:
    return execute(fenced(program), sample)


def same(image: Image.Image | None, expected: Image.Image) -> bool:
    return image is not None and image.tobytes() == expected.tobytes()


# Fences and spans


@pytest.mark.parametrize("label", ["python", "py", "python3", "Python", "PY", "python3.11", "", " python ", "python\t"])
@pytest.mark.parametrize("indent", ["", "  ", "\t", "        "])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("close", ["```", ""])
def test_fences(label: str, indent: str, end: str, close: str):
    program = end.join(indent + line for line in GOOD.split("\n"))
    head = f"ACTION 0:{end}{indent}```{label}{end}"
    text = head + program + (f"{end}{indent}{close}{end}Done." if close else "")
    assert extract_program(text) == (GOOD, (len(head), len(head) + len(program)))
    result = execute(text, SAMPLE)
    assert result.status == "edited"
    assert result.span is not None
    assert text[slice(*result.span)] == program


@pytest.mark.parametrize(
    ("text", "raw"),
    [
        (f"ACTION: ```python\n{GOOD}\n```", GOOD),
        (f"with `x`: ```py\n{GOOD}\n```", GOOD),
        (f"```python\n{GOOD}```", GOOD),
        (f"```python\n{GOOD}```  \nDone", GOOD),
        (f"```python display({CALL})```", f"display({CALL})"),
        (f"````python\n{GOOD}\n````", GOOD),
        (f"```python\n{GOOD}\n```\nor\n```python\nimport os\n```", GOOD),
        (f"```python\n{GOOD}\n```python\nimport os\n```", GOOD),
        (f'```json\n{{"a": 1}}\n```\n```python\n{GOOD}\n```', GOOD),
        (f"inline ```x = 1``` first\n```\n{GOOD}\n```", GOOD),
        (f"```python\n\n{GOOD}\n\n```", f"\n{GOOD}\n"),
    ],
)
def test_where_the_program_lies(text: str, raw: str):
    result = execute(text, SAMPLE)
    assert result.status == "edited"
    assert result.span is not None
    assert text[slice(*result.span)] == raw


def test_of_two_blocks_the_first_is_the_program():
    first = 'display(focus_on_rows_with_draw(image_1, ["x"], rows_bbox))'
    text = fenced(first) + fenced(GOOD)
    result = execute(text, SAMPLE)
    assert [call.name for call in result.calls] == ["focus_on_rows_with_draw"]
    assert result.span is not None
    assert text[slice(*result.span)] == first
    assert execute(fenced("import os") + fenced(GOOD), SAMPLE).status == "refused"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "FINAL ANSWER: 3. TERMINATE",
        GOOD,
        "```python\n```",
        "```python```",
        "```python",
        "```",
        "``` ",
        "```\n\n```",
        "```python\n# nothing to do\n\n```",
        f"```json\n{GOOD}\n```",
        f"```json\n{GOOD}",
        "use ``` to quote",
        "end it with ```",
        "I write a ```python block```",
        f"``python\n{GOOD}\n``",
        "```\n```\n" + fenced(GOOD),
    ],
)
def test_no_call(text: str):
    assert execute(text, SAMPLE) == ToolResult("no_call")


# What programs may do


@pytest.mark.parametrize("name", COLUMNS)
@pytest.mark.parametrize("write", [repr, json.dumps, lambda name: "'" + name.replace("'", "\\'") + "'"])
def test_names_with_quotes_and_backslashes(name: str, write):
    result = run(f"display(focus_on_columns_with_draw(image_1, [{write(name)}], columns_bbox))")
    assert (result.status, result.calls[0].targets) == ("edited", (name,))
    assert same(result.image, edits.focus_on_columns_with_draw(SAMPLE.image, [name], COLUMNS))


@pytest.mark.parametrize(
    "program",
    [
        GOOD,
        f"display({CALL})",
        f"a = {CALL}; display(a)",
        "names = ['2005']\ndisplay(focus_on_columns_with_mask(image_1, names, columns_bbox))",
        "display(focus_on_columns_with_mask(image_1, ('2005',), columns_bbox))",
        "display(focus_on_columns_with_mask(image_1, [2005], columns_bbox))",
        "display(focus_on_columns_with_mask(image=image_1, columns_to_focus_on=['2005'], "
        "all_columns_bounding_boxes=columns_bbox))",
        "display(focus_on_columns_with_mask(image_1, all_columns_bounding_boxes=columns_bbox, "
        "columns_to_focus_on=['2005']))",
        f"# a comment\nimg = image_1\nboxes = columns_bbox\nx = {CALL.replace('image_1', 'img')}\ndisplay(x)",
        f"display(image_1)\ndisplay({CALL})",
        f"{CALL}\n{GOOD}",
        f"x = {CALL}\nx = {CALL}\ndisplay(x)",
    ],
)
def test_ways_to_write_the_same(program: str):
    result = run(program)
    assert (result.status, result.error) == ("edited", None)
    assert same(result.image, edits.focus_on_columns_with_mask(SAMPLE.image, ["2005"], COLUMNS))
    call = result.calls[-1]
    assert (call.name, call.targets) == ("focus_on_columns_with_mask", ("2005",))
    assert (call.boxes, call.axis) == ("columns_bbox", "columns")


def test_calls_chain_and_nest():
    expected = edits.focus_on_rows_with_draw(
        edits.focus_on_columns_with_mask(SAMPLE.image, ["2005"], COLUMNS), ["x", "y"], ROWS
    )
    for program in (
        f'display(focus_on_rows_with_draw({CALL}, ["x", "y"], rows_bbox))',
        f'a = {CALL}\nb = focus_on_rows_with_draw(a, ["x", "y"], rows_bbox)\ndisplay(b)',
    ):
        result = run(program)
        assert [call.axis for call in result.calls] == ["columns", "rows"]
        assert same(result.image, expected)
        assert result.misuse("columns")


def test_the_last_display_counts():
    other = 'focus_on_rows_with_highlight(image_1, ["y"], rows_bbox)'
    result = run(f"display({CALL})\ndisplay({other})")
    assert same(result.image, edits.focus_on_rows_with_highlight(SAMPLE.image, ["y"], ROWS))
    assert len(result.calls) == 2


@pytest.mark.parametrize(("kind", "keeps"), [("table", True), ("chart", False)])
def test_masked_rows_keep_the_header_of_a_table(kind, keeps: bool):
    sample = Sample("s", SAMPLE.image, "?", ("1",), row_boxes=ROWS, kind=kind)
    result = run('display(focus_on_rows_with_mask(image_1, ["y"], rows_bbox))', sample)
    assert same(result.image, edits.focus_on_rows_with_mask(SAMPLE.image, ["y"], ROWS, keep_header=keeps))
    assert result.image is not None
    assert (result.image.getpixel((30, 5)) == GREY) is keeps


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I", "I;16", "F", "YCbCr", "HSV", "LAB"])
def test_the_sample_is_not_changed(mode: str):
    image = Image.new(mode, (60, 40))
    if mode in ("LA", "RGBA"):
        image.putalpha(255)
    if mode == "CMYK":
        image.paste((0, 0, 0, 200), (0, 0, 60, 40))
    before = image.tobytes()
    sample = Sample("s", image, "?", ("1",), column_boxes=COLUMNS, row_boxes=ROWS)
    for tool in TOOLS.values():
        names = next(iter(COLUMNS if tool.axis == "columns" else ROWS))
        result = run(f'display({tool.name}(image_1, ["{names}"], {tool.axis}_bbox))', sample)
        assert result.status == "edited"
        assert result.image is not None
        assert result.image.mode == "RGB"
    assert (sample.image.mode, sample.image.tobytes()) == (mode, before)


# What changes nothing

MIXED = Image.new("RGB", (60, 40), GREY)
MIXED.paste((10, 20, 30), (5, 5, 15, 15))
OTHER = Sample("s", MIXED, "?", ("1",), column_boxes=COLUMNS, row_boxes=ROWS)


@pytest.mark.parametrize("axis", ["columns", "rows"])
@pytest.mark.parametrize("style", ["mask", "highlight", "draw"])
def test_a_mask_of_everything_is_no_edit(axis: str, style: str):
    names = list(COLUMNS if axis == "columns" else ROWS)
    program = f"display(focus_on_{axis}_with_{style}(image_1, {names!r}, {axis}_bbox))"
    result = run(program, OTHER)
    assert result.status == ("failed" if style == "mask" else "edited")
    assert (result.error == errors.UNCHANGED) is (style == "mask")
    assert [call.targets for call in result.calls] == [tuple(names)]
    assert (result.image is None) is (style == "mask")
    fewer = run(program.replace(f"{names[0]!r}, ", ""), OTHER)
    assert fewer.status == "edited"


@pytest.mark.parametrize(
    "beside",
    [
        'n = calculate("1+1")',
        "part = crop(image_1, (5, 5, 30, 30))",
        'other = focus_on_rows_with_draw(image_1, ["X"], rows_bbox)',
        'display(calculate("1+1"))',
    ],
)
def test_a_call_beside_it_makes_a_mask_of_everything_no_edit(beside: str):
    """What counts is what the displayed image was made of."""
    sample = dataclasses.replace(OTHER, axis="columns", row_boxes={"X": (0, 0, 60, 20)})
    tools = offered_tools("standard,crop,calculate")

    def masked(what: str) -> ToolResult:
        mask = f"focus_on_columns_with_mask({what}, {list(COLUMNS)!r}, columns_bbox)"
        return execute(fenced(f"{beside}\ndisplay({mask})"), sample, tools)

    assert masked("image_1").error == errors.UNCHANGED
    assert not beside.startswith("other") or masked("other").status == "edited"


def test_one_box_over_the_others_is_no_edit():
    boxes: dict[str, Box] = {"all": (0, 0, 60, 40), "a": (5, 5, 30, 20)}
    sample = Sample("s", MIXED, "?", ("1",), row_boxes=boxes)
    assert run('display(focus_on_rows_with_mask(image_1, ["all"], rows_bbox))', sample).error == errors.UNCHANGED
    assert run('display(focus_on_rows_with_mask(image_1, ["a"], rows_bbox))', sample).status == "edited"


def test_what_a_second_call_changes_is_an_edit():
    everything = f"focus_on_columns_with_mask(image_1, {list(COLUMNS)!r}, columns_bbox)"
    program = f'edited = {everything}\ndisplay(focus_on_columns_with_draw(edited, ["2005"], columns_bbox))'
    assert run(program, OTHER).status == "edited"


def test_a_blank_picture_is_no_edit():
    boxes: dict[str, Box] = {"all": (-2, -2, 62, 42), "corner": (50, 30, 60, 40)}
    image = Image.new("RGB", (60, 40), "white")
    image.paste(GREY, (5, 5, 20, 20))
    result = run(
        'display(focus_on_rows_with_mask(image_1, ["corner"], rows_bbox))',
        Sample("s", image, "?", ("1",), row_boxes=boxes),
    )
    assert (result.status, result.error) == ("failed", errors.BLANK)
    # What was blank before may be masked.
    blank = Sample("s", SAMPLE.image, "?", ("1",), row_boxes=boxes)
    assert run('display(focus_on_rows_with_mask(image_1, ["corner"], rows_bbox))', blank).status == "edited"


def masks(*several: list[str], image: str = "image_1", axis: str = "columns") -> str:
    """Writes masks, one after the other."""
    for names in several:
        image = f"focus_on_{axis}_with_mask({image}, {names!r}, {axis}_bbox)"
    return image


def drawn(image: str, name: str, style: str = "draw") -> str:
    return f"focus_on_columns_with_{style}({image}, [{name!r}], columns_bbox)"


@pytest.mark.parametrize(
    "shown",
    [
        masks(["2005"], ["100"]),
        masks(["2005", "Men's"], ["100"]),
        masks(["2005", "Men's"], ["Men's", "100"], ["2005", "100"]),
        drawn(masks(["2005"], ["100"]), "100"),
        drawn(masks(["2005"], ["100"]), "2005", "highlight"),
        masks(["100"], image=drawn(masks(["2005"]), "2005")),
        masks(["x"], ["y"], axis="rows"),
    ],
)
@pytest.mark.parametrize("kind", ["chart", "table"])
def test_masks_that_erase_what_each_other_leaves_are_no_edit(shown: str, kind):
    # Neither has the picture, which has a frame, nor has the sample a wrong axis; a header does not count.
    sample = Sample("s", MIXED, "?", ("1",), column_boxes=COLUMNS, row_boxes=ROWS, kind=kind)
    result = run(f"display({shown})", sample)
    assert (result.status, result.error, result.image) == ("failed", errors.ERASED, None)
    assert len(result.calls) == shown.count("focus_on")


@pytest.mark.parametrize(
    "shown",
    [
        masks(["2005", "Men's"], ["2005"]),
        masks(["2005"], ["2005", "100"]),
        masks(["2005"], ["2005"]),
        masks(["y"], image=masks(["2005"]), axis="rows"),
        drawn(masks(["2005"]), "100"),
        drawn(masks(["2005"]), "2005", "highlight"),
        masks(["2005"], image=drawn("image_1", "100")),
    ],
)
def test_masks_that_leave_something_are_an_edit(shown: str):
    sample = Sample("s", MIXED, "?", ("1",), column_boxes=COLUMNS, row_boxes=ROWS)
    assert run(f"display({shown})", sample).status == "edited"


def test_masks_of_a_wrong_axis_stay_misuse():
    sample = Sample("s", MIXED, "?", ("1",), column_boxes=COLUMNS, row_boxes=ROWS, axis="rows")
    result = run(f"display({masks(['2005'], ['100'])})", sample)
    assert (result.status, result.misuse("rows")) == ("edited", True)


@pytest.mark.parametrize("value", ["yes", 1, None, np.zeros(3)])
def test_lenient_is_a_truth_value(value: Any):
    for ask in (lambda: execute(fenced(GOOD), SAMPLE, lenient=value), lambda: check_program(GOOD, (), lenient=value)):
        with pytest.raises(InputError, match=r"lenient is .*; it takes true or false"):
            ask()
    assert execute(fenced(GOOD), SAMPLE, lenient=np.True_).status == "edited"  # type: ignore[arg-type]


# What they may not do


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("import os", "line 1 uses an import"),
        ("from os import path", "line 1 uses an import"),
        (f"{GOOD}\nimport os", "line 3 uses an import"),
        ("image_1.save('x')", "line 1 uses attribute access"),
        ("x = image_1.size", "line 1 uses attribute access"),
        (f"display({CALL}.show)", "attribute access"),
        ("x = [n for n in columns_bbox]", "a comprehension"),
        ("display(n for n in columns_bbox)", "a generator expression"),
        ("x = f'{image_1}'", "an f-string"),
        ("x = lambda: 1", "a lambda"),
        ("while True:\n    display(image_1)", "line 1 uses a while loop"),
        ("for x in columns_bbox:\n    display(x)", "a for loop"),
        ("if image_1:\n    display(image_1)", "an if statement"),
        ("def f():\n    pass", "a function definition"),
        ("x = columns_bbox['2005']", "indexing"),
        ("x = {'2005': 1}", "a dict"),
        ("x = ['a'] + ['b']", "arithmetic"),
        ("(x := image_1)", "an assignment inside an expression"),
        ("x += image_1", "an augmented assignment"),
        ("x: str = 'a'", "an annotated assignment"),
        ("assert image_1", "the construct Assert"),
        ("'a text'", "line 1 is a value without effect"),
        ("image_1", "line 1 is a value without effect"),
        ("a, b = image_1, image_1", "does not assign to one plain name"),
        ("a = b = image_1", "does not assign to one plain name"),
        ("a.b = image_1", "does not assign to one plain name"),
        (f"image_1 = {CALL}", "line 1 assigns to 'image_1'"),
        ("columns_bbox = []", "assigns to 'columns_bbox'"),
        ("display = image_1", "assigns to 'display'"),
        ("focus_on_rows_with_draw = image_1", "assigns to 'focus_on_rows_with_draw'"),
        ("f = focus_on_rows_with_draw", "without calling it"),
        (f"x = display({CALL})", "uses the value of display()"),
        (f"display(display({CALL}))", "uses the value of display()"),
        ("print(image_1)", "line 1 calls print(), which is not a tool"),
        ("x = open('f')", "line 1 calls open(), which is not a tool"),
        ("__import__('os')", "calls __import__()"),
        ("eval('1')", "calls eval()"),
        ("x = [image_1]", "has a list entry that is not a text"),
        ("x = [['2005']]", "has a list entry that is not a text"),
        ("x = [*columns_bbox]", "argument unpacking"),
        ("display(*[image_1])", "argument unpacking"),
        ("display(**columns_bbox)", "argument unpacking"),
        ("x = [True]", "neither a text nor an ordinary number"),
        ("x = [None]", "neither a text nor an ordinary number"),
        ("x = [b'2005']", "neither a text nor an ordinary number"),
        ("x = [2j]", "neither a text nor an ordinary number"),
        ("x = 0x" + "f" * 3900, "neither a text nor an ordinary number"),
        ("x = -'a'", "neither a text nor an ordinary number"),
        ("display(edited", "line 1 is not valid Python: '(' was never closed"),
        ("x = = 1", "line 1 is not valid Python"),
        ("I would mask the columns.", "line 1 is not valid Python"),
        ("x = 1\n  y = 2", "line 2 is not valid Python"),
        ("x = 'a\0b'", "null bytes"),
        ("x = '\ud800'", "not valid Unicode"),
        ("x = " + "9" * 3990, ""),
        ("x = '" + "a" * 4000 + "'", "characters; write at most 4000"),
        ("x = 'a'\n" * 33, "33 statements; write at most 32"),
        ("-" * 3900 + "1", "nested too deeply"),
        ("x = " + "-" * 3900 + "1", "nested too deeply"),
        ("(" * 300 + ")" * 300, "not valid Python: too many nested parentheses"),
        ("image_1" + ".a" * 1900, "attribute access"),
        ("display(" * 150 + ")" * 150, ""),
    ],
)
def test_refused(program: str, reason: str):
    result = run(program)
    assert (result.status, result.calls, result.image) == ("refused", (), None)
    assert result.error is not None
    assert reason in result.error
    assert len(result.error) < 400
    assert "\n" not in result.error
    text = fenced(program)
    assert result.span is not None
    assert text[slice(*result.span)] == program


def test_nesting_has_a_limit():
    def nested(depth: int) -> str:
        program = "image_1"
        for _ in range(depth):
            program = f'focus_on_columns_with_draw({program}, ["100"], columns_bbox)'
        return f"display({program})"

    assert len(run(nested(15)).calls) == 15
    result = run(nested(16))
    assert (result.status, result.error) == (
        "refused",
        "line 1 nests calls more than 16 deep; use fewer calls",
    )


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        (CALL.replace("2005", "2006"), "line 1, focus_on_columns_with_mask: there is no column '2006'"),
        (CALL.replace("2005", "1"), "there is no column '1'"),
        (CALL.replace("2005", r"\$5"), "there is no column"),
        (CALL.replace('["2005"]', "[]"), "is empty; name at least one"),
        (CALL.replace('"2005"', "2005.0"), "there is no column '2005.0'"),
        (CALL.replace('"2005"', "-5"), "there is no column '-5'"),
        (
            CALL.replace('["2005"]', '"2005"'),
            "the text '2005' as columns_to_focus_on; give it a list of names",
        ),
        (CALL.replace('["2005"]', "image_1"), "was given a picture as columns_to_focus_on"),
        (CALL.replace("columns_bbox", "rows_bbox"), "works on columns, but was given rows_bbox"),
        (
            'focus_on_rows_with_draw(image_1, ["2005"], columns_bbox)',
            "line 1: focus_on_rows_with_draw works on rows, but was given columns_bbox; "
            "use a tool that works on columns",
        ),
        (CALL.replace("columns_bbox", '["2005"]'), "a list of names as all_columns_bounding_boxes"),
        (CALL.replace("image_1", "columns_bbox"), "works on a picture, but was given the boxes columns_bbox"),
        (CALL.replace("image_1", "image_2"), "line 1: unknown name 'image_2'; use one of 'image_1', "),
        (CALL.replace("columns_bbox", "x_values_bbox"), "unknown name 'x_values_bbox'"),
        (CALL.replace(", columns_bbox", ""), "'all_columns_bounding_boxes' is missing"),
        (CALL.replace("image_1, ", "image_1, image_1, "), "takes 3 arguments, but was given 4"),
        (CALL.replace(")", ", image=image_1)"), "was given the argument 'image' twice"),
        (CALL.replace(")", ", keep_header='x')"), "has no argument 'keep_header'"),
        ("image_1", "is the unchanged one; call a tool"),
        ("columns_bbox", "line 1: display was given the boxes columns_bbox; give it a picture"),
        ("['2005']", "was given a list of names"),
        ("'2005'", "was given the text '2005'"),
        ("edited", "unknown name 'edited'"),
        ("", "display takes one argument"),
        ("image_1, image_1", "display takes one argument"),
        ("x=image_1", "display takes one argument"),
    ],
)
def test_failed(program: str, reason: str):
    result = run(f"display({program})")
    assert (result.status, result.calls, result.image) == ("failed", (), None)
    assert result.error is not None
    assert reason in result.error
    assert result.span is not None


@pytest.mark.parametrize("program", [CALL, f"x = {CALL}", "x = image_1", "names = ['2005']"])
def test_nothing_displayed(program: str):
    result = run(program)
    assert (result.status, result.error) == (
        "failed",
        "nothing is displayed; end the program with display(...)",
    )


def test_displaying_the_unchanged_picture_last_is_a_failure():
    result = run(f"display({CALL})\ndisplay(image_1)")
    assert (result.status, len(result.calls)) == ("failed", 1)


def test_failed_results_hold_the_calls_before():
    result = run(f'a = {CALL}\nb = focus_on_rows_with_draw(a, ["z"], rows_bbox)\ndisplay(b)')
    assert (result.status, [call.name for call in result.calls]) == ("failed", ["focus_on_columns_with_mask"])
    assert result.error is not None
    assert result.error.startswith("line 2, focus_on_rows_with_draw: there is no row 'z'")


def test_pictures_without_boxes():
    sample = Sample("s", SAMPLE.image, "?", ("1",), row_boxes=ROWS)
    result = run(GOOD, sample)
    assert result.status == "failed"
    assert result.error == (
        "line 1, focus_on_columns_with_mask: this picture has no column boxes; focus on its rows instead"
    )


def test_tools_that_are_not_offered():
    rows_only = {name: tool for name, tool in TOOLS.items() if tool.axis == "rows"}
    result = execute(fenced(GOOD), SAMPLE, rows_only)
    assert result.status == "failed"
    assert result.error is not None
    assert "line 1: focus_on_columns_with_mask is not offered here; use one of 'focus_on_rows_" in result.error


def test_stray_backslashes_do_not_warn():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert run(CALL.replace("2005", r"\d\$")).status == "failed"


def test_results_survive_json():
    for program in (GOOD, "import os", "display(image_1)", f"x = {CALL}\ndisplay(y)"):
        result = run(program)
        again = ToolResult.from_json(json.loads(json.dumps(result.to_json())))
        assert again.to_json() == result.to_json()


# Hostile text


@pytest.mark.parametrize(
    "unit", ["`", "``` ", "```\n", "```json\n", " ", "\t\n", "```python", "\r", "`` ", "\n```python "]
)
def test_long_repetitions_take_linear_time(unit: str):
    started = time.process_time()
    result = execute(unit * (200_000 // len(unit)), SAMPLE)
    assert result.status in {"no_call", "refused"}
    assert time.process_time() - started < 2


def check(text: str) -> None:
    result = execute(text, SAMPLE)
    assert result.status in get_args(Status)
    assert (result.image is not None) == (result.status == "edited")
    assert (result.error is not None) == (result.status in {"refused", "failed"})
    assert (result.span is None) == (result.status == "no_call")
    if result.span is not None:
        start, stop = result.span
        assert 0 <= start <= stop <= len(text)
    assert set(SAMPLE.image.tobytes()) == {100}


PIECES = [
    *"\n `()[]'\"\\,=.*#:-{}\0\ud800",
    *("```", "```python\n", "\r\n", "    ", "f'", "lambda", "import os", "2005"),
    *("display", "image_1", "columns_bbox", "rows_bbox"),
    *TOOLS,
    CALL,
    GOOD,
    fenced(GOOD),
]


@settings(max_examples=150, deadline=None)
@given(st.text(st.characters() | st.sampled_from("`\n'\"()[],=")))
def test_any_text(text: str):
    check(text)
    check(f"```python\n{text}\n```")


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=25))
def test_any_mix_of_pieces(pieces: list[str]):
    check("".join(pieces))
    check(fenced(" ".join(pieces)))


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_any_mutation_of_a_good_program(data: st.DataObject):
    more = 'focus_on_rows_with_draw(edited, rows_to_focus_on=["x"], all_rows_bounding_boxes=rows_bbox)'
    text = fenced(f"{GOOD}\ndisplay({more})")
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(text)))
        stop = min(len(text), start + data.draw(st.integers(0, 6)))
        text = text[:start] + data.draw(st.sampled_from(PIECES) | st.text(max_size=3)) + text[stop:]
    check(text)
