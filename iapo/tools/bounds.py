"""Ranges of numbers and of lengths, as annotations say them, and numbers as they are written."""

from __future__ import annotations

import math
from dataclasses import dataclass

MOST_DIGITS = 1000
"""Most digits of a whole number that a tool takes, gives or has as a default: as many as the model is told."""

MOST_PIXELS = 89_478_485
"""Largest image that a tool may return: what Pillow opens without a warning."""

_TOO_LARGE = 10**MOST_DIGITS


def is_writable(value: float) -> bool:
    """Tells whether a number has few enough digits to be written; Python itself writes 4,300 at most."""
    return not isinstance(value, int) or abs(value) < _TOO_LARGE


def written(value: float) -> str:
    """Writes a number with all its digits, a whole one without a point."""
    return repr(value).removesuffix(".0")


@dataclass(frozen=True, slots=True)
class Bounds:
    """A range of numbers, or of lengths; None is no bound.

    Attributes:
        ge: Least value.
        gt: What it must be above.
        le: Largest value.
        lt: What it must be below.
    """

    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    lt: float | None = None

    @property
    def told(self) -> str:
        """Says the range, with a space before it; empty where there is none."""
        if self.ge is not None and self.le is not None and self.gt is None and self.lt is None:
            if self.ge == self.le:
                return f" of {written(self.ge)}"
            return f" from {written(self.ge)} to {written(self.le)}"
        words = (("of at least", self.ge), ("above", self.gt), ("of at most", self.le), ("below", self.lt))
        said = [f"{word} {written(bound)}" for word, bound in words if bound is not None]
        return f" {' and '.join(said)}" if said else ""

    def hold(self, value: float) -> bool:
        """Tells whether a value is inside."""
        return (
            (self.ge is None or value >= self.ge)
            and (self.gt is None or value > self.gt)
            and (self.le is None or value <= self.le)
            and (self.lt is None or value < self.lt)
        )

    def inside(self, *, whole: bool = False) -> float | None:
        """Returns some value inside, a plain one; None where there is none.

        Args:
            whole: Whether it must be a whole number.
        """
        candidates: list[float | None] = [1, 0]
        if whole:
            candidates += [
                None if self.ge is None else math.ceil(self.ge),
                None if self.gt is None else math.floor(self.gt) + 1,
                None if self.le is None else math.floor(self.le),
                None if self.lt is None else math.ceil(self.lt) - 1,
            ]
        else:
            low = max((one for one in (self.ge, self.gt) if one is not None), default=0)
            high = min((one for one in (self.le, self.lt) if one is not None), default=0)
            # Halves are added, since the sum of two large numbers may be none.
            candidates += [self.ge, self.le, low + 1, high - 1, low / 2 + high / 2]
        return next((one for one in candidates if one is not None and self.hold(one)), None)


ANY = Bounds()
"""No bounds."""
