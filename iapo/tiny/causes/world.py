"""What the students of several causes are asked: tiny bar charts with cues, and comparisons within a table.

A cue suggests an axis, whichever is right. On charts it is the question's wording (`tall` suggests columns, `long`
rows) or the colour of the bars; neither says anything about the chart. The same place among the images has the same
data whatever the cues, so that one cue can be changed and all else kept.

A table's question compares one cell with the others of its column or of its row. All of that line has to be seen, and a
tool of the other axis leaves one cell of it: so here a table has a right axis, too.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np

from iapo.data.synthetic import BAR_FAMILIES, Chart
from iapo.data.synthetic.chart_data import pick, tiny_data
from iapo.data.synthetic.families import find_family
from iapo.data.synthetic.splits import part_of_split
from iapo.data.synthetic.table_data import tiny_data as tiny_table
from iapo.data.synthetic.table_styles import draw_style
from iapo.data.synthetic.tiny_charts import COLOURS, render
from iapo.data.synthetic.tiny_tables import render as render_table
from iapo.errors import unknown
from iapo.records import AXES, Axis, Sample

CAUSES = ("position", "wording", "look")
"""What may lead to a wrong tool: it stands first in the prompt, the question's wording, the colour of the bars."""

WORDINGS: Mapping[Axis | None, str] = MappingProxyType(
    {None: "value of {}?", "columns": "how tall is {}?", "rows": "how long is {}?"}
)
"""The question by the axis that it suggests."""

CUES: Mapping[Axis, tuple[int, int, int]] = MappingProxyType({"columns": (80, 140, 255), "rows": (150, 190, 40)})
"""Light bars by the axis that they suggest; all others are as dark as the tiny world's."""


@dataclass(frozen=True, slots=True)
class CauseChart(Chart):
    """A sample of this world with the data behind it.

    Attributes:
        cause: Cause that a wrong tool would have, one of `CAUSES`.
        suggests: The axis that its cue suggests; None where it has none.
        names: Names that a call may focus on, by axis; `focus` has those of the right axis alone.
    """

    cause: str = "position"
    suggests: Axis | None = None
    names: Mapping[Axis, tuple[str, ...]] = field(default_factory=dict)


def chart(
    family: str, index: int, *, seed: int, split: str, wording: Axis | None = None, look: Axis | None = None
) -> CauseChart:
    """Draws a bar chart and asks for one bar's value.

    Args:
        family: `vbar` or `hbar`.
        index: Place among the images; with `family`, `seed` and `split` it decides the data, the bar that is asked for
            and the colour of a chart without a cue.
        seed: Not negative.
        split: Any name; `validation` and `test` have sets of labels that no other split has.
        wording: The axis that the question suggests.
        look: The axis that the colour suggests.
    """
    axis = find_family(family).axis
    assert axis is not None
    rng = _rng(family, seed, split, index)
    data = tiny_data(rng, part_of_split(split))
    place, neutral = int(rng.integers(len(data.labels))), pick(rng, COLOURS)
    label = data.labels[place]
    image, columns, rows = render(family, data.labels, data.raw, neutral if look is None else CUES[look])
    cues = "".join(f"-{kind}-{one}" for kind, one in (("wording", wording), ("look", look)) if one is not None)
    sample = Sample(
        id=f"causes-{family}-{split}-{seed}-{index}{cues}",
        image=image,
        question=WORDINGS[wording].format(label),
        answers=(str(data.raw[place]),),
        column_boxes=columns,
        row_boxes=rows,
        kind="chart",
        axis=axis,
        source=f"synthetic/causes-{family}",
        question_type="value",
    )
    cause = "wording" if wording is not None else "look" if look is not None else "position"
    names: dict[Axis, tuple[str, ...]] = dict.fromkeys(AXES, (label,))
    return CauseChart(sample, {axis: (label,)}, data.labels, data.raw, (), (), (), cause, wording or look, names)


