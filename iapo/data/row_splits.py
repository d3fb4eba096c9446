"""The splits that rows say themselves, in a field `split`, where not the name of their file alone tells it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from iapo.answer_texts import is_blank
from iapo.data.damage import Damage, RowError
from iapo.data.files import KNOWN_SPLITS, canonical, split_of
from iapo.data.rows import UNREADABLE, Row, read_rows
from iapo.errors import InputError

FIELD = "split"
"""What the field is called."""


def named_splits(files: Iterable[Path]) -> list[str]:
    """Returns the splits that rows of some files name, in their order, each as `iapo.data.files.canonical` writes it.

    Only files that have the field are read, parquet in that column alone.
    """
    told = (value for file in files for value in _values(file))
    return list(dict.fromkeys(canonical(value) for value in told if isinstance(value, str) and not is_blank(value)))


def check_one(splits: Iterable[str], source: str) -> None:
    """Refuses rows of several splits where none is asked for.

    Raises:
        InputError: If so.
    """
    if len(splits := list(splits)) > 1:
        raise InputError(f"the rows of {source} have the splits {', '.join(splits)}; give one of them")


class RowSplits:
    """Tells which rows are of a split.

    Args:
        split: The split that is asked for; None for all rows, which are of one.
        named: Whether any row names a split, where that is known beforehand; a row that does is one.

    Attributes:
        others: What the rows of other splits say.
    """

    def __init__(self, split: str | None, *, named: bool = False) -> None:
        self._split = split
        self._named = named
        self.others: set[str] = set()

    def takes(self, row: Row) -> bool:
        """Tells whether a row is of the split.

        A row that says nothing is where its file's name tells the split, or no row says anything.

        Raises:
            RowError: If that cannot be told.
        """
        told = row.fields.get(FIELD)
        if told is None or (isinstance(told, str) and is_blank(told)):
            if self._named and split_of(Path(row.file)) not in KNOWN_SPLITS:
                raise RowError(f"the field {FIELD!r} is empty, and other rows name one; name the row's split")
            return True
        if not isinstance(told, str):
            raise RowError(f"the field {FIELD!r} is of type {type(told).__name__}; it must be text, the split's name")
        self._named = True
        if self._split is None or canonical(told) == canonical(self._split):
            return True
        self.others.add(told)
        return False

    def check(self, source: str) -> None:
        """Refuses data of which no row was of the split.

        Raises:
            InputError: If there were rows of others.
        """
        if self.others:
            others = ", ".join(sorted(self.others))
            raise InputError(f"no row of {source} belongs to the split {self._split!r}; its rows have {others}")


def _values(file: Path) -> Iterator[Any]:
    try:
        if file.suffix.lower() == ".parquet":
            with pq.ParquetFile(file) as table:
                if table.schema_arrow.names.count(FIELD) == 1:
                    for batch in table.iter_batches(columns=[FIELD]):
                        yield from batch.column(0).to_pylist()
            return
        with file.open("rb") as lines:
            if not any(FIELD.encode() in line for line in lines):
                return
    except UNREADABLE:
        # The loader says what is wrong with it.
        return
    for row in read_rows(file):
        if not isinstance(row, Damage):
            yield row.fields.get(FIELD)
