"""Tables: answers follow from the cells, boxes hold what they name, and masks on both axes leave the cell readable."""

from __future__ import annotations

import itertools
import re
from functools import cache

import numpy as np
import pytest

from iapo.data.synthetic import Chart, draw
from iapo.data.synthetic.families import CLAIMS
from iapo.data.synthetic.families import TABLES as QUESTION_TYPES
from iapo.data.synthetic.table_data import HEADER, TableData
from iapo.data.synthetic.table_questions import claim
from iapo.data.synthetic.table_styles import other_style, plain_style
from iapo.tools import execute

FAMILIES = ("vwtq", "vwtq_syn", "vtabfact")
SIZES = (112, 200, 299, 300, 448, 1000)


@cache
def tables(family: str, size: int) -> tuple[Chart, ...]:
    """Enough to meet every style."""
    return tuple(draw(family, {112: 60, 200: 30, 299: 30}.get(size, 15), seed=11, size=size))


def cell(chart: Chart, column: str, row: str) -> tuple[int, int, int, int]:
    """Where a column's box meets a row's, in pixels."""
    x1, _, x2, _ = chart.sample.column_boxes[column]
    _, y1, _, y2 = chart.sample.row_boxes[row]
    return round(x1), round(y1), round(x2), round(y2)


def name_cell(chart: Chart, row: str) -> tuple[int, int, int, int]:
    """Where a row's name stands: left of all column boxes."""
    left, y1, _, y2 = chart.sample.row_boxes[row]
    return round(left), round(y1), round(chart.sample.column_boxes[chart.columns[0]][0]), round(y2)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("size", SIZES)
def test_fields(family: str, size: int) -> None:
    for chart in tables(family, size):
        sample = chart.sample
        assert (sample.kind, sample.axis) == ("table", None)
        assert sample.image.mode == "RGB"
        width, height = sample.image.size
        assert width == size
        assert height == size if size < 300 else 0.44 * size < height <= size
        assert tuple(sample.column_boxes) == chart.columns
        assert tuple(sample.row_boxes) == (HEADER, *chart.rows)
        assert not {HEADER, *chart.rows} & set(chart.columns)
        assert (chart.labels, chart.values) == ((), ())
        assert [len(row) for row in chart.cells] == [len(chart.columns)] * len(chart.rows)
        if size < 300:
            assert len(chart.columns) == len(chart.rows) == 3
            assert set(chart.columns) <= set("ABCDEFGH")
            assert set(chart.rows) <= set("PQRSTUVW")
            assert {value for row in chart.cells for value in row} <= set(range(1, 10))
        else:
            assert 3 <= len(chart.rows) <= 8
            assert 3 <= len(chart.columns) <= 6


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("size", SIZES)
def test_boxes_touch_and_cover_the_table(family: str, size: int) -> None:
    for chart in tables(family, size):
        columns, rows = list(chart.sample.column_boxes.values()), list(chart.sample.row_boxes.values())
        assert all(one[2] == other[0] for one, other in itertools.pairwise(columns))
        assert all(one[3] == other[1] for one, other in itertools.pairwise(rows))
        assert {(box[1], box[3]) for box in columns} == {(rows[0][1], rows[-1][3])}
        assert {(box[0], box[2]) for box in rows} == {(rows[0][0], columns[-1][2])}
        assert rows[0][0] < columns[0][0], "the row names stand left of all column boxes"
        width, height = chart.sample.image.size
        assert all(0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height for x1, y1, x2, y2 in (*columns, *rows))
        if size == 112:
            assert columns == [(28 * index, 0, 28 * index + 28, 112) for index in (1, 2, 3)]
            assert rows == [(0, 28 * index, 112, 28 * index + 28) for index in range(4)]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("size", SIZES)
