"""What rewards remember from batch to batch, as a checkpoint keeps it: in a file that is read without running anything,
from which each value comes back as what it was.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from iapo.errors import InputError
from iapo.rewards.columns import Column

_PLAIN = (type(None), bool, int, float, str)
_CHANGING = (list, set, dict, OrderedDict, Counter, deque, np.ndarray, Tensor)
_LISTS: dict[str, Callable[[list[Any]], Any]] = {one.__name__: one for one in (list, tuple, set, frozenset)}
_MAPPINGS: dict[str, Callable[[Iterable[Any]], Any]] = {"dict": dict, "OrderedDict": OrderedDict}


def keep(columns: Iterable[Column]) -> dict[str, Any]:
    """Returns what columns remember by their names, as plain values and tensors.

    Args:
        columns: Components of the reward.

    Raises:
        InputError: If one remembers what no file can keep.
    """
    return {column.name: _rows(column) for column in columns if column.memory is not None}


def load(kept: Mapping[str, Any], columns: Iterable[Column]) -> None:
    """Has columns remember what `keep` returned; one that is not named there stays as it is."""
    for column in columns:
        if column.memory is not None and column.name in kept:
            rows = [(_made(key), _made(value)) for key, value in kept[column.name]]
            column.memory.clear()
            # One by one: `update` of a counter counts.
            for key, value in rows:
                column.memory[key] = value


def remembering(column: Column) -> Callable[..., list[float]]:
    """Returns a component's function, which refuses a memory that no checkpoint can keep behind the batch that made it.

    Args:
        column: The component.
    """
    if column.memory is None:
        return column.function

    def function(*args: Any, **columns: Any) -> list[float]:
        values = column.function(*args, **columns)
        _rows(column)
        return values

    return function


def _rows(column: Column) -> list[tuple[Any, Any]]:
    assert column.memory is not None
    seen: set[int] = set()
    try:
        return [(_told(key, seen), _told(value, seen)) for key, value in column.memory.items()]
    except (TypeError, RecursionError) as error:
        raise InputError(
            f"the memory of component {column.name!r} holds {_words(error)}, which a checkpoint cannot keep; give it "
            "numbers, texts, arrays, tensors on the CPU, and lists, tuples, sets and dicts of these"
        ) from error


def _words(error: Exception) -> str:
    return "values too deep within one another" if isinstance(error, RecursionError) else str(error)


def _told(value: Any, seen: set[int]) -> Any:
    """Returns a value in the form of a file: a plain one as it is, any other as a name of its kind and what it holds.

    Args:
        value: The value.
        seen: Identities of what can be changed and was told of; in two places it would be two things afterwards.

    Raises:
        TypeError: If it cannot be one; what of it, in words.
    """
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind in _CHANGING:
        if id(value) in seen:
            raise TypeError(f"one {kind.__name__} in two places")
        seen.add(id(value))
    if kind.__name__ in _LISTS and kind is _LISTS[kind.__name__]:
        return kind.__name__, [_told(one, seen) for one in value]
    if kind in (dict, OrderedDict, Counter):
        return kind.__name__, [(_told(key, seen), _told(inner, seen)) for key, inner in value.items()]
    if kind is deque:
        return "deque", [_told(one, seen) for one in value], value.maxlen
    if kind is Tensor and value.device.type == "cpu" and value.layout is torch.strided and not value.requires_grad:
        return "tensor", value
    if kind is np.str_:
        # Equal to the text, and counted as one.
        return str(value)
    if kind is np.ndarray or isinstance(value, np.generic):
        return _told_array(value)
    raise TypeError(f"a value of type {kind.__name__}")


def _told_array(value: Any) -> Any:
    name = "array" if type(value) is np.ndarray else "number"
    try:
        # PyTorch knows the machine's order of bytes alone.
        return name, torch.from_numpy(np.array(value, dtype=value.dtype.newbyteorder("="))), value.dtype.str
    except TypeError:
        raise TypeError(f"values of NumPy's type {value.dtype}") from None


def _made(told: Any) -> Any:
    """Returns the value that `_told` told of."""
    if type(told) is not tuple:
        return told
    kind, held, *more = told
    if kind in _LISTS:
        return _LISTS[kind]([_made(one) for one in held])
    if kind == "deque":
        return deque([_made(one) for one in held], more[0])
    if kind == "tensor":
        return held
    if kind in ("array", "number"):
        array = held.numpy().astype(more[0])
        return array if kind == "array" else array[()]
    rows = [(_made(key), _made(inner)) for key, inner in held]
    return Counter(dict(rows)) if kind == "Counter" else _MAPPINGS[kind](rows)
