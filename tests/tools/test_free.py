"""Free tools from a file outside of the package: what they take, what they give, and what is refused."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from iapo.errors import InputError
from iapo.records import Sample, Score, ToolCall, ToolResult, Trace
from iapo.rewards.rule_verifier import check_judged, rule_score
from iapo.rewards.toolrl import _tool_match
from iapo.tools import TOOLS, Box, ColumnName, Point, ToolDefinition, define, execute, offered_tools
from iapo.tools.judges import JUDGES, check_judges

TOOLS_FILE = '''
from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from annotated_types import Ge, Interval, Len
from PIL import Image, ImageOps

from iapo import Observation, ToolError
from iapo.tools import BoxName, Box, ColumnName, Point, add_judge


def _helper(x):
    return x


def invert(image: Image.Image, box: Box) -> Image.Image:
    """Invert the colours in a box."""
    edited = image.convert("RGB")
    region = tuple(map(round, box))
    edited.paste(ImageOps.invert(edited.crop(region)), region)
    return edited


def everything(
    image: Image.Image,
    points: Annotated[list[Point], Len(1, 3)],
    mode: Literal["soft", "hard", 3],
    count: Annotated[int, "pixels", Interval(ge=1, le=9)] = 2,
    *,
    scale: Annotated[float, Ge(0)] = 1.5,
    loud: bool = False,
    words: tuple[str, ...] = (),
) -> str:
    """Say what was given."""
    return repr((image.size, points, mode, count, scale, loud, words))


def name_width(name: ColumnName, boxes: Mapping[str, Box]) -> float:
    """Tell how wide a column is."""
    return boxes[name][2] - boxes[name][0]


def side_by_side(images: list[Image.Image]) -> tuple[Image.Image, str]:
    """Put images beside one another."""
    wide = Image.new("RGB", (sum(one.width for one in images), max(one.height for one in images)))
    for place, one in enumerate(images):
        wide.paste(one, (sum(other.width for other in images[:place]), 0))
    return wide, f"{len(images)} images"


def choose(number: int, note: str | None = None) -> Observation:
    """Give an image, a text, or both."""
    image = Image.new("RGB", (8, 8)) if number else None
    return Observation(image, note)
'''

COLUMNS = {"2005": (0, 0, 20, 40), "Men's": (20, 0, 60, 40)}
SAMPLE = Sample("s", Image.new("RGB", (60, 40), "grey"), "?", ("1",), column_boxes=COLUMNS, axis="columns")


@pytest.fixture
def tools(tmp_path: Path) -> Mapping[str, ToolDefinition]:
    (tmp_path / "mine.py").write_text(TOOLS_FILE)
    return offered_tools(f"standard,{tmp_path}/mine.py")


@pytest.fixture
def run(tools: Mapping[str, ToolDefinition]) -> Callable[..., ToolResult]:
    def call(program: str, *, lenient: bool = False, sample: Sample = SAMPLE) -> ToolResult:
        return execute(f"```python\n{program}\n```", sample, tools, lenient=lenient)

    return call


def test_every_public_function_of_a_file_is_a_tool(tools: Mapping[str, ToolDefinition], tmp_path: Path) -> None:
    assert list(tools)[len(TOOLS) :] == ["invert", "everything", "name_width", "side_by_side", "choose"]
    (one,) = offered_tools(f"{tmp_path}/mine.py:invert").values()
    assert (one.name, one.axis, one.free is None) == ("invert", None, False)


def test_the_definition_says_types_units_and_ranges(tools: Mapping[str, ToolDefinition]) -> None:
    assert tools["everything"].text == (
        "def everything(image, points, mode, count=2, *, scale=1.5, loud=False, words=()):\n"
        '    """Say what was given.\n\n'
        "    image: an image: image_1, or what a tool returned\n"
        "    points: a list of points [x, y] in pixels of the image, its length from 1 to 3\n"
        '    mode: one of "soft", "hard", 3\n'
        "    count: a whole number from 1 to 9; pixels\n"
        "    scale: a number of at least 0\n"
        "    loud: True or False\n"
        "    words: a list of texts\n"
        "    Returns a text.\n"
        '    Example: display(everything(image_1, [[x, y]], "soft"))\n'
        '    """'
    )
    assert "Returns an image and a text." in tools["side_by_side"].text
    assert "name: a name from columns_bbox" in tools["name_width"].text


