"""Boxes of columns and rows from the cells of a drawn table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from iapo.data.cells import read_cells
from iapo.records import Sample
from iapo.tools import execute

SIZE = (300, 200)

Written = tuple[str, int, int] | str | None
"""A cell's text, with the lines and columns that it has; None where another cell reaches."""


def drawn(lines: Sequence[Sequence[Written]], *, numbered: bool) -> list[list[Any]]:
    """Returns the cells of a table of columns 50 pixels wide and lines 20 pixels high.

    Args:
        lines: Its cells, in a grid.
        numbered: Whether a cell's column is its number among the cells of its line, as browsers tell it.
    """
    cells: list[list[Any]] = []
    for line, texts in enumerate(lines):
        number = 0
        for column, written in enumerate(texts):
            if written is None:
                continue
            text, down, across = (written, 1, 1) if isinstance(written, str) else written
            edges = [50 * column, 20 * line, 50 * (column + across), 20 * (line + down)]
            cells.append([line, number if numbered else column, down, across, *edges, text])
            number += 1
    return cells


def read(folder: Path, cells: Any) -> tuple[dict[str, list[int]], dict[str, list[int]], list[str]]:
    """Returns where the columns lie from left to right, where the rows lie from top to bottom, and the flaws."""
    path = folder / "t.cells.json"
    path.write_text(json.dumps({"cells": cells}))
    flaws: list[str] = []
    columns, rows = read_cells(path, SIZE, flaws)
    return (
        {name: [round(x1), round(x2), round(y1)] for name, (x1, y1, x2, _) in columns.items()},
        {name: [round(y1), round(y2)] for name, (_, y1, _, y2) in rows.items()},
        flaws,
    )


TWO_LINES: list[list[Written]] = [
    [("Title", 1, 4), None, None, None],
    [("Week", 2, 1), ("Results", 1, 2), None, ("Venue", 2, 1)],
    [None, "Score", "Record", None],
    [("1", 2, 1), "24", "0-1", "Here"],
    [None, "34", ("1-1", 2, 1), "There"],
    ["3", "16", None, "Here"],
    [("a note", 1, 4), None, None, None],
]


@pytest.mark.parametrize("numbered", [True, False])
def test_a_header_over_two_lines(numbered: bool, tmp_path: Path):
    """Each column has its own cells' width, whatever reaches into its lines from above."""
    columns, rows, flaws = read(tmp_path, drawn(TWO_LINES, numbered=numbered))
    assert columns == {"Week": [0, 50, 20], "Score": [50, 100, 40], "Record": [100, 150, 40], "Venue": [150, 200, 20]}
    assert rows == {"header": [20, 60], "1": [60, 80], "1 (2)": [80, 100], "3": [100, 120], "a note": [120, 140]}
    assert flaws == []


@pytest.mark.parametrize(
    ("header", "columns"),
    [
        # The second line names the columns that share a cell, with or without a name for all beside them.
        ([["", ("Home", 1, 2), None, ("Away", 1, 2), None], ["Team", "Goals", "Shots", "Goals", "Shots"]], None),
        ([["Day", ("Home", 1, 2), None, ("Away", 1, 2), None], ["", "Goals", "Shots", "Goals", "Shots"]], None),
        # It is the first row where it has texts below the name of a single column, too: one box for those that share.
        ([["Day", ("Home", 1, 2), None, "Away", "On"]], {"Day": 1, "Home": 2, "Away": 1, "On": 1}),
        ([["Day", "A", "", "B", "C"]], {"Day": 1, "A": 1, "column 3": 1, "B": 1, "C": 1}),
    ],
)
def test_cells_over_several_columns(header: list[list[Written]], columns: dict[str, int] | None, tmp_path: Path):
    body: list[list[Written]] = [["Mon", "1", "2", "3", "4"], ["Tue", "5", "6", "7", "8"]]
    found, rows, flaws = read(tmp_path, drawn([*header, *body], numbered=True))
    first = "Team" if header[0][0] == "" else "Day"
    expected = columns or {first: 1, "Goals": 1, "Shots": 1, "Goals (2)": 1, "Shots (2)": 1}
    assert {name: (right - left) // 50 for name, (left, right, _) in found.items()} == expected
    assert rows["header"] == [0, 20 * len(header)]
    assert list(rows) == ["header", "Mon", "Tue"]
    assert flaws == []


def test_a_mask_of_rows_keeps_the_header_alone(tmp_path: Path):
    cells = drawn([["A", "B"], ["one", "2"], ["header", "4"]], numbered=True)
    path = tmp_path / "t.cells.json"
    path.write_text(json.dumps({"cells": cells}))
    columns, rows = read_cells(path, SIZE, [])
    assert list(rows) == ["header", "one", "header (2)"]
    sample = Sample("t", Image.new("RGB", SIZE, "black"), "?", ("1",), columns, rows, kind="table")
    call = 'focus_on_rows_with_mask(image_1, ["header (2)"], rows_bbox)'
    edited = execute(f"```python\ndisplay({call})\n```", sample).image
    assert edited is not None
    assert [edited.getpixel((50, y)) for y in (10, 30, 50)] == [(0, 0, 0), (255, 255, 255), (0, 0, 0)]


def test_columns_that_get_no_box_are_a_flaw(tmp_path: Path):
    columns, _, flaws = read(tmp_path, drawn([["A", "B"], ["1", "2", "3"]], numbered=True))
    assert list(columns) == ["A", "B"]
    assert flaws == ["the header in t.cells.json has no cell over the columns (3); they have no box"]


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ([[("Title", 1, 2), None]], "no line is a header"),
        ([[("A", 3, 1), ("B", 2, 1)], [None, None]], "no line is below the header"),
        ([], "no line is a header"),
    ],
)
def test_a_table_without_header_or_rows(lines: list[list[Written]], reason: str, tmp_path: Path):
    columns, rows, (flaw,) = read(tmp_path, drawn(lines, numbered=True))
    assert columns == rows == {}
    assert flaw == f"the boxes of cells in t.cells.json cannot be read ({reason}); they are left out"


@pytest.mark.parametrize(
    "cells", [{"a": 1}, [[1, 2]], [[0, 0, 1, 1, 0, 0, 9, "x", ""]], [[1e400, 0, 1, 1, 0, 0, 9, 9, ""]]]
)
def test_what_is_no_cell(cells: Any, tmp_path: Path):
    columns, rows, (flaw,) = read(tmp_path, cells)
    assert columns == rows == {}
    assert "cannot be read" in flaw


def test_huge_cells_cost_nothing(tmp_path: Path):
    """Numbers of lines and columns are anyone's; no loop runs over them."""
    cells = drawn([["A", "B"], ["1", "2"]], numbered=True)
    cells.append([10**12, 10**12, 10**12, 10**12, 0, 40, 100, 60, "far"])
    columns, rows, _ = read(tmp_path, cells)
    assert (list(columns), list(rows)) == (["A", "B"], ["header", "1"])
