"""What a doctor says: findings in sentences, and the numbers that they rest on."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from iapo.errors import InputError
from iapo.records import Axis, Box, Sample

Level = Literal["error", "warning"]

_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        level: `error` for what stops the training or makes it learn something else; `warning` for what may be meant.
        check: Check that found it: `settings`, `data`, `lengths`, `tools`, `teacher` or `step`.
        text: One sentence: what, where, and what to do.
    """

    level: Level
    check: str
    text: str


@dataclass(slots=True)
class Findings:
    """What was found so far.

    Attributes:
        found: The findings, in order.
        numbers: Numbers by check.
    """

    found: list[Finding] = field(default_factory=list)
    numbers: dict[str, Any] = field(default_factory=dict)

    @property
    def errors(self) -> int:
        """How many of them are errors."""
        return sum(one.level == "error" for one in self.found)

    def error(self, check: str, text: str) -> None:
        """Adds an error."""
        self.found.append(Finding("error", check, text))

    def warn(self, check: str, text: str) -> None:
        """Adds a warning."""
        self.found.append(Finding("warning", check, text))

    @contextmanager
    def refusals(self, check: str) -> Iterator[None]:
        """Takes what the training would refuse as a finding, and goes on behind the block."""
        try:
            yield
        except InputError as error:
            self.error(check, str(error))

    def to_json(self) -> dict[str, Any]:
        """Returns all of it, JSON-ready."""
        findings = [{"level": one.level, "check": one.check, "text": one.text} for one in self.found]
        return {"ok": not self.errors, "findings": findings, **_finite(self.numbers)}


def _finite(value: Any) -> Any:
    """Puts null for what is no number in JSON; a finding says so."""
    if isinstance(value, Mapping):
        return {key: _finite(one) for key, one in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def boxes_of(sample: Sample, axis: Axis) -> Mapping[str, Box]:
    """Returns a sample's boxes of one axis."""
    return sample.column_boxes if axis == "columns" else sample.row_boxes


def some(samples: Sequence[Sample]) -> str:
    """Names the first few of some samples."""
    names = ", ".join(repr(sample.id) for sample in samples[:_SHOWN])
    rest = len(samples) - _SHOWN
    return f"{names} and {rest} more" if rest > 0 else names


def share(part: int, whole: int) -> str:
    """Writes a number out of another."""
    return f"all {whole}" if part == whole else f"{part} of {whole}"
