"""How many boxes of real pictures the box finder finds, and how many names OCR reads; a part of real_data.py.

Truth of charts are the middles of their bars (groups of bars, rows of bars) along the axis, counted by hand, in
real_boxes.json: numbers alone. A found slot is right where it shares half or more with the true one, whose edges are
half-way between middles. Truth of rendered tables are their cells, of names those cells' texts and ReFocus' names.

*Unseen* pictures, a third, taken by a hash of their names, were never given to the finder while it was written.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
import statistics
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image
from rich.table import Table

from iapo.data.boxes import FoundBoxes, find_boxes
from iapo.data.boxes.names import check_names, named, read_texts
from iapo.errors import InputError

TRUTH = Path(__file__).with_name("real_boxes.json")
TABLE_OVERLAP = 0.7


@dataclass
class Boxes:
    """What was found in pictures of one source.

    Attributes:
        name: The source.
        pictures: Pictures with boxes to find; of pictures without bars none.
        false_finds: Pictures without bars in which some were found.
        blank: Pictures without bars.
        true: Boxes to find.
        found: Boxes found.
        right: Boxes found that are right.
        whole: Pictures with all boxes right and none too many.
        doubts: Pictures refused, with the reason.
        short: Pictures with too few boxes and nothing said.
        seconds: CPU seconds.
    """

    name: str
    pictures: int = 0
    blank: int = 0
    false_finds: int = 0
    true: int = 0
    found: int = 0
    right: int = 0
    whole: int = 0
    doubts: list[str] = field(default_factory=list)
    short: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def add(self, name: str, counts: tuple[int, int, int], reason: str) -> None:
        """Counts a picture: true, found and right boxes."""
        true, found, right = counts
        self.pictures += 1
        self.true, self.found, self.right = self.true + true, self.found + found, self.right + right
        self.whole += true == found == right
        if reason:
            self.doubts.append(f"{name}: {reason}")
        elif found < true:
            self.short.append(f"{name}: {found} of {true}")


@dataclass
class Names:
    """How many names of boxes are read as they are written.

    Attributes:
        name: The source.
        total: Names of found boxes.
        exact: Names read, but for case and spaces.
        wrong: The others: what is read, and what is written.
        seconds: CPU seconds a picture.
    """

    name: str
    total: int = 0
    exact: int = 0
    wrong: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


def unseen(name: str) -> bool:
    """Tells whether a picture was kept aside."""
    return int(hashlib.sha256(name.encode()).hexdigest(), 16) % 3 == 0


def maker(stem: str) -> str:
    """Returns who made a chart of ChartQA."""
    if stem.startswith(("two_col", "multi_col")):
        return "Statista, one series" if stem.startswith("two") else "Statista, several series"
    if stem.startswith("OECD"):
        return "OECD"
    return "Our World in Data" if len(stem) > 10 else "Pew"


def true_slots(middles: Sequence[float]) -> list[tuple[float, float]]:
    """Returns the slots around middles: to half-way to the next ones, by half a usual step at most."""
    half = statistics.median(b - a for a, b in itertools.pairwise(middles)) / 2
    slots = []
    for place, middle in enumerate(middles):
        left = (middles[place - 1] + middle) / 2 if place else middle - half
        right = (middle + middles[place + 1]) / 2 if place + 1 < len(middles) else middle + half
        slots.append((max(left, middle - half), min(right, middle + half)))
    return slots


def along(found: FoundBoxes) -> Mapping[str, tuple[float, float, float, float]]:
    """Returns the boxes on a chart's axis."""
    return found.column_boxes if found.axis == "columns" else found.row_boxes


def right_slots(found: FoundBoxes, axis: str, middles: Sequence[float]) -> int:
    """Returns how many found slots are right, each true one taken once."""
    if found.axis != axis:
        return 0
    side = 0 if axis == "columns" else 1
    left, right = true_slots(middles), 0
    for box in along(found).values():
        start, end = box[side], box[side + 2]
        best = max(left, key=lambda slot: min(end, slot[1]) - max(start, slot[0]), default=None)
        if best and min(end, best[1]) - max(start, best[0]) >= 0.5 * (max(end, best[1]) - min(start, best[0])):
            left.remove(best)
            right += 1
    return right


def chart_paths(data: Path) -> dict[str, Path]:
    """Returns the pictures of ChartQA by name."""
    inside = "ChartQA Dataset/test/png"
    paths = {
        path.stem: path
        for part in ("refocus_small/ChartQA", "chartqa")
        for path in (data / part / inside).glob("*.png")
    }
    if not paths:
        raise FileNotFoundError(2, "no such folder", str(data / "chartqa" / inside))
    return paths


