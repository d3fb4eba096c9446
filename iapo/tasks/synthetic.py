"""Seeded vertical and horizontal bar charts with exact boxes and questions answered from the data.

Every label has a box on both axes, but only one axis divides the picture cleanly:

* `vbar`: a label's column box is the bar's whole slot, from the top of the plot area down to and with its
  tick label; slots of neighbours touch and do not overlap. Its row box is the band across the plot area from
  the bar's top to the base line, and so the row boxes of a chart all overlap. The right axis is `columns`.
* `hbar`: the mirror image. A label's row box is the slot, from the tick label at the left to the right end of
  the plot area, and its column box is the band from the base line to the bar's end, over the plot area's full
  height. The right axis is `rows`.

Below 300 pixels a chart is a square with 4 lettered bars (`tiny_charts`); from 300 on it is a full chart with
title, axes and names (`real_charts`), whose longer side is `size` and whose shape varies.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from iapo.records import Axis, Sample
from iapo.tasks import tiny_charts
from iapo.tasks.chart_data import pick, real_data, tiny_data
from iapo.tasks.chart_questions import QUESTION_TYPES, ask

__all__ = ["FAMILIES", "LARGEST", "QUESTION_TYPES", "SMALLEST", "Chart", "draw", "generate"]

FAMILIES = ("vbar", "hbar")
SMALLEST, LARGEST = 112, 1000
"""The sizes drawn, in pixels."""

_REAL = 300
_AXIS: dict[str, Axis] = {"vbar": "columns", "hbar": "rows"}


@dataclass(frozen=True, slots=True)
class Chart:
    """A sample with the data behind it.

    Attributes:
        sample: The question about the picture.
        labels: The bars' labels, from the left (`vbar`) or in the order drawn (`hbar`).
        values: The bars' values: integers, or floats where the chart has decimals.
        focus: The labels that the question is about: the one asked for (`value`), the winner (`largest`), the
            larger and the smaller (`difference`) or all that lie above (`count_above`), never empty. It gives
            the solution away and so is no field of `Sample`; it serves the pretraining of tiny models, and
            tests.
    """

    sample: Sample
    labels: tuple[str, ...]
    values: tuple[float | int, ...]
    focus: tuple[str, ...]


def generate(
    family: str,
    count: int,
    *,
    seed: int,
    size: int = SMALLEST,
    question_types: Sequence[str] = QUESTION_TYPES,
    split: str = "train",
) -> Iterator[Sample]:
    """Yields `count` samples; the same arguments give the same bytes.

    Sample `i` depends on `count` in nothing, so that a longer run starts with the shorter one, and its
    picture does not depend on `question_types` either.

    Args:
        family: One of `FAMILIES`.
        count: How many.
        seed: Not negative; other seeds give other charts.
        size: The picture's side in pixels, the longer one where it is not square; 112 to 1000.
        question_types: Some of `QUESTION_TYPES`; each sample takes one of them at random.
        split: Any name; other splits give other charts.

    Raises:
        ValueError: At the call, if an argument is outside what is said above.
    """
    charts = draw(family, count, seed=seed, size=size, question_types=question_types, split=split)
    return (chart.sample for chart in charts)


def draw(
    family: str,
    count: int,
    *,
    seed: int,
    size: int = SMALLEST,
    question_types: Sequence[str] = QUESTION_TYPES,
    split: str = "train",
) -> Iterator[Chart]:
    """Yields what `generate` yields, each with the data behind it; same arguments, same errors."""
    if family not in FAMILIES:
        raise ValueError(f"unknown family {family!r}; use one of {', '.join(FAMILIES)}")
    unknown = [name for name in question_types if name not in QUESTION_TYPES]
    if unknown:
        raise ValueError(f"unknown question type {unknown[0]!r}; use some of {', '.join(QUESTION_TYPES)}")
    if not question_types:
        raise ValueError("question_types is empty; give at least one question type")
    if count < 0:
        raise ValueError(f"count is {count}; it must not be negative")
    if seed < 0:
        raise ValueError(f"seed is {seed}; it must not be negative")
    if not SMALLEST <= size <= LARGEST:
        raise ValueError(f"size is {size} pixels; it must be from {SMALLEST} to {LARGEST}")
    types = tuple(question_types)
    return (_chart(family, index, seed, size, types, split) for index in range(count))


def _chart(family: str, index: int, seed: int, size: int, types: tuple[str, ...], split: str) -> Chart:
    rng = np.random.default_rng([seed, zlib.crc32(f"{family}/{split}".encode()), index])
    if size < _REAL:
        data = tiny_data(rng)
        colour = pick(rng, tiny_charts.COLOURS)
        image, columns, rows = tiny_charts.render(family, data.labels, data.raw, colour, size)
    else:
        # Imported here since matplotlib takes long to load and tiny charts do without it.
        from iapo.tasks import real_charts

        data = real_data(rng, size)
        image, columns, rows = real_charts.render(family, data, rng, size)
    question_type = pick(rng, types)
    asked = ask(question_type, data, rng)
    sample = Sample(
        id=f"{family}-{split}-{seed}-{index}",
        image=image,
        question=asked.question,
        answers=(asked.answer,),
        column_boxes=columns,
        row_boxes=rows,
        kind="chart",
        axis=_AXIS[family],
        source=f"synthetic/{family}",
        question_type=question_type,
    )
    return Chart(sample, data.labels, data.values, asked.focus)
