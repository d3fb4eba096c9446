"""The formats that load, in the order in which they are asked: those with more columns before those with fewer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from iapo.data.formats import benchmarks, own, parquet, refocus, vtool
from iapo.data.rows import Row
from iapo.errors import InputError
from iapo.records import Sample


@dataclass(frozen=True, slots=True)
class Format:
    """One format.

    Attributes:
        name: As `load` and the command line take it.
        matches: Whether a file with these columns is of it.
        read: Makes a sample of a row, or raises `RowError`.
        columns: What tells it, for messages.
        figure_ids: Whether its ids are of figures, about each of which several questions may be asked.
    """

    name: str
    matches: Callable[[frozenset[str]], bool]
    read: Callable[[Row], Sample]
    columns: str
    figure_ids: bool = False


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
    """The format of that name.

    Raises:
        InputError: If there is none.
    """
    if name not in FORMATS:
        raise InputError(f"unknown format {name!r}; use one of {', '.join(FORMATS)}")
    return FORMATS[name]


def format_of(columns: frozenset[str], where: str) -> Format:
    """The format that these columns tell.

    Args:
        columns: The columns of a file or a stream.
        where: Whose, for the message.

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
