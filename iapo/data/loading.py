"""The one door to data: a file, a folder or a hub id in any known format -> samples, and damage where there is none.

Everything streams but a JSON file, which is read as a whole. Of the rows gone by a digest of their ids stays in memory,
some 200 bytes a row.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from iapo.data.choosing import choose, expected_rows, splits_of_files
from iapo.data.damage import Damage, RowError, quarantine, strict
from iapo.data.fields import refuse_control_tokens, with_answer_flaws
from iapo.data.files import files_of
from iapo.data.formats.known import FORMATS, Format, find_format, format_of
from iapo.data.hub import open_hub
from iapo.data.row_splits import RowSplits
from iapo.data.rows import SUFFIXES, Row, columns_of
from iapo.errors import InputError
from iapo.kinds import checks_kinds
from iapo.records import Sample

__all__ = ["FORMATS", "Damage", "detect", "load", "quarantine", "strict"]

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@checks_kinds
def detect(source: str | Path, *, split: str | None = None) -> str:
    """Tells the format of data by its columns.

    Args:
        source: A file, a folder or a hub id. A folder is told by the first of its files that can be read.
        split: Split for a folder or a hub id; any of a folder's if None.

    Returns:
        One of `FORMATS`.

    Raises:
        InputError: If there is no such data, it cannot be read, or its columns are of no known format.
    """
    path = _place(source)
    if _is_there(path):
        return _detect_files(list(choose(path, split).files) if split is not None else files_of(path)).name
    columns, _ = open_hub(_hub_id(source), split)
    return format_of(columns, str(source)).name


@checks_kinds
def load(source: str | Path, *, split: str | None = None, format: str | None = None) -> Iterator[Sample | Damage]:
    """Yields a sample for each row, or the damage that stands in its place.

    Args:
        source: A file, a folder or a hub id (`owner/name`).
        split: Split; None where there is one alone. In a folder a split is told by the files' names
            (`iapo.data.files`), and a row's own field `split` where it names one (`iapo.data.row_splits`); then one
            that is no text is damage, and so is an empty one where no file's name tells it.
        format: One of `FORMATS`, or `FILE.py:NAME` of your own (`iapo.data.formats.known.find_format`); found by
            `detect` if None.

    Returns:
        Samples and damage in the order of the rows.

    Raises:
        InputError: At the call: if there is no such data or split, or the format cannot be told.
    """
    known = None if format is None else find_format(format)
    path = _place(source)
    rows: Iterator[Row | Damage]
    if known is not None and known.open_path is not None:
        if not _is_there(path):
            raise InputError(f"there is no file or folder {str(source)!r}")
        return _unique(known.open_path(path, split), path.name)
    if _is_there(path):
        chosen = choose(path, split)
        known = known or _detect_files(list(chosen.files), alike=True)
        rows, splits = chosen.read(), chosen.rows()
    else:
        columns, rows = open_hub(_hub_id(source), split)
        known, splits = known or format_of(columns, str(source)), RowSplits(split, {})
    return _samples(rows, known, str(source), splits)


@checks_kinds
def splits_of(source: str | Path, format: str | None = None) -> list[str | None]:
    """Returns the splits of local data by the files' names and by what their rows say; None where all is one, or a
    reader's own matter.

    Args:
        source: A file, a folder or a hub id.
        format: Format as in `load`.

    Raises:
        InputError: If the folder has no data, or there is no such format.
    """
    path = _place(source)
    if _own_way(format) or not _is_there(path):
        return [None]
    return [*splits_of_files(path)] or [None]


@checks_kinds
def count_rows(source: str | Path, split: str | None, format: str | None = None) -> int | None:
    """Returns how many rows there are to read, where that is known beforehand (`iapo.data.choosing.expected_rows`).

    Args:
        source: Source as in `load`.
        split: Split as in `load`.
        format: Format as in `load`.
    """
    return None if _own_way(format) else expected_rows(str(source), split)


def _place(source: str | Path) -> Path:
    """Returns the path of data; an empty text, which would be the working directory, is refused."""
    if not str(source).strip():
        raise InputError(f"the data are {str(source)!r}; give a file, a folder (. for the one here) or a hub id")
    return Path(source)


def _own_way(format: str | None) -> bool:
    """Whether a reader of the user's own takes the path, and knows alone what is data there."""
    return format is not None and find_format(format).open_path is not None


