"""What `iapo study curves` does: training curves of runs, seeds of one method as a mean with a band (Fig. 4)."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.ticker import PercentFormatter
from rich.console import Console

from iapo.display.figures import GREY, line_style, new_figure, plain_axes, save_figure, step_axis
from iapo.errors import InputError
from iapo.kinds import checks_kinds
from iapo.runs import RunFolder
from iapo.storage import make_folder
from iapo.studies.folders import by_name, common_folder, find_runs

Values = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Panel:
    """One measure.

    Attributes:
        key: Key in `metrics.jsonl`.
        title: Over its panel.
        unit: Beside its axis.
        share: Whether it is a share, shown in percent.
        smoothed: Whether it is measured, and so is smoothed where that is asked for.
    """

    key: str
    title: str
    unit: str
    share: bool = False
    smoothed: bool = True


PANELS = (
    Panel("tools/call_ratio", "Calls", "share of rollouts", share=True),
    Panel("tools/success_rate", "Calls that execute", "share of calls", share=True),
    Panel("tools/misuse_rate", "Misuse", "share of executed calls", share=True),
    Panel("reward/outcome", "Outcome", "mean reward"),
    Panel("attribution/divergence", "Divergence", "nats"),
    Panel("attribution/lambda", "Penalty weight", "$\\lambda$ (reward a nat)", smoothed=False),
)


@dataclass(frozen=True, slots=True)
class Curve:
    """One measure of one method.

    Attributes:
        name: The method.
        key: The measure.
        steps: Optimiser steps, shape (n,).
        mean: Mean over the runs that have a value there, shape (n,); NaN where none has.
        low: The lowest run's value, shape (n,).
        high: The highest run's.
        runs: Number of runs have a value, shape (n,).
        window: Steps of the running mean; 1: none.
    """

    name: str
    key: str
    steps: npt.NDArray[np.int64]
    mean: Values
    low: Values
    high: Values
    runs: npt.NDArray[np.int64]
    window: int = 1


@checks_kinds
def study_curves(words: Sequence[str], out: Path | None, *, smooth: int) -> list[Curve]:
    """Writes `curves.csv`, `curves.svg` and `curves.png`, and prints where they lie.

    Args:
        words: Run folders (`iapo.studies.folders.find_runs`).
        out: Folder to write to; the run's folder, or the runs' common one, if None.
        smooth: Steps of the running mean; 1 smooths nothing.

    Returns:
        The curves, as in `curves.csv`.

    Raises:
        InputError: If `smooth` is no odd number from 1, or the runs cannot be put together.
    """
    if smooth < 1 or smooth % 2 == 0:
        raise InputError(f"smooth is {smooth}; give an odd number of steps, so that the running mean is centred")
    runs = find_runs(words)
    groups = {name: [RunFolder(run.path) for run in some] for name, some in by_name(runs).items()}
    out = common_folder(runs, out)
    make_folder(out)
    curves = make_curves(groups, smooth)
    beside = {out / "curves.csv": curves_csv(curves)}
    for written in plot_curves(groups, out / "curves", smooth=smooth, beside=beside):
        Console().print(str(written), soft_wrap=True)
    return curves


@checks_kinds
def make_curves(groups: Mapping[str, Sequence[RunFolder]], smooth: int = 1) -> list[Curve]:
    """Curves of all measures, method by method.

    Args:
        groups: Runs by method.
        smooth: Steps of the running mean, taken of each run before runs are put together.

    Raises:
        InputError: If a line of `metrics.jsonl` is damaged; the message names file and line.
    """
    curves = []
    for name, folders in groups.items():
        rows = [_read(folder) for folder in folders]
        steps = np.array(sorted(set().union(*rows)), dtype=np.int64)
        for panel in PANELS:
            values = np.full((len(rows), len(steps)), np.nan)
            for index, of_step in enumerate(rows):
                for place, step in enumerate(steps.tolist()):
                    if step in of_step:
                        values[index, place] = of_step[step][panel.key]
            window = smooth if panel.smoothed else 1
            values = np.stack([running_mean(row, window) for row in values])
            there = ~np.isnan(values)
            count = there.sum(0)
            mean = np.where(there, values, 0).sum(0) / np.where(count, count, 1)
            low, high = (end(np.where(there, values, worst), 0) for end, worst in ((np.min, np.inf), (np.max, -np.inf)))
            none = count == 0
            curves.append(
                Curve(
                    name,
                    panel.key,
                    steps,
                    np.where(none, np.nan, mean),
                    np.where(none, np.nan, low),
                    np.where(none, np.nan, high),
                    count,
                    window,
                )
            )
    return curves


def _read(folder: RunFolder) -> dict[int, dict[str, float]]:
    """Reads what a run measured: step -> key of a panel -> value, NaN where nothing was measured."""
    return {
        row["step"]: {panel.key: math.nan if row.get(panel.key) is None else float(row[panel.key]) for panel in PANELS}
        for row in folder.read_measured().values()
    }


def running_mean(values: Values, width: int) -> Values:
    """Returns the centred running mean of what is there in each window; windows are cut at the ends.

    Args:
        values: Shape (n,); NaN where nothing was measured, and there it stays.
        width: Width of the window, odd.
    """
    if not len(values):
        return values
    there = ~np.isnan(values)
    ones = np.ones(width)
    sums = np.convolve(np.where(there, values, 0), ones)[width // 2 :][: len(values)]
    counts = np.convolve(there, ones)[width // 2 :][: len(values)]
    return np.where(there, sums / np.where(counts, counts, 1), np.nan)


def curves_csv(curves: Sequence[Curve]) -> str:
    """Returns one line a method, measure and step, as drawn."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["method", "measure", "step", "mean", "low", "high", "runs", "running_mean_steps"])
    for curve in curves:
        for step, *values, runs in zip(curve.steps, curve.mean, curve.low, curve.high, curve.runs, strict=True):
            if runs:
                writer.writerow(
                    [curve.name, curve.key, int(step), *(f"{one:.9g}" for one in values), runs, curve.window]
                )
    return file.getvalue()


