"""Which kinds of values settings and arguments take: by their declared types, for a command line, YAML and Python."""

from __future__ import annotations

import collections.abc
import dataclasses
import enum
import functools
import inspect
import numbers
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Any, Literal, ParamSpec, TypeVar, Union, get_args, get_origin, get_type_hints

from iapo.errors import InputError
from iapo.read_only import ReadOnly

P = ParamSpec("P")
R = TypeVar("R")

_SHOWN = 100
"""Letters of a value that a sentence shows at most."""

_LISTS = (list, tuple, collections.abc.Sequence, collections.abc.Iterable)
"""Types whose values a list stands for."""

_MAPPINGS = (dict, collections.abc.Mapping)


def members(kind: Any) -> list[Any]:
    """Returns the types of a union, or the type alone."""
    if get_origin(kind) in (Union, UnionType):
        return [member for one in get_args(kind) for member in members(one)]
    return [kind]


def order(kind: Any) -> int:
    """Sorts narrow types before wide ones: a text fits nearly all."""
    places = {bool: 0, int: 1, float: 2, dict: 3, str: 6, Any: 7}
    return places.get(kind, 5 if _origin(kind) in _LISTS else 4)


def expected(kinds: list[Any]) -> str:
    """Says what a setting of some types takes, as a sentence goes on after `it takes`."""
    return " or ".join(dict.fromkeys(_named(one) for one in sorted(kinds, key=order)))


def fits(value: Any, kind: Any) -> bool:
    """Tells whether a value of Python is of a type.

    Args:
        value: The value; a path is a text, and NumPy's numbers are numbers. What an iterator gives is not looked at.
        kind: Any annotation; one of which no value tells, such as a type variable or a protocol, fits all.
    """
    origin = _origin(kind)
    if origin in (Any, object):
        return True
    if origin is Literal:
        # An enumeration of texts, as libraries have them, is as good as the text.
        same = [one for one in get_args(kind) if isinstance(value, type(one)) and value == one]
        return any(isinstance(one, bool) is isinstance(value, bool) for one in same)
    if origin in _LISTS:
        return _fits_list(value, kind, origin)
    if origin in _MAPPINGS:
        return isinstance(value, Mapping) and (
            not (inner := get_args(kind))
            or all(_fits_one(key, inner[0]) and _fits_one(one, inner[1]) for key, one in value.items())
        )
    if isinstance(value, bool):
        return origin is bool
    taken: dict[Any, Any] = {
        **{int: numbers.Integral, float: numbers.Real, type(None): type(None)},
        **{str: str | os.PathLike, Path: os.PathLike},
    }
    if origin in taken:
        return isinstance(value, taken[origin])
    if origin is collections.abc.Callable:
        return callable(value)
    return not inspect.isclass(origin) or getattr(origin, "_is_protocol", False) or isinstance(value, origin)


def check_kinds(holder: Any, whose: str = "") -> None:
    """Refuses values of a dataclass that are not of their fields' types; NumPy's numbers and arrays, and paths where a
    text is wanted, become Python's, also within lists and mappings, and a list becomes a tuple where one is declared.

    Of a library's fields those are looked at alone whose types are made of numbers, truth values, lists of such and
    `Literal`: what a library declares as a text it may take in other forms, too.

    Args:
        holder: The dataclass's instance.
        whose: Words before a field's name, for example `the call's `.

    Raises:
        InputError: If there is such a value; the sentence says what the command line says of it.
    """
    cls: type = type(holder)
    checked = _checked(cls)
    for name, kinds in _all(cls).items():
        given = getattr(holder, name)
        if _exact(given, kinds):
            continue
        if (plain := _plain(given, kinds)) is not given:
            # Also where the dataclass is frozen: it is being made.
            object.__setattr__(holder, name, plain)
        if name in checked:
            check_kind(f"{whose}{name}", plain, kinds)


def check_kind(name: str, value: Any, kinds: Sequence[Any]) -> None:
    """Refuses a value that is of none of some types.

    Args:
        name: The value's name, as the sentence begins.
        value: The value.
        kinds: The types.

    Raises:
        InputError: If so.
    """
    if not any(fits(value, kind) for kind in kinds):
        raise InputError(f"{name} is {_shown(value)}; it takes {expected(list(kinds))}")


