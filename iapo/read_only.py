"""A mapping that nobody changes: a record's, which many read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class ReadOnly(dict[K, V]):
    """A dict that refuses to be changed with a `TypeError`; JSON takes it as any other, and its `copy` is a plain one.

    Args:
        found: What it holds.
    """

    def _refuse(self, *args: Any, **named: Any) -> NoReturn:
        raise TypeError("a record's map cannot be changed; change a copy of it")

    __setitem__ = __delitem__ = __ior__ = update = setdefault = pop = popitem = clear = _refuse

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (dict(self),)


def read_only(found: Mapping[K, V]) -> Mapping[K, V]:
    """Returns a map that cannot be changed; one that is so already as it is."""
    return found if isinstance(found, ReadOnly) else ReadOnly(found)


def read_only_maps(found: Mapping[K, Mapping[str, V]]) -> Mapping[K, Mapping[str, V]]:
    """Returns a map that cannot be changed, of such."""
    return read_only({name: read_only(inner) for name, inner in found.items()})