def test_every_cell_holds_its_lettering_and_none_crosses_an_edge(family: str, size: int) -> None:
    for chart in tables(family, size):
        array = np.asarray(chart.sample.image).astype(int)
        places = [cell(chart, *names) for names in itertools.product(chart.columns, (HEADER, *chart.rows))]
        places += [name_cell(chart, row) for row in chart.rows]
        for x1, y1, x2, y2 in places:
            inner = array[y1 + 3 : y2 - 3, x1 + 3 : x2 - 3]
            ground = inner[0, 0]
            ink = (np.abs(inner - ground).sum(axis=2) > 60).any(axis=0)
            assert ink.any(), "the cell is not empty"
            # A frame of one pixel, inside of any rule, is bare.
            frame = np.concatenate([inner[0], inner[-1], inner[:, 0], inner[:, -1]])
            assert (frame == ground).all()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("size", [300, 448, 1000])
def test_nothing_real_is_cut_off(family: str, size: int) -> None:
    for chart in tables(family, size):
        array = np.asarray(chart.sample.image)
        for edge in (array[:5], array[-5:], array[:, :5], array[:, -5:]):
            assert (edge == 255).all()


def test_equal_numbers_look_equal_and_others_do_not() -> None:
    """So the cells show the data: in one plain tiny table, two cells are the same pixels where their values are."""
    seen = set()
    for chart in tables("vwtq", 112):
        array = np.asarray(chart.sample.image)
        value = {
            (column, row): number
            for row, numbers in zip(chart.rows, chart.cells, strict=True)
            for column, number in zip(chart.columns, numbers, strict=True)
        }
        looks = {}
        for names in value:
            x1, y1, x2, y2 = cell(chart, *names)
            looks[names] = array[y1 + 3 : y2 - 3, x1 + 3 : x2 - 3].tobytes()
        for one, other in itertools.combinations(value, 2):
            assert (looks[one] == looks[other]) == (value[one] == value[other])
            seen.add(value[one] == value[other])
    assert seen == {True, False}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("order", [("columns", "rows"), ("rows", "columns")])
def test_masks_on_both_axes_leave_the_cell_its_header_and_its_name(
    family: str, size: int, order: tuple[str, str]
) -> None:
    for chart in tables(family, size)[:10]:
        column, row = chart.columns[1], chart.rows[-1]
        inner = "image_1"
        for axis in order:
            inner = f'focus_on_{axis}_with_mask({inner}, ["{column if axis == "columns" else row}"], {axis}_bbox)'
        result = execute(f"```python\ndisplay({inner})\n```", chart.sample)
        assert result.image is not None, result.error
        before, after = np.asarray(chart.sample.image), np.asarray(result.image)
        for x1, y1, x2, y2 in (cell(chart, column, row), cell(chart, column, HEADER), name_cell(chart, row)):
            assert (before[y1:y2, x1:x2] == after[y1:y2, x1:x2]).all()
        for other_column, other_row in itertools.product(chart.columns, chart.rows):
            if (other_column, other_row) != (column, row):
                x1, y1, x2, y2 = cell(chart, other_column, other_row)
                assert (after[y1 + 3 : y2 - 3, x1 + 3 : x2 - 3] == 255).all(), "no other number is left"


@pytest.mark.parametrize("family", ["vwtq", "vwtq_syn"])
@pytest.mark.parametrize("size", [112, 448])
def test_answers_follow_from_the_cells(family: str, size: int) -> None:
    asked = set()
    for chart in draw(family, 150 if size == 112 else 30, seed=2, size=size):
        (column,) = chart.focus["columns"]
        index = chart.columns.index(column)
        numbers = dict(zip(chart.rows, [row[index] for row in chart.cells], strict=True))
        (answer,) = chart.sample.answers
        asked.add(chart.sample.question_type)
        assert list(numbers.values()).count(max(numbers.values())) == 1
        if chart.sample.question_type == "total":
            assert list(chart.focus) == ["columns"]
            assert answer == f"{round(sum(numbers.values()), 1):.10g}"
            continue
        (row,) = chart.focus["rows"]
        if chart.sample.question_type == "value":
            assert answer == f"{numbers[row]:.10g}"
            assert re.search(rf"\b{row}\b", chart.sample.question)
        else:
            assert answer == row == max(numbers, key=lambda name: numbers[name])
    assert asked == set(QUESTION_TYPES)


