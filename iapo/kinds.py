"""Which kinds of values settings take: by their declared types, for a command line, YAML and Python alike."""

from __future__ import annotations

import dataclasses
import enum
import functools
import inspect
import numbers
import os
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from iapo.errors import InputError

_SHOWN = 100
"""Letters of a value that a sentence shows at most."""


def members(kind: Any) -> list[Any]:
    """Returns the types of a union, or the type alone."""
    if get_origin(kind) in (Union, UnionType):
        return [member for one in get_args(kind) for member in members(one)]
    return [kind]


def order(kind: Any) -> int:
    """Sorts narrow types before wide ones: a text fits nearly all."""
    places = {bool: 0, int: 1, float: 2, dict: 3, str: 6, Any: 7}
    return places.get(kind, 5 if get_origin(kind) is list or kind is list else 4)


def expected(kinds: list[Any]) -> str:
    """Says what a setting of some types takes, as a sentence goes on after `it takes`."""
    return " or ".join(dict.fromkeys(_named(one) for one in sorted(kinds, key=order)))


def fits(value: Any, kind: Any) -> bool:
    """Tells whether a value of Python is of a type.

    Args:
        value: The value; a path is a text, and NumPy's numbers are numbers.
        kind: `bool`, `int`, `float`, `str`, None's type, a list of one of them, or `Literal`.
    """
    if get_origin(kind) is Literal:
        # An enumeration of texts, as libraries have them, is as good as the text.
        same = [one for one in get_args(kind) if isinstance(value, type(one)) and value == one]
        return any(isinstance(one, bool) is isinstance(value, bool) for one in same)
    if get_origin(kind) is list:
        return isinstance(value, list | tuple) and all(fits(one, get_args(kind)[0]) for one in value)
    if isinstance(value, bool):
        return kind is bool
    taken: dict[Any, Any] = {int: numbers.Integral, float: numbers.Real, str: str | os.PathLike, type(None): type(None)}
    return kind in taken and isinstance(value, taken[kind])


def check_kinds(holder: Any) -> None:
    """Refuses values of a dataclass that are not of their fields' types; NumPy's numbers and paths become Python's.

    Fields are looked at whose types are made of numbers, truth values, lists of such and `Literal`; texts in classes of
    this package alone: what a library declares as a text it may take in other forms, too.

    Args:
        holder: The dataclass's instance.

    Raises:
        InputError: If there is such a value; the sentence says what the command line says of it.
    """
    cls: type = type(holder)
    for name, kinds in _all(cls).items():
        given = getattr(holder, name)
        if (plain := _plain(given, text=str in kinds)) is not given:
            # Also where the dataclass is frozen: it is being made.
            object.__setattr__(holder, name, plain)
    for name, kinds in _checked(cls).items():
        value = getattr(holder, name)
        if not any(fits(value, kind) for kind in kinds):
            shown = " ".join(repr(value).split())
            shown = shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}..."
            raise InputError(f"{name} is {shown}; it takes {expected(kinds)}")


def _plain(value: Any, *, text: bool) -> Any:
    """Returns a number of NumPy or `fractions` as Python's, which JSON takes, and a path as a text where one may stand;
    anything else as it is.
    """
    if isinstance(value, os.PathLike):
        return os.fspath(value) if text else value
    if type(value) in (bool, int, float, complex) or isinstance(value, enum.Enum):
        return value
    if type(value).__module__ == "numpy" and getattr(value, "ndim", 1) == 0:
        return value.item()
    if isinstance(value, numbers.Integral):
        return int(value)
    return float(value) if isinstance(value, numbers.Real) else value


@functools.cache
def _all(cls: type) -> dict[str, list[Any]]:
    """Returns the types of a dataclass's fields."""
    hints = get_type_hints(cls)
    return {one.name: members(hints[one.name]) for one in dataclasses.fields(cls) if one.init}


@functools.cache
def _checked(cls: type) -> dict[str, list[Any]]:
    """Returns the types of a dataclass's fields that are looked at."""
    own = {
        name
        for base in cls.__mro__
        if base.__module__.partition(".")[0] == __name__.partition(".")[0]
        for name in inspect.get_annotations(base)
    }
    return {name: kinds for name, kinds in _all(cls).items() if all(_known(kind, text=name in own) for kind in kinds)}


def _known(kind: Any, *, text: bool) -> bool:
    if get_origin(kind) is list:
        return all(_known(one, text=True) for one in get_args(kind))
    return get_origin(kind) is Literal or kind in (bool, int, float, type(None)) or (text and kind is str)


def _named(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return " or ".join(str(one) for one in get_args(kind))
    if get_origin(kind) is list:
        return f"a list of {_named(get_args(kind)[0]).removeprefix('a ')}s"
    names = {
        bool: "true or false",
        int: "a whole number",
        float: "a number",
        str: "a text",
        dict: "a mapping, {name: value}",
    }
    return names.get(kind, "none" if kind is type(None) else "a list" if kind is list else "a value of its own")
