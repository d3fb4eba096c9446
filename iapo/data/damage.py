"""What cannot be loaded is said and kept, never dropped: a `Damage` stands in the place of a row's sample."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Self

from iapo.errors import InputError
from iapo.kinds import checks_kinds
from iapo.records import Sample


@dataclass(frozen=True, slots=True)
class Damage:
    """Why a row gives no sample.

    Attributes:
        row: Number of the row in its file or stream, from 1; the line's number in a JSONL file. 0 where a file cannot
            be read at all.
        id: The row's id, where it could be read.
        reason: One sentence: what is wrong, and where.
        file: The file's name, or the hub id and split.
    """

    row: int
    id: str | None
    reason: str
    file: str = ""

    def __str__(self) -> str:
        named = "" if self.id is None else f" (id {self.id!r})"
        where = f"{self.file}, " if self.file else ""
        return f"{where}row {self.row}{named}: {self.reason}" if self.row else f"{where or 'file, '}{self.reason}"

    @classmethod
    def of(cls, error: Exception, row: int, file: str = "", id: str | None = None) -> Self:
        """Makes the damage of a row for which a reader raised an error.

        Args:
            error: What it raised.
            row: Number of the row, from 1.
            file: The file's name.
            id: The row's id, where it is known.
        """
        return cls(row, id, reason_of(error), file)


class RowError(ValueError):
    """A row that cannot become a sample; the message is the reason, one sentence."""


def reason_of(error: Exception) -> str:
    """Returns why a row is damaged for which a reader raised an error: its text, and of a `KeyError` the field."""
    text = " ".join(str(error).split())
    if isinstance(error, KeyError):
        return f"the field {text} is missing"
    return text if text and isinstance(error, ValueError) else f"{type(error).__name__}: {text}".rstrip(": ")


@checks_kinds
def strict(items: Iterable[Sample | Damage]) -> Iterator[Sample]:
    """Yields the samples and raises at the first damage.

    Raises:
        InputError: At a damage, with its file, row, id and reason.
    """
    for item in items:
        if isinstance(item, Damage):
            raise InputError(str(item))
        yield item


@checks_kinds
def quarantine(items: Iterable[Sample | Damage], keep: Callable[[Damage], object]) -> Iterator[Sample]:
    """Yields the samples and hands each damage over.

    Args:
        items: Samples and damages as `iapo.data.loading.load` yields them.
        keep: Callback, called with each damage, for example a list's `append`.
    """
    for item in items:
        if isinstance(item, Damage):
            keep(item)
        else:
            yield item
