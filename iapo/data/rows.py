"""Rows of parquet, JSONL and JSON files, one at a time, as plain dicts without what gives a solution away."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from iapo.data import repeated
from iapo.data.damage import Damage
from iapo.data.extensions import extended, unread
from iapo.data.floats import short_floats, shortest
from iapo.errors import InputError

SUFFIXES = (".parquet", ".jsonl", ".json", ".tsv")
"""The kinds of files that hold rows."""

CELLS = ".cells.json"
"""How the names of files end that hold the boxes of a table's cells; they hold no rows."""

SOLUTION_COLUMNS = frozenset(
    {"thoughts", "edited_image", "focus_areas_bbox", "focus_areas", "text_html_table", "text_markdown_table", "turns"}
)
"""Columns that give the solution away, steps to it or the table as text; only transcripts are read with them."""

INDEX = re.compile(r"__index_level_\d+__")
"""Names that pandas gives the columns of an index that has none; no column of the data's own."""

WTQ_COLUMNS = ("id", "utterance", "context", "targetValue")
"""The columns of WikiTableQuestions' files."""

_QUOTED = re.compile(r'"(?:[^"]|"")*"')
_SHARD = re.compile(r"-(\d{5})-of-(\d{5})(?:-[0-9a-f]+)?$")
UNREADABLE = (pa.ArrowException, OSError, UnicodeDecodeError)
"""What pyarrow raises of a damaged file; the last where the name of a column is none."""

_BATCH = 16
_NO_VALUE = (ValueError, OverflowError)
"""What values raise that are stored, but are none of Python's: texts that are not UTF-8, times in the year 200,000."""

_PEEK = 20


@dataclass(frozen=True, slots=True)
class Origin:
    """What a file is among those that are given with it; ids that are made are the same whichever of them are read.

    Attributes:
        split: The split that its name or its folder tells (`iapo.data.files.split_of`).
        label: What tells it from all the others: its name without ending and number, where it alone has it, else its
            path from the folder that is given, without ending.
        series: Under what its rows are numbered on from those of the files before: the same name, unless files of
            other splits have it, too.
    """

    split: str
    label: str
    series: str


@dataclass(frozen=True, slots=True)
class Row:
    """One row as it lies on disk.

    Attributes:
        number: Number from 1; the line's number in a JSONL file.
        fields: Its columns, without `SOLUTION_COLUMNS` unless they were asked for.
        file: The file's name, or the hub id and split.
        folder: Folder that image paths start from; None on the hub.
        key: Its key, in a JSON file that is a map from id to row.
        ordinal: Its number in its split, from 1, over all the files that the split has.
        origin: What its file is among others; None where none are known of.
    """

    number: int
    fields: Mapping[str, Any]
    file: str
    folder: Path | None = None
    key: str | None = None
    ordinal: int = 0
    origin: Origin | None = None

    @property
    def stem(self) -> str:
        """The file's name without its ending and without its number as one of many; on the hub the split."""
        return stem_of(self.file)

    @property
    def numbered(self) -> str:
        """An id made of the file and `number`, for a row that has none."""
        return f"{self.stem if self.origin is None else self.origin.label}-{self.number}"

    @property
    def counted(self) -> str:
        """An id made of the file and `ordinal`, for the rows of a format that has none."""
        return f"{self.stem if self.origin is None else self.origin.series}-{self.ordinal}"


def stem_of(file: str) -> str:
    """Returns a file's name without its ending and without its number as one of many, `-00000-of-00002`."""
    path = Path(file)
    return _SHARD.sub("", path.stem if path.suffix.lower() in SUFFIXES else path.name)


def shard_of(file: str) -> tuple[str, str] | None:
    """Returns a file's number as one of many and how many there are, as its name has them; None where it is whole."""
    path = Path(file)
    found = _SHARD.search(path.stem if path.suffix.lower() in SUFFIXES else path.name)
    return None if found is None else (found[1], found[2])


def read_rows(path: Path, *, solutions: bool = False) -> Iterator[Row | Damage]:
    """Yields the rows of a file in its order; a JSON file is held in memory, the others are not.

    An entry of a JSON file that holds several questions (`iapo.data.repeated`) becomes as many rows of one number.

    Args:
        path: The file.
        solutions: Whether rows keep `SOLUTION_COLUMNS` and whole conversations.

    Raises:
        InputError: If the file's name ends in none of `SUFFIXES`.
    """
    readers = {".parquet": _read_parquet, ".jsonl": _read_lines, ".json": _read_json, ".tsv": _read_tabs}
    if path.suffix.lower() not in readers:
        raise InputError(f"{path} is no data file; give one that ends in {', '.join(SUFFIXES)}, or a folder")
    rows = _readable(readers[path.suffix.lower()](path, solutions), path)
    return rows if solutions else (_hidden(row) for row in rows)


