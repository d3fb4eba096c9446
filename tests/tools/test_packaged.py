"""The packaged free tools, by name and one by one."""

from __future__ import annotations

import re
import sys
import types
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageDraw

from iapo import ocr
from iapo.data.synthetic import generate
from iapo.errors import InputError
from iapo.records import Sample, ToolResult
from iapo.tools import TOOLS, ToolError, execute, offered_tools
from iapo.tools.packaged import PACKAGED
from iapo.tools.packaged.calculate import calculate
from iapo.tools.packaged.measure_bar import measure_bar
from iapo.tools.packaged.rotate import rotate

SAMPLE = Sample("s", Image.linear_gradient("L").resize((120, 80)).convert("RGB"), "?", ("1",))


def run(call: str, sample: Sample = SAMPLE) -> ToolResult:
    return execute(f"```python\ndisplay({call})\n```", sample, PACKAGED)


def size(call: str) -> tuple[int, int]:
    result = run(call)
    assert result.image is not None, result.error
    return result.image.size


def test_they_are_offered_by_name() -> None:
    assert list(PACKAGED) == ["crop", "zoom", "rotate", "read_text", "calculate", "measure_bar"]
    assert list(offered_tools("standard,crop,calculate")) == [*TOOLS, "crop", "calculate"]
    # Not asked for, there are the six.
    assert offered_tools(None) is TOOLS
    for tool in PACKAGED.values():
        assert tool.packaged
        assert tool.text.count('"""') == 2


def test_crop_zoom_and_rotate() -> None:
    before = SAMPLE.image.tobytes()
    assert size("crop(image_1, [10, 10, 40, 30])") == (30, 20)
    assert size("crop(image_1, [10, 10, 40, 30], margin=200)") == (120, 80)
    assert size("zoom(image_1, [10, 10, 40, 30], 3)") == (90, 60)
    assert size("zoom(zoom(image_1, [0, 0, 120, 80], 8), [0, 0, 960, 640], 8)") == (2048, 1365)
    assert size("rotate(image_1, 90)") == (80, 120)
    part = run("crop(image_1, [10, 10, 40, 30])").image
    assert part is not None
    assert part.tobytes() == SAMPLE.image.crop((10, 10, 40, 30)).tobytes()
    for call in ("crop(image_1, [10, 10, 12, 70])", "zoom(image_1, [1, 1, 2, 2])", "zoom(image_1, [0, 0, 99, 70], 99)"):
        result = run(call)
        assert (result.status, result.broken) == ("failed", ""), call
    assert run("rotate(image_1, 1e9)").status == "failed"
    assert SAMPLE.image.tobytes() == before


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("3 * (14.5 - 2)", 37.5),
        ("-2 ** 2 + +1", -3),
        ("7 // 2 + 7 % 4 - 1e2", -94),
        ("round(2 / 3, 2)", 0.67),
        ("max(1, 2) + min([3, 4]) + sum([1, 2, 3]) + abs(-1) + sqrt(9) + mean(1, 2)", 16.5),
        ("min(2) + max([-3]) + max(4)", 3),
        ("10 ** 100", 1e100),
        ("  1 + 1\n", 2),
        ("(" * 99 + "1" + ")" * 99, 1),
        ("-" * 199 + "1", -1),
    ],
)
def test_calculate(expression: str, value: float) -> None:
    assert calculate(expression) == pytest.approx(value)


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ("9 ** 9 ** 9 ** 9", "exponent"),
        ("10 ** 101", "too large"),
        ("2 ** 1001", "exponent 1001 is too large"),
        ("9" * 150, "too large"),
        ("1e999", "too large"),
        ("1e90 * 1e90", "too large"),
        ("1 / 0", "divides by zero"),
        ("5 % 0", "divides by zero"),
        ("0 ** -1", "no value among the numbers"),
        ("(-8) ** 0.5", "no value among the numbers"),
        ("sqrt(-1)", "no value among the numbers"),
        ("1,234 + 1", "a comma"),
        ("x + 1", "the name 'x'"),
        ("__import__('os')", "something else (Call)"),
        ("(1).real", "something else (Attribute)"),
        ("'a' * 9", "something else (Constant)"),
        ("True + 1", "something else (Constant)"),
        ("[1] * 9", "something else (List)"),
        ("1 if 1 else 2", "something else (IfExp)"),
        ("1 << 9", "operator LShift"),
        ("~1", "something else (UnaryOp)"),
        ("abs(1, 2)", "abs takes 1 numbers"),
        ("round(1.5, digits=1)", "no keywords"),
        ("max(*[1])", "something else (Starred)"),
        ("max()", "max takes 1 or more"),
        ("1 +", "not valid arithmetic"),
        ("x = 1", "not valid arithmetic"),
        ("1; 2", "not valid arithmetic"),
        ("", "not valid arithmetic"),
        ("\0", "not valid arithmetic"),
    ],
)
def test_calculate_refuses(expression: str, reason: str) -> None:
    with pytest.raises(ToolError, match=re.escape(reason)):
        calculate(expression)


def test_calculate_in_a_program() -> None:
    result = run('calculate("0.1 + 0.2")')
    assert (result.status, result.text, result.image) == ("edited", "0.3", None)
    assert run(f'calculate("{"1+" * 150}1")').status == "failed"


