"""The formats that load, in the order in which they are asked: those with more columns before those with fewer."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from iapo.data import repeated
from iapo.data.damage import RowError
from iapo.data.formats import chartqa, charxiv, own, parquet, refocus, tablevqa, vtool, wikitables
from iapo.data.rows import Row
from iapo.errors import InputError
from iapo.plugins import is_reference, resolve
from iapo.records import Sample


@dataclass(frozen=True, slots=True)
class Format:
    """One format.

    Attributes:
        name: Name as `load` and the command line take it.
        shapes: Sets of columns that tell it, any one of them; none where it has to be named.
        read: Makes a sample of a row, or raises `RowError`.
        figure_ids: Whether its ids are of figures, about each of which several questions may be asked.
        open_path: Reads a file or folder that does not hold rows, `(path, split)` -> samples; None where `read` serves.
    """

    name: str
    shapes: tuple[tuple[str, ...], ...]
    read: Callable[[Row], Sample]
    figure_ids: bool = False
    open_path: Callable[[Path, str | None], Iterator[Sample]] | None = None


FORMATS = {
    one.name: one
    for one in (
        Format(parquet.NAME, (parquet.NEEDED,), parquet.read),
        Format(vtool.NAME, vtool.SHAPES, vtool.read, True),
        Format(refocus.COT_NAME, refocus.COT_SHAPES, refocus.read_cot),
        Format(refocus.HUB_NAME, refocus.HUB_SHAPES, refocus.read_hub),
        Format(refocus.BOXES_NAME, refocus.BOXES_SHAPES, refocus.read_boxes),
        Format(refocus.NAME, (), refocus.read),
        Format(chartqa.NAME, chartqa.SHAPES, chartqa.read),
        Format(tablevqa.NAME, tablevqa.SHAPES, tablevqa.read),
        Format(charxiv.NAME, charxiv.SHAPES, charxiv.read),
        Format(charxiv.SUBSET_NAME, charxiv.SUBSET_SHAPES, charxiv.read_subset),
        Format(wikitables.TABFACT_NAME, (repeated.TABFACT,), wikitables.read_tabfact),
        Format(wikitables.WTQ_NAME, wikitables.WTQ_SHAPES, wikitables.read_wtq),
        Format(own.NAME, own.SHAPES, own.read),
    )
}
"""By name, in the order in which they are asked."""


def find_format(name: str) -> Format:
    """Returns the format of that name.

    Args:
        name: One of `FORMATS`, or a reference (`iapo.plugins`) to a `Format` or a function of the user's own:
            `(row) -> Sample` for a row of a parquet, JSONL or JSON file or of a hub set, or `(path, split)` -> samples
            for files of any other kind.

    Raises:
        InputError: If there is none.
    """
    if is_reference(name):
        found = resolve(name, "format", _fits, f"a function {OWN}, or a Format")
        return found if isinstance(found, Format) else _own(name, found)
    if name not in FORMATS:
        raise InputError(f"unknown format {name!r}; use one of {', '.join(FORMATS)}, or FILE.py:NAME of your own")
    return FORMATS[name]


OWN = "(row) -> Sample or (path, split) -> samples"
"""The forms of a reader of the user's own."""


def _fits(value: object) -> bool:
    """Tells whether an object can be a format."""
    return isinstance(value, Format) or callable(value)


def _own(name: str, function: Callable[..., Any]) -> Format:
    """Returns a format of the user's own; what its function of a row raises is damage of that row."""
    parameters = len(inspect.signature(function).parameters)
    if parameters not in (1, 2):
        raise InputError(f"format {name!r} takes {parameters} arguments; give a function {OWN}")

    def read(row: Row) -> Sample:
        try:
            sample = function(row)
        except KeyError as error:
            raise RowError(f"the field {error} is missing") from error
        except ValueError as error:
            raise RowError(str(error)) from error
        return _sample(sample)

    def open_path(path: Path, split: str | None) -> Iterator[Sample]:
        return map(_sample, function(path, split))

    def _sample(value: object) -> Sample:
        if not isinstance(value, Sample):
            raise InputError(f"format {name!r} gives a {type(value).__name__}; give iapo.Sample")
        return value

    return Format(name, (), read, open_path=None if parameters == 1 else open_path)


def format_of(columns: frozenset[str], where: str) -> Format:
    """Returns the format that these columns tell.

    Args:
        columns: The columns of a file or a stream.
        where: Owner of the columns, for the message.

    Raises:
        InputError: If no format has them.
    """
    for one in FORMATS.values():
        if any(columns.issuperset(shape) for shape in one.shapes):
            return one
    near, shape = max(
        ((one, shape) for one in FORMATS.values() for shape in one.shapes),
        key=lambda pair: len(columns.intersection(pair[1])) / len(pair[1]),
    )
    nearest = ""
    if columns.intersection(shape):
        missing = ", ".join(name for name in shape if name not in columns)
        nearest = f"; the nearest is {near.name}, for which {missing} is missing"
    known = "; ".join(f"{one.name} ({', '.join(one.shapes[0][:5])})" for one in FORMATS.values() if one.shapes)
    raise InputError(
        f"cannot tell the format of {where}, whose columns are {', '.join(sorted(columns)) or 'none'}{nearest}: "
        f"rename its columns to those of a known format, or give format=. Known: {known}"
    )