def _readable(rows: Iterator[Row | Damage], path: Path) -> Iterator[Row | Damage]:
    try:
        yield from rows
    except OSError as error:
        yield Damage(0, None, f"the file cannot be read: {error.strerror}", path.name)


def _hidden(row: Row | Damage) -> Row | Damage:
    return row if isinstance(row, Damage) else replace(row, fields=without_solution(row.fields))


def columns_of(path: Path, *, solutions: bool = False) -> frozenset[str]:
    """Returns the columns of a file: of its schema, or of its first readable rows.

    Args:
        path: The file.
        solutions: Whether `SOLUTION_COLUMNS` are among them.

    Raises:
        InputError: If the file cannot be read, or has no rows to tell.
    """
    if path.suffix.lower() == ".parquet":
        try:
            names = _own_columns(pq.read_schema(path))
        except UNREADABLE as error:
            raise InputError(f"{path} cannot be read as parquet: {_first_line(error)}") from error
        if (twice := _twice(names)) is not None:
            raise InputError(f"{path} has two columns {twice!r}; leave one of them")
        return frozenset(names) - (frozenset() if solutions else SOLUTION_COLUMNS)
    found: set[str] = set()
    reasons = []
    for row in islice(read_rows(path, solutions=solutions), _PEEK):
        if isinstance(row, Damage):
            reasons.append(row.reason)
        else:
            found |= row.fields.keys()
    if not found:
        raise InputError(f"{path} has no readable row" + (f": {reasons[0]}" if reasons else "; it is empty"))
    return frozenset(found)


def without_solution(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a row without what gives its solution away; of conversations only the images stay."""
    kept = {name: value for name, value in fields.items() if name not in SOLUTION_COLUMNS}
    turns = kept.get("conversations")
    if isinstance(turns, list):
        kept["conversations"] = [
            {"images": turn.get("images")} if isinstance(turn, Mapping) else None for turn in turns[:1]
        ]
    return kept


def _read_parquet(path: Path, solutions: bool) -> Iterator[Row | Damage]:
    number = 0
    try:
        # Buffered ahead, all row groups would stay in memory to the end.
        with pq.ParquetFile(path, pre_buffer=False) as file:
            names = [name for name in _own_columns(file.schema_arrow) if solutions or name not in SOLUTION_COLUMNS]
            if (twice := _twice(names)) is not None:
                yield Damage(0, None, f"the file has two columns {twice!r}", path.name)
                return
            for batch in file.iter_batches(batch_size=_BATCH, columns=names):
                for fields in _unpacked(batch):
                    number += 1
                    if isinstance(fields, str):
                        yield Damage(number, None, fields, path.name)
                    else:
                        yield Row(number, fields, path.name, path.parent)
    except UNREADABLE as error:
        reason = f"the file cannot be read as parquet{' from here on' if number else ''}: {_first_line(error)}"
        yield Damage(number + 1 if number else 0, None, reason, path.name)


def _own_columns(schema: pa.Schema) -> list[str]:
    """Returns a schema's columns without those of pandas' index; an index that has a name is data like any other."""
    try:
        index = json.loads((schema.metadata or {}).get(b"pandas", b"{}"))["index_columns"]
    except (ValueError, RecursionError, LookupError, TypeError):
        return list(schema.names)
    listed = {one for one in index if isinstance(one, str)} if isinstance(index, list) else set()
    return [name for name in schema.names if not (name in listed and INDEX.fullmatch(name))]


def _unpacked(batch: pa.RecordBatch) -> Iterable[dict[str, Any] | str]:
    try:
        rows: list[dict[str, Any]] = batch.to_pylist()
    except _NO_VALUE:
        # One bad value spoils the whole batch, so the rows are taken one by one.
        return [_unpacked_row(batch.slice(index, 1)) for index in range(batch.num_rows)]
    for name, kind in short_floats(batch.schema).items():
        for row in rows:
            row[name] = shortest(row[name], kind)
    for name, extension in extended(batch.schema).items():
        for row in rows:
            row[name] = unread(row[name], extension)
    return rows


def _unpacked_row(batch: pa.RecordBatch) -> dict[str, Any] | str:
    fields: dict[str, Any] = {}
    short, other = short_floats(batch.schema), extended(batch.schema)
    for name in batch.schema.names:
        try:
            value = batch.column(name).to_pylist()[0]
            value = shortest(value, short[name]) if name in short else value
            fields[name] = unread(value, other[name]) if name in other else value
        except UnicodeDecodeError as error:
            return f"column {name!r} holds text that is not UTF-8 ({error.reason})"
        except _NO_VALUE as error:
            return f"column {name!r} holds a value that Python cannot hold ({_first_line(error)})"
    return fields


def _twice(names: Iterable[str]) -> str | None:
    return next((name for name, count in Counter(names).items() if count > 1), None)


class _Repeated(dict[str, Any]):
    """A JSON object in which a key stands twice."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.pairs = pairs


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    plain = dict(pairs)
    return plain if len(plain) == len(pairs) else _Repeated(pairs)


def _repeated_key(value: Any) -> str | None:
    if isinstance(value, _Repeated):
        return _twice(name for name, _ in value.pairs)
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return next((key for key in map(_repeated_key, inner) if key is not None), None)


def _broken_text(value: Any) -> bool:
    """Tells whether there is half of a surrogate pair in it: JSON can write one, no file in UTF-8 can hold it."""
    if isinstance(value, str):
        return not value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in value)
    if isinstance(value, dict):
        return any(_broken_text(key) or _broken_text(inner) for key, inner in value.items())
    return isinstance(value, list) and any(map(_broken_text, value))