def test_values_reach_the_function_as_they_are_annotated(run: Callable[..., ToolResult]) -> None:
    result = run('display(everything(image_1, [[1, 2.5], (60, 40)], "hard", scale=0, loud=True, words=["a", 2005]))')
    assert (result.status, result.error, result.image) == ("edited", None, None)
    assert result.text == "((60, 40), [(1.0, 2.5), (60.0, 40.0)], 'hard', 2, 0.0, True, ('a', '2005'))"
    (call,) = result.calls
    assert call.given == {
        **{"image": "image_1", "points": ((1.0, 2.5), (60.0, 40.0)), "mode": "hard", "scale": 0.0},
        **{"loud": True, "words": ("a", "2005")},
    }
    assert ToolResult.from_json(json.loads(json.dumps(result.to_json()))) == result


@pytest.mark.parametrize("lenient", [False, True])
def test_results_go_into_other_tools(run: Callable[..., ToolResult], lenient: bool) -> None:
    program = (
        'part = invert(focus_on_columns_with_mask(image_1, ["2005"], columns_bbox), columns_bbox["2005"])\n'
        "display(side_by_side([image_1, part, part]))"
    )
    result = run(program, lenient=lenient)
    assert (result.status, result.error) == ("edited", None)
    assert result.image is not None
    assert (result.image.size, result.text) == ((180, 40), "3 images")
    assert [call.name for call in result.calls] == ["focus_on_columns_with_mask", "invert", "side_by_side"]
    assert result.calls[1].given == {"image": "focus_on_columns_with_mask(...)", "box": (0.0, 0.0, 20.0, 40.0)}
    assert result.calls[2].given["images"] == ("image_1", "invert(...)", "invert(...)")
    # A number of one tool is a number of another, and all texts that are displayed are told.
    both = run(
        'w = name_width("2005", columns_bbox)\ndisplay(w)\ndisplay(choose(0, w))\ndisplay(choose(1))', lenient=lenient
    )
    assert (both.text, both.image is not None and both.image.size) == ("20\n20", (8, 8))
    assert both.calls[0].targets == ("2005",)


def test_lenient_programs_may_leave_the_image_out(run: Callable[..., ToolResult]) -> None:
    for program in ("invert([0, 0, 9, 9])", "invert(image, [0, 0, 9, 9])", "print(invert(box=(0, 0, 9, 9)))"):
        result = run(program, lenient=True)
        assert (result.status, result.error) == ("edited", None), program
    assert run("display(invert([0, 0, 9, 9]))").status == "failed"


