"""Charts by matplotlib with known slots, in the styles of other programs."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO

import matplotlib.pyplot as plt
from drawn import NAVY, Drawn
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

NAMES = ["Germany", "France", "Spain", "Italy", "Poland", "Austria", "Norway", "Sweden", "Greece"]


def _drawn(figure: Figure, axes: Axes, places: Sequence[float], *, lying: bool) -> Drawn:
    figure.tight_layout()
    figure.canvas.draw()
    height = figure.get_figheight() * figure.dpi
    points = axes.transData.transform([(0, place) if lying else (place, 0) for place in places])
    file = BytesIO()
    figure.savefig(file, dpi=figure.dpi, format="png")
    plt.close(figure)
    middles = [float(height - y) if lying else float(x) for x, y in points]
    return Drawn(Image.open(file).convert("RGB"), "rows" if lying else "columns", middles)


def zeros(values: Sequence[float]) -> Drawn:
    """Lying bars with ticks between the names and the numbers, which stand at the base line where a bar is zero."""
    figure, axes = plt.subplots(figsize=(7, 5), dpi=100)
    axes.barh(range(len(values)), values, 0.8, color=NAVY)
    axes.set_yticks(range(len(values)), NAMES[: len(values)])
    axes.invert_yaxis()
    for place, value in enumerate(values):
        axes.text(value + 1, place, f"{value:.1f}", va="center", fontsize=9)
    return _drawn(figure, axes, range(len(values)), lying=True)


def pairs(values: Sequence[tuple[float, float]]) -> Drawn:
    """Lying bars of two colours in pairs, each with a name of its own."""
    figure, axes = plt.subplots(figsize=(5, 6), dpi=100)
    axes.axis("off")
    places = []
    for pair, both in enumerate(values):
        for side, (value, colour) in enumerate(zip(both, ("#b5b09e", "#746a49"), strict=True)):
            places.append(2.5 * pair + side)
            axes.barh(places[-1], value, 0.8, color=colour)
            axes.text(-2, places[-1], f"{NAMES[pair]} {2013 + 6 * side}", ha="right", va="center", fontsize=8)
            axes.text(value + 1, places[-1], f"{value:.0f}%", va="center", fontsize=8)
    axes.set_ylim(places[-1] + 1, -1)
    axes.set_xlim(-40, 100)
    return _drawn(figure, axes, places, lying=True)


def styled(values: Sequence[float], style: str) -> Drawn:
    """Upright bars on a ground without a line below them, so that the axis' zero stands at their foot."""
    with plt.style.context(style):
        figure, axes = plt.subplots(figsize=(7, 5), dpi=100)
        axes.bar(range(len(values)), values)
        axes.set_xticks(range(len(values)), NAMES[: len(values)], rotation=30, ha="right")
        return _drawn(figure, axes, range(len(values)), lying=False)
