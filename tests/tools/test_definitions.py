"""The tool set as the prompt and the executor see it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageOps

from iapo.errors import InputError
from iapo.records import Box, Sample
from iapo.rollout.prompt import build_blocks
from iapo.tools import TOOLS, ToolDefinition, define, execute, offered_tools
from iapo.tools.offered import limited


def blank_columns(image: Image.Image, columns: Sequence[str], boxes: Mapping[str, Box]) -> Image.Image:
    """Blank the picture.

    Use it with care.
    """
    return Image.new("RGB", image.size)


def test_the_standard_set_in_order():
    assert [(tool.axis, tool.style) for tool in TOOLS.values()] == [
        (axis, style) for axis in ("columns", "rows") for style in ("highlight", "mask", "draw")
    ]
    for name, tool in TOOLS.items():
        assert name == tool.name == tool.function.__name__ == f"focus_on_{tool.axis}_with_{tool.style}"


@pytest.mark.parametrize("axis", ["columns", "rows"])
@pytest.mark.parametrize(
    ("style", "sentence"),
    [
        ("highlight", "Highlight the given {axis} of the picture in red."),
        ("mask", "Mask every {one} of the picture but the given ones."),
        ("draw", "Draw a red outline around the given {axis} of the picture."),
    ],
)
def test_text(axis: str, style: str, sentence: str):
    assert TOOLS[f"focus_on_{axis}_with_{style}"].text == (
        f"def focus_on_{axis}_with_{style}(image, {axis}_to_focus_on, all_{axis}_bounding_boxes):\n"
        f'    """{sentence.format(axis=axis, one=axis[:-1])}"""'
    )


def test_the_standard_set_cannot_be_changed():
    with pytest.raises(TypeError):
        TOOLS["x"] = TOOLS["focus_on_rows_with_draw"]  # type: ignore[index]
    with pytest.raises(AttributeError):
        TOOLS["focus_on_rows_with_draw"].axis = "columns"  # type: ignore[misc]


def test_an_own_tool():
    tool = define(blank_columns, axis="columns", style="mask")
    assert isinstance(tool, ToolDefinition)
    assert tool.text == (
        'def blank_columns(image, columns, boxes):\n    """Blank the picture.\n\n    Use it with care."""'
    )
    sample = Sample("s", Image.new("RGB", (9, 9), "white"), "?", ("1",), column_boxes={"a": (0, 0, 9, 9)})
    text = "```python\ndisplay(blank_columns(image_1, columns=['a'], boxes=columns_bbox))\n```"
    result = execute(text, sample, {**TOOLS, tool.name: tool})
    assert result.status == "edited"
    assert result.image is not None
    assert result.image.getpixel((0, 0)) == (0, 0, 0)
    assert [call.name for call in result.calls] == ["blank_columns"]
    assert execute(text, sample).status == "refused"


def without_docstring(image: Image.Image, names: Sequence[str], boxes: Mapping[str, Box]) -> Image.Image:
    return image


def with_two_parameters(image, names):  # type: ignore[no-untyped-def]
    """Do something."""
    return image


@pytest.mark.parametrize(
    ("function", "axis", "message"),
    [
        (without_docstring, "rows", "has no docstring"),
        (with_two_parameters, "rows", "takes 2 parameters"),
        (blank_columns, "diagonals", "use 'columns' or 'rows'"),
        (int, None, "a tool is made of a function; <class 'int'> is none"),
        (Sample, "columns", "is made of a function"),
        (max, None, "tool max does not tell its parameters"),
        (len, "rows", "tool len takes 1 parameters"),
    ],
)
def test_what_cannot_be_a_tool(function: Any, axis: Any, message: str):
    with pytest.raises(ValueError, match=message):
        define(function, axis=axis, style="mask")


def invert(image: Image.Image, names: Sequence[str], boxes: Mapping[str, Box]) -> Image.Image:
    """Invert."""
    return ImageOps.invert(image)


def shout(text: str) -> str:
    """Shout."""
    return text.upper()


@pytest.mark.parametrize("tool", [define(invert, axis="columns"), define(shout)], ids=["focusing", "free"])
@pytest.mark.parametrize("beside", [{}, TOOLS], ids=["alone", "beside"])
def test_a_tool_stands_under_its_own_name(tool: ToolDefinition, beside: Mapping[str, ToolDefinition]) -> None:
    """Prompts show a tool's own name, and calls go by the key."""
    sample = Sample("s", Image.new("RGB", (9, 9), "white"), "?", ("1",), column_boxes={"a": (0, 0, 9, 9)})
    tools = {**beside, "other": tool}
    refused = f"tools have the tool '{tool.name}' for 'other'; give it under its own name"
    for enter in (
        lambda: execute("```python\ndisplay(other())\n```", sample, tools),
        lambda: execute("nothing is called", sample, tools),
        lambda: build_blocks(sample, tools),
        lambda: limited(tools, None),
    ):
        with pytest.raises(InputError, match=refused):
            enter()
    renamed = dataclasses.replace(tool, name="other")
    assert "tool:other" in [block.name for block in build_blocks(sample, {**beside, "other": renamed})]
    assert execute("nothing is called", sample, {**beside, "other": renamed}).status == "no_call"


def test_a_mapping_in_a_file_has_the_tools_own_names(tmp_path: Path) -> None:
    file = tmp_path / "mapped.py"
    file.write_text(
        'def shout(text: str) -> str:\n    """Shout."""\n    return text.upper()\n'
        'RIGHT = {"shout": shout}\nWRONG = {"other": shout}\n'
    )
    assert list(offered_tools(f"{file}:RIGHT")) == ["shout"]
    with pytest.raises(InputError, match="tools have the tool 'shout' for 'other'"):
        offered_tools(f"{file}:WRONG")


@pytest.mark.parametrize(
    ("tools", "reason"),
    [
        (None, "but NoneType"),
        ([define(shout)], "but list"),
        ({"shout": shout}, "'shout' has an object of type function"),
    ],
)
def test_what_is_no_mapping_of_tools(tools: Any, reason: str) -> None:
    sample = Sample("s", Image.new("RGB", (9, 9), "white"), "?", ("1",))
    for enter in (lambda: execute("x", sample, tools), lambda: build_blocks(sample, tools)):
        with pytest.raises(InputError, match=f"tools are no mapping of names to tools.*{reason}"):
            enter()
