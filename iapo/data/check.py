"""`iapo data check`: what is in a data set, and what is wrong with it, row by row."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from iapo.data.files import expected_rows, files_of, split_of
from iapo.data.loading import Damage, detect, load
from iapo.display.terminal import plain, progress, say


@dataclass(slots=True)
class Counts:
    """What one split holds.

    Attributes:
        format: Format as `iapo.data.loading` names it.
        samples: Rows that load.
        damaged: Rows that do not.
        kinds: Samples by `chart` and `table`.
        axes: Samples by the axis along which they divide, `either` where both or neither is right.
        boxless: Samples without any box.
    """

    format: str
    samples: int = 0
    damaged: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    axes: Counter[str] = field(default_factory=Counter)
    boxless: int = 0


def check(source: str, *, split: str | None = None, format: str | None = None) -> dict[str, Counts]:
    """Reads a data set to its end, prints each problem in a line of its own, then the counts.

    Args:
        source: A file, a folder or a hub id.
        split: Split; of a local folder all of them if None.
        format: One of `iapo.data.loading.FORMATS`; detected if None.

    Returns:
        The counts of each split.

    Raises:
        ValueError: If there is no such data, or its format cannot be told.
    """
    found: dict[str, Counts] = {}
    for one in [split] if split is not None else _splits(source):
        counts = Counts(format or detect(source, split=one))
        items = load(source, split=one, format=format)
        for item in progress(items, "checking", expected_rows(source, one)):
            if isinstance(item, Damage):
                counts.damaged += 1
                say(plain(str(item)))
                continue
            counts.samples += 1
            counts.kinds[item.kind] += 1
            counts.axes[item.axis or "either"] += 1
            counts.boxless += not item.column_boxes and not item.row_boxes
        found[one or "all"] = counts
    Console().print(_table(source, found))
    return found


def _splits(source: str) -> list[str | None]:
    path = Path(source)
    if not path.is_dir():
        return [None]
    names = list(dict.fromkeys(split_of(file) for file in files_of(path)))
    return [None] if len(names) == 1 else list(names)


def _table(source: str, found: dict[str, Counts]) -> Table:
    table = Table(title=plain(source, 60).replace("[", "\\["))
    headings = ("split", "format", "samples", "damaged", "kind", "axis", "without boxes")
    for heading in headings:
        table.add_column(heading, justify="right" if heading in ("samples", "damaged", "without boxes") else "left")
    for split, counts in found.items():
        table.add_row(
            plain(split).replace("[", "\\["),
            counts.format,
            f"{counts.samples:,}",
            f"{counts.damaged:,}",
            ", ".join(f"{name} {count:,}" for name, count in sorted(counts.kinds.items())),
            ", ".join(f"{name} {count:,}" for name, count in sorted(counts.axes.items())),
            f"{counts.boxless:,}",
        )
    return table