@pytest.mark.parametrize("size", [112, 448])
def test_claims_are_true_or_false_as_the_cells_say(size: int) -> None:
    answers: dict[str, list[str]] = {name: [] for name in CLAIMS}
    for chart in draw("vtabfact", 400 if size == 112 else 60, seed=2, size=size):
        (column,) = chart.focus["columns"]
        index = chart.columns.index(column)
        numbers = dict(zip(chart.rows, [row[index] for row in chart.cells], strict=True))
        question, (answer,) = chart.sample.question, chart.sample.answers
        answers[chart.sample.question_type].append(answer)
        if chart.sample.question_type == "value":
            (row,) = chart.focus["rows"]
            rest = question.replace(column, "").replace(row, "")
            claimed = float(re.findall(r"\d+(?:\.\d+)?", rest)[0])
            assert (claimed == numbers[row]) == (answer == "true")
            assert claimed in numbers.values(), "a false claim names a number of the same column"
        else:
            assert list(chart.focus) == ["columns"]
            (row,) = [name for name in chart.rows if re.search(rf"\b{name}\b", question)]
            assert (numbers[row] == max(numbers.values())) == (answer == "true")
    for given in answers.values():
        # Half each: five standard deviations.
        assert set(given) == {"true", "false"}
        assert abs(given.count("true") - len(given) / 2) <= 2.5 * len(given) ** 0.5


def test_a_false_claim_takes_a_number_from_elsewhere_where_its_column_has_none() -> None:
    rng = np.random.default_rng(0)
    data = TableData(("A", "B"), ("P",), ((3, 8),), (0, 0))
    lonely = TableData(("A",), ("P",), ((3,),), (0,))
    asked = {claim("value", data, rng)[:2] for _ in range(60)}
    assert asked == {
        ("A in P is 3?", "true"),
        ("A in P is 8?", "false"),
        ("B in P is 8?", "true"),
        ("B in P is 3?", "false"),
    }
    assert {claim("value", lonely, rng)[:2] for _ in range(60)} == {("A in P is 3?", "true"), ("A in P is 4?", "false")}


def test_tiny_questions_are_short_and_real_ones_are_sentences() -> None:
    shapes = {
        re.sub(r"\d", "N", re.sub(r"\b[P-W]\b", "P", re.sub(r"\b[A-H]\b", "A", chart.sample.question)))
        for family in FAMILIES
        for chart in tables(family, 112)
    }
    looked_up = {"value of A in P?", "largest in A?", "total of A?"}
    assert shapes == looked_up | {"A in P is N?", "largest in A is P?"}
    for family in FAMILIES:
        for chart in tables(family, 448):
            assert re.fullmatch(r"[A-Z][^{}]*[\w.]\s?[?.]", chart.sample.question)
            assert "  " not in chart.sample.question


def test_the_two_look_up_families_never_share_a_style() -> None:
    rng = np.random.default_rng(0)
    plain, other = {plain_style(rng) for _ in range(300)}, {other_style(rng) for _ in range(300)}
    assert not plain & other
    assert len(plain) == 6
    assert len(other) > 100
    assert {style.rules for style in plain} == {"grid"}
    assert {style.rules for style in other} == {"horizontal", "header", "frame", "none"}


@pytest.mark.slow(1)
def test_every_real_table_finds_room() -> None:
    """Where sizes are smallest, and where tables may grow."""
    for size in (300, 399, 400):
        charts = [chart for family in FAMILIES for chart in draw(family, 40, seed=9, size=size)]
        assert {len(chart.rows) for chart in charts} >= {3, 6}
