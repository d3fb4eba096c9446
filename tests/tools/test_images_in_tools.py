"""Programs about several images: names, what tools take, and which image an edit is compared with."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import pytest
from PIL import Image
from several import chart, mixed, photo, with_more

from iapo.errors import InputError
from iapo.records import Sample, ToolResult, Trace, Turn
from iapo.rewards.verifier import call_text
from iapo.tools import TOOLS, Box, define, execute, keeps_places, moves_pixels, offered_tools
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
    assert (
        found[1].error
        == "line 1, count: was given image_2 with columns_bbox, whose boxes are on image_1; give it image_1"
    )


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


def bars() -> Sample:
    image = Image.new("RGB", (200, 100), "white")
    for place, colour in enumerate(("red", "green", "blue", "black")):
        image.paste(colour, (50 * place + 10, 20, 50 * place + 40, 90 - 10 * place))
    boxes = {str(place): (50.0 * place, 0.0, 50.0 * place + 50, 100.0) for place in range(4)}
    return Sample("bars", image, "q?", ("1",), column_boxes=boxes, axis="columns")


BARS = bars()
PACKAGED = {**TOOLS, **offered_tools("crop,zoom,rotate")}


def darken(image: Image.Image) -> Image.Image:
    """Darkens the image."""
    return image.point(lambda value: value // 2)


@moves_pixels
def flip(image: Image.Image) -> Image.Image:
    """Flips the image."""
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


def drawn(size: int) -> Image.Image:
    """Draws an image of nothing."""
    return Image.new("RGB", (size, size), "red")


OWN = {**PACKAGED, **{one.__name__: define(one) for one in (darken, flip, drawn, count, beside)}}
COLUMN = next(iter(BARS.column_boxes))
MOVED = (
    "crop(image_1, [60, 0, 180, 100])",
    "zoom(image_1, [60, 0, 160, 50], 2)",
    "rotate(image_1, 180)",
    "rotate(image_1, 3)",
    "darken(rotate(image_1, 180))",
    "flip(image_1)",
    "drawn(100)",
    "beside(image_1, image_1)",
)


@pytest.mark.parametrize("moved", MOVED)
@pytest.mark.parametrize("lenient", [False, True])
def test_named_boxes_do_not_fit_what_was_moved(moved: str, lenient: bool) -> None:
    whose = moved.removeprefix("darken(").partition("(")[0]
    for call in (
        f'{MASK}(made, ["{COLUMN}"], columns_bbox)',
        f'crop(made, columns_bbox["{COLUMN}"])',
        "count(made, columns_bbox)",
    ):
        result = execute(program(f"made = {moved}", f"display({call})"), BARS, OWN, lenient=lenient)
        assert result.status == "failed"
        assert f"was given what {whose} gave, in which all lies elsewhere, with columns_bbox" in str(result.error)
    # What it shows is told to the next turn, also where the size is the same.
    shown = execute(program(f"display({moved})"), BARS, OWN, lenient=lenient)
    assert shown.image is not None
    assert shown.moved
    assert ToolResult.from_json(shown.to_json()).moved
    seen = BARS.showing(shown.image, shown.made_of, moved=shown.moved)
    assert not seen.column_boxes
    # Boxes do not come back with what a later turn makes of it.
    again = execute(program("display(darken(image_1))"), seen, OWN)
    assert again.image is not None
    turns = (Turn("", shown), Turn("", again), Turn(""))
    assert [bool(Trace(BARS, turns).sample_at(turn).column_boxes) for turn in range(3)] == [True, False, False]


def test_boxes_of_a_programs_own_fit_what_it_says() -> None:
    lines = (
        "made = rotate(image_1, 180)",
        f'display({MASK}(made, ["a"], {{"a": [0, 0, 60, 99], "b": [60, 0, 99, 99]}}))',
    )
    own = execute(program(*lines), BARS, OWN, lenient=True)
    assert (own.status, own.moved) == ("edited", True), own.error
    named = f'{{"a": columns_bbox["{COLUMN}"], "b": [60, 0, 99, 99]}}'
    mixed_boxes = execute(program(lines[0], f'display({MASK}(made, ["a"], {named}))'), BARS, OWN, lenient=True)
    assert "with columns_bbox, whose boxes are on image_1" in str(mixed_boxes.error)
    here = execute(program(f'display({MASK}(image_1, ["a"], {named}))'), BARS, OWN, lenient=True)
    assert (here.status, here.moved) == ("edited", False), here.error


@pytest.mark.parametrize(
    "kept",
    [
        "image_1",
        f'focus_on_columns_with_draw(image_1, ["{COLUMN}"], columns_bbox)',
        f'focus_on_columns_with_highlight(darken(image_1), ["{COLUMN}"], columns_bbox)',
        "darken(darken(image_1))",
        "crop(image_1, [0, 0, 200, 100])",
        "zoom(image_1, [0, 0, 200, 100], 1)",
        "rotate(image_1, 0)",
    ],
)
def test_tools_that_draw_on_the_image_chain(kept: str) -> None:
    lines = (f"made = {kept}", f'made = {MASK}(made, ["{COLUMN}"], columns_bbox)', "display(made)")
    result = execute(program(*lines), BARS, OWN)
    assert (result.status, result.moved) == ("edited", False), result.error
    assert result.image is not None
    assert BARS.showing(result.image, result.made_of, moved=result.moved).column_boxes == BARS.column_boxes
    part = execute(program(lines[0], f'display(crop(made, columns_bbox["{COLUMN}"]))'), BARS, OWN)
    assert part.status == "edited", part.error


def test_a_named_box_is_of_no_other_image() -> None:
    found = [
        execute(program(f'display(crop({name}, columns_bbox["{next(iter(PAIR.column_boxes))}"]))'), PAIR, FREE)
        for name in PAIR.named_images
    ]
    assert [one.status for one in found] == ["edited", "failed"]
    assert str(found[1].error).endswith(
        "was given image_2 with columns_bbox, whose boxes are on image_1; give it image_1"
    )


def test_what_moves_pixels_is_a_function() -> None:
    with pytest.raises(InputError, match="moves_pixels marks a function"):
        moves_pixels(define(flip))
    assert define(flip).moves
    assert not define(darken).moves


LEGEND = """
from PIL import Image
from iapo.tools import keeps_places

