"""Draws bar charts of 300 to 1000 pixels with matplotlib, in many styles, and measures their boxes.

The boxes are matplotlib's own coordinates after layout, so that they are exact for every style. Importing
this module loads matplotlib; it uses no display and none of the user's matplotlib settings, which it sets
aside while it draws (so it is for one thread at a time).
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

from iapo.data.synthetic.chart_data import ChartData, pick
from iapo.records import Box

_DPI = 64
"""A power of two, so that pixels / dpi * dpi is exact and no image comes out one pixel short."""
_POINT = 72 / _DPI
"""Points per pixel; matplotlib takes font sizes in points."""

# Without red, which marks edits, and without grey, the colour of lettering's edges.
_PALETTES = (
    ("#1f77b4", "#2ca02c", "#9467bd", "#17becf", "#6b7fa3", "#bcbd22", "#ff7f0e", "#5b6b2f"),
    ("#4c72b0", "#55a868", "#8172b3", "#64b5cd", "#ccb974", "#937860", "#3b528b", "#21908c"),
    ("#66c2a5", "#8da0cb", "#a6d854", "#ffd92f", "#e5c494", "#9fb8c6", "#80b1d3", "#bc80bd"),
)
_INK = "#222222"
_FONTS = ("DejaVu Sans", "DejaVu Serif", "DejaVu Sans Mono")  # all of them come with matplotlib
_PAGES = (("white", "white"), ("white", "#f0f0f5"), ("#f7f7f7", "#f7f7f7"), ("#fdf8ee", "#fffdf8"))
_SHAPES = {
    "vbar": ((1.0, 0.75), (1.0, 0.75), (1.0, 1.0), (1.0, 2 / 3)),
    "hbar": ((1.0, 0.75), (1.0, 0.75), (1.0, 1.0), (0.8, 1.0)),
}
_LETTER = 0.64
"""A letter's width over the font size, a little more than the mean of the fonts above."""


@dataclass(frozen=True, slots=True)
class _Style:
    """One look of a chart; lengths in pixels."""

    width: int
    height: int
    font: str
    font_size: float
    colours: tuple[str, ...]
    page: tuple[str, str]
    bar: float
    edged: bool
    grid: bool
    frame: str
    title: str
    bold: bool
    named_axes: bool

    def length(self, letters: int) -> float:
        """Estimates about how wide that many letters are."""
        return letters * self.font_size * _LETTER


def _draw_style(family: str, data: ChartData, rng: np.random.Generator, size: int) -> _Style:
    shape = pick(rng, _SHAPES[family])
    palette = pick(rng, _PALETTES)
    colours = tuple(palette[index] for index in rng.permutation(len(palette)))
    count = len(data.labels)
    grid = not data.printed or bool(rng.integers(2))  # unprinted values need lines to be read
    return _Style(
        width=round(size * shape[0]),
        height=round(size * shape[1]),
        font=pick(rng, _FONTS),
        font_size=max(9.0, size * float(rng.uniform(0.018, 0.025))),
        colours=colours[:count] if rng.integers(2) else colours[:1] * count,
        page=pick(rng, _PAGES),
        bar=float(rng.uniform(0.45, 0.8)),
        edged=rng.random() < 0.25,
        grid=grid,
        frame=pick(rng, ("box", "corner", "base")),
        title=pick(rng, ("{measure} by {noun}", "{measure} per {noun}", "{measure}")),
        bold=rng.random() < 0.3,
        named_axes=rng.random() < 0.8,
    )


def _scale(axes: Axes, vertical: bool, data: ChartData, style: _Style) -> None:
    """Sets the value axis: its range, labelled ticks that do not overlap, and a small tick per unit."""
    top = max(data.raw)
    # Printed values stand beyond the bar's end and need room there.
    limit = top * (1.15 if vertical else 1.25) if data.printed else top + data.unit
    if vertical:
        room, need = style.height * 0.5, 1.4 * style.font_size
    else:
        room = style.width - style.length(max(map(len, data.labels))) - 4 * style.font_size
        need = style.length(max(len(data.text(raw)) for raw in (*data.raw, data.tick))) + style.font_size
    step = data.tick
    while limit / step * need > room and step * 2 <= top:
        step *= 2
    ticks = range(0, int(limit) + 1, step)
    texts = [data.text(tick) for tick in ticks]
    small = [] if data.printed else [tick for tick in range(0, int(limit) + 1, data.unit) if tick % step]
    axis = axes.yaxis if vertical else axes.xaxis
    (axes.set_ylim if vertical else axes.set_xlim)(0, limit)
    axis.set_ticks(list(ticks), labels=texts)
    axis.set_ticks(small, minor=True)
    if style.grid:
        axis.grid(True, which="major", color="#a8a8a8", linewidth=0.8)
        axis.grid(True, which="minor", color="#cfcfcf", linewidth=0.5)


