"""Rows of a data set on the hub, streamed; images stay encoded, so that a damaged one is one damaged row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from iapo.data.files import canonical
from iapo.data.floats import short_floats, shortest
from iapo.data.rows import INDEX, SOLUTION_COLUMNS, Row, without_solution
from iapo.errors import InputError


def open_hub(source: str, split: str | None) -> tuple[frozenset[str], Iterator[Row]]:
    """Opens a split of a data set, without downloading it.

    Args:
        source: The hub id, `owner/name`.
        split: One of its splits; None where it has one alone. Where the data set has another split alone, all of it
            is read, since its rows may say themselves to which split they belong.

    Returns:
        Its columns without those that give solutions away, and its rows.

    Raises:
        InputError: If there is no such data set or split, or it cannot be reached.
    """
    # Loaded on use: it takes seconds, and files need none of it.
    import datasets

    try:
        splits = list(datasets.get_dataset_split_names(source))
        chosen = _choose(source, splits, split)
        stream = datasets.load_dataset(source, split=chosen, streaming=True)
    except (OSError, datasets.exceptions.DatasetsError) as error:
        # ConnectionError and the hub's own errors are OSErrors.
        first = str(error).strip().split("\n")[0]
        raise InputError(f"there is no file or folder {source!r}, and the hub does not give it: {first}") from error
    if stream.features is not None:
        stream = stream.decode(False)
    names = _columns(stream)
    # What pandas wrote beside a column's name is not handed on by the stream.
    gone = [name for name in names if name in SOLUTION_COLUMNS or INDEX.fullmatch(name)]
    if gone:
        stream = stream.remove_columns(gone)
    short = {} if stream.features is None else short_floats(stream.features.arrow_schema)
    return frozenset(names).difference(gone), _rows(stream, f"{source}/{chosen}", short)


def _choose(source: str, splits: list[str], split: str | None) -> str:
    if split is None:
        if len(splits) == 1:
            return splits[0]
        raise InputError(f"{source} has the splits {', '.join(splits)}; give one of them")
    found = next((name for name in splits if name == split or canonical(name) == canonical(split)), None)
    if found is None and len(splits) == 1:
        return splits[0]
    if found is None:
        raise InputError(f"{source} has no split {split!r}; it has {', '.join(splits)}")
    return found


def _columns(stream: Any) -> list[str]:
    if stream.features is not None:
        return list(stream.features)
    # JSON on the hub has no schema; its first row tells.
    return list(next(iter(stream), {}))


def _rows(stream: Any, name: str, short: Mapping[str, Any]) -> Iterator[Row]:
    number = 0
    try:
        for number, fields in enumerate(stream, start=1):
            given = {key: shortest(value, short[key]) if key in short else value for key, value in fields.items()}
            yield Row(number, without_solution(given), name)
    except (TypeError, ValueError, OSError) as error:
        # For example structs that differ between the files of a data set, which `datasets` cannot cast.
        first = str(error).strip().split("\n")[0]
        raise InputError(
            f"the stream of {name} broke off after {number} rows: {first}; download the data set and give its folder"
        ) from error
