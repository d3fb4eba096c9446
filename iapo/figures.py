"""Plots of saved runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from iapo.runs import RunFolder

CURVES = {
    "reward/outcome": "outcome",
    "tools/misuse_rate": "misuse",
    "tools/success_rate": "call success",
    "attribution/divergence": "divergence (nats)",
}


def plot_training(folders: Mapping[str, RunFolder], path: Path) -> Path:
    """Plots outcome, misuse, call success and divergence per optimiser step, one line a run.

    Args:
        folders: Runs by name.
        path: The PNG file to write.
    """
    figure = Figure(figsize=(9, 6), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (key, title) in zip(figure.subplots(2, 2).flat, CURVES.items(), strict=True):
        for name, folder in folders.items():
            rows = folder.read_metrics()
            values = [np.nan if row[key] is None else row[key] for row in rows]
            axes.plot([row["step"] for row in rows], values, label=name)
        axes.set(title=title, xlabel="step")
        axes.grid(alpha=0.3)
    figure.axes[0].legend()
    figure.savefig(path, dpi=110)
    return path


def plot_attribution(folders: Mapping[str, RunFolder], path: Path) -> Path:
    """Plots the mean attribution on each prompt block: the start, each trained policy, and the teacher's own.

    The teacher explains the calls of the start.

    Args:
        folders: Evaluated runs by name.
        path: The PNG file to write.
    """
    evaluations = {name: folder.read_evaluation() for name, folder in folders.items()}
    first = next(iter(evaluations.values()))
    bars = {"before": first["attribution"]["before"]["student"]}
    bars |= {name: evaluation["attribution"]["after"]["student"] for name, evaluation in evaluations.items()}
    bars |= {"teacher": first["attribution"]["before"]["teacher"]}
    figure = Figure(figsize=(9, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    blocks = list(bars["before"])
    width = 0.8 / len(bars)
    for index, (name, blocks_of) in enumerate(bars.items()):
        places = np.arange(len(blocks)) + (index - (len(bars) - 1) / 2) * width
        axes.bar(places, [blocks_of.get(block, np.nan) for block in blocks], width, label=name)
    axes.set_xticks(range(len(blocks)), [block.replace("tool:focus_on_", "") for block in blocks], rotation=30)
    axes.set(ylabel="mean attribution", title="Which part of the prompt do the calls come from?")
    axes.legend()
    figure.savefig(path, dpi=110)
    return path
