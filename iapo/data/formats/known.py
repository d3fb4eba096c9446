"""The formats that load, in the order in which they are asked: those with more columns before those with fewer."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from iapo.data import repeated
from iapo.data.damage import Damage, RowError
from iapo.data.formats import chartqa, charxiv, own, parquet, refocus, tablevqa, vtool, wikitables
from iapo.data.outside import path_reader, row_reader
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
        open_path: Reads a file or folder that does not hold rows, `(path, split)` -> samples and damage; None where
            `read` serves.
    """

    name: str
    shapes: tuple[tuple[str, ...], ...]
    read: Callable[[Row], Sample]
    figure_ids: bool = False
    open_path: Callable[[Path, str | None], Iterator[Sample | Damage]] | None = None


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
        return _own(name, found)
    if name not in FORMATS:
        raise InputError(f"unknown format {name!r}; use one of {', '.join(FORMATS)}, or FILE.py:NAME of your own")
    return FORMATS[name]


OWN = "(row) -> Sample or (path, split) -> samples"
"""The forms of a reader of the user's own."""


def _fits(value: object) -> bool:
    """Tells whether an object can be a format."""
    return isinstance(value, Format) or callable(value)


def _own(name: str, found: Callable[..., Any] | Format) -> Format:
    """Returns a format of the user's own; what it reads is checked as any row is."""
    if isinstance(found, Format):
        path = None if found.open_path is None else path_reader(name, found.open_path)
        return dataclasses.replace(found, read=row_reader(name, found.read), open_path=path)
    if _takes_path(name, found):
        return Format(name, (), _no_rows, open_path=path_reader(name, found))
    return Format(name, (), row_reader(name, found))


def _takes_path(name: str, function: Callable[..., Any]) -> bool:
    """Tells whether a reader takes a path and a split, and not a row; by the arguments that it needs.

    Raises:
        InputError: If it can be called with neither.
    """
    try:
        signature = inspect.signature(function)
    except ValueError as error:
        raise InputError(f"format {name!r} does not tell what it takes; give a function {OWN}") from error
    named = [one for one in signature.parameters.values() if one.kind in _BY_PLACE]
    needed = [one for one in named if one.default is inspect.Parameter.empty]
    # A split that may be left out is one all the same; any other second argument is the function's own matter.
    if len(needed) == 2 or (len(needed) < 2 <= len(named) and named[1].name == "split"):
        given: tuple[None, ...] = (None, None)
    else:
        given = (None,)
    try:
        signature.bind(*given)
    except TypeError as error:
        raise InputError(f"format {name!r} takes {signature}; give a function {OWN}") from error
    return len(given) == 2


_BY_PLACE = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def _no_rows(row: Row) -> Sample:
    raise RowError("the format reads files and no rows")


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
