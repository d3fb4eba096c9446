"""Line and scatter panels: answers follow from the points, slots and bands hold them."""

from __future__ import annotations

import itertools
import re
from functools import cache

import numpy as np
import pytest

from iapo.data.synthetic import Chart, draw
from iapo.data.synthetic.families import PANELS
from iapo.records import Box

SIZES = (
    112,
    200,
    299,
    300,
    pytest.param(448, marks=pytest.mark.slow(3)),
    pytest.param(1000, marks=pytest.mark.slow(1)),
)


@cache
def plots(size: int) -> tuple[Chart, ...]:
    """Enough to meet every style and number of panels."""
    count = {112: 80, 200: 30, 299: 30, 448: 14}.get(size, 4)
    return tuple(draw("charxiv", count, seed=11, size=size, split="test"))


def overlap(one: Box, other: Box) -> bool:
    return min(one[2], other[2]) - max(one[0], other[0]) > 1e-6 and min(one[3], other[3]) - max(one[1], other[1]) > 1e-6


@pytest.mark.parametrize("size", SIZES)
def test_fields(size: int) -> None:
    for chart in plots(size):
        sample = chart.sample
        assert (sample.kind, sample.axis, sample.source) == ("chart", "columns", "synthetic/charxiv")
        assert sample.image.width == size
        assert sample.image.height == size if size < 300 else 0.44 * size < sample.image.height <= size
        assert tuple(sample.column_boxes) == tuple(sample.row_boxes) == chart.labels
        assert all(len(line) == len(chart.labels) for line in chart.cells)
        assert len(chart.cells) == len(chart.rows)
        assert chart.values == chart.cells[0]
        if size < 300:
            assert (len(chart.labels), len(chart.rows)) == (4, 1)
            assert set(chart.labels) <= set("ABCDEFGH")
            assert set(chart.values) <= set(range(1, 10))


@pytest.mark.parametrize("size", SIZES)
def test_slots_do_not_overlap_and_lie_in_the_picture(size: int) -> None:
    for chart in plots(size):
        width, height = chart.sample.image.size
        slots = list(chart.sample.column_boxes.values())
        assert not any(overlap(one, other) for one, other in itertools.combinations(slots, 2))
        for x1, y1, x2, y2 in (*slots, *chart.sample.row_boxes.values()):
            assert 0 <= x1 < x2 <= width + 1e-6
            assert 0 <= y1 < y2 <= height + 1e-6


@pytest.mark.parametrize("size", SIZES)
def test_slot_and_band_meet_in_the_point(size: int) -> None:
    """Where they meet there is ink in a colour, and at the slot's foot stands the letter."""
    for chart in plots(size):
        array = np.asarray(chart.sample.image).astype(int)
        for name, (x1, y1, x2, y2) in chart.sample.column_boxes.items():
            _, top, _, bottom = chart.sample.row_boxes[name]
            assert y1 <= top
            assert bottom <= y2 + 1e-6
            middle = (x1 + x2) / 2
            around = array[round(top) : round(bottom), round(middle - 4) : round(middle + 5)]
            assert (np.abs(around - array[1, 1]).sum(axis=2) > 150).any()


@pytest.mark.parametrize("size", [112, 299])
def test_a_tiny_point_lies_in_the_middle_of_its_band_at_its_value(size: int) -> None:
    for chart in plots(size):
        for label, value in zip(chart.labels, chart.values, strict=True):
            _, top, right, bottom = chart.sample.row_boxes[label]
            middle = size - (20 + 9 * value) * size / 112
            assert (top + bottom) / 2 == pytest.approx(middle, abs=1)
            assert right == size
            assert bottom - top == pytest.approx(10 * size / 112, abs=1)


@pytest.mark.parametrize("size", SIZES[3:])
def test_real_bands_are_in_proportion_to_their_points(size: int) -> None:
    """The middle of the band of a single series lies at a height that is linear in the value, panel by panel."""
    checked = 0
    for chart in plots(size):
        if len(chart.rows) > 1:
            continue
        panels: dict[str, list[tuple[float, float]]] = {}
        for label, value in zip(chart.labels, chart.values, strict=True):
            _, top, _, bottom = chart.sample.row_boxes[label]
            panels.setdefault(label[:3] if label.startswith("(") else "", []).append(((top + bottom) / 2, value))
        for points in panels.values():
            heights, values = np.array(points).T
            slope, offset = np.polyfit(values, heights, 1)
            assert slope < 0
            assert heights == pytest.approx(slope * values + offset, abs=1e-6)
            checked += 1
    assert checked


@pytest.mark.parametrize("size", [112, 448])
def test_answers_follow_from_the_points(size: int, no_pictures: None) -> None:
    asked = set()
    for chart in draw("charxiv", 150 if size == 112 else 50, seed=2, size=size, split="validation"):
        names, (answer,), question = chart.focus["columns"], chart.sample.answers, chart.sample.question
        asked.add(chart.sample.question_type)
        line = next(
            line for series, line in zip(chart.rows, chart.cells, strict=True) if re.search(rf"\b{series}\b", question)
        )
        panel = names[0][:3] if names[0].startswith("(") else ""
        value = {name: number for name, number in zip(chart.labels, line, strict=True) if name.startswith(panel)}
        assert (f"panel {panel}" if panel else "") in question
        if chart.sample.question_type == "value":
            assert answer == f"{value[names[0]]:g}"
        elif chart.sample.question_type == "largest":
            assert list(value.values()).count(max(value.values())) == 1
            assert names == (max(value, key=lambda name: value[name]),)
            assert answer == names[0].removeprefix(panel).strip()
        else:
            assert answer == f"{round(value[names[0]] - value[names[1]], 1):g}"
            assert float(answer) > 0
        if chart.sample.question_type != "largest":
            assert all(re.search(rf"\b{name.removeprefix(panel).strip()}\b", question) for name in names)
    assert asked == set(PANELS)


def test_there_are_one_to_four_panels_and_one_to_three_series(no_pictures: None) -> None:
    charts = list(draw("charxiv", 50, seed=2, size=448, split="validation"))
    panels = [len({label[:3] for label in chart.labels if label.startswith("(")}) or 1 for chart in charts]
    assert set(panels) == {1, 2, 3, 4}
    assert {len(chart.rows) for chart in charts} == {1, 2, 3}
    for chart in charts:
        # No point hides another.
        assert all(len(set(place)) == len(chart.rows) for place in zip(*chart.cells, strict=True))


@pytest.mark.parametrize("size", SIZES[3:])
def test_nothing_real_is_cut_off(size: int) -> None:
    for chart in plots(size):
        array = np.asarray(chart.sample.image)
        for edge in (array[0], array[-1], array[:, 0], array[:, -1]):
            assert (edge == array[0, 0]).all()
