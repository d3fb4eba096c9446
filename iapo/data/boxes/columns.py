"""Where the edges of a table's columns are, where no rule says so: from how the texts are aligned.

A cell is as wide as its column's widest text, with the same room at both sides and the same extra width in all
columns, as programs lay out tables. So the edges follow from the texts' alignment.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Literal

import numpy as np

from iapo.data.boxes.pixels import Span

Align = Literal["left", "middle", "right"]


@dataclass(frozen=True, slots=True)
class Column:
    """The texts of one column, in pixels from the left.

    Attributes:
        texts: One span a row.
    """

    texts: tuple[Span, ...]

    @property
    def start(self) -> int:
        return min(text.start for text in self.texts)

    @property
    def end(self) -> int:
        return max(text.end for text in self.texts)

    @property
    def middle(self) -> float:
        """Of the text that is widest, which tells it best."""
        return max(self.texts, key=lambda text: text.length).middle

    def spread(self, align: Align) -> float:
        """Returns how far the texts are from being aligned so, in pixels."""
        values = {
            "left": [text.start for text in self.texts],
            "middle": [text.middle for text in self.texts],
            "right": [text.end for text in self.texts],
        }[align]
        places = np.array(values, dtype=float)
        return float(np.mean(np.abs(places - np.median(places))))


def column_edges(columns: list[Column], em: float, outer: tuple[float, float] | None) -> list[float] | None:
    """Returns the edges of columns.

    Args:
        columns: Columns from the left; the first holds the row names, whose texts are taken to begin at one line.
        em: The size of the lettering in pixels.
        outer: The table's left and right end, where rules or fills tell them.

    Returns:
        One more edge than columns, ascending; None where there are fewer than two columns.
    """
    if len(columns) < 2:
        return None
    names = columns[0]
    pad = max(4.0, 0.5 * em)
    if outer is not None:
        pad = min(max(2.0, names.start - outer[0]), 1.5 * em)
    left, right = (max(0.0, names.start - pad), None) if outer is None else outer
    options: list[tuple[float, list[float]]] = []
    for align in _ALIGNS:
        edges = _EDGES[align](names, columns[1:], pad, left, right)
        if all(a < b for a, b in itertools.pairwise(edges)):
            # How far the texts are from this alignment, and the cells from having one extra width.
            extras = np.array(_extras(edges, columns, pad))
            uneven = float(np.abs(extras - np.median(extras)).mean()) - 2 * float(min(0.0, extras.min() + 2))
            spread = float(np.mean([column.spread(align) for column in columns[1:]]))
            options.append((spread + uneven, edges))
    if options:
        return min(options)[1]
    # The texts' alignment tells nothing: the middles of the gaps.
    inner = [(one.end + other.start) / 2 for one, other in itertools.pairwise(columns)]
    return [left, *inner, right if right is not None else columns[-1].end + pad]


def _extras(edges: list[float], columns: list[Column], pad: float) -> list[float]:
    """Returns how much wider each cell is than its widest text with room at both sides."""
    cells = [end - start for start, end in itertools.pairwise(edges)]
    return [cell - (column.end - column.start) - 2 * pad for cell, column in zip(cells, columns, strict=True)]


def _extra(inner: list[float], columns: list[Column], pad: float) -> float:
    """Returns the usual extra width of the cells between inner edges."""
    return max(0.0, float(np.median(_extras(inner, columns, pad)))) if columns else 0.0


def _from_left(names: Column, cells: list[Column], pad: float, left: float, right: float | None) -> list[float]:
    """Returns the edges of columns whose texts begin at one line."""
    inner = [column.start - pad for column in cells]
    extra = _extra(inner, cells[:-1], pad)
    return [left, *inner, right if right is not None else cells[-1].end + pad + extra]


def _from_right(names: Column, cells: list[Column], pad: float, left: float, right: float | None) -> list[float]:
    """Returns the edges of columns whose texts end at one line."""
    ends = [column.end + pad for column in cells]
    if right is not None:
        ends[-1] = right
    first = max(names.end + min(pad, 2.0), cells[0].start - pad - _extra(ends, cells[1:], pad))
    return [left, first, *ends]


def _around_middles(names: Column, cells: list[Column], pad: float, left: float, right: float | None) -> list[float]:
    """Returns the edges of columns with centred texts: each text's middle is its cell's."""
    middles = [column.middle for column in cells]
    lows = [names.end, *(column.end for column in cells)]
    highs = [column.start for column in cells]
    # All edges follow from the first inner one: the next lies as far beyond the middle as it lies before it.
    # So edge i is sign_i * first + offset_i.
    offsets = list(itertools.accumulate(middles, lambda offset, middle: 2 * middle - offset, initial=0.0))
    signs = [(-1.0) ** place for place in range(len(offsets))]
    if right is not None:
        first = (right - offsets[-1]) / signs[-1]
    else:
        low, high = -np.inf, np.inf
        for sign, offset, bottom, top in zip(signs, offsets, lows, highs, strict=False):
            one, other = (bottom - offset) * sign, (top - offset) * sign
            low, high = max(low, min(one, other)), min(high, max(one, other))
        first = (low + high) / 2
    return [left, *(sign * first + offset for sign, offset in zip(signs, offsets, strict=True))]


_ALIGNS: tuple[Align, ...] = ("middle", "left", "right")
_EDGES = {"left": _from_left, "middle": _around_middles, "right": _from_right}
