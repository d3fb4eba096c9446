"""The box finder against pictures whose boxes are known, and where there is nothing to find."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest
from PIL import Image, ImageDraw, ImageFont

from iapo.data.boxes import add_boxes, find_boxes
from iapo.data.boxes.pixels import Span, long_runs, spans, to_pixels
from iapo.data.synthetic import generate
from iapo.records import Box, Sample
from iapo.rollout.prompt import build_blocks
from iapo.tools import execute


def overlap(one: Box, other: Box) -> float:
    shared = max(0.0, min(one[2], other[2]) - max(one[0], other[0])) * max(
        0.0, min(one[3], other[3]) - max(one[1], other[1])
    )
    return shared / (sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)) - shared)


@pytest.mark.parametrize(
    ("family", "size"),
    [("vbar", 400), ("hbar", 400), ("vwtq", 300), ("vwtq", 700), ("vwtq_syn", 300), ("vwtq_syn", 700)],
)
def test_finds_the_boxes_of_synthetic_pictures(family: str, size: int):
    """Boxes have the order of the picture, so that number and name meet."""
    good = total = found_boxes = 0
    for sample in generate(family, 3, seed=1, size=size, split="test"):
        found = find_boxes(sample.image, sample.kind)
        for boxes, truth in ((found.column_boxes, sample.column_boxes), (found.row_boxes, sample.row_boxes)):
            pairs = zip(boxes.values(), truth.values(), strict=False)
            good += sum(overlap(box, true) >= 0.7 for box, true in pairs)
            total += len(truth)
            found_boxes += len(boxes)
    assert good >= 0.95 * total
    assert good >= 0.95 * found_boxes


@pytest.mark.parametrize(("family", "axis"), [("vbar", "columns"), ("hbar", "rows"), ("vwtq", None)])
def test_names_are_places(family: str, axis: str | None):
    (sample,) = generate(family, 1, seed=0, size=500)
    found = find_boxes(sample.image, sample.kind)
    assert found.axis == axis == sample.axis
    assert not found.reason
    columns, rows = list(found.column_boxes), list(found.row_boxes)
    assert columns == [str(place) for place in range(1, len(sample.column_boxes) + 1)]
    numbers = [str(place) for place in range(1, len(rows) + (axis is not None))]
    assert rows == (numbers if axis else ["header", *numbers])
    for box in (*found.column_boxes.values(), *found.row_boxes.values()):
        assert 0 <= box[0] < box[2] <= sample.image.width
        assert 0 <= box[1] < box[3] <= sample.image.height


def bar_chart(groups: list[list[int]], colours: tuple[str, ...] = ("#1f77b4", "#2ca02c")) -> Image.Image:
    """Bars of 20 pixels on a base line at 180, groups 30 pixels apart, from x = 40."""
    image = Image.new("RGB", (400, 220), "white")
    draw = ImageDraw.Draw(image)
    draw.line((30, 180, 380, 180), fill="black")
    x = 40
    for group in groups:
        for place, height in enumerate(group):
            if height:
                draw.rectangle((x, 180 - height, x + 19, 179), fill=colours[place % 2])
            x += 20
        x += 30
    return image


def test_bars_in_groups_share_a_slot():
    found = find_boxes(bar_chart([[100, 40], [60, 90], [30, 120], [80, 80]]), "chart")
    assert list(found.column_boxes) == ["1", "2", "3", "4"]
    for place, box in enumerate(found.column_boxes.values()):
        assert box[0] == pytest.approx(25 + 70 * place, abs=2)
        assert box[2] == pytest.approx(95 + 70 * place, abs=2)
    # A group's band reaches to its highest bar.
    assert [box[1] for box in found.row_boxes.values()] == pytest.approx([80, 90, 60, 100], abs=2)


def test_a_missing_bar_keeps_its_slot():
    found = find_boxes(bar_chart([[100], [60], [0], [80], [90]]), "chart")
    assert list(found.column_boxes) == ["1", "2", "3", "4", "5"]
    assert found.column_boxes["3"][0] == pytest.approx(125, abs=2)
    assert list(found.row_boxes) == ["1", "2", "4", "5"]


def test_stacked_bars_are_one():
    image = bar_chart([[50], [60], [40]])
    draw = ImageDraw.Draw(image)
    for x, top in ((40, 130), (90, 120), (140, 140)):
        draw.rectangle((x, top - 30, x + 19, top - 1), fill="#ff7f0e")
    found = find_boxes(image, "chart")
    assert [box[1] for box in found.row_boxes.values()] == pytest.approx([100, 90, 110], abs=2)


def test_finds_boxes_in_jpeg():
    for family in ("vbar", "vwtq"):
        (sample,) = generate(family, 1, seed=2, size=500)
        buffer = io.BytesIO()
        sample.image.save(buffer, format="JPEG", quality=75)
        found = find_boxes(Image.open(buffer), sample.kind)
        for box, true in zip(found.column_boxes.values(), sample.column_boxes.values(), strict=True):
            assert overlap(box, true) >= 0.7


@pytest.mark.parametrize("mode", ["L", "RGBA", "P"])
def test_any_mode_and_the_picture_stays(mode: str):
    image = bar_chart([[100], [60], [80]]).convert(mode, palette=Image.Palette.ADAPTIVE)
    before = image.tobytes()
    assert list(find_boxes(image, "chart").column_boxes) == ["1", "2", "3"]
    assert image.tobytes() == before


def test_large_pictures_have_boxes_in_their_own_pixels():
    small = bar_chart([[100], [60], [80]])
    large = small.resize((small.width * 10, small.height * 10), Image.Resampling.NEAREST)
    expected, found = find_boxes(small, "chart").column_boxes, find_boxes(large, "chart").column_boxes
    for name, box in expected.items():
        assert found[name] == pytest.approx([10 * value for value in box], abs=40)


def blank() -> Image.Image:
    return Image.new("RGB", (300, 200), "white")


def paragraph() -> Image.Image:
    image = blank()
    draw = ImageDraw.Draw(image)
    for line in range(8):
        draw.text(
            (20, 20 + 20 * line), "Words that follow one another, in no table.", "black", ImageFont.load_default(12)
        )
    return image


def ramp() -> Image.Image:
    return Image.linear_gradient("L").resize((300, 200))


@pytest.mark.parametrize("kind", ["chart", "table"])
@pytest.mark.parametrize("picture", [blank, paragraph, ramp, lambda: Image.new("RGB", (40, 30))])
def test_says_where_there_is_nothing(picture: Callable[[], Image.Image], kind: str):
    found = find_boxes(picture(), kind)  # type: ignore[arg-type]
    assert not found.column_boxes
    assert not found.row_boxes
    assert found.axis is None
    assert found.reason


def test_lines_and_points_are_no_bars():
    for sample in generate("charxiv", 2, seed=0, size=300, split="validation"):
        assert find_boxes(sample.image, "chart").reason


def test_refuses_other_kinds():
    with pytest.raises(ValueError, match="kind is 'photo'; it takes chart or table"):
        find_boxes(blank(), "photo")  # type: ignore[arg-type]


def test_add_boxes_leaves_boxes_alone():
    (sample,) = generate("vbar", 1, seed=0, size=300)
    assert add_boxes(sample) == (sample, "")


def test_tools_say_no_boxes_where_none_are_found():
    sample = Sample("x", blank(), "How many?", ("1",))
    same, reason = add_boxes(sample)
    assert same is sample
    assert reason == "there are no two bars of one width on one base line"
    program = '```python\ndisplay(focus_on_columns_with_mask(image_1, ["1"], columns_bbox))\n```'
    result = execute(program, same)
    assert result.status == "failed"
    assert "neither column boxes nor row boxes" in str(result.error)


def test_tools_work_on_found_boxes_by_number():
    sample = Sample("x", bar_chart([[100], [60], [80]]), "How many?", ("1",))
    boxed, reason = add_boxes(sample)
    assert not reason
    assert boxed.axis == "columns"
    assert "columns_bbox: 1, 2, 3\n" in build_blocks(boxed)[-1].text
    result = execute('```python\ndisplay(focus_on_columns_with_mask(image_1, ["2"], columns_bbox))\n```', boxed)
    assert result.status == "edited"
    assert result.image is not None
    pixel = result.image.getpixel
    # The first bar is masked, the second stays.
    assert (pixel((50, 150)), pixel((100, 150))) == ((255, 255, 255), (31, 119, 180))


def test_spans_and_runs():
    flags = [False, True, True, False, True, False, False, True]
    assert spans(flags) == [Span(1, 3), Span(4, 5), Span(7, 8)]
    assert spans(flags, gap=1) == [Span(1, 5), Span(7, 8)]
    row = to_pixels(Image.new("L", (8, 1)))[..., 0] == 0
    row[0, 3] = False
    for length, expected in ((3, [0, 1, 2, 4, 5, 6, 7]), (4, [4, 5, 6, 7]), (5, [])):
        assert long_runs(row, length, axis=1)[0].nonzero()[0].tolist() == expected