def _detect_files(files: list[Path], *, alike: bool = False) -> Format:
    """Tells the format of the first file that tells one.

    Args:
        files: The files.
        alike: Whether they are read as one, so that no other of them may tell another format.
    """
    reasons: list[InputError] = []
    found: dict[str, tuple[Format, Path]] = {}
    for file in files:
        try:
            one = format_of(columns_of(file), str(file))
        except InputError as error:
            reasons.append(error)
            continue
        found.setdefault(one.name, (one, file))
        if not alike:
            break
    if not found:
        raise reasons[0]
    if len(found) > 1:
        shown = ", ".join(f"{file} is {name}" for name, (_, file) in found.items())
        raise InputError(f"one split has files of several formats: {shown}; give one of the files, or its folder")
    return next(iter(found.values()))[0]


def _is_there(path: Path) -> bool:
    try:
        there = path.exists()
    except OSError as error:
        raise InputError(f"the data {str(path)[:200]} cannot be read: {error.strerror}") from error
    if there and not path.is_file() and not path.is_dir():
        raise InputError(f"the data {str(path)[:200]} is a pipe or a device; give a file or a folder")
    return there


def _hub_id(source: str | Path) -> str:
    if Path(source).suffix.lower() in SUFFIXES:
        raise InputError(f"there is no file {str(source)!r}")
    if not _HUB_ID.fullmatch(str(source)):
        raise InputError(f"there is no file or folder {str(source)!r}, and it is no hub id such as 'owner/name' either")
    return str(source)


def _samples(rows: Iterator[Row | Damage], known: Format, source: str, splits: RowSplits) -> Iterator[Sample | Damage]:
    ids = _Ids()
    questions: Counter[bytes] = Counter()
    for ordinal, row in enumerate(rows, start=1):
        if isinstance(row, Damage):
            yield row
            continue
        try:
            if not splits.takes(row):
                continue
            sample = known.read(dataclasses.replace(row, ordinal=ordinal))
            refuse_control_tokens(sample)
            sample = with_answer_flaws(sample)
        except RowError as error:
            yield Damage(row.number, _id(row), str(error), row.file)
            continue
        again = ids.take(sample, row.number, row.file, by_question=known.figure_ids)
        if again is not None:
            yield again
            continue
        if known.figure_ids:
            figure = _digest(sample.id)
            questions[figure] += 1
            if questions[figure] > 1:
                sample = dataclasses.replace(sample, id=f"{sample.id}#{questions[figure]}")
        yield sample
    if not ids.first_rows:
        splits.check(source)


def _unique(items: Iterator[Sample | Damage], file: str) -> Iterator[Sample | Damage]:
    """Yields what a reader of files gives, a second sample with an id as damage."""
    ids = _Ids()
    for number, item in enumerate(items, start=1):
        again = None if isinstance(item, Damage) else ids.take(item, number, file)
        yield item if again is None else again


class _Ids:
    """The ids of the rows gone by.

    Attributes:
        first_rows: The place of each one's row, by a digest of it.
    """

    def __init__(self) -> None:
        self.first_rows: dict[bytes, str] = {}

    def take(self, sample: Sample, number: int, file: str, *, by_question: bool = False) -> Damage | None:
        """Takes up a sample; returns the damage of one whose id was used before.

        Args:
            sample: The sample.
            number: Number of its row.
            file: Name of its file.
            by_question: Whether the id is a figure's, about which several questions may be asked.
        """
        key = _digest(sample.id, sample.question if by_question else "")
        if key in self.first_rows:
            return Damage(number, sample.id, f"the id was already used in {self.first_rows[key]}", file)
        self.first_rows[key] = f"row {number} of {file}"
        return None


def _digest(*texts: str) -> bytes:
    """Returns what is kept of an id, so that long ones need no more memory than short ones."""
    return hashlib.blake2b("\0".join(texts).encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _id(row: Row) -> str | None:
    for value in (row.key, row.fields.get("id"), row.fields.get("figure_id"), row.fields.get("qa_id")):
        if isinstance(value, (str, int)) and not isinstance(value, bool):
            return str(value)
    return None
