"""ChartQA: the hub's columns, and the folders of its own release, with the boxes of its annotations.

In the release a split's folder holds `png/`, `tables/`, `annotations/` and two files of questions. The tables, which
hold the answers, are not read. An annotation has the type of the chart, the labels of its axes with their boxes, and
its marks; the axis of a bar chart's categories is called `x_axis` there, also where the bars lie.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

from iapo.data.annotations import named_boxes
from iapo.data.damage import RowError
from iapo.data.fields import answers_of, text_of
from iapo.data.pictures import read_picture
from iapo.data.rows import Row
from iapo.records import Axis, Box, Sample

NAME = "chartqa"
SHAPES = (("image", "query", "label"), ("imgname", "query", "label"))

_AXES: dict[str, Axis] = {"v_bar": "columns", "h_bar": "rows"}


def read(row: Row) -> Sample:
    """Makes a sample of a row; the data set has no ids, so the row's number is one.

    Raises:
        RowError: If the row is damaged.
    """
    fields = row.fields
    question, answers = text_of(fields, "query"), answers_of(fields, "label", None)
    flaws: list[str] = []
    boxes: dict[str, Box] = {}
    axis: Axis | None = None
    if "imgname" in fields:
        name = text_of(fields, "imgname")
        if PurePath(name).name != name:
            raise RowError(f"the field 'imgname' is {name!r}; it must be the name of a file in png/")
        image = read_picture(f"png/{name}", row.folder)
        asked_by = "machine" if "augmented" in row.stem else "human" if "human" in row.stem else ""
        if row.folder is not None:
            axis, boxes = _annotated(row.folder / "annotations" / f"{PurePath(name).stem}.json", image.size, flaws)
    else:
        image = read_picture(fields.get("image"), row.folder)
        told = fields.get("human_or_machine")
        # The hub's class label: 0 is human, 1 machine.
        asked_by = {0: "human", 1: "machine"}.get(told, "") if isinstance(told, int) else ""
    return Sample(
        id=row.counted,
        image=image,
        question=question,
        answers=answers,
        column_boxes=boxes if axis == "columns" else {},
        row_boxes=boxes if axis == "rows" else {},
        kind="chart",
        axis=axis,
        source="chartqa",
        question_type=asked_by,
        list_names=bool(boxes),
        flaws=tuple(flaws),
        grading="chart",
    )


def _annotated(path: Path, size: tuple[int, int], flaws: list[str]) -> tuple[Axis | None, dict[str, Box]]:
    """Returns the axis of a bar chart and the boxes of its categories; nothing where there is no annotation."""
    if not path.is_file():
        return None, {}
    try:
        found = json.loads(path.read_text("utf-8-sig"))
        if not isinstance(found, Mapping):
            raise ValueError(f"it is of type {type(found).__name__}")
        axis = _AXES.get(str(found.get("type")).lower())
        if axis is None:
            return None, {}
        boxes = _categories(found, axis, size)
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        flaws.append(f"the annotation {path.name} cannot be read ({error!r}); its boxes are left out")
        return None, {}
    what = "column" if axis == "columns" else "row"
    return axis, named_boxes([box for _, box in boxes], [name for name, _ in boxes], what, size, flaws)


def _categories(found: Mapping[str, Any], axis: Axis, size: tuple[int, int]) -> list[tuple[str, Box]]:
    """Returns each category's label and its part of the plot, from midway to one neighbour to midway to the other,
    its label included.
    """
    about = _map(found.get("general_figure_info"), "general_figure_info")
    names, boxes = _labels(_map(about.get("x_axis"), "x_axis"))
    bars = [bar for model in found.get("models") or () for bar in _bars(model)]
    if names:
        bars = [(name, box) for name, box in bars if name in names]
    else:
        # Some charts have no labels of their categories; their bars name them.
        names = list(dict.fromkeys(name for name, _ in bars))
        boxes = [next(box for name, box in bars if name == one) for one in names]
    if not names:
        raise ValueError("neither its labels nor its bars have names and boxes")
    plot = _map(about.get("figure_info"), "figure_info").get("bbox")
    around = [*boxes, *(box for _, box in bars), *([_corners(plot)] if plot else [])]
    # Along the categories, and across them.
    low, high, first, last = (0, 2, 1, 3) if axis == "columns" else (1, 3, 0, 2)
    across = min(box[first] for box in around), max(box[last] for box in around)
    ends = min(box[low] for box in around), max(box[high] for box in around)
    middles = []
    for name, label in zip(names, boxes, strict=True):
        # A label may be long or stand beside its bars; these are where the category is.
        own = [box for bar, box in bars if bar == name] if names.count(name) == 1 else []
        middles.append((min(b[low] for b in own or [label]) + max(b[high] for b in own or [label])) / 2)
    order = sorted(range(len(names)), key=middles.__getitem__)
    between = [(middles[one] + middles[other]) / 2 for one, other in itertools.pairwise(order)]
    parts: dict[int, Box] = {}
    for index, (start, end) in zip(order, itertools.pairwise([ends[0], *between, ends[1]]), strict=True):
        start, end = max(start, 0.0), min(end, float(size[0 if axis == "columns" else 1]))
        parts[index] = (start, across[0], end, across[1]) if axis == "columns" else (across[0], start, across[1], end)
    return [(name, parts[index]) for index, name in enumerate(names)]


def _labels(axis: Mapping[str, Any]) -> tuple[list[str], list[Box]]:
    """Returns the labels of an axis and their boxes; none where there are none.

    Raises:
        ValueError: If they do not say which box is whose.
    """
    labels = _map(axis.get("major_labels"), "major_labels")
    names, boxes = (
        ["" if value is None else str(value) for value in labels.get("values") or ()],
        labels.get("bboxes") or (),
    )
    if len(names) != len(boxes):
        raise ValueError(f"{len(names)} labels and {len(boxes)} boxes")
    return names, [_corners(box) for box in boxes]


def _bars(model: Any) -> list[tuple[str, Box]]:
    """Returns the bars of one colour with the label that each belongs to: none where they do not say, and of the others
    those with a box.
    """
    model = _map(model, "a model")
    values, boxes = model.get("x"), model.get("bboxes")
    if not isinstance(values, Sequence) or not isinstance(boxes, Sequence) or len(values) != len(boxes):
        return []
    return [(str(value), _corners(box)) for value, box in zip(values, boxes, strict=True) if box]


def _map(value: Any, what: str) -> Mapping[str, Any]:
    """Returns a part of an annotation; empty where it is missing.

    Raises:
        ValueError: If it is no map.
    """
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ValueError(f"{what} is of type {type(value).__name__}")
    return value


def _corners(box: Mapping[str, float] | Sequence[float]) -> Box:
    """Returns the edges of `x`, `y`, `w`, `h`, by name or in this order."""
    x, y, w, h = (float(box[side]) for side in "xywh") if isinstance(box, Mapping) else map(float, box)
    return x, y, x + w, y + h