@functools.cache
def search(path: Path, kind: Any) -> tuple[FoundBoxes, float]:
    """Searches a picture, and returns the CPU seconds."""
    image = Image.open(path)
    image.load()
    start = time.process_time()
    found = find_boxes(image, kind)
    return found, time.process_time() - start


def find_charts(data: Path) -> Iterator[Boxes]:
    """Charts of ChartQA by maker, all, and those that were kept aside."""
    paths = chart_paths(data)
    rows: dict[str, Boxes] = {}
    for stem, truth in sorted(json.loads(TRUTH.read_text())["charts"].items()):
        if stem not in paths:
            continue
        found, seconds = search(paths[stem], "chart")
        names = [maker(stem), "all charts", *(["unseen charts"] if unseen(stem) else [])]
        for name in names:
            row = rows.setdefault(name, Boxes(name))
            row.seconds += seconds
            if truth["axis"] is None:
                row.blank += 1
                row.false_finds += not found.reason
                continue
            counts = (len(truth["middles"]), len(along(found)), right_slots(found, truth["axis"], truth["middles"]))
            row.add(stem, counts, found.reason)
    yield from sorted(rows.values(), key=lambda row: (row.name.endswith("charts"), row.name))


def cells_of(path: Path) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]:
    """Returns a rendered table's true rows and columns, each a box with its name; the row names' column is none.

    A title over all columns is no row, nor is a note below them; the levels of a header are one.
    """
    cells = json.loads(path.read_text())["cells"]
    width = max(sum(cell[3] for cell in cells if cell[0] == row) for row in {cell[0] for cell in cells})
    while all(cell[3] == width for cell in cells if cell[0] == cells[-1][0]):
        cells.pop()
    first = min(cell[0] for cell in cells if cell[3] < width)
    levels = max(cell[2] for cell in cells if cell[0] == first)
    left, right = min(cell[4] for cell in cells), max(cell[6] for cell in cells)
    top, bottom = min(cell[5] for cell in cells if cell[0] == first), max(cell[7] for cell in cells)
    rows: list[tuple[Any, ...]] = []
    for row in sorted({cell[0] for cell in cells if cell[0] >= first + levels}):
        own = [cell for cell in cells if cell[0] == row and cell[2] == 1]
        names = [cell[8] for cell in own if cell[4] <= left + 1]
        rows.append(((left, own[0][5], right, own[0][7]), names[0] if names else ""))
    head = rows[0][0][1] if rows else bottom
    # By where cells begin: a cell's own number does not count those that reach down from above it.
    starts = sorted({round(cell[4]): cell[4] for cell in cells if cell[3] == 1 and cell[0] >= first}.values())
    columns = []
    for start, end in zip(starts[1:], [*starts[2:], right], strict=True):
        heads = [one[8] for one in cells if one[0] == first and abs(one[4] - start) < 1 and one[2:4] == [levels, 1]]
        columns.append(((start, top, end, bottom), heads[0] if heads else ""))
    return [((left, top, right, head), "header"), *rows], columns