@keeps_places
def legend(image: Image.Image, width: int = 0, height: int = 20) -> Image.Image:
    \"\"\"Writes a legend below the image.\"\"\"
    made = Image.new("RGB", (image.width + width, image.height + height), "white")
    made.paste(image, (0, 0))
    return made
"""


@pytest.mark.parametrize("timeout", [None, pytest.param(20, marks=pytest.mark.slow(2))])
def test_a_larger_result_that_keeps_its_places(tmp_path: Path, timeout: float | None) -> None:
    (tmp_path / "mine.py").write_text(LEGEND)
    tools = {**OWN, **offered_tools(str(tmp_path / "mine.py"), timeout)}
    assert tools["legend"].keeps
    lines = ("made = darken(legend(image_1))", f'made = {MASK}(made, ["{COLUMN}"], columns_bbox)', "display(made)")
    shown = execute(program(*lines), BARS, tools)
    assert (shown.status, shown.moved, shown.kept) == ("edited", False, True), shown.error
    assert ToolResult.from_json(shown.to_json()).kept
    # The next turn has its boxes, too, and goes on with them.
    draw = f'display(focus_on_columns_with_draw(image_1, ["{COLUMN}"], columns_bbox))'
    again = execute(program(draw), trace_of(shown), tools)
    assert (again.status, again.moved, again.kept) == ("edited", False, False), again.error
    assert trace_of(shown, again).column_boxes == BARS.column_boxes
    # What is smaller in one direction has lost some of them, and what another tool moves stays moved.
    for made in ("legend(image_1, -10)", "legend(image_1, 10, -10)", "legend(rotate(image_1, 180))"):
        moved = execute(program(f"display({made})"), BARS, tools)
        assert (moved.status, moved.moved, moved.kept) == ("edited", True, False), moved.error
        assert not trace_of(moved).column_boxes


def trace_of(*results: ToolResult) -> Sample:
    """Returns the sample as the turn after some has it."""
    return Trace(BARS, (*(Turn("", one) for one in results), Turn(""))).sample_at(len(results))


def test_marks_of_places_are_of_functions_and_not_both() -> None:
    with pytest.raises(InputError, match="keeps_places marks a function"):
        keeps_places(define(darken))
    for mark, other in ((keeps_places, moves_pixels), (moves_pixels, keeps_places)):

        @other
        def marked(image: Image.Image) -> Image.Image:
            """Does something."""
            return image

        with pytest.raises(InputError, match="marked is marked with moves_pixels and with keeps_places"):
            mark(marked)


@pytest.mark.parametrize("lenient", [False, True])
def test_a_picture_without_boxes_says_so(lenient: bool) -> None:
    shown = execute(program("display(crop(image_1, [0, 0, 90, 90]))"), BARS, OWN)
    for tool in TOOLS.values():
        call = f'{tool.name}(image_1, ["{COLUMN}"], {tool.axis}_bbox)'
        error = execute(program(f"display({call})"), trace_of(shown), OWN, lenient=lenient).error
        assert f"{tool.name}: this picture has neither column boxes nor row boxes; answer from what it shows" in str(
            error
        )
        assert ("give boxes of your own" in str(error)) == lenient
    part = execute(program(f'display(crop(image_1, columns_bbox["{COLUMN}"]))'), trace_of(shown), OWN, lenient=lenient)
    assert part.error == "line 1: columns_bbox has no boxes for this picture; give [x1, y1, x2, y2] in its pixels"
