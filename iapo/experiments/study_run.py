"""What studies of forms and of faithfulness have in common: their files are new, and a bar shows how far they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from iapo.display.quiet import quiet_libraries
from iapo.results import write_result
from iapo.storage import make_folder, write_text

Begin = Callable[[str, int], Callable[[int], None]]
"""Begins a part of so many things: what is called with the number of those newly done."""


def files(kind: str) -> tuple[str, str]:
    """Returns the names of a study's files."""
    return f"{kind}.json", f"{kind}.csv"


@contextmanager
def progress_bars() -> Iterator[Begin]:
    """Shows a bar on standard error for each part that is begun, with the libraries quiet."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with quiet_libraries(), Progress(*columns, console=Console(stderr=True), transient=True) as bar:

        def begin(what: str, total: int) -> Callable[[int], None]:
            task = bar.add_task(what, total=total)
            return lambda done: bar.advance(task, done)

        yield begin


def write_study(out: Path, kind: str, found: Mapping[str, Any], lines: str, tables: Sequence[Table]) -> None:
    """Writes `KIND.json` and `KIND.csv`, and prints the tables and where the files lie.

    Args:
        out: Folder for both.
        kind: The result's kind, and the files' name.
        found: What the JSON file holds.
        lines: What the CSV file holds.
        tables: The tables.
    """
    make_folder(out)
    numbers, table_file = (out / name for name in files(kind))
    write_result(numbers, kind, found)
    write_text(table_file, lines)
    console = Console()
    for table in tables:
        console.print(table)
    for path in (numbers, table_file):
        console.print(str(path), soft_wrap=True)
