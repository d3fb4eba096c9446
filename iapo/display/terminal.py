"""What the data verbs share: text that is safe to print, and progress bars."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

_Item = TypeVar("_Item")


def plain(text: str, most: int | None = None) -> str:
    """Returns a text from data as one line without control characters or lone surrogates.

    Args:
        text: Text of any origin.
        most: Longer ones are cut to this many characters.
    """
    line = "".join(letter if letter.isprintable() else " " for letter in text.encode("utf-8", "replace").decode())
    line = " ".join(line.split())
    return line if most is None or len(line) <= most else f"{line[: most - 3]}..."


def say(line: str) -> None:
    """Prints a line as it is: text from data is no markup."""
    Console(soft_wrap=True).print(line, markup=False, highlight=False, emoji=False)


def progress(items: Iterable[_Item], what: str, total: int | None = None) -> Iterator[_Item]:
    """Yields the items under a progress bar on standard error; where that is no terminal there is no bar.

    Args:
        items: Items that are worked on, one by one.
        what: Name of the work.
        total: Number of items, if that is known.
    """
    console = Console(stderr=True)
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        yield from bar.track(items, total=total, description=what)
