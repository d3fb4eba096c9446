"""Draws where one tool call came from: which parts of the image, which blocks of the prompt."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from iapo.images import to_rgb
from iapo.storage import whole_file

_MAP = colormaps["RdBu_r"]
_COLOURS = ("#1f4e9c", "#e08214", "#4d9221")
_MOST_NUMBERS = 36
"""Grids of more tokens are drawn without numbers, which would not be legible."""


@dataclass(frozen=True, slots=True)
class Panel:
    """One model's attribution of the call.

    Attributes:
        name: Name of the model.
        patches: Signed share of each of the image's tokens, shape (rows, columns), top row first; a share is the
            token's score over the sum of all prompt tokens' absolute scores, so that models can be compared.
        shares: The block distribution, length m.
    """

    name: str
    patches: NDArray[np.float32]
    shares: Sequence[float]


def plot_call(
    path: Path,
    image: Image.Image,
    panels: Sequence[Panel],
    blocks: Sequence[str],
    *,
    called: Sequence[str] = (),
    title: Sequence[str] = (),
    label: str = "share of the attribution",
    heat_label: str = "signed share of the token scores",
) -> Path:
    """Draws the image under each model's heat map, all on one colour scale, and the blocks as bars side by side.

    Args:
        path: The PNG file to write.
        image: The prompt's image.
        panels: Panels, one a model.
        blocks: Names of the m blocks.
        called: Blocks of the tools that the call uses; they are set in bold type.
        title: Lines that stand above all; long ones are broken, very long ones cut.
        label: Name of what the bars show.
        heat_label: Name of what the heat maps show.

    Raises:
        ValueError: If there is no panel, or a panel's shares are not one a block.
    """
    if not panels:
        raise ValueError("no attribution to draw")
    if any(len(panel.shares) != len(blocks) for panel in panels):
        raise ValueError("the shares of an attribution must be as many as the blocks")
    aspect = min(2.0, max(0.6, image.width / image.height))
    height = 3.4
    figure = Figure(figsize=(max(7.5, len(panels) * height * aspect + 1.4), height + 1.8 + 0.4 * len(blocks)))
    FigureCanvasAgg(figure)
    figure.set_layout_engine("constrained", h_pad=0.08, w_pad=0.08)
    ratios = [height + 0.9, 0.9 + 0.4 * len(blocks)]
    top, bottom = figure.subfigures(2, 1, squeeze=False, height_ratios=ratios)[:, 0]
    if title:
        # A question may hold dollar signs, which are no formula here.
        figure.suptitle("\n".join(part for line in title for part in _broken(line)), fontsize=10, parse_math=False)
    limit = max(float(np.abs(panel.patches).max()) for panel in panels) or 1.0
    pictures = top.subplots(1, len(panels), squeeze=False)[0]
    for axes, panel in zip(pictures, panels, strict=True):
        _heat(axes, image, panel, limit)
    # Beside the last image itself: a bar beside all of them would push a single image out of the middle.
    place = pictures[-1].inset_axes((1.04, 0, 0.05, 1))
    bar = top.colorbar(ScalarMappable(Normalize(-limit, limit), _MAP), cax=place)
    bar.set_label(heat_label, fontsize=9)
    bar.ax.yaxis.set_major_formatter(lambda value, _: _signed(value, 0 if limit > 0.05 else 2))
    _bars(bottom.subplots(), [(panel.name, panel.shares) for panel in panels], blocks, called, label)
    with whole_file(path) as part:
        figure.savefig(part, format="png", dpi=120)
    return path


def draw_blocks(
    shares: Mapping[str, Mapping[str, float]],
    *,
    called: Sequence[str] = (),
    label: str = "share of the attribution",
) -> Image.Image:
    """Draws block distributions as bars side by side.

    Args:
        shares: Maps from block name to share, by whose they are; all of the same blocks.
        called: Blocks of the tools that the call uses; they are set in bold type.
        label: Name of what the bars show.

    Raises:
        ValueError: If there is no distribution, or they are of different blocks.
    """
    if not shares:
        raise ValueError("no attribution to draw")
    blocks = list(next(iter(shares.values())))
    if any(list(one) != blocks for one in shares.values()):
        raise ValueError("the distributions that are drawn together must be of the same blocks")
    figure = Figure(figsize=(7.5, 0.9 + 0.4 * len(blocks)), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    _bars(figure.subplots(), [(name, list(one.values())) for name, one in shares.items()], blocks, called, label)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")


def _heat(axes: Axes, image: Image.Image, panel: Panel, limit: float) -> None:
    extent = (0, image.width, image.height, 0)
    axes.imshow(to_rgb(image).convert("L").convert("RGB"), extent=extent)
    colours = _MAP(0.5 + 0.5 * panel.patches / limit)
    # What hardly counts lets the image through.
    colours[..., 3] = 0.15 + 0.6 * np.sqrt(np.abs(panel.patches) / limit)
    axes.imshow(colours, extent=extent, interpolation="nearest")
    rows, columns = panel.patches.shape
    if panel.patches.size <= _MOST_NUMBERS:
        for (row, column), value in np.ndenumerate(panel.patches):
            # In a corner, where it hides least of the image.
            x, y = (column + 0.06) * image.width / columns, (row + 0.06) * image.height / rows
            text = axes.text(x, y, _signed(float(value), 1), ha="left", va="top", fontsize=8)
            text.set_bbox({"boxstyle": "round,pad=0.15", "facecolor": "white", "alpha": 0.7, "edgecolor": "none"})
    axes.set_title(f"{panel.name}\nin the picture: {np.abs(panel.patches).sum():.1%}", fontsize=10, parse_math=False)
    axes.set_xticks([])
    axes.set_yticks([])


def _signed(share: float, digits: int) -> str:
    text = f"{share:+.{digits}%}"
    # A rounded nothing has no sign.
    return text if text.strip("+-0.%") else "0"


def _bars(
    axes: Axes, shares: Sequence[tuple[str, Sequence[float]]], blocks: Sequence[str], called: Sequence[str], label: str
) -> None:
    width = 0.8 / len(shares)
    for index, (name, values) in enumerate(shares):
        places = np.arange(len(blocks)) + (index - (len(shares) - 1) / 2) * width
        bars = axes.barh(places, values, width, label=name, color=_COLOURS[index % len(_COLOURS)])
        axes.bar_label(bars, [f"{value:.1%}" for value in values], fontsize=8, padding=3)
    axes.set_yticks(range(len(blocks)), [name + (" (called)" if name in called else "") for name in blocks])
    for text, name in zip(axes.get_yticklabels(), blocks, strict=True):
        text.set(fontsize=9, fontweight="bold" if name in called else "normal", parse_math=False)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.12 * max(max(values) for _, values in shares))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.set_xlabel(label)
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=len(shares), fontsize=9, frameon=False)


def _broken(text: str, width: int = 100, most: int = 3) -> list[str]:
    lines = [part for line in text.splitlines() for part in textwrap.wrap(line, width)]
    return lines if len(lines) <= most else [*lines[: most - 1], "..."]