def plot_curves(
    groups: Mapping[str, Sequence[RunFolder]],
    stem: Path,
    *,
    smooth: int = 1,
    svg: bool = True,
    beside: Mapping[Path, str] | None = None,
) -> list[Path]:
    """Draws a panel a measure; with a running mean, the unsmoothed mean is drawn pale behind it.

    Args:
        groups: Runs by method.
        stem: Path of the SVG and PNG files without their suffix.
        smooth: Steps of the running mean.
        svg: Whether an SVG file is wanted as well.
        beside: Texts of files that belong to them; all are written, or none.

    Returns:
        The files.
    """
    figure = new_figure(10.4, 5.9, gap=0.05)
    panels = dict(zip((panel.key for panel in PANELS), figure.subplots(2, 3).flat, strict=True))
    styles = {name: line_style(index) for index, name in enumerate(groups)}
    if smooth > 1:
        for curve in make_curves(groups):
            panels[curve.key].plot(curve.steps, curve.mean, alpha=0.3, linewidth=0.8, **styles[curve.name])
    for curve in make_curves(groups, smooth):
        axes = panels[curve.key]
        axes.plot(curve.steps, curve.mean, linewidth=1.6, label=curve.name, **styles[curve.name])
        if curve.runs.max(initial=0) > 1:
            axes.fill_between(curve.steps, curve.low, curve.high, color=styles[curve.name]["color"], alpha=0.18, lw=0)
    for panel in PANELS:
        axes = panels[panel.key]
        axes.set(title=panel.title, ylabel=panel.unit)
        step_axis(axes)
        plain_axes(axes)
        if panel.share:
            axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
            low, high = axes.get_ylim()
            # Not so close that single rollouts look like an event.
            axes.set_ylim(min(low, high - 0.1), high)
        if all(np.isnan(line.get_ydata()).all() for line in axes.lines):
            axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", color=GREY)
    handles, labels = panels[PANELS[0].key].get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=min(5, len(labels)),
        frameon=False,
        title=_about(groups, smooth),
        title_fontsize=8.5,
    )
    return save_figure(figure, stem, svg=svg, beside=beside)


def _about(groups: Mapping[str, Sequence[RunFolder]], smooth: int) -> str:
    counts = sorted({len(some) for some in groups.values()})
    seeds = "one run each"
    if counts[-1] > 1:
        number = " to ".join(str(one) for one in dict.fromkeys((counts[0], counts[-1])))
        seeds = f"mean of {number} seeds; bands: lowest to highest seed"
    how = "unsmoothed" if smooth == 1 else f"running mean over {smooth} steps, unsmoothed mean pale behind it"
    return f"{seeds}; {how}"
