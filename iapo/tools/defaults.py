"""Whether a default of a free tool's parameter is a value of the parameter's own kind."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image

from iapo.tools.bounds import is_writable
from iapo.tools.kinds import (
    BoxesKind,
    BoxKind,
    ChoiceKind,
    FlagKind,
    ImageKind,
    Kind,
    ListKind,
    NameKind,
    NumberKind,
    PointKind,
    TextKind,
)


def admits(kind: Kind, value: Any) -> bool:
    """Tells whether a kind has a Python value; the tool's function is given its default as it is, without a check.

    Args:
        kind: Kind of the parameter.
        value: The default, not None.
    """
    if isinstance(kind, NumberKind):
        fits = _is_whole(value) if kind.whole else _is_number(value)
        return fits and kind.bounds.hold(value)
    if isinstance(kind, TextKind):
        return isinstance(value, str) and kind.bounds.hold(len(value))
    if isinstance(kind, FlagKind):
        return isinstance(value, bool)
    if isinstance(kind, ChoiceKind):
        # `True == 1`.
        return any(type(one) is type(value) and one == value for one in kind.values)
    if isinstance(kind, ListKind):
        several = isinstance(value, Sequence) and not isinstance(value, str)
        return several and kind.bounds.hold(len(value)) and all(admits(kind.of, one) for one in value)
    if isinstance(kind, BoxKind | PointKind):
        count = 4 if isinstance(kind, BoxKind) else 2
        several = isinstance(value, list | tuple) and len(value) == count and all(map(_is_number, value))
        return several and (count == 2 or _is_box(value))
    return next((isinstance(value, plain) for one, plain in _PLAIN if isinstance(kind, one)), True)


_PLAIN = ((NameKind, str), (BoxesKind, Mapping), (ImageKind, Image.Image))


def _is_box(value: Sequence[float]) -> bool:
    """Tells whether four numbers are a box of some image: it is not empty, and not left of or above all of them."""
    x1, y1, x2, y2 = value
    return x1 < x2 and y1 < y2 and min(x2, y2) > 0


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and is_writable(value)


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        # A whole number that no float is.
        return False
