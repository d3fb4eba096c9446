"""Random data for line and scatter panels: places along the axis, series, and their values."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from iapo.tasks import chart_data
from iapo.tasks.chart_data import format_number
from iapo.tasks.chart_topics import Measure, Topic
from iapo.tasks.splits import Part


@dataclass(frozen=True, slots=True)
class Panel:
    """One plot of a picture.

    Attributes:
        raw: A positive whole number per series and place; the largest of each series occurs once in it.
        unit: All of `raw` are multiples of it.
        tick: The distance between labelled ticks, in `raw`.
        decimals: 0, or 1 where `raw` counts tenths.
        measure: What the values are; None for bare numbers.
    """

    raw: tuple[tuple[int, ...], ...]
    unit: int = 1
    tick: int = 1
    decimals: int = 0
    measure: Measure | None = None

    def text(self, raw: int) -> str:
        """Writes a raw number in the panel's precision, without trailing zeros."""
        return format_number(raw, self.decimals)


@dataclass(frozen=True, slots=True)
class PanelData:
    """What a picture of panels shows.

    Attributes:
        places: Tick labels along the horizontal axis, the same in every panel, distinct.
        panels: The plots.
        series: The lines' or point clouds' names; one without a name in tiny pictures.
        topic: What the series are; None in tiny pictures.
        time: What the places are, for example `month`; empty for letters.
    """

    places: tuple[str, ...]
    panels: tuple[Panel, ...]
    series: tuple[str, ...] = ("",)
    topic: Topic | None = None
    time: str = ""

    def name(self, panel: int, place: int) -> str:
        """Name of the boxes of a place: its tick label, after the panel's letter where there are several panels."""
        label = self.places[place]
        return label if len(self.panels) == 1 else f"{letter(panel)} {label}"

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all boxes, panel by panel."""
        return tuple(self.name(one, place) for one in range(len(self.panels)) for place in range(len(self.places)))

    @property
    def values(self) -> tuple[tuple[float | int, ...], ...]:
        """For each series its values at `names`: integers, or floats in panels with decimals."""
        return tuple(
            tuple(
                raw / 10**panel.decimals if panel.decimals else raw for panel in self.panels for raw in panel.raw[index]
            )
            for index in range(len(self.series))
        )


def letter(panel: int) -> str:
    """How a panel is called: `(a)`, `(b)`, ..."""
    return f"({'abcdefgh'[panel]})"


def tiny_data(rng: np.random.Generator, part: Part) -> PanelData:
    """One unnamed series over 4 letters, with values from 1 to 9; the set of letters is of the part given."""
    bars = chart_data.tiny_data(rng, part)
    return PanelData(bars.labels, (Panel((bars.raw,)),))