def test_calls_as_json(tools: Mapping[str, ToolDefinition]) -> None:
    def call(name: str, arguments: str) -> ToolResult:
        text = f'<tool_call>{{"name": "{name}", "arguments": {arguments}}}</tool_call>'
        return execute(text, SAMPLE, tools, lenient=True)

    assert call("invert", '{"box": [0, 0, 9, 9]}').status == "edited"
    assert call("name_width", '{"name": "2005", "boxes": "columns_bbox"}').text == "20"
    assert call("name_width", '{"name": "a", "boxes": {"a": [0, 0, 9, 9]}}').status == "failed"
    assert call("choose", '{"number": 0, "note": null}').broken == "choose"
    for hostile in ('{"box": [NaN, 0, 9, 9]}', '{"box": [1e999, 0, 9, 9]}', '{"box": [[0], 0, 9, 9]}'):
        assert call("invert", hostile).status == "failed", hostile
    assert call("invert", '{"box": {}}').status == "refused"
    assert call("invert", f'{{"box": [{"9" * 400}, 0, 9, 9]}}').status == "refused"
    assert call("invert", f'{{"box": {"[" * 40}{"]" * 40}}}').status == "refused"


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        ("invert(image_1, [0, 0, 9])", "box is a list of 3; give [x1, y1, x2, y2]"),
        ("invert(image_1, [9, 0, 9, 9])", "box is empty"),
        ("invert(image_1, [30, 20, 400, 39])", "box lies outside of the image; give pixels of this image of 60 x 40"),
        ("invert(image_1, [-40, -30, 9, 9])", "box lies outside of the image"),
        ("invert(image_1, [0.1, 0.1, 0.5, 0.5])", "box is in fractions"),
        ("invert(image_1, [0, 0, 1e999, 9])", "inf, which is no finite number"),
        ("invert(image_1, [0, 0, -1e999, 9])", "-inf, which is no finite number"),
        ("invert(image_1, [0, 0, [9], 9])", "a list; give a number"),
        ("invert(image_1, [0, 0, '9', 9])", "the text '9'; give a number"),
        ("invert(image_1, [0, 0, True, 9])", "True; give a number"),
        (f"invert(image_1, [0, 0, {'9' * 60}, 9])", "box lies outside of the image"),
        ("invert(image_1, box)", "unknown name 'box'"),
        ("invert(image_1, nan)", "unknown name 'nan'"),
        ("invert(image_1, columns_bbox)", "box is the boxes columns_bbox"),
        ("invert(image_1, columns_bbox['2006'])", "columns_bbox has no '2006'"),
        ("invert('image_1', [0, 0, 9, 9])", "image is the text 'image_1'"),
        ("invert(image_1)", "is missing 'box'"),
        ("invert(image_1, [0, 0, 9, 9], 3)", "takes 2 arguments by place, but was given 3"),
        ("invert(image_1, [0, 0, 9, 9], box=[0, 0, 9, 9])", "the argument 'box' twice"),
        ("invert(image_1, [0, 0, 9, 9], colour='red')", "has no argument 'colour'"),
        ("everything(image_1, [], 'soft')", "points has 0 entries"),
        ("everything(image_1, [[1, 1]] * 2, 'soft')", ""),
        ("everything(image_1, [[1, 1], [900, 1]], 'soft')", "number 2 lies outside of the image"),
        ("everything(image_1, [[[1, 1]]], 'soft')", "number 1 is a list of 1; give [x, y]"),
        ("everything(image_1, [[1, 1]], 'loud')", "mode is the text 'loud'; give one of"),
        ("everything(image_1, [[1, 1]], True)", "mode is True"),
        ("everything(image_1, [[1, 1]], 3, 10)", "count is 10; give a whole number from 1 to 9"),
        ("everything(image_1, [[1, 1]], 3, 1.5)", "count is 1.5; give a whole number"),
        (f"everything(image_1, [[1, 1]], 3, {'9' * 70})", "give a whole number from 1 to 9"),
        ("everything(image_1, [[1, 1]], 3, scale=-0.5)", "scale is -0.5; give a number of at least 0"),
        ("everything(image_1, [[1, 1]], 3, loud=1)", "loud is 1; give True or False"),
        ("everything(image_1, [[1, 1]], 3, words=[None])", "number 1 is None; give a text"),
        (f"everything(image_1, [{'[1, 1], ' * 65}], 3)", "points has 65 entries; give at most 64"),
        ("name_width('1999', columns_bbox)", "name is '1999', which is no name of this image; use one of '2005'"),
        ("name_width('2005', [1, 2])", "boxes is a list"),
        ("choose(None)", "number is None; give a number"),
    ],
)
def test_what_does_not_fit_fails_before_the_tool_is_called(
    run: Callable[..., ToolResult], call: str, reason: str
) -> None:
    result = run(f"display({call})")
    assert result.status in (("failed",) if reason else ("refused",)), result
    assert result.broken == ""
    assert not result.calls
    assert reason in (result.error or "")
    assert "\n" not in (result.error or "")
    assert len(result.error or "") < 900