def _row(number: int, value: Any, path: Path, key: str | None = None) -> Row | Damage:
    if not isinstance(value, dict):
        return Damage(number, key, f"the row is of type {type(value).__name__} and not a JSON object", path.name)
    try:
        twice, broken = _repeated_key(value), _broken_text(key) or _broken_text(value)
    except RecursionError:
        return Damage(number, key, "the row is nested too deeply", path.name)
    if twice is not None:
        return Damage(number, key, f"the key {twice!r} stands twice in one JSON object", path.name)
    if broken:
        return Damage(
            number, key, "the row holds half of a surrogate pair, such as \\ud800, which is no text", path.name
        )
    return Row(number, value, path.name, path.parent, key)


def _text(data: bytes, first: bool) -> str:
    return data.decode("utf-8-sig" if first else "utf-8")


def _read_lines(path: Path, solutions: bool) -> Iterator[Row | Damage]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = _row(number, json.loads(_text(line, number == 1), object_pairs_hook=_object), path)
            except UnicodeDecodeError as error:
                row = Damage(number, None, f"the line is not UTF-8: {error.reason} at byte {error.start}", path.name)
            except (ValueError, RecursionError) as error:
                row = Damage(number, None, f"the line is not JSON: {_first_line(error)}", path.name)
            yield row


def _read_tabs(path: Path, solutions: bool) -> Iterator[Row | Damage]:
    """Reads values between tabs, a line a row, below a line of their names.

    In WikiTableQuestions' files a quote is one. In others a value in quotes, as pandas and Excel write one that has
    quotes in it, is what stands within.
    """
    names: list[str] | None = None
    quoted = True
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                values = _text(line, number == 1).rstrip("\r\n").split("\t")
            except UnicodeDecodeError as error:
                reason = f"the line is not UTF-8: {error.reason} at byte {error.start}"
                yield Damage(number, None, reason, path.name)
                continue
            if names is None:
                # It may have further columns.
                quoted = not set(WTQ_COLUMNS) <= set(values)
            odd = next((one for one in values if quoted and one[:1] == '"' and not _QUOTED.fullmatch(one)), None)
            if odd is not None:
                reason = f"the value {odd[:40]!r} begins with a quote, and no other one ends it"
                yield Damage(number, None, reason, path.name)
                if names is None:
                    return
                continue
            if quoted:
                values = [one[1:-1].replace('""', '"') if one[:1] == '"' else one for one in values]
            if names is None:
                names = values
            elif len(values) != len(names):
                reason = f"the line has {len(values)} values, and the first line {len(names)} names"
                yield Damage(number, values[0] or None, reason, path.name)
            else:
                yield _row(number, dict(zip(names, values, strict=True)), path)


def _read_json(path: Path, solutions: bool) -> Iterator[Row | Damage]:
    try:
        value = json.loads(_text(path.read_bytes(), True), object_pairs_hook=_object)
    except UnicodeDecodeError as error:
        yield Damage(0, None, f"the file is not UTF-8: {error.reason} at byte {error.start}", path.name)
    except (ValueError, RecursionError) as error:
        yield Damage(0, None, f"the file is not JSON: {_first_line(error)}", path.name)
    else:
        if isinstance(value, dict):
            pairs = value.pairs if isinstance(value, _Repeated) else list(value.items())
            for number, (key, fields) in enumerate(pairs, start=1):
                for row_key, row in repeated.rows_of(key, fields) or [(key, fields)]:
                    if row is None:
                        yield Damage(number, row_key, "the answer is missing: there are more questions", path.name)
                    else:
                        yield _row(number, row, path, row_key)
        elif isinstance(value, list):
            for number, fields in enumerate(value, start=1):
                yield _row(number, fields, path)
        else:
            yield Damage(0, None, "the file holds neither a list of rows nor a map from id to row", path.name)


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]
