"""Finds the rows and columns of a table: by its rules and fills where it has them, by gaps between lettering else."""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from iapo.data.boxes.columns import Column, column_edges
from iapo.data.boxes.pixels import Mask, Pixels, Span, distance, long_runs, page_colour, spans
from iapo.records import Box

HEADER = "header"
"""The name of the top-most row."""

_INK = 50
"""Least contrast of lettering."""
_FAINT = 10
"""Least difference of a fill or rule from its neighbour."""


class _Frame(NamedTuple):
    """The area that rules and fills take, in pixels."""

    x1: int
    x2: int
    y1: int
    y2: int


class _Row(NamedTuple):
    """A row of lettering: where it stands, and its pieces of text from the left."""

    span: Span
    texts: list[Span]


def find_table(pixels: Pixels) -> tuple[dict[str, Box], dict[str, Box]] | None:
    """Finds a table's columns and rows.

    Args:
        pixels: The image.

    Returns:
        The column boxes, `1`, `2`, ... from the left without the left-most column, that of the row names, and the row
        boxes, `header`, then `1`, `2`, ... from the top; None where there are not two rows and two columns.
    """
    page = page_colour(pixels)
    frame = _frame(pixels, page)
    ink = _lettering(pixels, frame)
    if frame is not None and _stands_beside(ink, frame):
        frame = None
    y_marks = _marks(pixels, frame) if frame else []
    x_rules = _upright_rules(pixels, page, frame) if frame else []
    bands = _bands(ink, frame)
    if len(bands) < 2:
        return None
    em = _letter_size(ink)
    ruled = len(x_rules) >= 3
    y_edges = _ruled_rows(y_marks, bands, em) if ruled else None
    if y_edges is None:
        y_edges = _row_edges(bands, y_marks, em)
    cuts = [Span(round(top), round(bottom)) for top, bottom in itertools.pairwise(y_edges)]
    rows, y_edges = _without_captions(
        [_Row(cut, _texts(ink[cut.start : cut.end], em)) for cut in cuts], y_edges, frame, em
    )
    if len(rows) < 2:
        return None
    if ruled:
        x_edges: list[float] | None = [float(x) for x in x_rules]
    else:
        outer = (float(frame.x1), float(frame.x2)) if frame else None
        x_edges = column_edges(_columns(rows, em), em, outer)
    if x_edges is None or len(x_edges) < 3:
        return None
    y_edges = _one_header(ink, y_edges, x_edges, em)
    top, bottom, left, right = y_edges[0], y_edges[-1], x_edges[0], x_edges[-1]
    names = [HEADER, *(str(place) for place in range(1, len(y_edges) - 1))]
    pairs = itertools.pairwise(y_edges)
    row_boxes = {name: (left, start, right, end) for name, (start, end) in zip(names, pairs, strict=True)}
    inner = list(itertools.pairwise(x_edges))[1:]
    columns = {str(place): (start, top, end, bottom) for place, (start, end) in enumerate(inner, start=1)}
    return columns, row_boxes