def checks_kinds(function: Callable[P, R]) -> Callable[P, R]:
    """Has a function refuse arguments that are not of their annotated types, as `check_kinds` does for settings.

    Args:
        function: The function, whose annotations can be resolved where it is defined.

    Returns:
        The function, which raises `InputError` at the call, also where it is a generator; of what an iterator gives,
        when it is given.
    """
    signature = inspect.signature(function)

    @functools.wraps(function)
    def call(*args: P.args, **given: P.kwargs) -> R:
        try:
            bound = signature.bind(*args, **given)
        except TypeError:
            # Too few or too many: Python's own words.
            return function(*args, **given)
        for name, kinds in _arguments(function).items():
            if name in bound.arguments and not _exact(bound.arguments[name], kinds):
                plain = bound.arguments[name] = _plain(bound.arguments[name], kinds)
                whose = f"{function.__qualname__.removesuffix('.__init__')}: {name}"
                check_kind(whose, plain, kinds)
                if isinstance(plain, Iterator) and (inner := _items(kinds)):
                    bound.arguments[name] = _each_checked(whose, plain, inner)
        return function(*bound.args, **bound.kwargs)

    return call


def _items(kinds: Sequence[Any]) -> list[Any]:
    """Returns the types of what an argument of some types gives where it is an iterator; none where nothing tells."""
    found = [_parts(kind)[1] for kind in kinds if _origin(kind) in _LISTS[2:]]
    return list(found[0][0]) if len(found) == 1 and found[0] else []


def _each_checked(whose: str, items: Iterator[Any], kinds: list[Any]) -> Iterator[Any]:
    for place, one in enumerate(items, 1):
        if not _exact(one, kinds):
            check_kind(f"{whose}: item {place}", one, kinds)
        yield one


def _exact(value: Any, kinds: Sequence[Any]) -> bool:
    """Tells at little cost of most values that are as they should be that they are: records are made all the time."""
    cls = type(value)
    if cls not in (tuple, list, dict, ReadOnly):
        return cls in kinds or (Any in kinds and cls in _EXACT)
    for kind in kinds:
        origin, inner = _parts(kind)
        if cls in (tuple, list) and origin in (cls, *_LISTS[2:]) and len(inner) == 1:
            return _all_exact(value, inner[0])
        if cls in (dict, ReadOnly) and origin in _MAPPINGS and len(inner) == 2:
            return _all_exact(value, inner[0]) and _all_exact(value.values(), inner[1])
    return False


def _all_exact(values: Iterable[Any], kinds: Sequence[Any]) -> bool:
    return (_EXACT.issuperset(found := set(map(type, values))) and found.issubset(kinds)) or all(
        _exact(one, kinds) for one in values
    )


_EXACT = frozenset((bool, int, float, str, type(None)))


@functools.cache
def _parts(kind: Any) -> tuple[Any, tuple[tuple[Any, ...], ...]]:
    """Returns what a type is of, as `tuple`, and the types of what it holds; those of a tuple of any length once."""
    inner = get_args(kind)
    several = inner[:-1] if inner and inner[-1] is Ellipsis else () if get_origin(kind) is tuple else inner
    return _origin(kind), tuple(tuple(members(one)) for one in several)


def _origin(kind: Any) -> Any:
    return get_origin(kind) or kind


def _fits_one(value: Any, kind: Any) -> bool:
    return any(fits(value, one) for one in members(kind))


def _fits_list(value: Any, kind: Any, origin: Any) -> bool:
    inner = get_args(kind)
    if not isinstance(value, list | tuple):
        # Letters, bytes and keys are no list; what has no order may be gone through, but is no sequence.
        other: Any = origin if origin not in (list, tuple) else ()
        return isinstance(value, other) and not isinstance(value, str | bytes | bytearray | Mapping)
    if origin is tuple and inner and inner[-1] is not Ellipsis:
        return len(value) == len(inner) and all(map(_fits_one, value, inner))
    return not inner or all(_fits_one(one, inner[0]) for one in value)


def plain(value: Any) -> Any:
    """Returns NumPy's numbers, truth values and arrays, and torch's on a CPU, as Python's, within lists and mappings,
    too; anything else as it is.
    """
    return value.tolist() if type(value).__module__ == "torch" and hasattr(value, "tolist") else _plain(value, (Any,))


def _plain(value: Any, kinds: Sequence[Any]) -> Any:
    """Returns numbers of NumPy or `fractions` as Python's, which JSON takes, and a path as a text where one may stand,
    within lists and mappings, too; anything else as it is.
    """
    if type(value) in (bool, int, float, complex) or isinstance(value, enum.Enum):
        return value
    if isinstance(value, str):
        # An empty text would be the working directory.
        return Path(value) if value and Path in kinds and str not in kinds else value
    if isinstance(value, os.PathLike):
        return os.fspath(value) if str in kinds else value
    if type(value).__module__ == "numpy" and hasattr(value, "tolist"):
        if getattr(value, "ndim", 1) == 0:
            return value.item()
        if not any(_origin(one) in (*_LISTS, Any) for one in kinds):
            return value
        value = value.tolist()
    if isinstance(value, list | tuple):
        return _plain_list(value, next((one for one in kinds if _origin(one) in _LISTS), Any))
    if isinstance(value, Mapping) and not isinstance(value, ReadOnly):
        if any(_origin(one) is MutableMapping for one in kinds):
            # Its giver goes on writing to it.
            return value
        kind = next((one for one in kinds if _origin(one) in _MAPPINGS), Any)
        inner = members((get_args(kind) or (Any, Any))[1])
        found = {key: _plain(one, inner) for key, one in value.items()}
        return found if any(found[key] is not one for key, one in value.items()) else value
    if isinstance(value, numbers.Integral):
        return int(value)
    return float(value) if isinstance(value, numbers.Real) else value