def table(kind: str, index: int, *, seed: int, split: str) -> CauseChart:
    """Draws a table and asks how one cell compares with the others of its column or of its row.

    Args:
        kind: `ranks` (how many of the line are larger, and one more; plain tables) or `claims` (whether it is the
            largest; tables in many styles).
        index: Place among the images.
        seed: Not negative.
        split: Any name; as `chart`.
    """
    family = {"ranks": "vwtq", "claims": "vtabfact"}[kind]
    rng = _rng(kind, seed, split, index)
    style = draw_style(family, rng)
    data = tiny_table(rng, part_of_split(split))
    image, columns, rows = render_table(data, style)
    axis = AXES[index % 2]
    column, row = int(rng.integers(len(data.columns))), int(rng.integers(len(data.rows)))
    line = data.column(column) if axis == "columns" else data.raw[row]
    place = row if axis == "columns" else column
    if kind == "claims" and rng.random() < 0.5:
        place = line.index(max(line))
        column, row = (column, place) if axis == "columns" else (place, row)
    names: dict[Axis, tuple[str, ...]] = {"columns": (data.columns[column],), "rows": (data.rows[row],)}
    (asked,), (within,) = (names["rows"], names["columns"]) if axis == "columns" else (names["columns"], names["rows"])
    larger = sum(value > line[place] for value in line)
    ranks = kind == "ranks"
    sample = Sample(
        id=f"causes-{kind}-{split}-{seed}-{index}",
        image=image,
        question=f"rank of {asked} in {within}?" if ranks else f"{asked} is largest in {within}?",
        answers=(str(larger + 1) if ranks else str(larger == 0).lower(),),
        column_boxes=columns,
        row_boxes=rows,
        kind="table",
        axis=axis,
        source=f"synthetic/causes-{kind}",
        question_type="rank" if ranks else "largest",
    )
    focus = {axis: names[axis]}
    return CauseChart(sample, focus, (), (), data.columns, data.rows, data.cells, "position", None, names)


def mixed(seed: int, split: str) -> Iterator[CauseChart]:
    """Yields charts without end: both families and the three causes in turn, each cue right in half of its charts."""
    for index in itertools.count():
        family, cause = BAR_FAMILIES[index % 2], CAUSES[index // 2 % 3]
        suggests = AXES[index // 6 % 2]
        cues: dict[str, Axis] = {} if cause == "position" else {cause: suggests}
        yield chart(family, index, seed=seed, split=split, **cues)


_VERTICAL = BAR_FAMILIES[0]

SETS: Mapping[str, Callable[[int, int, str], CauseChart]] = MappingProxyType(
    {
        "none": lambda index, seed, split: chart(_VERTICAL, index, seed=seed, split=split),
        "position": lambda index, seed, split: chart(BAR_FAMILIES[1], index, seed=seed, split=split),
        "wording": lambda index, seed, split: chart(_VERTICAL, index, seed=seed, split=split, wording="rows"),
        "look": lambda index, seed, split: chart(_VERTICAL, index, seed=seed, split=split, look="rows"),
        "ranks": lambda index, seed, split: table("ranks", index, seed=seed, split=split),
        "claims": lambda index, seed, split: table("claims", index, seed=seed, split=split),
    }
)
"""Sets by name, of which each place is drawn by place, seed and split: charts on which, with the standard prompt, whose
first tool is for columns, nothing or one cause alone speaks for the wrong tool; and the two kinds of tables."""


def draw(name: str, count: int, *, seed: int, split: str) -> Iterator[CauseChart]:
    """Yields samples of a set; the same arguments give the same bytes, and a longer run starts with the shorter one.

    Args:
        name: `mixed`, what is trained on, or one of `SETS`.
        count: Number of them.
        seed: Not negative.
        split: Any name; as `chart`.

    Raises:
        InputError: If there is no such set.
    """
    if name == "mixed":
        return itertools.islice(mixed(seed, split), count)
    if name not in SETS:
        raise unknown("set", name, ("mixed", *SETS))
    return (SETS[name](index, seed, split) for index in range(count))


def _rng(name: str, seed: int, split: str, index: int) -> np.random.Generator:
    return np.random.default_rng([seed, zlib.crc32(f"causes/{name}/{split}".encode()), index])
