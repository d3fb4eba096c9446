"""Columns of Arrow's extension types: a value is stored as another type, and read as that it is another value.

A month of pandas' periods, 2021-03, is stored as the whole number 614.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

_NAME = b"ARROW:extension:name"
_AS_STORED = ("arrow.json",)
"""Those that are what they are stored as: texts."""


def extended(schema: pa.Schema) -> dict[str, str]:
    """Returns the columns that have such a type, or one within, with the type's name."""
    found = {field.name: next(_types(field), None) for field in schema}
    return {column: name for column, name in found.items() if name is not None}


def unread(value: Any, name: str) -> Any:
    """Returns what stands in the place of a value of such a type: of a type by that name, which no field takes.

    Args:
        value: The value as it is stored.
        name: The type's name.
    """
    return None if value is None else type(name, (), {})()


def _types(field: pa.Field) -> Iterator[str]:
    kind = field.type
    name = kind.extension_name if isinstance(kind, pa.BaseExtensionType) else (field.metadata or {}).get(_NAME)
    if name is not None:
        name = name.decode("utf-8", "replace") if isinstance(name, bytes) else name
        if name not in _AS_STORED:
            yield name
        return
    if pa.types.is_map(kind):
        inner = [kind.key_field, kind.item_field]
    elif pa.types.is_struct(kind):
        inner = list(kind)
    else:
        inner = [kind.value_field] if hasattr(kind, "value_field") else []
    for one in inner:
        yield from _types(one)
