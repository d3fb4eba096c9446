"""Seeded images with exact boxes, and questions answered from the data behind them, in six families.

Bar charts: every label has a box on both axes, but only one axis divides the image cleanly.

* `vbar`: a label's column box is the bar's whole slot, from the top of the plot area down to and with its
  tick label; slots of neighbours touch and do not overlap. Its row box is the band across the plot area from
  the bar's top to the base line, and so the row boxes of a chart all overlap. The right axis is `columns`.
* `hbar`: the mirror image. A label's row box is the slot, from the tick label at the left to the right end of
  the plot area, and its column box is the band from the base line to the bar's end, over the plot area's full
  height. The right axis is `rows`.

Line and scatter panels, for `validation` and `test` only, in styles and words that are never trained on:

* `charxiv`: a place's column box is its slot with its tick label, its row box the band across the plot area around
  its points. The right axis is `columns`. Where there are several panels, names begin with the panel's letter.

Tables: a cell is found by two calls, one on each axis, in either order; no axis is wrong.

* `vwtq`: look-ups in plainly ruled tables;
* `vwtq_syn`: the same questions about tables in many other styles;
* `vtabfact`: a claim about a table in any of these styles, to be answered `true` or `false`.

A table's column box holds the column with its header, its row box the row with its row name. The header row is a row
box too, `header`, since masking rows keeps the top-most row: so the column's header stays readable after any chain of
masks. The column of row names is no box, since masking columns keeps no column but the chosen: so it is never masked,
and the row name stays readable.

Below 300 pixels an image is a square with single letters and digits (`tiny_charts`, `tiny_panels`, `tiny_tables`);
from 300 on it is a full chart or table with words (`real_charts`, `real_panels`, `real_tables`), whose longer side is
`size` and whose shape varies.

The splits `validation` and `test` draw structures that no other split uses (`splits`).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from PIL import Image

from iapo.data.synthetic import (
    chart_data,
    chart_questions,
    panel_data,
    panel_questions,
    table_data,
    table_questions,
    tiny_charts,
    tiny_panels,
    tiny_tables,
)
from iapo.data.synthetic.chart_data import pick
from iapo.data.synthetic.families import BAR_FAMILIES, FAMILIES, TRAINED_FAMILIES, Family, find_family
from iapo.data.synthetic.splits import Part, part_of_split
from iapo.data.synthetic.table_styles import draw_style
from iapo.errors import InputError
from iapo.kinds import checks_kinds
from iapo.records import Axis, Box, Sample

__all__ = ["BAR_FAMILIES", "FAMILIES", "LARGEST", "SMALLEST", "TRAINED_FAMILIES", "Chart", "draw", "generate"]

SMALLEST, LARGEST = 112, 1000
"""The sizes drawn, in pixels."""

_REAL = 300


@dataclass(frozen=True, slots=True)
class Chart:
    """A sample with the data behind it.

    Attributes:
        sample: The question about the image.
        focus: The names that a solver focuses on, by axis, never empty. For charts one axis, the right one, with the
            labels that the question is about: the one asked for (`value`), the winner (`largest`), the larger and the
            smaller (`difference`) or all that lie above (`count_above`). For tables the column and the row of the cell
            asked for (two calls), or the column alone where all of it has to be seen (`total`, and `largest` in
            `vtabfact`). It gives the solution away and so is no field of `Sample`; it serves the pretraining of tiny
            models, and tests.
        labels: Charts: the boxes' names, from the left, for `hbar` in the order drawn; `charxiv` panel by panel.
        values: Charts: their values, integers, or floats where the chart has decimals; of the first series.
        columns: Tables: the columns' names from the left, without that of the row names.
        rows: Tables: the rows' names from the top, without the header. `charxiv`: the series.
        cells: Tables: the values by rows. `charxiv`: the values of each series at `labels`.
    """

    sample: Sample
    focus: Mapping[Axis, tuple[str, ...]]
    labels: tuple[str, ...] = ()
    values: tuple[float | int, ...] = ()
    columns: tuple[str, ...] = ()
    rows: tuple[str, ...] = ()
    cells: tuple[tuple[float | int, ...], ...] = ()


@checks_kinds
def generate(
    family: str,
    count: int,
    *,
    seed: int,
    size: int = SMALLEST,
    question_types: Sequence[str] | None = None,
    split: str = "train",
) -> Iterator[Sample]:
    """Yields `count` samples; the same arguments give the same bytes.

    Sample `i` depends on `count` in nothing, so that a longer run starts with the shorter one, and its
    image does not depend on `question_types` either.

    Args:
        family: One of `FAMILIES`.
        count: Number of them.
        seed: Not negative; other seeds give other images.
        size: The image's side in pixels, the longer one where it is not square; 112 to 1000.
        question_types: Question types, some of the family's (`iapo.data.synthetic.families`), all of them if None; each
            sample takes one of them at random. Every family has `value`.
        split: Any name; other splits give other images, and those of `validation` and of `test` have structures
            that no other split has. A family outside of `TRAINED_FAMILIES` has these two only.

    Raises:
        InputError: At the call, if an argument is outside what is said above.
    """
    charts = draw(family, count, seed=seed, size=size, question_types=question_types, split=split)
    return (chart.sample for chart in charts)


def draw(
    family: str,
    count: int,
    *,
    seed: int,
    size: int = SMALLEST,
    question_types: Sequence[str] | None = None,
    split: str = "train",
) -> Iterator[Chart]:
    """Yields what `generate` yields, each with the data behind it; same arguments, same errors."""
    one = find_family(family)
    types = one.question_types if question_types is None else tuple(question_types)
    unknown = [name for name in types if name not in one.question_types]
    if unknown:
        known = ", ".join(one.question_types)
        raise InputError(f"unknown question type {unknown[0]!r} for family {family!r}; use some of {known}")
    if not types:
        raise InputError("question_types is empty; give at least one question type")
    if count < 0:
        raise InputError(f"count is {count}; it must not be negative")
    if seed < 0:
        raise InputError(f"seed is {seed}; it must not be negative")
    if not SMALLEST <= size <= LARGEST:
        raise InputError(f"size is {size} pixels; it must be from {SMALLEST} to {LARGEST}")
    if not one.trained and part_of_split(split) == "train":
        raise InputError(f"family {family!r} has no split {split!r}, it is never trained on; use validation or test")
    return (_chart(one, index, seed, size, types, split) for index in range(count))


class _Drawn(NamedTuple):
    """An image with its boxes and its question."""

    image: Image.Image
    columns: Mapping[str, Box]
    rows: Mapping[str, Box]
    question: str
    answer: str
    question_type: str


def _chart(family: Family, index: int, seed: int, size: int, types: tuple[str, ...], split: str) -> Chart:
    rng = np.random.default_rng([seed, zlib.crc32(f"{family.name}/{split}".encode()), index])
    draw_one = {"bars": _bars, "panels": _panels, "table": _table}[family.drawn_as]
    sample_id = f"{family.name}-{split}-{seed}-{index}"
    return draw_one(family, sample_id, rng, size, types, part_of_split(split))


def _sample(family: Family, sample_id: str, drawn: _Drawn) -> Sample:
    return Sample(
        id=sample_id,
        image=drawn.image,
        question=drawn.question,
        answers=(drawn.answer,),
        column_boxes=drawn.columns,
        row_boxes=drawn.rows,
        kind=family.kind,
        axis=family.axis,
        source=f"synthetic/{family.name}",
        question_type=drawn.question_type,
    )


def _focus(names: Mapping[Axis, tuple[str, ...]]) -> Mapping[Axis, tuple[str, ...]]:
    return MappingProxyType(dict(names))


def _bars(
    family: Family, sample_id: str, rng: np.random.Generator, size: int, types: tuple[str, ...], part: Part
) -> Chart:
    if size < _REAL:
        data = chart_data.tiny_data(rng, part)
        colour = pick(rng, tiny_charts.COLOURS)
        picture = tiny_charts.render(family.name, data.labels, data.raw, colour, size)
    else:
        # Imported here since matplotlib takes long to load and tiny images do without it.
        from iapo.data.synthetic import real_charts

        data = chart_data.real_data(rng, size, part)
        picture = real_charts.render(family.name, data, rng, size)
    question_type = pick(rng, types)
    question, answer, names = chart_questions.ask(question_type, data, rng)
    sample = _sample(family, sample_id, _Drawn(*picture, question, answer, question_type))
    assert family.axis is not None
    return Chart(sample, _focus({family.axis: names}), data.labels, data.values)


def _panels(
    family: Family, sample_id: str, rng: np.random.Generator, size: int, types: tuple[str, ...], part: Part
) -> Chart:
    if size < _REAL:
        data = panel_data.tiny_data(rng, part)
        picture = tiny_panels.render(data, tiny_panels.draw_style(rng), size)
    else:
        from iapo.data.synthetic import real_panels

        data = panel_data.real_data(rng, size, part)
        picture = real_panels.render(data, rng, size)
    question_type = pick(rng, types)
    question, answer, names = panel_questions.ask(question_type, data, rng)
    sample = _sample(family, sample_id, _Drawn(*picture, question, answer, question_type))
    values = data.values
    return Chart(sample, _focus({"columns": names}), data.names, values[0], rows=data.series, cells=values)


def _table(
    family: Family, sample_id: str, rng: np.random.Generator, size: int, types: tuple[str, ...], part: Part
) -> Chart:
    style = draw_style(family.name, rng)
    if size < _REAL:
        data = table_data.tiny_data(rng, part)
        picture = tiny_tables.render(data, style, size)
    else:
        from iapo.data.synthetic import real_tables

        data = table_data.real_data(rng, size, part)
        picture = real_tables.render(data, style, rng, size)
    question_type = pick(rng, types)
    ask = table_questions.claim if family.name == "vtabfact" else table_questions.ask
    question, answer, names = ask(question_type, data, rng)
    sample = _sample(family, sample_id, _Drawn(*picture, question, answer, question_type))
    return Chart(sample, _focus(names), columns=data.columns, rows=data.rows, cells=data.cells)
