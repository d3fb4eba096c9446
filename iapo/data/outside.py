"""Readers of the user's own: what they raise is said as what it is, and what they give is checked as any row is."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from iapo.data.damage import Damage, RowError, reason_of
from iapo.data.rows import Row
from iapo.data.sound import sound
from iapo.errors import InputError
from iapo.plugins import raised_in
from iapo.records import Sample


def row_reader(name: str, function: Callable[[Row], Any]) -> Callable[[Row], Sample]:
    """Returns a function of a row that raises `RowError` where the user's raises what is a row's fault.

    Args:
        name: Reference of the function, for messages.
        function: Function of the user's own. What it raises as `ValueError` or `KeyError` is the row's damage, anything
            else a fault of its own, which ends the reading with one sentence.
    """

    def read(row: Row) -> Sample:
        try:
            value = function(row)
        except (KeyError, ValueError) as error:
            raise RowError(reason_of(error)) from error
        # The function is the user's own and may raise anything, an end of the process too; the sentence says where.
        except (Exception, SystemExit) as error:
            raise InputError(
                f"format {name!r} failed on {row.file}, row {row.number} ({raised_in(error, name)}); mend it"
            ) from error
        return sound(_sample(name, value))

    return read


def path_reader(
    name: str, function: Callable[[Path, str | None], Any]
) -> Callable[[Path, str | None], Iterator[Sample | Damage]]:
    """Returns a function of a path and a split that yields samples, and damage where the user's function goes on behind
    it.

    Args:
        name: Reference of the function, for messages.
        function: Function of the user's own, which gives samples and damage.
    """

    def open_path(path: Path, split: str | None) -> Iterator[Sample | Damage]:
        try:
            given = function(path, split)
        except (Exception, SystemExit) as error:
            raise _failed(name, path, 0, error) from error
        if not isinstance(given, Iterable):
            raise InputError(
                f"format {name!r} gives a {type(given).__name__} for {path}; yield samples, or return a list"
            )
        return _items(name, path, iter(given))

    return open_path


def _items(name: str, path: Path, items: Iterator[Any]) -> Iterator[Sample | Damage]:
    """Yields what a reader gives.

    A generator that has raised has ended. So may have an iterator, such as `map`, that a generator raised through, and
    that gives nothing more.

    Raises:
        InputError: If the reader fails and cannot go on, by a fault of its own, or gives something else.
    """
    samples, number = 0, 0
    doubtful: Exception | None = None
    while True:
        number += 1
        try:
            item = next(items)
        except StopIteration:
            if doubtful is not None:
                raise _failed(name, path, samples, doubtful) from doubtful
            return
        except (KeyError, ValueError) as error:
            if inspect.isgenerator(items):
                raise _failed(name, path, samples, error) from error
            doubtful = error if _through_generator(error.__traceback__) else None
            yield Damage.of(error, number, path.name)
            continue
        except (Exception, SystemExit) as error:
            raise _failed(name, path, samples, error) from error
        doubtful = None
        if isinstance(item, Damage):
            yield item
            continue
        try:
            sample = sound(_sample(name, item))
        except RowError as error:
            shown = item.id if isinstance(item.id, str) else None
            yield Damage.of(error, number, path.name, shown)
            continue
        samples += 1
        yield sample


def _sample(name: str, value: object) -> Sample:
    if not isinstance(value, Sample):
        raise InputError(f"format {name!r} gives a {type(value).__name__}; give iapo.Sample")
    return value


def _failed(name: str, path: Path, samples: int, error: BaseException) -> InputError:
    """Returns the sentence on a reader that cannot go on."""
    what = f"format {name!r} ended after {samples} sample(s) of {path}"
    if isinstance(error, RowError):
        what += f" ({reason_of(error)})"
    else:
        what += f" ({raised_in(error, name)})"
    if isinstance(error, KeyError | ValueError):
        return InputError(f"{what}; mend the row, or let the reader yield Damage.of(error, row) for it (docs/data.md)")
    return InputError(f"{what}; mend the reader")


def _through_generator(trace: TracebackType | None) -> bool:
    # The first one is this module's own.
    trace = trace.tb_next if trace is not None else None
    while trace is not None:
        if trace.tb_frame.f_code.co_flags & inspect.CO_GENERATOR:
            return True
        trace = trace.tb_next
    return False
