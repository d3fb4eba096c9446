"""Parses one setting's value by its declared type, from YAML or from the words of a command line."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from iapo.bounds import read_number, split_list
from iapo.errors import InputError
from iapo.kinds import expected, members, order
from iapo.yaml_files import parse_yaml

_TRUE, _FALSE = ("true", "yes", "on", "t", "y", "1"), ("false", "no", "off", "f", "n", "0")
_NONE = ("none", "null", "~")
_OWN_NONE = frozenset({"report_to", "tools"})
"""Settings that know a value `none` of their own."""

_OR_TRUE = frozenset({"resume_from_checkpoint"})
"""Texts that may be `true` or `false`, too, which YAML gives as truth values."""

_POWER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+", re.ASCII)
"""Numbers as people and JSON write them, of which YAML 1.1 takes some for texts."""

_REFUSED = object()


def parse_value(name: str, value: Any, kind: Any) -> Any:
    """Parses a value.

    Args:
        name: The setting, for the message.
        value: Value as YAML gave it; or of a command line a text, a list of texts where there are several, or True
            where the setting stands alone.
        kind: Its type, as `iapo.training.declared.Setting` has it.

    Raises:
        InputError: If the value is of another type; it says which setting, what value, and what it takes.
    """
    kinds = members(kind)
    if isinstance(value, bool) and name in _OR_TRUE:
        value = str(value).lower()
    if str in kinds:
        # An enumeration of its library's, by name.
        kinds = [one for one in kinds if one is not Any]
    if value is None or (isinstance(value, str) and value.strip().lower() in _NONE and name not in _OWN_NONE):
        if type(None) in kinds or (Any in kinds and value is None):
            # To Transformers' trainer a null is no list of trackers.
            return "none" if name == "report_to" else None
        if value is None:
            raise InputError(f"{name} is empty (null); it takes {expected(kinds)}")
    if str in kinds and isinstance(value, str) and "," not in value and not value.lstrip().startswith("["):
        # Where a text alone fits as well, a list shows by its commas or its bracket.
        kinds = [one for one in kinds if get_origin(one) is not list and one is not list]
    if {dict, str} <= set(kinds) and not (isinstance(value, str) and Path(value).is_file()):
        # The text that such a setting takes is a file with the mapping; a mapping on one line becomes one here.
        kinds = [one for one in kinds if one is not str]
    for one in sorted(kinds, key=order):
        found = _parse(name, value, one)
        if found is not _REFUSED:
            return found
    # A flag that stands alone is true.
    shown = "true or without a value" if value is True else repr(value)
    hint = "; put a word like yes or no in quotes" if isinstance(value, bool) and str in kinds else ""
    raise InputError(f"{name} is {shown}; it takes {expected(kinds)}{hint}")


def _parse(name: str, value: Any, kind: Any) -> Any:
    if kind is Any:
        return value
    if get_origin(kind) is Literal:
        return next((one for one in get_args(kind) if one == value and type(one) is type(value)), _REFUSED)
    if get_origin(kind) is list or kind is list:
        return _parse_list(name, value, (get_args(kind) or (Any,))[0])
    if kind is dict:
        return _parse_dict(value)
    if isinstance(value, str):
        return _parse_text(value, kind)
    return _parse_plain(value, kind)


def _parse_plain(value: Any, kind: Any) -> Any:
    if kind is bool:
        return value if isinstance(value, bool) else _REFUSED
    if isinstance(value, bool):
        return _REFUSED
    if kind is int:
        return value if isinstance(value, int) else _REFUSED
    if kind is float:
        try:
            return float(value) if isinstance(value, int | float) and not math.isnan(value) else _REFUSED
        except OverflowError:
            # A whole number of hundreds of digits.
            return _REFUSED
    # A run's name may be a number.
    return str(value) if kind is str and isinstance(value, int | float) else _REFUSED


def _parse_text(text: str, kind: Any) -> Any:
    if kind is str:
        return text
    if kind is bool:
        lowered = text.strip().lower()
        return True if lowered in _TRUE else False if lowered in _FALSE else _REFUSED
    if kind in (int, float):
        number = read_number(text, kind)
        return _REFUSED if number is None or math.isnan(number) else number
    return _REFUSED


def _parse_list(name: str, value: Any, inner: Any) -> Any:
    if isinstance(value, str):
        value = _flow(value) if value.lstrip().startswith("[") else list(split_list(name, value))
    if not isinstance(value, list):
        return _REFUSED
    return [parse_value(name, one, inner) for one in value]


def _parse_dict(value: Any) -> Any:
    if isinstance(value, str) and value.lstrip().startswith("{"):
        value = _flow(value)
    return _with_numbers(value) if isinstance(value, Mapping) else _REFUSED


def _with_numbers(value: Any) -> Any:
    """Returns what a mapping holds, with texts such as `1e-5` as numbers, which YAML reads as such with a dot alone."""
    if isinstance(value, Mapping):
        return {key: _with_numbers(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_with_numbers(one) for one in value]
    return float(value) if isinstance(value, str) and _POWER.fullmatch(value) else value


def _flow(text: str) -> Any:
    """Returns what a list or a mapping on one line holds, in JSON or in YAML; nothing that fits where it is neither."""
    try:
        return parse_yaml(text, "the value")
    except InputError:
        return _REFUSED
