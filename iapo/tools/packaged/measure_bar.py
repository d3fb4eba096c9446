"""`measure_bar`: how long the bar in a box is."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import numpy as np
from annotated_types import Len
from PIL import Image

from iapo.images import to_rgb
from iapo.records import Box
from iapo.tools.errors import ToolError
from iapo.tools.packaged.regions import region_in

_NEAR = 24
"""Most that a channel of two pixels of one colour differs; scans and JPEG are not exact."""
_THINNEST = 3
"""What is thinner, in pixels, is a line and no bar."""


def measure_bar(
    image: Image.Image,
    box: Box,
    direction: Annotated[Literal["vertical", "horizontal"], "the way in which the bar is long"] = "vertical",
    ticks: Annotated[
        list[Annotated[list[float], Len(2, 2)]] | None,
        "[pixel, value] of two ticks of the value axis, for the length in its units",
        Len(2, 2),
    ] = None,
) -> float:
    """Measure the length of the bar in a box: in pixels, or in units of the value axis where two ticks are given."""
    left, top, right, bottom = region_in(image, box)
    pixels = np.asarray(to_rgb(image)).astype(np.int16)
    bar = _bar(pixels[top:bottom, left:right], _page(pixels))
    if direction == "horizontal":
        bar = bar.T
    # Where most of the bar's rows have it are its columns, and in these it is as long as it is filled.
    columns = _longest_run(2 * bar.sum(0) >= bar.sum(0).max())
    rows = _longest_run(2 * bar[:, columns].sum(1) >= columns.stop - columns.start)
    length, width = rows.stop - rows.start, columns.stop - columns.start
    if min(length, width) < _THINNEST:
        raise ToolError(f"there is no bar in the box, but a line of {length} x {width} pixels; take another box")
    if ticks is None:
        return float(length)
    (pixel, value), (other_pixel, other_value) = ticks
    if pixel == other_pixel:
        raise ToolError("the two ticks are at one pixel; give two places of the value axis")
    measured = abs(length * (other_value - value) / (other_pixel - pixel))
    if not math.isfinite(measured):
        raise ToolError(
            "the two ticks are so far apart, or so near, that no number is the length; give two of the image"
        )
    return measured


def _page(pixels: np.ndarray) -> np.ndarray:
    """Returns the colour of the image's edge."""
    edge = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    return np.median(edge, axis=0)


def _bar(part: np.ndarray, page: np.ndarray) -> np.ndarray:
    """Returns where the part has the colour that most of it has beside the page's, shape (height, width)."""
    other = part[(np.abs(part - page) > _NEAR).any(2)]
    if not len(other):
        raise ToolError("there is nothing in the box but the page; take another box")
    # Colours that are nearly the same are one, in steps of 16.
    _, place, counts = np.unique(other // 16, axis=0, return_inverse=True, return_counts=True)
    colour = np.median(other[place.reshape(-1) == counts.argmax()], axis=0)
    found: np.ndarray = (np.abs(part - colour) <= _NEAR).all(2)
    return found


def _longest_run(true: np.ndarray) -> slice:
    edges = np.flatnonzero(np.diff(np.concatenate([[0], true.astype(np.int8), [0]])))
    starts, stops = edges[::2], edges[1::2]
    if not len(starts):
        return slice(0, 0)
    longest = (stops - starts).argmax()
    return slice(int(starts[longest]), int(stops[longest]))