def overlap(one: Sequence[float], other: Sequence[float]) -> float:
    """Intersection over union."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(0.0, width) * max(0.0, height)
    return shared / (sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)) - shared)


def table_paths(data: Path) -> dict[str, Path]:
    """Returns the rendered tables by name."""
    folders = [data / "wtq_rendered", data / "tabfact_rendered"]
    paths = {
        path.name.removesuffix(".cells.json"): path for one in folders for path in sorted(one.glob("*.cells.json"))
    }
    if not paths:
        raise FileNotFoundError(2, "no such folder", str(folders[0]))
    return paths


def find_tables(data: Path) -> Iterator[Boxes]:
    """Rendered tables by place in order, all and those kept aside; real pictures of tables by their counts."""
    rows: dict[str, Boxes] = {}
    for stem, path in table_paths(data).items():
        found, seconds = search(path.with_name(f"{stem}.png"), "table")
        true_rows, true_columns = cells_of(path)
        right = sum(
            overlap(box, true[0]) >= TABLE_OVERLAP
            for box, true in zip(found.row_boxes.values(), true_rows, strict=False)
        )
        right += sum(
            overlap(box, true[0]) >= TABLE_OVERLAP
            for box, true in zip(found.column_boxes.values(), true_columns, strict=False)
        )
        for name in (
            "rendered tables",
            *(["unseen rendered tables"] if unseen(path.name.removesuffix(".json")) else []),
        ):
            row = rows.setdefault(name, Boxes(name))
            row.seconds += seconds
            true = len(true_rows) + len(true_columns)
            row.add(stem, (true, len(found.row_boxes) + len(found.column_boxes), right), found.reason)
    yield from rows.values()
    counted = Boxes("pictures of tables, counts alone")
    for stem, (columns, lines) in json.loads(TRUTH.read_text())["tables"].items():
        path = data / "tablevqa/pictures" / f"{stem}.png"
        if path.exists():
            found, seconds = search(path, "table")
            counted.seconds += seconds
            counts = (len(found.column_boxes), len(found.row_boxes))
            right = min(counts[0], columns) + min(counts[1], lines)
            counted.add(stem, (columns + lines, sum(counts), right), found.reason)
    if counted.pictures:
        yield counted


def same(one: str, other: str) -> bool:
    """Tells whether two names are one, but for case and spaces."""
    return "".join(one.split()).casefold() == "".join(other.split()).casefold()


def read_names(data: Path) -> Iterator[Names]:
    """Names that OCR reads at found boxes where as many are found as are written."""
    try:
        check_names("ocr")
    except InputError as error:
        raise FileNotFoundError(2, "OCR", str(error)) from error
    charts, slanted, tables = Names("ReFocus charts"), Names("of these, slanted"), Names("rendered tables")
    seen: Counter[str] = Counter()
    for line in (data / "refocus_small/chartqa_vcot/test.jsonl").read_text().splitlines():
        row = json.loads(line)
        path = data / "refocus_small" / row["image"]
        written = row["x_values"] or row["y_values"]
        found, _ = search(path, "chart")
        if seen[path.name] or len(along(found)) != len(written):
            continue
        seen[path.name] += 1
        read, seconds, leaning = _read(path, found)
        charts.seconds.append(seconds)
        for name, true in zip(along(read), written, strict=True):
            for figure in (charts, *([slanted] if leaning else [])):
                _count(figure, name, true)
    for stem, cells in table_paths(data).items():
        path = cells.with_name(f"{stem}.png")
        found, _ = search(path, "table")
        rows, columns = cells_of(cells)
        if (len(found.row_boxes), len(found.column_boxes)) != (len(rows), len(columns)):
            continue
        read, seconds, _ = _read(path, found)
        tables.seconds.append(seconds)
        for names, true in ((read.row_boxes, rows[1:]), (read.column_boxes, columns)):
            for name, (_, text) in zip([one for one in names if one != "header"], true, strict=True):
                if text.strip():
                    _count(tables, name.rsplit(" (", 1)[0] if not text.endswith(")") else name, text)
    yield from (charts, slanted, tables)


def _read(path: Path, found: FoundBoxes) -> tuple[FoundBoxes, float, bool]:
    start = time.process_time()
    texts = read_texts(Image.open(path))
    leaning = found.axis == "columns" and sum(text.slanted for text in texts) >= len(found.column_boxes)
    return named(found, texts), time.process_time() - start, leaning


def _count(figure: Names, name: str, true: str) -> None:
    figure.total += 1
    figure.exact += same(name, true)
    if not same(name, true):
        figure.wrong.append(f"{name} / {true}")


def table_of_boxes(rows: Sequence[Boxes]) -> Table:
    """Returns the finder's figures."""
    heads = ("boxes", "pictures", "whole", "precision", "recall", "said to be in doubt or not found", "silently short")
    table = Table(*heads, "without bars: found in", "CPU s")
    for one in rows:
        count = one.pictures
        table.add_row(
            one.name,
            str(count),
            f"{one.whole} ({one.whole / max(1, count):.2f})",
            f"{one.right / max(1, one.found):.3f}",
            f"{one.right / max(1, one.true):.3f}",
            str(len(one.doubts)),
            str(len(one.short)),
            f"{one.false_finds} of {one.blank}" if one.blank else "-",
            f"{one.seconds / max(1, count + one.blank):.2f}",
        )
    return table


def table_of_names(rows: Sequence[Names]) -> Table:
    """Returns the figures of OCR."""
    table = Table("names by OCR", "names", "exact", "CPU s a picture: median", "most")
    for one in rows:
        seconds = one.seconds or [0.0]
        share = f"{one.exact} ({one.exact / max(1, one.total):.2f})"
        table.add_row(one.name, str(one.total), share, f"{statistics.median(seconds):.1f}", f"{max(seconds):.1f}")
    return table
