"""Programs about several images: names, what tools take, and which image an edit is compared with."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import pytest
from PIL import Image
from several import chart, mixed, photo, with_more

from iapo.errors import InputError
from iapo.records import Sample
from iapo.rewards.verifier import call_text
from iapo.tools import TOOLS, Box, define, execute, offered_tools
from iapo.tools.errors import BLANK, UNCHANGED

PAIR, SINGLE, TRIPLE = mixed()
MASK = "focus_on_columns_with_mask"
FREE = {**TOOLS, **offered_tools("crop")}


def beside(left: Image.Image, right: Image.Image) -> Image.Image:
    """Puts two images side by side."""
    canvas = Image.new("RGB", (left.width + right.width, max(left.height, right.height)))
    canvas.paste(left, (0, 0))
    canvas.paste(right, (left.width, 0))
    return canvas


def count(image: Image.Image, boxes: Mapping[str, Box]) -> int:
    """Counts the boxes of an image."""
    return len(boxes)


def image_3(image: Image.Image) -> Image.Image:
    """Gives the image back."""
    return image


def program(*lines: str) -> str:
    return "\n".join(["```python", *lines, "```"])


@pytest.mark.parametrize("lenient", [False, True])
@pytest.mark.parametrize(("name", "size"), [("image_1", (140, 140)), ("image_2", (56, 56)), ("image_3", (112, 84))])
def test_free_tools_take_any_of_them(name: str, size: tuple[int, int], lenient: bool) -> None:
    width, _ = size
    assert TRIPLE.named_images[name].size == size
    result = execute(program(f"display(crop({name}, [0, 0, {width - 1}, 30]))"), TRIPLE, FREE, lenient=lenient)
    assert result.status == "edited", result.error
    assert result.made_of == name
    assert result.calls[0].given["image"] == name
    # Pixels are those of the image that is cut.
    outside = execute(program(f"display(crop({name}, [0, 0, {width + 40}, 30]))"), TRIPLE, FREE, lenient=lenient)
    assert outside.status == "failed"


def test_json_calls_name_them() -> None:
    text = '<tool_call>{"name": "crop", "arguments": {"image": "image_2", "box": [0, 0, 40, 40]}}</tool_call>'
    result = execute(text, TRIPLE, FREE, lenient=True)
    assert (result.status, result.made_of) == ("edited", "image_2"), result.error


def test_names_are_those_that_there_are() -> None:
    for sample, names in ((SINGLE, "'image_1', 'columns_bbox'"), (PAIR, "'image_1', 'image_2', 'columns_bbox'")):
        result = execute(program("display(crop(image_3, [0, 0, 40, 40]))"), sample, FREE)
        assert result.status == "failed"
        assert names in str(result.error)
    # What programs about one image could always write, they still can.
    column = next(iter(SINGLE.column_boxes))
    text = program(f'image_2 = {MASK}(image_1, ["{column}"], columns_bbox)', "display(image_2)")
    assert execute(text, SINGLE).status == "edited"


@pytest.mark.parametrize("lenient", [False, True])
def test_boxes_of_the_first_image_are_on_no_other(lenient: bool) -> None:
    column = next(iter(PAIR.column_boxes))
    ours = execute(program(f'display({MASK}(image_1, ["{column}"], columns_bbox))'), PAIR, lenient=lenient)
    assert (ours.status, ours.made_of) == ("edited", "image_1")
    assert ours.calls[0].arguments == ()
    refused = execute(program(f'display({MASK}(image_2, ["{column}"], columns_bbox))'), PAIR, lenient=lenient)
    assert refused.status == "failed"
    assert refused.error == (
        f"line 1: {MASK} was given image_2 with columns_bbox, whose boxes are on image_1; give it image_1"
    )
    # What was made of it is no better.
    text = program("part = crop(image_2, [0, 0, 60, 60])", f'display({MASK}(part, ["{column}"], columns_bbox))')
    assert "was given image_2 with columns_bbox" in str(execute(text, PAIR, FREE, lenient=lenient).error)
    if lenient:
        other = execute(program("image_1 = image_2", f'display({MASK}(image_1, ["{column}"]))'), PAIR, lenient=True)
        assert "was given image_2 with columns_bbox" in str(other.error)


def test_free_tools_are_given_no_boxes_of_another_image() -> None:
    tools = {**TOOLS, "count": define(count)}
    found = [execute(program(f"display(count({name}, columns_bbox))"), PAIR, tools) for name in PAIR.named_images]
    assert (found[0].status, found[0].text) == ("edited", str(len(PAIR.column_boxes)))
    assert found[1].error == "line 1, count: was given image_2 with columns_bbox, which is on image_1; give it that"


def test_a_program_may_give_boxes_of_another_image() -> None:
    boxes = '{"left": [0, 0, 42, 140], "right": [42, 0, 84, 140]}'
    text = program(f'display({MASK}(image_2, ["left"], {boxes}))')
    result = execute(text, PAIR, lenient=True)
    assert (result.status, result.made_of) == ("edited", "image_2"), result.error
    assert result.image is not None
    assert result.image.size == PAIR.more_images[0].size
    # The sample says along which axis its first image divides, and of the second nothing.
    rows = execute(text.replace("columns", "rows"), PAIR, lenient=True)
    assert PAIR.axis == "columns"
    assert (result.misuse(PAIR.axis), rows.misuse(PAIR.axis)) == (None, None)
    assert '"image_2"' in call_text(result.calls[0])
    assert "own boxes" in call_text(result.calls[0])


def test_an_edit_is_compared_with_the_image_that_it_was_made_of() -> None:
    """The second image has the first one's size and is blank but for one column."""
    white = Image.new("RGB", PAIR.image.size, "white")
    white.paste(photo(20, 20), (20, 20))
    sample = dataclasses.replace(PAIR, more_images=(white,))
    all_of_it = '{"all": [0, 0, 112, 112]}'
    unchanged = execute(program(f'display({MASK}(image_2, ["all"], {all_of_it}))'), sample, lenient=True)
    assert unchanged.status == "failed"
    assert str(unchanged.error) == UNCHANGED
    boxes = '{"start": [0, 0, 60, 112], "end": [60, 0, 112, 112]}'
    text = program(f'display({MASK}(image_2, ["end"], {boxes}))')
    erased = execute(text, sample, lenient=True)
    assert erased.status == "failed"
    assert str(erased.error) == BLANK
    shown = execute(program("display(image_2)"), PAIR)
    assert "unchanged" in str(shown.error)


def test_several_images_in_one_call() -> None:
    tools = {**TOOLS, "beside": define(beside)}
    result = execute(program("display(beside(image_1, image_3))"), TRIPLE, tools)
    assert (result.status, result.made_of) == ("edited", "image_3"), result.error
    assert result.calls[0].given == {"left": "image_1", "right": "image_3"}
    wrong = execute(program("display(beside(image_1, 3))"), TRIPLE, tools)
    assert "give it image_1, image_2, image_3 or an image that a tool returned" in str(wrong.error)


def test_no_tool_may_bear_their_names() -> None:
    with pytest.raises(InputError, match="a tool cannot be called 'image_3'"):
        define(image_3)


def test_samples_with_one_image_are_as_they_were() -> None:
    alone = dataclasses.replace(PAIR, more_images=())
    column = next(iter(alone.column_boxes))
    text = program(f'display({MASK}(image_1, ["{column}"], columns_bbox))')
    both: list[Sample] = [alone, with_more(chart(), (84, 140))]
    first, second = (execute(text, sample).to_json() for sample in both)
    assert first == second