def _name(figure: Figure, axes: Axes, vertical: bool, data: ChartData, style: _Style) -> None:
    """Writes the title, and the axes' names where they fit."""
    if data.topic is None or data.measure is None:
        raise ValueError("the chart's data has no topic and measure; only named data is drawn at real sizes")
    measure, unit = data.measure.name.capitalize(), data.measure.unit
    title = style.title.format(measure=measure, noun=data.topic.noun)
    # Above the whole image and not above the plot area, which may be much narrower than the title.
    weight = "bold" if style.bold else "normal"
    figure.suptitle(title, fontsize=1.2 * style.font_size * _POINT, fontweight=weight)
    room = style.height * 0.5 if vertical else style.width * 0.6
    fitting = [text for text in (f"{measure} ({unit})", unit) if unit and style.length(len(text)) < room]
    # A unit stands somewhere on the chart, also where the axes are not named.
    value_name = fitting[0] if fitting else measure if style.length(len(measure)) < room else ""
    if not (style.named_axes or unit):
        value_name = ""
    category_name = data.topic.noun.capitalize() if style.named_axes else ""
    axes.set_xlabel(category_name if vertical else value_name)
    axes.set_ylabel(value_name if vertical else category_name)


def _figure(family: str, data: ChartData, style: _Style) -> tuple[Figure, FigureCanvasAgg, Axes]:
    """Builds the chart and draws it once, after which all its coordinates are final."""
    vertical = family == "vbar"
    margin = 0.4 * style.font_size / _DPI
    layout = ConstrainedLayoutEngine(w_pad=margin, h_pad=margin)
    figure = Figure(figsize=(style.width / _DPI, style.height / _DPI), dpi=_DPI, layout=layout)
    canvas = FigureCanvasAgg(figure)
    figure.set_facecolor(style.page[0])
    axes = figure.add_subplot(facecolor=style.page[1])
    places = list(range(len(data.labels)))
    line = 0.8 if style.edged else 0.0
    if vertical:
        bars = axes.bar(places, data.raw, style.bar, color=style.colours, edgecolor=_INK, linewidth=line)
        axes.set_xlim(-0.5, len(places) - 0.5)
        slot = 0.8 * style.width / len(places)
        # Upright or across, never slanted: a slanted label would reach into its neighbour's slot.
        across = style.length(max(map(len, data.labels))) + 2 > slot
        axes.set_xticks(places, labels=data.labels, rotation=90 if across else 0)
    else:
        bars = axes.barh(places, data.raw, style.bar, color=style.colours, edgecolor=_INK, linewidth=line)
        axes.set_ylim(len(places) - 0.5, -0.5)
        axes.set_yticks(places, labels=data.labels)
    _scale(axes, vertical, data, style)
    _name(figure, axes, vertical, data, style)
    if data.printed:
        axes.bar_label(bars, labels=[data.text(raw) for raw in data.raw], padding=2)
    for side in () if style.frame == "box" else ("top", "right"):
        axes.spines[side].set_visible(False)
    if style.frame == "base":
        axes.spines["left" if vertical else "bottom"].set_visible(False)
    canvas.draw()
    return figure, canvas, axes


def _boxes(family: str, data: ChartData, figure: Figure, axes: Axes) -> tuple[dict[str, Box], dict[str, Box]]:
    """Returns each label's slot and band, in pixels from the top left; matplotlib counts from the bottom left."""
    height = figure.bbox.height
    left, right = axes.bbox.x0, axes.bbox.x1
    top, bottom = height - axes.bbox.y1, height - axes.bbox.y0
    slots: dict[str, Box] = {}
    bands: dict[str, Box] = {}
    if family == "vbar":
        extents = [label.get_window_extent() for label in axes.get_xticklabels()]
        foot = min(height, max(height - extent.y0 for extent in extents))
        for place, (label, raw) in enumerate(zip(data.labels, data.raw, strict=True)):
            x1, tip = axes.transData.transform((place - 0.5, raw))
            x2, base = axes.transData.transform((place + 0.5, 0))
            slots[label] = (x1, top, x2, foot)
            bands[label] = (left, height - tip, right, height - base)
    else:
        extents = [label.get_window_extent() for label in axes.get_yticklabels()]
        side = max(0.0, min(extent.x0 for extent in extents))
        for place, (label, raw) in enumerate(zip(data.labels, data.raw, strict=True)):
            base, y1 = axes.transData.transform((0, place - 0.5))
            tip, y2 = axes.transData.transform((raw, place + 0.5))
            slots[label] = (side, height - y1, right, height - y2)
            bands[label] = (base, top, tip, bottom)
    return slots, bands


def render(
    family: str, data: ChartData, rng: np.random.Generator, size: int
) -> tuple[Image.Image, dict[str, Box], dict[str, Box]]:
    """Draws one chart in a random style.

    Args:
        family: `vbar` or `hbar`.
        data: Data to draw, with a topic and a measure.
        rng: The source of all randomness.
        size: The longer side in pixels, 300 to 1000; the shorter one is two thirds of it or more.

    Returns:
        The RGB image, its column boxes and its row boxes by label, in pixels, not rounded. Along the
        family's axis a box is the bar's slot with its tick label; on the other it is the band across the plot
        area that the bar itself spans, without the value printed at its end.
    """
    style = _draw_style(family, data, rng, size)
    # What is not set here comes from matplotlib's defaults, never from a user's own settings.
    settings = {"font.family": style.font, "font.size": style.font_size * _POINT, "axes.axisbelow": True}
    with matplotlib.style.context(["default", settings]):
        figure, canvas, axes = _figure(family, data, style)
        image = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
        slots, bands = _boxes(family, data, figure, axes)
    return (image, slots, bands) if family == "vbar" else (image, bands, slots)
