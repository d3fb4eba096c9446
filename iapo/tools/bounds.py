"""Ranges of numbers and of lengths, as annotations say them."""

from __future__ import annotations

from dataclasses import dataclass


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
                return f" of {self.ge:g}"
            return f" from {self.ge:g} to {self.le:g}"
        words = (("of at least", self.ge), ("above", self.gt), ("of at most", self.le), ("below", self.lt))
        said = [f"{word} {bound:g}" for word, bound in words if bound is not None]
        return f" {' and '.join(said)}" if said else ""

    def hold(self, value: float) -> bool:
        """Tells whether a value is inside."""
        return (
            (self.ge is None or value >= self.ge)
            and (self.gt is None or value > self.gt)
            and (self.le is None or value <= self.le)
            and (self.lt is None or value < self.lt)
        )

    def inside(self) -> float:
        """Returns some value inside, a plain one."""
        for value in (1, 0, self.ge, self.le, self.gt and self.gt + 1, self.lt and self.lt - 1):
            if value is not None and self.hold(value):
                return value
        return ((self.gt or self.ge or 0) + (self.lt or self.le or 0)) / 2


ANY = Bounds()
"""No bounds."""
