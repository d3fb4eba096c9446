"""The splits of local data: by the names of files and folders, and by what rows say themselves in a field `split`.

Where a file's name tells a split, and none of its rows names one of `iapo.data.files.KNOWN_SPLITS`, the field is
something else, as `human` and `augmented` are. Where no row has a text in it, it is no split either, as the number of a
fold is none. Whatever a refusal lists can be asked for.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from iapo.answer_texts import is_blank
from iapo.data.damage import Damage, RowError
from iapo.data.files import KNOWN_SPLITS, canonical, split_of
from iapo.data.rows import UNREADABLE, Origin, Row, read_rows
from iapo.errors import InputError

FIELD = "split"
"""What the field is called."""


@dataclass(frozen=True, slots=True)
class Told:
    """What is told of the splits of some files, which have one name but for their numbers and words beside the split.

    Attributes:
        name: What their names tell (`iapo.data.files.split_of`).
        texts: The splits that their rows name, in their order, as `iapo.data.files.canonical` writes them.
        empty: Whether some rows name none.
        kinds: Types of what else stands in the field.
    """

    name: str
    texts: tuple[str, ...]
    empty: bool
    kinds: tuple[type, ...]

    @property
    def known(self) -> bool:
        """Whether the names tell a split that has several names."""
        return self.name in KNOWN_SPLITS

    @property
    def heeded(self) -> bool:
        """Whether what the rows say are splits."""
        return bool(self.texts) and (not self.known or any(one in KNOWN_SPLITS for one in self.texts))

    @property
    def splits(self) -> list[str]:
        """The splits to which the rows belong."""
        if not self.heeded:
            return [self.name]
        own = [self.name] if self.known and self.empty and self.name not in self.texts else []
        return [*self.texts, *own]

    def has(self, split: str) -> bool:
        """Tells whether there are rows of a split."""
        return canonical(split) in map(canonical, self.splits)


def told_by(files: Mapping[Path, Origin]) -> dict[str, Told]:
    """Reads what is told of the splits of some files, by what their names and folders tell.

    Only files that have the field are read, parquet in that column alone.
    """
    groups: dict[str, list[Path]] = {}
    for file, origin in files.items():
        groups.setdefault(origin.split, []).append(file)
    return {name: _told(name, some) for name, some in groups.items()}


def splits_in(told: Mapping[str, Told]) -> list[str]:
    """Returns all splits of some files, each once."""
    by_name: dict[str, str] = {}
    for split in (split for one in told.values() for split in one.splits):
        by_name.setdefault(canonical(split), split)
    return list(by_name.values())


class RowSplits:
    """Tells which rows are of a split.

    Args:
        split: The split that is asked for; None for all rows, which are of one.
        told: What is told of the files that are read; empty for a stream, of which nothing is known beforehand.

    Attributes:
        others: What the rows of other splits say.
    """

    def __init__(self, split: str | None, told: Mapping[str, Told]) -> None:
        self._split = split
        self._told = told
        self._named = False
        self._taken = False
        self.others: set[str] = set()

    def takes(self, row: Row) -> bool:
        """Tells whether a row is of the split.

        A row that says nothing is where its file's name tells the split, or no row says anything.

        Raises:
            RowError: If that cannot be told.
        """
        name = split_of(Path(row.file)) if row.origin is None else row.origin.split
        value = row.fields.get(FIELD)
        told = self._told.get(name)
        if told is not None and not told.heeded:
            taken = True
        elif value is None or (isinstance(value, str) and is_blank(value)):
            taken = self._takes_empty(name, told)
        elif isinstance(value, str):
            # In a stream `human` among the rows of `train` says nothing of the split, either.
            something_else = told is None and name in KNOWN_SPLITS and canonical(value) not in KNOWN_SPLITS
            self._named = self._named or not something_else
            taken = something_else or self._is_asked(value)
            if not taken:
                self.others.add(value)
        elif told is None and not self._named and (self._split is None or canonical(name) == canonical(self._split)):
            taken = True
        else:
            # An attempt all the same: what is wrong is said of the row.
            self._taken = True
            raise RowError(f"the field {FIELD!r} is of type {type(value).__name__}; it must be text, the split's name")
        self._taken = self._taken or taken
        return taken

    def check(self, source: str) -> None:
        """Refuses data of which no row was of the split.

        Raises:
            InputError: If there were rows of others alone.
        """
        if self.others and not self._taken:
            others = ", ".join(sorted(self.others))
            raise InputError(f"no row of {source} belongs to the split {self._split!r}; its rows have {others}")

    def _takes_empty(self, name: str, told: Told | None) -> bool:
        if name in KNOWN_SPLITS:
            return told is None or self._is_asked(name)
        if told is not None or self._named:
            raise RowError(f"the field {FIELD!r} is empty, and other rows name one; name the row's split")
        return True

    def _is_asked(self, split: str) -> bool:
        return self._split is None or canonical(split) == canonical(self._split)


def _told(name: str, files: Iterable[Path]) -> Told:
    texts: dict[str, None] = {}
    kinds: dict[type, None] = {}
    empty = False
    for value in (value for file in files for value in _values(file)):
        if value is None or (isinstance(value, str) and is_blank(value)):
            empty = True
        elif isinstance(value, str):
            texts[canonical(value)] = None
        else:
            kinds[type(value)] = None
    return Told(name, tuple(texts), empty, tuple(kinds))


def _values(file: Path) -> Iterator[Any]:
    """Yields what stands in the field, row by row; of a file without it, that a row names no split."""
    try:
        if file.suffix.lower() == ".parquet":
            with pq.ParquetFile(file) as table:
                if table.schema_arrow.names.count(FIELD) == 1:
                    for batch in table.iter_batches(columns=[FIELD]):
                        yield from _readable(batch.column(0))
                elif table.metadata.num_rows:
                    yield None
            return
        with file.open("rb") as lines:
            if not any(FIELD.encode() in line for line in lines):
                if file.stat().st_size:
                    yield None
                return
    except UNREADABLE:
        # The loader says what is wrong with it.
        return
    for row in read_rows(file):
        if not isinstance(row, Damage):
            yield row.fields.get(FIELD)


def _readable(column: pa.Array) -> Iterator[Any]:
    """Yields the values that can be read one by one; the rows of others are damage where they are loaded."""
    for index in range(len(column)):
        # A text that is not UTF-8, a time in the year 200,000.
        with contextlib.suppress(ValueError, OverflowError):
            yield column[index].as_py()
