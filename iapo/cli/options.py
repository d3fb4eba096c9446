"""Options that verbs share, and checks of options that need nothing but the option."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from iapo.bounds import MOST, Bound, check_number
from iapo.cli.base import STANDARD_OUTPUT, Known
from iapo.errors import InputError, did_you_mean

Check = Callable[[typer.CallbackParam, Any], Any]


def within(bound: Bound) -> Check:
    """Makes a check that refuses numbers outside an interval."""

    def check(parameter: typer.CallbackParam, value: Any) -> Any:
        check_number(str(parameter.name), value, bound)
        return value

    return check


def at_least(low: float) -> Check:
    """Makes a check that refuses smaller numbers, and such as no machine counts to."""
    return within(Bound(low, MOST))


def between(low: float, high: float) -> Check:
    """Makes a check that refuses numbers outside an interval, whose ends are in it."""
    return within(Bound(low, high))


def one_of(*choices: str) -> Check:
    """Makes a check that refuses other words."""

    def check(parameter: typer.CallbackParam, value: Any) -> Any:
        if value is not None and value not in choices:
            guess = did_you_mean(value, choices)
            raise InputError(f"{parameter.name} is {value!r}; {guess and guess + ' '}{_or(choices)}")
        return value

    return check


def _or(choices: tuple[str, ...]) -> str:
    return f"use {', '.join(choices[:-1])} or {choices[-1]}"


def free_or_output(parameter: typer.CallbackParam, value: Path | None) -> Path | None:
    """Refuses a path that is taken; `-` is the standard output."""
    return value if value == STANDARD_OUTPUT else free(parameter, value)


def free(parameter: typer.CallbackParam, value: Path | None) -> Path | None:
    """Refuses a path that is taken."""
    if value is not None and value.exists():
        raise InputError(f"{value} already exists; choose another --{parameter.name} or remove it")
    _check_place(value)
    return value


def folder(parameter: typer.CallbackParam, value: Path | None) -> Path | None:
    """Refuses the path of a file where a folder is written."""
    if value is not None and value.exists() and not value.is_dir():
        raise InputError(f"{value} is a file; choose another --{parameter.name}, which is a folder")
    _check_place(value)
    return value


def place(parameter: typer.CallbackParam, value: Path | None) -> Path | None:
    """Refuses a path that lies below a file, or is a link to nothing."""
    _check_place(value)
    return value


def _check_place(path: Path | None) -> None:
    if path is not None:
        # Imported here, since `iapo --help` must answer at once.
        from iapo.storage import check_place

        check_place(path)


Quiet = Annotated[bool, typer.Option("--quiet", help="Print nothing but errors.")]
Json = Annotated[
    Path | None,
    typer.Option(
        "--json",
        metavar="FILE",
        callback=free_or_output,
        help="A file for the numbers of the table; - for the standard output, where nothing else then goes.",
    ),
]

DataDamage = Annotated[
    str,
    typer.Option(
        "--data-damage",
        callback=one_of("strict", "quarantine"),
        help="A damaged row, or a test set of another size than the paper's, is refused (strict), or left out and "
        "counted (quarantine).",
    ),
]


def write_json(path: Path | None, numbers: Any) -> None:
    """Writes the numbers of a verb's table, whole or not at all, or to the standard output; nothing without a path."""
    if path is None:
        return
    text = json.dumps(numbers, indent=1, default=_plain) + "\n"
    if path == STANDARD_OUTPUT:
        Known.output.write(text)
        return
    # Imported here, since `iapo --help` must answer at once.
    from iapo.storage import make_folder, write_text

    make_folder(path.parent)
    write_text(path, text)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return dict(value)
    if hasattr(value, "tolist"):
        # No number is null, as it is everywhere in JSON.
        return [None if one != one else one for one in value.tolist()]
    return str(value)
