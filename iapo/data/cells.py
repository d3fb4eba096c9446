"""The cells of a drawn table -> boxes of its columns and rows by name.

A cell is `[line, column, lines, columns, x1, y1, x2, y2, text]`. Its column may be the one that it begins in, or, as in
tables of HTML, its number among the cells of its line, which do not count those that reach down from the lines above.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from iapo.box_names import unique_names
from iapo.data.annotations import named_boxes
from iapo.data.damage import RowError
from iapo.data.synthetic.table_data import HEADER
from iapo.records import Box


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell in its place.

    Attributes:
        top: Its first line, from 0.
        bottom: The line behind its last one.
        left: Its first column, from 0.
        right: The column behind its last one.
        box: Its box in pixels.
        text: Its text; empty where there is none.
    """

    top: int
    bottom: int
    left: int
    right: int
    box: Box
    text: str

    @property
    def narrow(self) -> bool:
        """Whether it is one column wide."""
        return self.right - self.left == 1

    def over(self, other: Cell) -> bool:
        """Whether it shares a column with another one."""
        return self.left < other.right and other.left < self.right


def read_cells(path: Path, size: tuple[int, int], flaws: list[str]) -> tuple[dict[str, Box], dict[str, Box]]:
    """Reads the boxes of a table's columns and rows from the file of its cells.

    Columns are named in the header (`_head`), rows by their first cells; the header itself is the row `HEADER`.

    Args:
        path: The file, `{"cells": [...]}`.
        size: Width and height of the image in pixels.
        flaws: List to which a sentence is added for what cannot be read, and for columns without a box.

    Returns:
        The column boxes and the row boxes.
    """
    try:
        cells = _placed([_cell(cell) for cell in json.loads(path.read_text("utf-8-sig"))["cells"]])
        head, body = _head(cells)
    except (OSError, ValueError, KeyError, TypeError, RecursionError, OverflowError) as error:
        reason = f"{error!r}" if not isinstance(error, _HeadError) else str(error)
        flaws.append(f"the boxes of cells in {path.name} cannot be read ({reason}); they are left out")
        return {}, {}
    columns, column_names = [], []
    named = _names(head)
    for cell in named:
        inside = [one.box for one in body if cell.left <= one.left and one.right <= cell.right]
        columns.append(_around([cell.box, *inside]))
        column_names.append(cell.text)
    bare = {one.left for one in body if one.narrow} - {
        column for cell in named for column in range(cell.left, cell.right)
    }
    if bare:
        shown = ", ".join(str(column + 1) for column in sorted(bare)[:10])
        flaws.append(f"the header in {path.name} has no cell over the columns ({shown}); they have no box")
    # Masks of rows keep the top-most one of a table, which so is the header and no row of the table's body.
    rows, row_names = [_around([cell.box for cell in head])], []
    for line in sorted({cell.top for cell in body}):
        # A cell of several lines belongs to all of them, and its box to none.
        own = sorted((cell for cell in body if cell.top <= line < cell.bottom), key=lambda cell: cell.left)
        flat = [cell.box for cell in own if cell.bottom - cell.top == 1]
        if own and flat:
            _, top, _, bottom = _around(flat)
            rows.append((min(cell.box[0] for cell in own), top, max(cell.box[2] for cell in own), bottom))
            row_names.append(own[0].text)
    try:
        return (
            named_boxes(columns, unique_names(column_names, "column"), "column", size, flaws),
            named_boxes(rows, [HEADER, *unique_names(row_names, "row", [HEADER])], "row", size, flaws),
        )
    except RowError as error:
        flaws.append(f"{error}; the boxes of cells in {path.name} are left out")
        return {}, {}


_WIDEST, _HIGHEST = 1000, 65534
"""Most columns and lines of a cell, as browsers have it."""


class _HeadError(ValueError):
    """A table without a header, or with nothing below it."""


def _cell(cell: Any) -> Cell:
    line, column, down, across, *edges, text = cell
    top, left, down, across = (int(number) for number in (line, column, down, across))
    x1, y1, x2, y2 = (float(edge) for edge in edges)
    right, bottom = left + min(max(across, 1), _WIDEST), top + min(max(down, 1), _HIGHEST)
    return Cell(top, bottom, left, right, (x1, y1, x2, y2), str(text))


def _placed(cells: Sequence[Cell]) -> list[Cell]:
    """Returns the cells in the columns that they begin in: the first ones that are free, in the order of the lines."""
    placed: list[Cell] = []
    # What reaches down from the lines above.
    above: list[Cell] = []
    for line, found in itertools.groupby(sorted(cells, key=lambda cell: (cell.top, cell.left)), lambda cell: cell.top):
        above = sorted((one for one in above if one.bottom > line), key=lambda one: one.left)
        free = 0
        own = []
        for cell in found:
            left, width = max(cell.left, free), cell.right - cell.left
            for one in above:
                if one.left <= left < one.right:
                    left = one.right
            free = left + width
            own.append(replace(cell, left=left, right=free))
        placed += own
        above += own
    return placed


def _head(cells: Sequence[Cell]) -> tuple[list[Cell], list[Cell]]:
    """Parts the cells of the header from those below it.

    A line with one cell over several columns is a title. The next line is the header, with all lines that its cells
    reach into; and where it has cells over several columns, the line with the names of these, too.

    Raises:
        ValueError: If there is no header, or no line below it.
    """
    lines: dict[int, list[Cell]] = {}
    for cell in cells:
        lines.setdefault(cell.top, []).append(cell)
    first = next((line for line in sorted(lines) if len(lines[line]) > 1 or lines[line][0].narrow), None)
    if first is None:
        raise _HeadError("no line is a header")
    end = first + 1
    while True:
        head = [cell for cell in cells if first <= cell.top < end]
        reach = max(cell.bottom for cell in head)
        if reach > end:
            end = reach
        elif _goes_on(head, lines.get(end, ())):
            end += 1
        else:
            break
    body = [cell for cell in cells if cell.top >= end]
    if not body:
        raise _HeadError("no line is below the header")
    return head, body


def _goes_on(head: Sequence[Cell], line: Sequence[Cell]) -> bool:
    """Tells whether a line below the header has the names of the columns that share a cell of it: there are texts below
    such cells, and none below the names of single columns.
    """
    named = _names(head)
    shared = [cell for cell in named if not cell.narrow]
    single = [cell for cell in named if cell.narrow and cell.text.strip()]
    texts = [cell for cell in line if cell.text.strip()]
    return any(cell.over(one) and cell.narrow for cell in texts for one in shared) and not any(
        cell.over(one) for cell in texts for one in single
    )


def _names(head: Sequence[Cell]) -> list[Cell]:
    """Returns the cells of the header that name a column each, from the left: the lowest ones with a text, and where a
    column has none the lowest one.
    """
    texts = [cell for cell in head if cell.text.strip()]
    named = list(_lowest(texts))
    named += _lowest([cell for cell in head if not any(cell.over(one) for one in named)])
    return sorted(named, key=lambda cell: cell.left)


def _lowest(cells: Sequence[Cell]) -> Iterator[Cell]:
    return (cell for cell in cells if not any(other.top >= cell.bottom and cell.over(other) for other in cells))


def _around(boxes: Sequence[Box]) -> Box:
    x1, y1, x2, y2 = zip(*boxes, strict=True)
    return min(x1), min(y1), max(x2), max(y2)