@pytest.mark.parametrize(
    "program",
    [
        "display(invert(image_1, [x for x in (0, 0, 9, 9)]))",
        "display(invert(image_1, [0, 0, 3 * 3, 9]))",
        "display(invert(image_1, [0, 0, 9, int('9')]))",
        "display(invert(image_1, image_1.size))",
        "display(invert(image_1, image_1[0]))",
        "display(invert(image_1, columns_bbox[0:1]))",
        f"display(everything(image_1, {'[' * 40}{']' * 40}, 3))",
        "display(everything(image_1, [[1, 1]], 3, words=[b'a']))",
        "display(everything(image_1, [[1, 1]], 3, scale=2j))",
    ],
)
def test_the_language_stays_parsed(run: Callable[..., ToolResult], program: str) -> None:
    for lenient in (False, True):
        assert run(program, lenient=lenient).status == "refused", program


def test_lists_that_double_are_no_bomb(run: Callable[..., ToolResult]) -> None:
    doubled = "a = [1, 1]\n" + "".join(
        f"{new} = [{old}, {old}]\n" for old, new in zip("abcdefghijkl", "bcdefghijklm", strict=True)
    )
    result = run(f"{doubled}display(everything(image_1, [m, m, m], 3))")
    assert result.status == "failed"
    assert "number 1" in (result.error or "")


def test_without_free_tools_the_language_is_what_it_was() -> None:
    for program in ("x = columns_bbox['2005']", "x = [[1]]", "x = [True]", "x = [image_1]"):
        assert execute(f"```python\n{program}\n```", SAMPLE).status == "refused"


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ('def f(x):\n    """Do."""', "parameter 'x' of tool f has no annotation"),
        ('def f(x: dict):\n    """Do."""', "parameter 'x' of tool f has the annotation"),
        ('def f(x: int | str):\n    """Do."""', "has the annotation"),
        ('def f(x: tuple[int, int]):\n    """Do."""', "has the annotation"),
        # A range, say, that would be held to the image's sides.
        ('def f(x: tuple[float, float]):\n    """Do."""', "takes two numbers; annotate it with iapo.tools.Point"),
        ('def f(x: list[tuple[float, float]]):\n    """Do."""', "takes two numbers; annotate it"),
        ('def f(x: Annotated[int, InPixels()]):\n    """Do."""', "bounds or a mark that do not fit"),
        ('def f(x: int | None):\n    """Do."""', "may be None but has no default"),
        ('def f(*x: int):\n    """Do."""', "is no plain one"),
        ('def f(x: "Nowhere"):\n    """Do."""', "has an annotation that cannot be read"),
        ('def f(x: int) -> dict:\n    """Do."""', "tool f returns <class 'dict'>"),
        ('def f(x: Annotated[str, Ge(1)]):\n    """Do."""', "bounds or a mark that do not fit"),
        ('def f(x: Annotated[int, MultipleOf(2)]):\n    """Do."""', "which is not checked"),
        ('def f(x: Annotated[int, Ge("a")]):\n    """Do."""', "has the bound 'a'"),
        ("def f(x: int):\n    return 1", "has no docstring"),
        ("x = 1", "holds no tool"),
    ],
)
def test_what_is_no_free_tool(tmp_path: Path, source: str, sentence: str) -> None:
    head = "from typing import Annotated\nfrom annotated_types import Ge, MultipleOf\n"
    head += "from iapo.tools.signature import InPixels\n"
    (tmp_path / "bad.py").write_text(head + source)
    with pytest.raises(InputError) as error:
        offered_tools(f"{tmp_path}/bad.py")
    assert sentence in str(error.value)