def _frame(pixels: Pixels, page: Pixels) -> _Frame | None:
    """Returns where rules and fills are; None where there are none."""
    width = pixels.shape[1]
    other = distance(pixels, page) > _FAINT
    # Lettering breaks a fill's runs, but not between the lines.
    runs = long_runs(other, max(24, width // 5), axis=1)
    # Nor do the gaps between filled cells break what is flat.
    grey = pixels.mean(axis=2)
    flat = other & (ndimage.maximum_filter(grey, 3) - ndimage.minimum_filter(grey, 3) <= _FAINT / 2)
    flat[flat.mean(axis=1) < 0.4] = False
    filled = flat.sum(axis=0) >= max(4, 0.5 * flat.any(axis=1).sum())
    runs |= flat & filled
    rows = np.flatnonzero(runs.any(axis=1))
    if not rows.size:
        return None
    columns = np.flatnonzero(runs.any(axis=0))
    x1, x2 = int(columns[0]), int(columns[-1]) + 1
    return _Frame(x1, x2, int(rows[0]), int(rows[-1]) + 1)


def _lettering(pixels: Pixels, frame: _Frame | None) -> Mask:
    """Returns the thin strokes that stand out from what is around them, dark on light or light on dark, without
    rules.
    """
    grey = pixels.mean(axis=2).astype(np.int16)
    height, width = grey.shape
    size = 2 * round(0.006 * max(height, width)) + 5
    x1, x2 = (frame.x1, frame.x2) if frame else (0, width)
    # A dark rule on a light page is no dark ground.
    ground = ndimage.median_filter(np.median(grey[:, x1:x2], axis=1), size=size)
    dark = ndimage.grey_closing(grey, size=(size, size)) - grey
    light = grey - ndimage.grey_opening(grey, size=(size, size))
    ink = np.where((ground < 128)[:, None], light, dark) > _INK
    rules = long_runs(ink, max(24, width // 12), axis=1) | long_runs(ink, max(24, height // 8), axis=0)
    # A rule's soft edges are no lettering either.
    return np.asarray(ink & ~ndimage.binary_dilation(rules, np.ones((3, 3))), dtype=np.bool_)


def _stands_beside(ink: Mask, frame: _Frame) -> bool:
    """Tells whether lettering goes on beside the frame, which then is a part of the table, such as filled row names."""
    lines = np.flatnonzero(ink.any(axis=1))
    low = lines.size > 0 and frame.y2 - frame.y1 < 0.5 * (lines[-1] - lines[0])
    rows = ink[frame.y1 : None if low else frame.y2]
    beside = np.concatenate([rows[:, : max(0, frame.x1 - 4)], rows[:, frame.x2 + 4 :]], axis=1)
    return int(beside.any(axis=1).sum()) >= 4


def _marks(pixels: Pixels, frame: _Frame) -> list[int]:
    """Returns where the ground changes from row to row: rules, ends of fills; each at its first pixel.

    Lettering is darker than light ground and lighter than dark ground, and leaves three tenths of a row free: so a
    high, or low, quantile of the row's pixels is its ground.
    """
    area = np.sort(pixels[:, frame.x1 : frame.x2], axis=1)
    low, high = (area[:, int(part * area.shape[1])] for part in (0.3, 0.7))
    # A single row of pixels is not dark ground, but a rule, or bold lettering.
    dark = ndimage.median_filter(area[:, area.shape[1] // 2].mean(axis=1), size=9) < 128
    ground = np.where(dark[:, None], low, high)
    step = np.abs(np.diff(ground, axis=0)).max(axis=1) > _FAINT
    # Where a cell spans rows, the rule beside it is shorter.
    grey = pixels[:, frame.x1 : frame.x2].mean(axis=2)
    contrast = ndimage.grey_closing(grey, size=(7, 1)) - grey
    rules = long_runs(contrast > 15, max(24, grey.shape[1] // 20), axis=1).mean(axis=1) > 0.4
    step |= np.diff(rules.astype(np.int8), prepend=0)[1:] > 0
    # A rule changes the ground twice, or three times with soft edges.
    return [span.start + 1 for span in spans(step, gap=2)]


def _upright_rules(pixels: Pixels, page: Pixels, frame: _Frame) -> list[int]:
    """Returns the left edges of upright rules that run through most of the table."""
    area = pixels[frame.y1 : frame.y2, frame.x1 : frame.x2].astype(np.int32)
    if area.shape[0] < 8 or area.shape[1] < 8:
        return []
    # Darker or lighter than what is left and right of it, in any colour: cells may be filled. Rows with a cell that
    # spans columns have no rule there.
    size = max(5, 2 * (area.shape[1] // 150) + 3)
    contrast = np.zeros(area.shape[:2], dtype=np.int32)
    for channel in (area.mean(axis=2), *np.moveaxis(area, 2, 0)):
        dark = ndimage.grey_closing(channel, size=(1, size)) - channel
        light = channel - ndimage.grey_opening(channel, size=(1, size))
        contrast = np.maximum(contrast, np.maximum(dark, light))
    rules = spans((contrast > 15).mean(axis=0) > 0.65, gap=1)
    edges = [frame.x1 + span.start for span in rules]
    if not edges:
        return []
    # The rules at both sides end the image's contrast on one side only.
    near = 4
    if edges[0] - frame.x1 > near:
        edges.insert(0, frame.x1)
    if frame.x2 - (frame.x1 + rules[-1].end) > near:
        edges.append(frame.x2)
    else:
        edges[-1] = frame.x2
    return edges


def _letter_size(ink: Mask) -> float:
    """Returns the size of the font in pixels: capitals, digits and tall letters, a quarter of all or more, have 0.74
    of it.
    """
    labels, _ = ndimage.label(ink, structure=np.ones((3, 3)))
    heights = [rows.stop - rows.start for rows, _ in ndimage.find_objects(labels)]
    letters = [height for height in heights if height >= 4]
    return float(np.quantile(letters, 0.75)) / 0.74 if letters else 8.0


def _bands(ink: Mask, frame: _Frame | None) -> list[Span]:
    """Returns the lines of text, one span of pixel rows each."""
    part = ink[:, frame.x1 : frame.x2] if frame else ink
    bands = spans(part.any(axis=1))
    if not bands:
        return []
    # Dots of letters and remains of rules are no lines.
    least = 0.4 * float(np.median([band.length for band in bands]))
    return [band for band in bands if band.length >= max(3.0, least)]


def _ruled_rows(marks: list[int], bands: list[Span], em: float) -> list[float] | None:
    """Returns the rules as edges of the rows; None where too few rows are ruled."""
    edges: list[float] = []
    for mark in marks:
        if not edges or mark - edges[-1] >= 0.7 * em:
            edges.append(float(mark))
    if len(edges) < 3:
        return None
    # On cells of many colours a mark may be in the middle of a line of text, close to a rule.
    usual = float(np.median(np.diff(edges)))
    edges = [
        edge
        for before, edge, after in zip([-math.inf, *edges[:-1]], edges, [*edges[1:], math.inf], strict=True)
        if min(edge - before, after - edge) >= 0.8 * usual
        or not any(band.start + 2 < edge < band.end - 2 for band in bands)
    ]
    within = [band for band in bands if edges[0] <= band.middle <= edges[-1]]
    return edges if 2 * (len(edges) - 1) >= len(_lines_of_rows(within, [])) else None


def _row_edges(bands: list[Span], marks: list[int], em: float) -> list[float]:
    """Returns the upper and lower edges of the rows, neighbours' in common; captions are still rows of their own."""
    groups = _lines_of_rows(bands, marks)
    first, last = groups[0], groups[-1]
    edges: list[float] = []
    inside = [mark for mark in marks if first.start - 3 * em < mark < last.end + 3 * em]
    for upper, lower in itertools.pairwise(groups):
        between = [mark for mark in inside if upper.end - 2 <= mark <= lower.start + 2]
        # Where there are two, the table begins or ends between them: a caption stands outside.
        edges.append(float(between[0]) if between else (upper.end + lower.start) / 2)
        if len(between) >= 2 and between[-1] - between[0] > 2:
            edges.append(float(between[-1]))
    above = [mark for mark in inside if mark <= first.start + 1]
    below = [mark for mark in inside if mark >= last.end - 1]
    pitch = float(np.median(np.diff([group.middle for group in groups]))) if len(groups) > 1 else 2 * em
    half = max(0.0, (pitch - last.length) / 2)
    top = float(above[-1]) if above else first.start - half
    bottom = float(below[0]) if below else last.end + half
    return [max(0.0, top), *edges, bottom]


def _lines_of_rows(bands: list[Span], marks: list[int]) -> list[Span]:
    """Joins the lines of one row: those that stand much closer than rows do, and not on two sides of a mark."""
    steps = np.diff([band.middle for band in bands])
    usual = float(np.median(steps[len(steps) // 3 :])) if steps.size else 0.0
    gaps = [below.start - above.end for above, below in itertools.pairwise(bands)]
    usual_gap = float(np.median(gaps[len(gaps) // 3 :])) if gaps else 0.0
    groups = bands[:1]
    for step, gap, band in zip(steps, gaps, bands[1:], strict=True):
        apart = any(groups[-1].end - 2 <= mark <= band.start + 2 for mark in marks)
        if (step < 0.82 * usual or gap < 0.6 * usual_gap) and not apart:
            groups[-1] = Span(groups[-1].start, band.end)
        else:
            groups.append(band)
    return groups


def _texts(part: Mask, em: float) -> list[Span]:
    """Returns a row's pieces of text; words of one cell are closer than cells."""
    return [span for span in spans(part.any(axis=0), gap=round(0.87 * em)) if span.length >= 2]


def _without_captions(
    rows: list[_Row], edges: list[float], frame: _Frame | None, em: float
) -> tuple[list[_Row], list[float]]:
    """Drops rows of a single piece of text, or of none, at the top and at the bottom.

    A caption of several pieces is known by standing above a frame of several rows.
    """
    first, last = 0, len(rows)
    tall = frame is not None and frame.y2 - frame.y1 > 3 * rows[0].span.length
    while first < last:
        above = tall and frame is not None and rows[first].span.end <= frame.y1 + 3
        if len(rows[first].texts) >= 2 and not (above and not _is_header(rows[first:last], em)):
            break
        first += 1
    while last > first and len(rows[last - 1].texts) < 2:
        last -= 1
    return rows[first:last], edges[first : last + 1]


def _is_header(rows: list[_Row], em: float) -> bool:
    """Tells whether the first row heads the columns of those below: each of its texts stands over texts of theirs, and
    most of these are headed.
    """
    if len(rows) < 2:
        return False
    heads, columns = rows[0].texts, _columns(rows[1:], em)
    under = [
        {place for place, column in enumerate(columns) if column.start < head.end and head.start < column.end}
        for head in heads
    ]
    usual = float(np.median([len(row.texts) for row in rows[1:]]))
    return all(under) and len(set().union(*under)) == sum(map(len, under)) and len(heads) >= 0.6 * usual


def _one_header(ink: Mask, y_edges: list[float], x_edges: list[float], em: float) -> list[float]:
    """Joins the levels of a header: a top row of headings that stand over several columns belongs to the next one."""

    def level(top: float, bottom: float) -> Mask:
        rows = ink[round(top) + 1 : max(round(top) + 2, round(bottom) - 1)]
        return np.asarray(rows.any(axis=0), dtype=np.bool_)

    def filled(line: Mask) -> float:
        cells = itertools.pairwise(round(edge) for edge in x_edges[1:])
        return float(np.mean([line[start + 2 : max(start + 3, end - 2)].any() for start, end in cells]))

    levels = 0
    usual = float(np.median(np.diff(y_edges[1:])))
    for (top, middle), (_, bottom) in itertools.pairwise(itertools.pairwise(y_edges[:5])):
        upper, lower = level(top, middle), level(middle, bottom)
        for edge in x_edges:
            # Rests of a rule, which would join what stands at its sides.
            upper[max(0, round(edge) - 2) : round(edge) + 3] = False
        words = spans(upper, gap=max(6, round(0.45 * em)))
        across = any(word.start + em < edge < word.end - em for word in words for edge in x_edges[1:-1])
        few = len(words) >= 2 and filled(upper) <= 0.6 and filled(lower) >= 0.9
        # Where rules tell rows, all levels may be in one already.
        several = middle - top > 1.5 * usual
        # No row without a name follows a header, but another line of it.
        nameless = not any(line[round(x_edges[0]) : round(x_edges[1]) - 2].any() for line in (upper, lower))
        if several or not (across or few or nameless):
            break
        levels += 1
    return [y_edges[0], *y_edges[levels + 1 :]]


def _spans_columns(span: Span, rows: list[_Row]) -> bool:
    """Tells whether a text meets two texts or more of most rows."""
    met = [sum(text.start < span.end and span.start < text.end for text in row.texts) for row in rows]
    met = [count for count in met if count]
    return len(met) >= 3 and float(np.median(met)) >= 2


def _columns(rows: list[_Row], em: float) -> list[Column]:
    """Groups the rows' texts into columns: texts that stand above one another."""
    width = max(span.end for row in rows for span in row.texts)
    counts: NDArray[np.int64] = np.zeros(width, dtype=np.int64)
    for row in rows:
        for span in row.texts:
            # A heading that stands over several columns must not join them, nor must columns that run together.
            if not _spans_columns(span, rows):
                counts[span.start : span.end] += 1
    least = 1 if len(rows) < 5 else 2 if len(rows) < 10 else 0.2 * len(rows)
    places = spans(counts >= least, gap=round(0.3 * em))
    texts: list[list[Span]] = [[] for _ in places]
    for span in (span for row in rows for span in row.texts):
        above = [place for place, (start, end) in enumerate(places) if span.start < end and start < span.end]
        if len(above) == 1:
            texts[above[0]].append(span)
    return [Column(tuple(column)) for column in texts if len(column) >= 2]
