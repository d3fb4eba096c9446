"""How much of what an explanation sees in an image lies inside given boxes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from iapo.samples import Box


def covered(boxes: Sequence[Box], size: tuple[int, int], shape: tuple[int, int]) -> NDArray[np.float64]:
    """Computes the part of each cell of an image that lies inside a box, or in several.

    Args:
        boxes: Boxes in pixels of the image; what lies outside of the image does not count.
        size: Width and height of the image in pixels.
        shape: Rows and columns of the cells.

    Returns:
        Parts from 0 to 1, shape (rows, columns).
    """
    # All edges together cut the image into rectangles that lie in one cell, and in a box as a whole or not at all.
    xs = _edges([value / size[0] for x1, _, x2, _ in boxes for value in (x1, x2)], shape[1])
    ys = _edges([value / size[1] for _, y1, _, y2 in boxes for value in (y1, y2)], shape[0])
    x, y = (xs[1:] + xs[:-1]) / 2, (ys[1:] + ys[:-1]) / 2
    inside = np.zeros((len(y), len(x)), dtype=bool)
    for x1, y1, x2, y2 in boxes:
        across, down = ((x1 / size[0] < x) & (x < x2 / size[0]), (y1 / size[1] < y) & (y < y2 / size[1]))
        inside |= np.outer(down, across)
    areas = inside * np.outer(np.diff(ys), np.diff(xs)) * shape[0] * shape[1]
    found = np.zeros(shape)
    rows, columns = (y * shape[0]).astype(int), (x * shape[1]).astype(int)
    np.add.at(found, (rows[:, None], columns[None, :]), areas)
    return found.clip(0, 1)


def lift(grid: NDArray[np.float32], boxes: Sequence[Box], size: tuple[int, int]) -> float:
    """Computes how much more of an image's attribution lies inside boxes than if it were spread evenly.

    Args:
        grid: Signed scores or shares of the image's tokens, shape (rows, columns), the top row first.
        boxes: Boxes in pixels of the image.
        size: Width and height of the image in pixels.

    Returns:
        The part of the absolute values inside the boxes, less the boxes' part of the area: from -1 to 1; 0 where
        nothing is attributed, where the boxes cover the whole image, and where there are none.
    """
    weights = np.abs(grid).astype(float)
    if weights.sum() == 0:
        return 0.0
    rows, columns = grid.shape
    inside = covered(boxes, size, (rows, columns))
    return float((weights * inside).sum() / weights.sum() - inside.mean())


def _edges(values: Sequence[float], cells: int) -> NDArray[np.float64]:
    return np.unique(np.concatenate([np.clip(values, 0, 1), np.linspace(0, 1, cells + 1)]))