JUDGED = '''
import numpy

from iapo import define
from iapo.tools import Box, add_judge
from PIL import Image


def misuse(sample, call):
    return call.given["box"][0] > 10


def look(image: Image.Image, box: Box) -> Image.Image:
    """Look."""
    return image


def strict(sample, call):
    return numpy.float64(call.name != "look") > 0


def broken(sample, call):
    return 1 / 0


look = define(look, misuse=misuse)
add_judge("strict", strict)
add_judge("broken", broken)
'''


def test_misuse_without_an_axis(tmp_path: Path, run: Callable[..., ToolResult]) -> None:
    """Not known, unless the tool or the sample has a judge; then by that."""
    unknown = run("display(invert(image_1, [0, 0, 9, 9]))")
    assert [unknown.misuse(axis) for axis in ("columns", "rows", None)] == [None] * 3
    # Beside a call of which it is known it stays unknown, and a wrong one makes it wrong.
    right = 'focus_on_columns_with_mask(image_1, ["2005"], columns_bbox)'
    mixed = run(f"display(invert({right}, [0, 0, 9, 9]))")
    assert (mixed.misuse("columns"), mixed.misuse("rows")) == (None, True)
    try:
        (tmp_path / "judged.py").write_text(JUDGED)
        judged = offered_tools(f"{tmp_path}/judged.py")

        def look(left: int, **more: Any) -> ToolResult:
            sample = Sample("s", SAMPLE.image, "?", ("1",), **more)
            return execute(f"```python\ndisplay(look(image_1, [{left}, 0, 30, 30]))\n```", sample, judged)

        assert [look(left).misuse(None) for left in (0, 20)] == [False, True]
        assert [look(left, axis="rows").misuse("rows") for left in (0, 20)] == [False, True]
        assert look(20, judge="strict").misuse(None) is False
        assert look(20).to_json()["calls"][0]["misused"] is True
        with pytest.raises(InputError, match=r"no judge 'strickt', which sample 's' names; did you mean strict\?"):
            look(0, judge="strickt")
        with pytest.raises(InputError, match="no judge 'strickt'"):
            check_judges([SAMPLE, dataclasses.replace(SAMPLE, judge="strickt")])
        check_judges([SAMPLE, dataclasses.replace(SAMPLE, judge="strict")])
        with pytest.raises(InputError, match=r"the judge of sample 's' failed on a call of look \(ZeroDivisionError"):
            look(0, judge="broken")
        with pytest.raises(InputError, match="the verifier rules cannot score calls of invert"):
            check_judged({"look": judged["look"], "invert": define_invert()})
        check_judged({**TOOLS, **judged})
        assert [rule_score(SAMPLE, look(left).calls[0]) for left in (0, 20)] == [1, 0]
    finally:
        JUDGES.pop("strict", None)
        JUDGES.pop("broken", None)
    with pytest.raises(InputError, match="cannot score calls of f"):
        rule_score(SAMPLE, ToolCall("f", (), "", None))


def define_invert() -> ToolDefinition:
    def invert(image: Image.Image) -> Image.Image:
        """Invert."""
        return image

    return define(invert)


def test_a_reward_by_axis_takes_an_unknown_call_as_neither(run: Callable[..., ToolResult]) -> None:
    def match(result: ToolResult, axis: Any, outcome: float) -> float:
        return _tool_match(Trace.of(dataclasses.replace(SAMPLE, axis=axis), "", result), Score(outcome))

    unknown = run("display(invert(image_1, [0, 0, 9, 9]))")
    failed = run("display(invert(image_1))")
    right = run('display(focus_on_columns_with_mask(image_1, ["2005"], columns_bbox))')
    assert [match(unknown, "columns", value) for value in (0.0, 1.0)] == [0.0, 1.0]
    assert [match(right, axis, 1.0) for axis in ("columns", "rows", None)] == [1.0, 0.0, 1.0]
    assert [match(failed, axis, 1.0) for axis in ("columns", None)] == [0.0, 1.0]


