"""Answers as data have them, and the texts that they are graded as."""

from __future__ import annotations

import datetime
import math
import unicodedata
from decimal import Decimal
from typing import Any

_UNSEEN = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
"""Letters, marks and symbols that nothing is drawn for."""


def is_blank(text: str) -> bool:
    """Tells whether nothing of a text is seen: it has white space and invisible characters alone."""
    return all(letter.isspace() or letter in _UNSEEN or unicodedata.category(letter) in ("Cc", "Cf") for letter in text)


def answer_text(value: Any) -> str | None:
    """Writes an answer as a text: a text as it is, a truth value, a finite number, a date or a time.

    Returns:
        The text; None where the value is something else.
    """
    if isinstance(value, str):
        return value
    if type(value).__module__ == "numpy" and getattr(value, "ndim", 1) == 0:
        # As pandas' columns give them; a float in half precision has its shortest text.
        value = Decimal(str(value)) if value.dtype.kind == "f" else value.item()
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (float, Decimal)) and not math.isfinite(value):
        return None
    if isinstance(value, (int, float, Decimal)):
        return _number_text(value)
    return _time_text(value) if isinstance(value, (datetime.date, datetime.time)) else None


def _number_text(value: int | float | Decimal) -> str:
    """Writes a number without zeros behind the point: the column's type wrote them and nobody who answered."""
    if isinstance(value, Decimal):
        text = f"{value:f}"
        text = text.rstrip("0").rstrip(".") if "." in text else text
        return "0" if text == "-0" else text
    # From there on Python writes an exponent, and not every whole number is one of floats.
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e16:
        return str(int(value))
    return str(value)


def _time_text(value: datetime.date | datetime.time) -> str:
    """Writes a date as ISO 8601 has it; of a time stamp at midnight, as a column of dates may have them, the date."""
    if isinstance(value, datetime.datetime) and value.time() == datetime.time():
        value = value.date()
    return value.isoformat()