def test_measured_bars_are_as_long_as_their_values() -> None:
    """All of a chart's bars are of one scale, whichever way they lie."""
    for family, direction in (("vbar", "vertical"), ("hbar", "horizontal")):
        for sample in generate(family, 3, seed=1, question_types=("value",)):
            boxes = sample.column_boxes if family == "vbar" else sample.row_boxes
            lengths = [measure_bar(sample.image, box, direction) for box in boxes.values()]  # type: ignore[arg-type]
            assert all(3 <= length <= 112 for length in lengths), (sample.id, lengths)
    image = Image.new("RGB", (100, 100), "white")
    draw = ImageDraw.Draw(image)
    for place, height in enumerate((10, 35, 80)):
        draw.rectangle((10 + 30 * place, 95 - height, 25 + 30 * place, 94), fill=(30, 90, 200))
        draw.line((0, 95 - height, 99, 95 - height), fill=(200, 200, 200))
    boxes = [(5.0 + 30 * place, 0.0, 32.0 + 30 * place, 100.0) for place in range(3)]
    assert [measure_bar(image, box) for box in boxes] == pytest.approx([10, 35, 80], abs=1)
    # Ticks: 0 at pixel 95, 50 at pixel 45.
    values = [measure_bar(image, box, ticks=[[95, 0], [45, 50]]) for box in boxes]
    assert values == pytest.approx([10, 35, 80], abs=1)
    turned = Image.fromarray(np.rot90(np.asarray(image), 3).copy())
    assert measure_bar(turned, (0, 5, 100, 32), "horizontal") == pytest.approx(10, abs=1)
    for box, ticks, reason in (
        ((0, 0, 9, 10), None, "nothing in the box but the page"),
        (boxes[0], [[1, 0], [1, 5]], "two ticks are at one pixel"),
    ):
        with pytest.raises(ToolError, match=reason):
            measure_bar(image, box, ticks=ticks)


@pytest.fixture
def rapidocr(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[tuple[str, float, int, int]]], None]:
    """Puts an engine in the place of RapidOCR's that finds given words: text, score, top, left."""

    def install(lines: list[tuple[str, float, int, int]]) -> None:
        class RapidOCR:
            def __init__(self, params: object) -> None:
                pass

            def __call__(self, pixels: np.ndarray) -> object:
                corners = [[[x, y], [x + 9, y], [x + 9, y + 5], [x, y + 5]] for _, _, y, x in lines]
                found = corners or None
                return types.SimpleNamespace(
                    boxes=found, txts=[one[0] for one in lines], scores=[one[1] for one in lines]
                )

        module = types.ModuleType("rapidocr")
        module.RapidOCR = RapidOCR  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "rapidocr", module)
        monkeypatch.setattr(ocr, "find_spec", lambda name: True)
        ocr._engine.cache_clear()

    yield install  # type: ignore[misc]
    ocr._engine.cache_clear()


def test_read_text(rapidocr: Callable[[list[tuple[str, float, int, int]]], None]) -> None:
    rapidocr([("below ", 0.9, 50, 0), ("right", 0.9, 9, 20), ("left", 0.8, 10, 5), ("a guess", 0.2, 0, 0)])
    assert list(offered_tools("read_text")) == ["read_text"]
    assert run("read_text(image_1)").text == "left right\nbelow"
    assert run("read_text(image_1, [0, 0, 50, 50])").text == "left right\nbelow"
    rapidocr([])
    assert run("read_text(image_1)").text == "(no text was found)"


def test_read_text_is_refused_where_it_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ocr, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"read_text needs rapidocr and onnxruntime; pip install 'iapo\[ocr\]'"):
        offered_tools("standard,read_text")


def test_read_text_reads() -> None:
    pytest.importorskip("rapidocr", reason="the extra ocr is not installed")
    image = Image.new("RGB", (300, 80), "white")
    ImageDraw.Draw(image).text((20, 20), "Sales 2021", fill="black", font_size=32)
    assert run("read_text(image_1)", Sample("s", image, "?", ("1",))).text == "Sales 2021"


@pytest.mark.parametrize(
    "ticks", ["[[0, 0], [1e-310, 1]]", "[[0, 1e308], [1, -1e308]]", "[[-1e308, 0], [1e308, 1e308]]", "[[1, 1], [1, 2]]"]
)
def test_numbers_of_a_program_break_no_tool(ticks: str) -> None:
    image = Image.new("RGB", (100, 60), "white")
    image.paste("red", (20, 10, 40, 60))
    sample = Sample("s", image, "q?", ("1",))
    program = f"```python\ndisplay(measure_bar(image_1, [0, 0, 99, 60], ticks={ticks}))\n```"
    result = execute(program, sample, offered_tools("measure_bar"))
    assert not result.broken
    assert result.status == "failed" or result.text == "0", (result.text, result.error)


def test_a_turned_image_is_not_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["iapo.tools.packaged.rotate"], "MOST_PIXELS", 10_000)
    image = Image.new("RGB", (100, 100))
    assert rotate(image, 180).size == image.size
    with pytest.raises(ToolError, match="more than 10,000 pixels; crop it first"):
        rotate(image, 45)


def test_calculate_reads_printed_signs() -> None:
    assert calculate("3×4 ÷ 2 − 1") == 5
    with pytest.raises(ToolError, match="has the sign '·' in it; write for example"):
        calculate("3·4")
