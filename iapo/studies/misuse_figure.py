"""The figure of the case study: misuse of all runs in one panel, attribution of right and wrong tools in one a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter

from iapo.display.figures import COLOURS, GREY, line_style, new_figure, plain_axes, save_figure, step_axis

_OWN = "the teacher's own calls"
# Colours that no one of the first five runs has.
_TOOLS = {"right_tools": ("right tools", COLOURS[6], "o"), "wrong_tools": ("wrong tools", COLOURS[5], "s")}


def plot_misuse(
    found: Mapping[str, Mapping[str, Any]], stem: Path, beside: Mapping[Path, str] | None = None
) -> list[Path]:
    """Draws case studies.

    Args:
        found: Contents of the runs' `case-study.json`, by label.
        stem: Path of the SVG and PNG files without their suffix.
        beside: Texts of files that belong to them; all are written, or none.

    Returns:
        The files.
    """
    panels = 1 + len(found)
    columns = min(panels, 3)
    rows = -(-panels // columns)
    figure = new_figure(0.4 + 3.5 * columns, 0.6 + 2.9 * rows, gap=0.06)
    every = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in every[panels:]:
        axes.remove()
    first, rest = every[0], every[1:panels]
    for index, (label, study) in enumerate(found.items()):
        style = line_style(index)
        _line(first, study["points"], "misuse", label=label, marker="o", **style)
    levels = [study["teacher"]["misuse"] for study in found.values() if (study["teacher"] or {}).get("misuse")]
    for place, level in enumerate({one["value"]: one for one in levels}.values()):
        _level(first, level, GREY, None if place else "teacher")
    first.set(title="Misused calls", ylabel="share of executed calls", ylim=(-0.03, None))
    first.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    for axes, (label, study) in zip(rest, found.items(), strict=True):
        for name, (words, colour, marker) in _TOOLS.items():
            _line(axes, study["points"], name, label=words, color=colour, marker=marker)
            level = (study["teacher"] or {}).get(name)
            if level is not None:
                _level(axes, level, colour, f"{words}, teacher")
        axes.set(title=f"Attribution: {label}", ylabel="mean share of a block")
    # One scale, so that runs can be compared by eye.
    top = max((axes.dataLim.ymax for axes in rest), default=1)
    for axes in rest:
        axes.set_ylim(0, 1.06 * top)
    for axes in every[:panels]:
        step_axis(axes)
        plain_axes(axes)
    samples = sorted({point["samples"] for study in found.values() for point in study["points"]})
    number = " to ".join(str(one) for one in dict.fromkeys((samples[0], samples[-1]))) if samples else "no"
    _legend(figure, first, rest, f"{number} clearly divisible pictures; bands: 95% intervals; dotted: {_OWN}")
    return save_figure(figure, stem, beside=beside)


def _legend(figure: Figure, first: Axes, panels: Sequence[Axes], title: str) -> None:
    """Returns one legend under all panels: the runs in its left columns, the tools in its right ones."""
    runs = list(zip(*first.get_legend_handles_labels(), strict=True))
    drawn = {label: handle for axes in panels for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    # By name right tools come before wrong ones, and both before their teacher's.
    tools = [(handle, label) for label, handle in sorted(drawn.items())]
    rows = 2 if len(runs) <= 4 else 4
    runs += [(Line2D([], [], linestyle="none"), "")] * (-len(runs) % rows)
    handles, labels = zip(*runs, *tools, strict=True)
    figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=-(-len(labels) // rows),
        frameon=False,
        fontsize=9,
        title=title,
        title_fontsize=9,
    )


def _line(axes: Axes, points: Sequence[Mapping[str, Any]], name: str, **style: Any) -> None:
    kept = [point for point in points if point[name] is not None]
    steps = np.array([point["step"] for point in kept])
    value, low, high = (np.array([point[name][end] for point in kept]) for end in ("value", "low", "high"))
    axes.plot(steps, value, markersize=3.5, linewidth=1.6, **style)
    axes.fill_between(steps, low, high, color=style["color"], alpha=0.16, linewidth=0)


def _level(axes: Axes, level: Mapping[str, Any], colour: str, label: str | None) -> None:
    axes.axhline(level["value"], color=colour, linestyle=":", label=label)
    axes.axhspan(level["low"], level["high"], color=colour, alpha=0.08, linewidth=0)
