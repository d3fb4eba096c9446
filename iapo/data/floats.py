"""Floats of 32 and 16 bits as they were written: 0.1, where the same float of 64 bits is 0.10000000149011612."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa


def short_floats(schema: pa.Schema) -> dict[str, pa.DataType]:
    """Returns the columns that hold floats of 32 or 16 bits, or lists, maps or structs of them, with their types."""
    return {field.name: field.type for field in schema if _is_short(field.type)}


def shortest(value: Any, kind: pa.DataType) -> Any:
    """Returns the number with the fewest digits that is the same float; None where there is none.

    Args:
        value: A value of the column, as Python has it.
        kind: Type of the column, one of `short_floats`.
    """
    if value is None or not _is_short(kind):
        return value
    if pa.types.is_map(kind):
        return [(shortest(key, kind.key_type), shortest(one, kind.item_type)) for key, one in value]
    if pa.types.is_struct(kind):
        kinds = {field.name: field.type for field in kind}
        return {name: shortest(one, kinds[name]) for name, one in value.items()}
    if isinstance(value, list):
        return [shortest(one, kind.value_type) for one in value]
    return float(str((np.float16 if pa.types.is_float16(kind) else np.float32)(value)))


def _is_short(kind: pa.DataType) -> bool:
    if pa.types.is_map(kind):
        return _is_short(kind.key_type) or _is_short(kind.item_type)
    if pa.types.is_struct(kind):
        return any(_is_short(field.type) for field in kind)
    return pa.types.is_float16(kind) or pa.types.is_float32(kind) or (_is_list(kind) and _is_short(kind.value_type))


def _is_list(kind: pa.DataType) -> bool:
    return any(is_one(kind) for is_one in (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list))
