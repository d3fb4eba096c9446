"""Which pixels each edit changes, to which colour, and that its input stays as it was."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from iapo.images import to_rgb
from iapo.records import Box
from iapo.tools import TOOLS, ToolError, edits
from iapo.tools.canvas import inset, outline_width, region_of

GREY, WHITE, RED = (100, 100, 100), (255, 255, 255), (255, 0, 0)
SIZE = (60, 40)
COLUMNS: dict[str, Box] = {"a": (0, 0, 20, 40), "b": (20, 0, 40, 40), "c": (40, 0, 60, 40)}
ROWS: dict[str, Box] = {"head": (0, 0, 60, 10), "x": (0, 10, 60, 20), "y": (0, 20, 60, 40)}
MODES = [
    *("1", "L", "LA", "La", "P", "PA", "RGB", "RGBX", "RGBA", "RGBa", "CMYK", "YCbCr", "LAB", "HSV"),
    *("I", "F", "I;16", "I;16L", "I;16B", "I;16N"),
]
EDITS = [tool.function for tool in TOOLS.values()]
Edit = Callable[..., Image.Image]


def grey(size: tuple[int, int] = SIZE) -> Image.Image:
    return Image.new("RGB", size, GREY)


def pixels(left: int, top: int, right: int, bottom: int) -> set[tuple[int, int]]:
    return {(x, y) for x in range(left, right) for y in range(top, bottom)}


def changed(edited: Image.Image, color: tuple[int, int, int]) -> set[tuple[int, int]]:
    """The pixels that are no longer grey, all of which must have the given colour."""
    every = {(x, y): edited.getpixel((x, y)) for x in range(edited.width) for y in range(edited.height)}
    assert set(every.values()) <= {GREY, color}
    return {xy for xy, value in every.items() if value == color}


def test_highlight_lays_translucent_red_over_the_chosen_box_2_px_inside():
    edited = edits.focus_on_columns_with_highlight(grey(), ["b"], COLUMNS)
    red_over_grey = (130, 80, 80)  # 100 + (255 - 100) * 50 / 255 and 100 - 100 * 50 / 255
    assert changed(edited, red_over_grey) == pixels(22, 2, 38, 38)


def test_highlight_of_overlapping_boxes_is_laid_on_once():
    boxes: dict[str, Box] = {"a": (0, 0, 30, 40), "b": (20, 0, 60, 40)}
    edited = edits.focus_on_columns_with_highlight(grey(), ["a", "b", "a"], boxes)
    assert changed(edited, (130, 80, 80)) == pixels(2, 2, 58, 38)


def test_highlight_on_white_is_the_known_pink():
    edited = edits.focus_on_rows_with_highlight(Image.new("RGB", SIZE, WHITE), ["x"], ROWS)
    assert edited.getpixel((30, 15)) == (255, 205, 205)


def test_mask_whitens_the_other_boxes_2_px_inside():
    edited = edits.focus_on_columns_with_mask(grey(), ["b"], COLUMNS)
    assert changed(edited, WHITE) == pixels(2, 2, 18, 38) | pixels(42, 2, 58, 38)


def test_mask_never_covers_a_chosen_box():
    boxes: dict[str, Box] = {"a": (0, 0, 30, 40), "b": (20, 0, 60, 40)}
    edited = edits.focus_on_columns_with_mask(grey(), ["b"], boxes)
    assert changed(edited, WHITE) == pixels(2, 2, 20, 38)


def test_mask_of_all_chosen_changes_nothing():
    assert changed(edits.focus_on_columns_with_mask(grey(), list(COLUMNS), COLUMNS), WHITE) == set()


def test_masked_rows_lose_the_header_unless_it_is_kept():
    edited = edits.focus_on_rows_with_mask(grey(), ["x"], ROWS)
    assert changed(edited, WHITE) == pixels(2, 2, 58, 8) | pixels(2, 22, 58, 38)


def test_kept_header_is_the_top_most_row_whatever_the_order():
    boxes = {name: ROWS[name] for name in ("y", "x", "head")}
    edited = edits.focus_on_rows_with_mask(grey(), ["x"], boxes, keep_header=True)
    assert changed(edited, WHITE) == pixels(2, 22, 58, 38)
    edited = edits.focus_on_rows_with_mask(grey(), ["head"], boxes, keep_header=True)
    assert changed(edited, WHITE) == pixels(2, 12, 58, 18) | pixels(2, 22, 58, 38)


def test_kept_header_is_not_covered_by_an_overlapping_row():
    boxes: dict[str, Box] = {"head": (0, 0, 60, 15), "x": (0, 5, 60, 20), "y": (0, 20, 60, 40)}
    edited = edits.focus_on_rows_with_mask(grey(), ["y"], boxes, keep_header=True)
    assert changed(edited, WHITE) == pixels(2, 15, 58, 18)


def test_header_outside_of_the_picture_is_no_trouble():
    boxes: dict[str, Box] = {"head": (0, -20, 60, -10), "x": (0, 10, 60, 20), "y": (0, 20, 60, 40)}
    edited = edits.focus_on_rows_with_mask(grey(), ["x"], boxes, keep_header=True)
    assert changed(edited, WHITE) == pixels(2, 22, 58, 38)


def test_draw_outlines_5_px_at_real_sizes():
    edited = edits.focus_on_columns_with_draw(grey((500, 500)), ["b"], {"b": (100, 100, 200, 300)})
    assert changed(edited, RED) == pixels(102, 102, 198, 298) - pixels(107, 107, 193, 293)


def test_draw_is_thinner_on_small_pictures():
    edited = edits.focus_on_rows_with_draw(grey(), ["y"], ROWS)
    assert changed(edited, RED) == pixels(2, 22, 58, 38) - pixels(3, 23, 57, 37)


@pytest.mark.parametrize(
    ("size", "width"),
    [((4000, 1000), 5), ((500, 500), 5), ((300, 900), 3), ((100, 100), 1), ((1, 1), 1)],
)
def test_outline_width(size: tuple[int, int], width: int):
    assert outline_width(size) == width


@pytest.mark.parametrize(("side", "start", "stop"), [(1, 0, 1), (2, 0, 2), (3, 1, 2), (4, 1, 3), (5, 2, 3), (9, 2, 7)])
def test_inset_shrinks_before_the_box_vanishes(side: int, start: int, stop: int):
    assert inset((0, 0, side, side)) == (start, start, stop, stop)


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("side", [0.25, 1, 2, 3, 4, 5])
def test_boxes_of_few_pixels_do_not_raise(edit: Edit, side: float):
    size = (600, 600)  # where the outline is wider than the box
    boxes: dict[str, Box] = {"a": (10, 10, 10 + side, 10 + side), "b": (30, 30, 30 + side, 30 + side)}
    edited = edit(grey(size), ["a"], boxes)
    differing = {xy for xy in pixels(0, 0, 50, 50) if edited.getpixel(xy) != GREY}
    corner = 30 if edit.__name__.endswith("mask") else 10
    reach = corner + math.ceil(side)
    assert differing
    assert differing <= pixels(corner, corner, reach, reach)


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("mode", MODES)
def test_every_mode_gives_rgb_and_is_not_changed(edit: Edit, mode: str):
    image = Image.new(mode, SIZE)
    before, info = image.tobytes(), dict(image.info)
    edited = edit(image, ["a"], {"a": (0, 0, 20, 20), "b": (20, 20, 60, 40)})
    assert (edited.mode, edited.size) == ("RGB", SIZE)
    assert (image.mode, image.tobytes(), image.info) == (mode, before, info)
    if mode == "RGB":
        assert edited.tobytes() != before


@pytest.mark.parametrize("edit", EDITS)
def test_all_chosen_still_returns_a_new_picture(edit: Edit):
    image = grey()
    edited = edit(image, ["a"], {"a": (0, 0, 20, 20)})
    edited.paste((1, 2, 3), (0, 0, 60, 40))
    assert image.tobytes() == grey().tobytes()


def palette_picture() -> Image.Image:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((1, 0), 1)
    return image


def as_rgb(image: Image.Image) -> list[tuple[int, int, int]]:
    rgb = to_rgb(image)
    assert rgb.mode == "RGB"
    assert "transparency" not in rgb.info
    data = rgb.tobytes()
    return [(data[i], data[i + 1], data[i + 2]) for i in range(0, len(data), 3)]


def test_palette_pictures():
    image = palette_picture()
    assert as_rgb(image) == [(10, 20, 30), (200, 100, 50)]
    image.info["transparency"] = 0
    assert as_rgb(image) == [WHITE, (200, 100, 50)]
    image.info["transparency"] = bytes([255, 0])
    assert as_rgb(image) == [(10, 20, 30), WHITE]


def test_transparency_is_laid_over_white():
    assert as_rgb(Image.new("RGBA", (1, 1), (0, 0, 0, 0))) == [WHITE]
    assert as_rgb(Image.new("RGBA", (1, 1), (10, 20, 30, 255))) == [(10, 20, 30)]
    assert as_rgb(Image.new("RGBA", (1, 1), (0, 0, 0, 51))) == [(204, 204, 204)]
    assert as_rgb(Image.new("LA", (1, 1), (7, 255))) == [(7, 7, 7)]
    keyed = Image.new("L", (1, 1), 7)
    keyed.info["transparency"] = 7
    assert as_rgb(keyed) == [WHITE]


@pytest.mark.parametrize(
    ("mode", "values", "expected"),
    [
        ("1", [0, 255], [0, 255]),
        ("L", [0, 77], [0, 77]),
        ("I;16", [0, 32768, 65535], [0, 128, 255]),
        ("I;16B", [0, 257, 65535], [0, 1, 255]),
        ("I", [0, 77, 255], [0, 77, 255]),
        ("I", [0, 257, 65535], [0, 1, 255]),
        ("I", [-100, 0, 100], [0, 128, 255]),
        ("I", [70000, 70000], [0, 0]),
        ("F", [0.0, 0.5, 1.0], [0, 128, 255]),
        ("F", [0.0, 77.4, 255.0], [0, 77, 255]),
        ("F", [math.inf, 7.0, -math.inf], [255, 7, 0]),
        ("F", [math.nan, 0.0, 0.5, 1.0], [255, 0, 128, 255]),
        ("F", [0.0, 77.4, math.nan, -math.inf, 255.0], [0, 77, 255, 0, 255]),
        ("F", [-100.0, math.inf, 100.0], [0, 255, 255]),
        ("F", [math.nan], [255]),
    ],
)
def test_grey_values_are_scaled_to_8_bit(mode: str, values: list[float], expected: list[int]):
    image = Image.new(mode, (len(values), 1))
    for x, value in enumerate(values):
        image.putpixel((x, 0), value)
    assert [red for red, _, _ in as_rgb(image)] == expected


def test_boxes_are_clipped_to_the_picture():
    boxes: dict[str, Box] = {"a": (-math.inf, -5, 20, 1e9), "b": (20, 0, 1e300, 40)}
    edited = edits.focus_on_columns_with_mask(grey(), ["a"], boxes)
    assert changed(edited, WHITE) == pixels(22, 2, 58, 38)


def test_fractional_boxes_cover_each_pixel_they_touch():
    assert region_of((1.2, 1.4, 1.3, 3.0), SIZE) == (1, 1, 2, 3)
    assert region_of((60, 0, 70, 10), SIZE) is None


def test_other_boxes_outside_of_the_picture_are_passed_over():
    edited = edits.focus_on_columns_with_mask(grey(), ["a"], {**COLUMNS, "far": (100, 0, 200, 40)})
    assert changed(edited, WHITE) == pixels(22, 2, 38, 38) | pixels(42, 2, 58, 38)


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize(
    ("names", "boxes", "message"),
    [
        (["d"], COLUMNS, "there is no (column|row) 'd' in this picture; use names from 'a', 'b', 'c'"),
        (["a", "d"], COLUMNS, "'d'"),
        (["1"], {"100": (0, 0, 9, 9)}, "there is no (column|row) '1'"),
        (["A"], COLUMNS, "'A'"),
        ([], COLUMNS, "is empty; name at least one of 'a', 'b', 'c'"),
        (["a"], {}, "no (column|row) boxes; focus on its (rows|columns) instead"),
        ("abc", COLUMNS, "give a list of names"),
        (["a"], {"a": (9, 0, 9, 9)}, "is empty: "),
        (["a"], {"a": (0, math.nan, 9, 9)}, "is empty: "),
        (["a"], {"a": (100, 0, 200, 9)}, "outside of the picture of 60 x 40 pixels"),
        (["d" * 500], COLUMNS, r"'d{50,60}\.\.\.'"),
        (["d"], {str(n): (0, 0, 9, 9) for n in range(30)}, "'11' and 18 more"),
    ],
)
def test_wrong_arguments(edit: Edit, names: list[str], boxes: dict[str, Box], message: str):
    image = grey()
    with pytest.raises(ToolError, match=message):
        edit(image, names, boxes)
    assert image.tobytes() == grey().tobytes()


@pytest.mark.parametrize("edit", EDITS)
def test_a_picture_without_pixels_is_a_tool_error(edit: Edit):
    with pytest.raises(ToolError, match="outside"):
        edit(Image.new("F", (0, 5)), ["a"], COLUMNS)
    assert to_rgb(Image.new("F", (0, 5))).size == (0, 5)


edges = st.floats(-20, 80, allow_nan=False)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(EDITS), st.lists(st.tuples(edges, edges, edges, edges), min_size=1, max_size=4))
def test_any_boxes_give_a_picture_or_a_tool_error(edit: Edit, corners: list[Box]):
    boxes = {str(n): (min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)) for n, (x1, y1, x2, y2) in enumerate(corners)}
    image = grey()
    try:
        edited = edit(image, ["0"], boxes)
    except ToolError:
        edited = None
    assert image.tobytes() == grey().tobytes()
    if edited is not None and edit.__name__.endswith("mask"):
        region = region_of(boxes["0"], SIZE)
        assert region is not None
        assert set(edited.crop(region).tobytes()) == {100}
