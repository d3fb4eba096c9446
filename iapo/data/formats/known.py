"""The formats that load, in the order in which they are asked: those with more columns before those with fewer."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from iapo.data.damage import RowError
from iapo.data.formats import benchmarks, own, parquet, refocus, vtool
from iapo.data.rows import Row
from iapo.errors import InputError
from iapo.plugins import is_reference, resolve
from iapo.records import Sample


@dataclass(frozen=True, slots=True)
class Format:
    """One format.

    Attributes:
        name: Name as `load` and the command line take it.
        matches: Whether a file with these columns is of it.
        read: Makes a sample of a row, or raises `RowError`.
        columns: Columns that tell it, for messages.
        figure_ids: Whether its ids are of figures, about each of which several questions may be asked.
        open_path: Reads a file or folder that does not hold rows, `(path, split)` -> samples; None where `read` serves.
    """

    name: str
    matches: Callable[[frozenset[str]], bool]
    read: Callable[[Row], Sample]
    columns: str
    figure_ids: bool = False
    open_path: Callable[[Path, str | None], Iterator[Sample]] | None = None


FORMATS = {
    one.name: one
    for one in (
        Format(parquet.NAME, parquet.matches, parquet.read, "what `iapo.data.formats.parquet` writes"),
        Format(vtool.NAME, vtool.matches, vtool.read, "metadata, figure_id, query, answer, images", True),
        Format(refocus.COT_NAME, refocus.matches_cot, refocus.read_cot, "conversations, answer"),
        Format(refocus.HUB_NAME, refocus.matches_hub, refocus.read_hub, "image, question, answer, x_values_bbox"),
        Format(refocus.BOXES_NAME, refocus.matches_boxes, refocus.read_boxes, "figure_path, answer, x_bboxes"),
        Format(benchmarks.CHARTQA_NAME, benchmarks.matches_chartqa, benchmarks.read_chartqa, "image, query, label"),
        Format(benchmarks.TABLEVQA_NAME, benchmarks.matches_tablevqa, benchmarks.read_tablevqa, "qa_id, image, gt"),
        Format(benchmarks.CHARXIV_NAME, benchmarks.matches_charxiv, benchmarks.read_charxiv, "image, reasoning_q"),
        Format(benchmarks.SUBSET_NAME, benchmarks.matches_subset, benchmarks.read_subset, "figure_path, query, answer"),
        Format(own.NAME, own.matches, own.read, "image, question, answer"),
    )
}
"""By name."""


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

    return Format(name, lambda columns: False, read, "its own", open_path=None if parameters == 1 else open_path)


def format_of(columns: frozenset[str], where: str) -> Format:
    """Returns the format that these columns tell.

    Args:
        columns: The columns of a file or a stream.
        where: Owner of the columns, for the message.

    Raises:
        InputError: If no format has them.
    """
    for one in FORMATS.values():
        if one.matches(columns):
            return one
    known = "; ".join(f"{one.name} ({one.columns})" for one in FORMATS.values())
    raise InputError(
        f"cannot tell the format of {where}, whose columns are {', '.join(sorted(columns)) or 'none'}: "
        f"rename its columns to those of a known format, or give format=. Known: {known}"
    )
