"""How the report's tables write numbers down, with their intervals."""

from __future__ import annotations

import math
from typing import Any

from iapo.estimates import Estimate

MINUS = "\u2212"


def finite(value: Any) -> float | None:
    """Returns a number as a float; None for what is none (a truth value is none), not finite, or more than a float
    holds.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if math.isfinite(found) else None


def cell(estimate: Estimate | None, unit: str = "share", *, signed: bool = False) -> dict[str, str]:
    """Returns a table's cell: an estimate in percent or as it is.

    Args:
        estimate: The estimate; None, or with a value of None, is a dash.
        unit: `share` is written in percent with one digit, everything else with three.
        signed: Whether a plus is written.

    Returns:
        `value` and `interval`, which is empty where there is none.
    """
    if estimate is None or estimate.value is None:
        return {"value": "\u2013", "interval": ""}
    ends = [number(end, unit, signed=signed) for end in (estimate.low, estimate.high) if end is not None]
    interval = f"[{', '.join(ends)}]" if len(ends) == 2 else ""
    return {"value": number(estimate.value, unit, signed=signed), "interval": interval}


def number(value: float, unit: str = "share", *, signed: bool = False) -> str:
    """Writes one number; a rounded nothing has no sign."""
    text = f"{100 * value:.1f}" if unit == "share" else f"{value:.3f}"
    if not text.strip("-0."):
        return text.lstrip("-")
    return ("+" if signed and value > 0 else "") + text.replace("-", MINUS)


def setting(value: Any) -> str:
    """Writes a setting of a configuration."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(setting, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)
