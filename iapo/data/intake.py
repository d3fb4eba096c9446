"""How many of a source's rows are used, whole or with a flaw, and how many are not: said, and kept."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

from iapo.data.benchmarks import BENCHMARKS
from iapo.data.damage import Damage, quarantine, strict
from iapo.data.sources import SourceSettings, open_source, read_source
from iapo.records import Sample

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Intake:
    """What became of the rows that were read.

    Attributes:
        samples: Number of samples.
        expected: Number that there should be: of a whole test set of the paper its size, else all rows that were read.
        damaged: Rows that were left out.
        flawed: Samples with a flaw: a box was left out or mended, or no answer can be right.
    """

    samples: int
    expected: int
    damaged: int = 0
    flawed: int = 0

    @classmethod
    def of(cls, samples: Sequence[Sample], damages: Sequence[Damage] = (), expected: int | None = None) -> Intake:
        """Counts what was read."""
        flawed = sum(bool(sample.flaws) for sample in samples)
        return cls(len(samples), expected or len(samples) + len(damages), len(damages), flawed)

    @property
    def whole(self) -> bool:
        """Whether nothing is to be said."""
        return self.samples == self.expected and not self.damaged and not self.flawed

    def __str__(self) -> str:
        parts = [f"{self.samples:,} of {self.expected:,} questions"]
        if self.damaged:
            parts.append(f"{self.damaged:,} damaged rows are left out")
        if self.flawed:
            parts.append(f"{self.flawed:,} with a flaw")
        return "; ".join(parts)

    def to_json(self) -> dict[str, int]:
        """Returns the counts; nothing where nothing is to be said."""
        return {} if self.whole else dataclasses.asdict(self)


def take_in(name: str, settings: SourceSettings, damage: str) -> tuple[list[Sample], list[Damage], Intake]:
    """Reads a source and counts.

    Args:
        name: Name as in `iapo.data.sources.open_source`.
        settings: Settings of its samples.
        damage: `strict` refuses the first damaged row, and a test set of the paper that has not its size;
            `quarantine` leaves such rows out and accepts what is there.

    Returns:
        The samples, the damaged rows, and the counts.

    Raises:
        InputError: As `iapo.data.sources.read_source`.
    """
    damages: list[Damage] = []
    samples = read_source(name, settings, damages.append if damage == "quarantine" else None)
    return samples, damages, Intake.of(samples, damages, _expected(name, settings, len(samples)))


def take_in_divisible(names: Sequence[str], settings: SourceSettings, damage: str) -> list[Sample]:
    """Reads the first samples of some sources that have one right axis, `settings.count` in all; a warning says which
    rows are not used as they are.

    Args:
        names: Names as in `iapo.data.sources.open_source`.
        settings: Settings of the samples.
        damage: As in `take_in`.

    Raises:
        InputError: If there is no such source, or a row is damaged and may not be left out.
    """
    tolerant = damage == "quarantine"
    damages: list[Damage] = []
    rows = chain.from_iterable(open_source(name, settings, any_size=tolerant) for name in names)
    samples = quarantine(rows, damages.append) if tolerant else strict(rows)
    found = list(islice((one for one in samples if one.axis is not None), settings.count))
    if not (intake := Intake.of(found, damages)).whole:
        logger.warning("%s: %s", ", ".join(names), intake)
    return found


def _expected(name: str, settings: SourceSettings, count: int) -> int | None:
    """Returns the paper's size of a test set that was read to its end."""
    before, at, _ = name.partition("@")
    if not at or before not in BENCHMARKS or (settings.count and count == settings.count):
        return None
    size = BENCHMARKS[before].size
    return min(size, settings.count) if settings.count else size


def flaw_records(samples: Sequence[Sample]) -> list[dict[str, Any]]:
    """Returns what a run folder keeps of the samples with flaws: source, id, and the flaws."""
    return [{"source": one.source, "id": one.id, "flaws": list(one.flaws)} for one in samples if one.flaws]