def test_what_cannot_be_defined() -> None:
    with pytest.raises(InputError, match="a tool cannot be called '<lambda>'"):
        define(lambda: "x")

    def display(image: Image.Image) -> Image.Image:
        """Display."""
        return image

    with pytest.raises(InputError, match="a tool cannot be called 'display'"):
        define(display)
    with pytest.raises(InputError, match="is made of a function"):
        define(object())  # type: ignore[arg-type]
    with pytest.raises(InputError, match="has the judge"):
        define(math.floor, misuse=3)  # type: ignore[arg-type]


def takes_all(
    image: Image.Image,
    box: Box | None = None,
    points: list[Point] | None = None,
    count: int = 1,
    scale: float = 1.0,
    word: str = "",
    name: ColumnName | None = None,
    boxes: Mapping[str, Box] | None = None,
    images: list[Image.Image] | None = None,
    flag: bool = False,
    mode: Literal["a", 1] = "a",
) -> str:
    """Take all."""
    assert box is None or (0 <= box[0] < box[2] <= image.width and 0 <= box[1] < box[3] <= image.height)
    assert all(0 <= x <= image.width and 0 <= y <= image.height for x, y in points or ())
    assert type(count) is int
    assert type(scale) is float
    assert math.isfinite(scale)
    assert name is None or name in COLUMNS
    assert flag in (True, False)
    return word


FUZZED = {"takes_all": define(takes_all)}
PARAMETERS = FUZZED["takes_all"].parameters
ATOMS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["2005", "image_1", 30, 10.5])
)
VALUES = st.recursive(ATOMS, lambda inner: st.lists(inner, max_size=4) | st.tuples(inner, inner), max_leaves=12)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(PARAMETERS), VALUES, st.booleans())
def test_whatever_is_given_nothing_is_raised(parameter: str, value: Any, lenient: bool) -> None:
    """What reaches the function is what its annotations say; all else is a status."""
    keyword = f"{parameter}={value!r}" if parameter == "image" else f"image_1, {parameter}={value!r}"
    result = execute(f"```python\ndisplay(takes_all({keyword}))\n```", SAMPLE, FUZZED, lenient=lenient)
    assert result.status in ("edited", "failed", "refused")
    assert result.broken == "", result.error
    assert ToolResult.from_json(json.loads(json.dumps(result.to_json()))) == result
    try:
        text = json.dumps({"name": "takes_all", "arguments": {parameter: value}})
    except UnicodeEncodeError:
        return
    result = execute(f"<tool_call>{text}</tool_call>", SAMPLE, FUZZED, lenient=True)
    assert result.status in ("edited", "failed", "refused")
    assert result.broken == "", result.error


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (np.float64(2.0) > 1, "True"),
        (np.int64(3), "3"),
        (np.array(0.5), "0.5"),
        (True, "True"),
        (np.float32(0.1), "0.1"),
        (np.float16(0.1), "0.1"),
        (np.array(98.3, np.float32), "98.3"),
        (torch.tensor(0.1), "0.1"),
    ],
)
def test_values_of_numpy_are_told_as_pythons(value: Any, text: str) -> None:
    def measured(number: int):  # type: ignore[no-untyped-def]
        """Measure."""
        return value

    result = execute("```python\ndisplay(measured(1))\n```", SAMPLE, {"measured": define(measured)})
    assert (result.broken, result.text) == ("", text)


def test_an_array_is_no_number() -> None:
    def measured(number: int):  # type: ignore[no-untyped-def]
        """Measure."""
        return np.array([1.0, 2.0])

    result = execute("```python\ndisplay(measured(1))\n```", SAMPLE, {"measured": define(measured)})
    assert "it returned an object of type ndarray" in (result.error or "")
