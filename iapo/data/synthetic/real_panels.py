"""Draws line and scatter panels of 300 to 1000 pixels with matplotlib, and measures their boxes.

As in `real_charts` the boxes are matplotlib's own coordinates after layout, and the user's settings are set aside while
it draws. Palettes, marks and lettering are others than those of the bar charts.
"""

from __future__ import annotations

from dataclasses import dataclass

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from PIL import Image

from iapo.data.synthetic.chart_data import pick
from iapo.data.synthetic.panel_data import Panel, PanelData, letter
from iapo.records import Box

_DPI = 64
_POINT = 72 / _DPI
_LETTER = 0.64
"""A letter's width over the font size, a little more than the mean of the fonts below."""

# Without red, which marks edits, and without the bars' colours.
_PALETTES = (("#00429d", "#7a9a01", "#b8860b"), ("#332288", "#44aa99", "#ddaa33"), ("#000000", "#56b4e9", "#e69f00"))
_MARKS = ("o", "s", "^", "D", "v", "P")
_DASHES = ("-", "--", ":")
_FONTS = ("STIXGeneral", "DejaVu Sans", "DejaVu Serif")
_PAGES = (("white", "white"), ("white", "#eef3ee"), ("#f3f3f8", "white"))
_WIDE_FROM = 700
"""Three panels stand side by side from this size on."""


@dataclass(frozen=True, slots=True)
class _Style:
    """One look of an image; lengths in pixels."""

    width: int
    height: int
    shape: tuple[int, int]
    font: str
    font_size: float
    joined: bool
    dashed: bool
    palette: tuple[str, ...]
    marks: tuple[str, ...]
    mark: float
    page: tuple[str, str]
    upright_grid: bool
    open_frame: bool

    def length(self, letters: int) -> float:
        """Estimates about how wide that many letters are."""
        return letters * self.font_size * _LETTER


def _draw_style(data: PanelData, rng: np.random.Generator, size: int) -> _Style:
    count = len(data.panels)
    shapes = {1: ((1, 1),), 2: ((1, 2), (2, 1)), 3: ((1, 3), (3, 1)), 4: ((2, 2),)}[count]
    shape = pick(rng, shapes)
    if size < 400 and count == 2:
        shape = (2, 1)
    if size < _WIDE_FROM and count == 3:
        shape = (3, 1)
    aspect = {(1, 2): 0.55, (1, 3): 0.45, (1, 1): pick(rng, (0.7, 0.8))}.get(shape, 1.0)
    marks = tuple(_MARKS[index] for index in rng.permutation(len(_MARKS))[: len(data.series)])
    joined, dashed, upright, opened, one_mark = (rng.random(5) < (0.65, 0.4, 0.4, 0.4, 0.3)).tolist()
    font_size = size * float(rng.uniform(0.018, 0.026))
    return _Style(
        width=size,
        height=round(size * aspect),
        shape=shape,
        font=pick(rng, _FONTS),
        # Titles of panels side by side must not meet.
        font_size=max(9.0, min(font_size, 0.048 * size / shape[1])),
        joined=joined,
        dashed=dashed,
        palette=pick(rng, _PALETTES),
        marks=marks[:1] * len(marks) if one_mark else marks,
        mark=max(5.0, size * float(rng.uniform(0.01, 0.014))),
        page=pick(rng, _PAGES),
        upright_grid=upright,
        open_frame=opened,
    )


def _plot(axes: Axes, data: PanelData, number: int, style: _Style) -> None:
    """Draws one panel's points, ticks, grid and title."""
    panel = data.panels[number]
    places = list(range(len(data.places)))
    for index, (name, raw) in enumerate(zip(data.series, panel.raw, strict=True)):
        axes.plot(
            places,
            raw,
            color=style.palette[index],
            marker=style.marks[index],
            markersize=style.mark * _POINT,
            linestyle=(_DASHES[index] if style.dashed else "-") if style.joined else "none",
            linewidth=1.2,
            label=name,
        )
    axes.set_xlim(-0.5, len(places) - 0.5)
    slot = 0.75 * style.width / style.shape[1] / len(places)
    across = style.length(max(map(len, data.places))) + 2 > slot
    axes.set_xticks(places, labels=data.places, rotation=90 if across else 0)
    _scale(axes, panel, style)
    if panel.measure is None:
        raise ValueError("a panel has no measure; only named data is drawn at real sizes")
    title = panel.measure.name.capitalize()
    axes.set_title(title if len(data.panels) == 1 else f"{letter(number)} {title}", fontsize=style.font_size * _POINT)
    axes.set_ylabel(panel.measure.unit)
    for side in ("top", "right") if style.open_frame else ():
        axes.spines[side].set_visible(False)