def _plain_list(value: Any, kind: Any) -> Any:
    inner, origin = get_args(kind) or (Any,), _origin(kind)
    kinds = inner if origin is tuple and inner[-1] is not Ellipsis else (inner[0],) * len(value)
    if len(kinds) != len(value):
        return value
    found = [_plain(one, members(each)) for one, each in zip(value, kinds, strict=True)]
    wanted = origin if origin in (list, tuple) else type(value)
    same = wanted is type(value) and all(one is before for one, before in zip(found, value, strict=True))
    # A named tuple keeps its type where nothing is declared.
    return value if same or wanted not in (list, tuple) else wanted(found)


@functools.cache
def _arguments(function: Any) -> dict[str, list[Any]]:
    """Returns the types of a function's arguments that have a name each."""
    hints = get_type_hints(function)
    several = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return {
        name: members(hints[name])
        for name, one in inspect.signature(function).parameters.items()
        if name in hints and one.kind not in several
    }


@functools.cache
def _all(cls: type) -> dict[str, list[Any]]:
    """Returns the types of a dataclass's fields."""
    hints = _hints(cls)
    return {one.name: members(hints[one.name]) for one in dataclasses.fields(cls) if one.init}


_UNREADABLE = (NameError, AttributeError, TypeError, SyntaxError)
"""What an annotation raises that names what is not there."""


def _hints(cls: type) -> dict[str, Any]:
    """Returns the types of a class's fields; `Any` of those of a user's own class that cannot be resolved here, as
    names that are imported for type checkers alone, and types that a function knows.
    """
    try:
        return get_type_hints(cls)
    except _UNREADABLE:
        found: dict[str, Any] = {}
        for base in reversed(cls.__mro__):
            try:
                found |= inspect.get_annotations(base, eval_str=True)
            except _UNREADABLE:
                found |= dict.fromkeys(inspect.get_annotations(base), Any)
        return found


@functools.cache
def _checked(cls: type) -> frozenset[str]:
    """Returns the names of a dataclass's fields that are looked at."""
    own = {
        name
        for base in cls.__mro__
        if base.__module__.partition(".")[0] == __name__.partition(".")[0]
        for name in inspect.get_annotations(base)
    }
    return frozenset(name for name, kinds in _all(cls).items() if name in own or all(map(_known, kinds)))


def _known(kind: Any, text: bool = False) -> bool:
    if get_origin(kind) is list:
        return all(_known(one, text=True) for one in get_args(kind))
    return get_origin(kind) is Literal or kind in (bool, int, float, type(None)) or (text and kind is str)


def _shown(value: Any) -> str:
    if isinstance(value, str) and "://" in value and "@" in value:
        return "an address with a user"
    shown = " ".join(repr(value).split())
    return shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}..."


def _named(kind: Any) -> str:
    origin, inner = _origin(kind), get_args(kind)
    if origin is Literal:
        return " or ".join(str(one) for one in inner)
    if origin in _LISTS:
        if not inner or inner[0] is Any:
            return "a list"
        if origin is tuple and inner[-1] is not Ellipsis:
            return f"a list of {len(inner)}: {', '.join(map(_named, inner))}"
        return f"a list of {_several(inner[0])}"
    names: dict[Any, str] = {
        **{bool: "true or false", int: "a whole number", float: "a number", str: "a text", Path: "a path"},
        **dict.fromkeys(_MAPPINGS, "a mapping, {name: value}"),
        **{type(None): "none", collections.abc.Callable: "a function", os.PathLike: "a path"},
    }
    if origin in names:
        return names[origin]
    return f"{origin.__module__}.{origin.__qualname__}" if inspect.isclass(origin) else "a value of its own"


def _several(kind: Any) -> str:
    """Names some types in the plural, as a list holds them."""
    names = [_named(one) for one in sorted(members(kind), key=order)]
    return " or ".join(re.sub(r"^a (.+?)(?= of |,|$)", r"\1s", one) for one in names)
