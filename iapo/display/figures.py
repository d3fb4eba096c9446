"""What figures share (colours, fonts, files), and the demo's figure of attributions."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator

from iapo.runs import RunFolder
from iapo.storage import write_all

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#E69F00", "#56B4E9", "#CC79A7", "#000000")
"""Okabe and Ito's colours, which people with any colour vision can tell apart; without their yellow, too pale here."""

DASHES = ("-", "--", "-.", ":")
"""Line styles; they change where the colours begin again."""

GREY = "#555555"


def line_style(index: int) -> dict[str, str]:
    """Returns colour and line style of the n-th line of a figure."""
    return {
        "color": COLOURS[index % len(COLOURS)],
        "linestyle": DASHES[index // len(COLOURS) % len(DASHES)],
    }


def new_figure(width: float, height: float, gap: float = 0.02) -> Figure:
    """Makes an empty figure of so many inches, with gaps of that share of a panel between its panels."""
    figure = Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(wspace=gap, hspace=gap))
    FigureCanvasAgg(figure)
    return figure


def plain_axes(axes: Axes) -> None:
    """Removes what axes need not have, and draws a light grid."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.set_axisbelow(True)


def step_axis(axes: Axes) -> None:
    """Labels the x axis as optimiser steps, at round numbers."""
    axes.set_xlabel("optimiser step")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6, steps=[1, 2, 5, 10]))


def save_figure(
    figure: Figure, stem: Path, *, svg: bool = True, beside: Mapping[Path, str] | None = None
) -> list[Path]:
    """Writes a figure as SVG and PNG; the same figure gives the same SVG file.

    Args:
        figure: The figure.
        stem: Path without a suffix.
        svg: Whether an SVG file is wanted as well.
        beside: Texts of files that belong to it; all are written, or none.

    Returns:
        The files, those beside it first.
    """
    files = {path: text.encode() for path, text in (beside or {}).items()}
    with mpl.rc_context({"svg.hashsalt": "iapo"}):
        for kind in ("svg", "png") if svg else ("png",):
            drawn = io.BytesIO()
            figure.savefig(drawn, format=kind, dpi=200, metadata={"Date": None} if kind == "svg" else None)
            files[stem.with_name(f"{stem.name}.{kind}")] = drawn.getvalue()
    write_all(files)
    return list(files)


def plot_attribution(folders: Mapping[str, RunFolder], stem: Path) -> Path:
    """Plots the mean attribution on each prompt block: the start, each trained policy, and the teacher's own.

    The teacher explains the calls of the start.

    Args:
        folders: Evaluated runs by name.
        stem: The PNG file to write, without its suffix.
    """
    evaluations = {name: folder.read_evaluation() for name, folder in folders.items()}
    first = next(iter(evaluations.values()))
    bars = {"before": first.attribution["before"]["student"]}
    bars |= {name: evaluation.attribution["after"]["student"] for name, evaluation in evaluations.items()}
    bars |= {"teacher": first.attribution["before"]["teacher"]}
    figure = new_figure(9, 4.5)
    axes = figure.subplots()
    blocks = list(bars["before"])
    width = 0.8 / len(bars)
    for index, (name, blocks_of) in enumerate(bars.items()):
        places = np.arange(len(blocks)) + (index - (len(bars) - 1) / 2) * width
        colour = COLOURS[index % len(COLOURS)]
        axes.bar(places, [blocks_of.get(block, np.nan) for block in blocks], width, label=name, color=colour)
    axes.set_xticks(range(len(blocks)), [block.replace("tool:focus_on_", "") for block in blocks], rotation=30)
    axes.set(ylabel="mean attribution", title="Which part of the prompt do the calls come from?")
    plain_axes(axes)
    axes.legend(frameon=False)
    return save_figure(figure, stem, svg=False)[0]