def _scale(axes: Axes, panel: Panel, style: _Style) -> None:
    """Sets the vertical axis: labelled ticks that do not overlap, a small tick and a faint line per unit."""
    limit = max(map(max, panel.raw)) + panel.unit
    room = 0.5 * style.height / style.shape[0]
    step = panel.tick
    while limit / step * 1.4 * style.font_size > room and step * 2 <= limit:
        step *= 2
    ticks = range(0, limit + 1, step)
    axes.set_ylim(0, limit)
    axes.set_yticks(list(ticks), labels=[panel.text(tick) for tick in ticks])
    axes.set_yticks([tick for tick in range(0, limit + 1, panel.unit) if tick % step], minor=True)
    axes.yaxis.grid(True, which="major", color="#9aa5b0", linewidth=0.8)
    axes.yaxis.grid(True, which="minor", color="#d3d9de", linewidth=0.5)
    if style.upright_grid:
        axes.xaxis.grid(True, color="#d3d9de", linewidth=0.5)


def _figure(data: PanelData, style: _Style) -> tuple[Figure, FigureCanvasAgg, list[Axes]]:
    """Builds the image and draws it once, after which all its coordinates are final."""
    margin = 0.5 * style.font_size / _DPI
    layout = ConstrainedLayoutEngine(w_pad=margin, h_pad=margin)
    figure = Figure(figsize=(style.width / _DPI, style.height / _DPI), dpi=_DPI, layout=layout)
    canvas = FigureCanvasAgg(figure)
    figure.set_facecolor(style.page[0])
    panels = [
        figure.add_subplot(*style.shape, number + 1, facecolor=style.page[1]) for number in range(len(data.panels))
    ]
    for number, axes in enumerate(panels):
        _plot(axes, data, number, style)
    wide = style.length(sum(map(len, data.series))) + 5 * style.font_size * len(data.series)
    handles, names = panels[0].get_legend_handles_labels()
    # Outside of the panels, so that it hides no point.
    figure.legend(handles, names, loc="outside lower center", ncols=len(names) if wide < 0.9 * style.width else 1)
    canvas.draw()
    return figure, canvas, panels


def _boxes(data: PanelData, figure: Figure, panels: list[Axes], style: _Style) -> tuple[dict[str, Box], dict[str, Box]]:
    """Returns each place's slot and band, in pixels from the top left; matplotlib counts from the bottom left."""
    height = figure.bbox.height
    columns: dict[str, Box] = {}
    rows: dict[str, Box] = {}
    for number, (axes, panel) in enumerate(zip(panels, data.panels, strict=True)):
        left, right, top = axes.bbox.x0, axes.bbox.x1, height - axes.bbox.y1
        foot = min(height, max(height - label.get_window_extent().y0 for label in axes.get_xticklabels()))
        for place in range(len(data.places)):
            name = data.name(number, place)
            raw = [line[place] for line in panel.raw]
            x1, highest = axes.transData.transform((place - 0.5, max(raw)))
            x2, lowest = axes.transData.transform((place + 0.5, min(raw)))
            columns[name] = (x1, top, x2, foot)
            rows[name] = (left, height - highest - style.mark, right, height - lowest + style.mark)
    return columns, rows


def render(data: PanelData, rng: np.random.Generator, size: int) -> tuple[Image.Image, dict[str, Box], dict[str, Box]]:
    """Draws panels in a random style, with one legend below them.

    Args:
        data: Data to draw, with a topic and measures.
        rng: The source of all randomness.
        size: The image's width in pixels, 300 to 1000; its height is 0.45 of it to all of it.

    Returns:
        The RGB image, its column boxes and its row boxes by name, in pixels, not rounded. A column's box is the
        place's slot in its panel, from the top of the plot area down to and with the tick label; slots do not overlap.
        A row's box is the band across the panel's plot area that holds the markers of all series at that place.
    """
    style = _draw_style(data, rng, size)
    settings = {"font.family": style.font, "font.size": style.font_size * _POINT, "axes.axisbelow": True}
    with matplotlib.style.context(["default", settings]):
        figure, canvas, panels = _figure(data, style)
        image = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
        columns, rows = _boxes(data, figure, panels, style)
    return image, columns, rows
