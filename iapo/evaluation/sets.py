"""The test sets of an evaluation as they are read: samples, and what became of the other rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from iapo.data.damage import Damage
from iapo.data.intake import Intake, flaw_records, take_in
from iapo.data.sources import SourceSettings
from iapo.records import Sample
from iapo.results import SetsEvaluation
from iapo.runs import RunFolder

_FILES = (("quarantine", "damaged"), ("flawed", "flawed"))


@dataclass(frozen=True, slots=True)
class ReadSet:
    """One test set.

    Attributes:
        samples: Its samples.
        damages: Its rows that give none.
        intake: Their counts.
    """

    samples: Sequence[Sample]
    damages: Sequence[Damage]
    intake: Intake


def read_sets(names: Sequence[str], source: SourceSettings, damage: str) -> dict[str, ReadSet]:
    """Reads test sets by name.

    Raises:
        InputError: As `iapo.data.intake.take_in`.
    """
    return {name: ReadSet(*take_in(name, source, damage)) for name in names}


def keep_losses(folder: RunFolder, sets: Mapping[str, ReadSet]) -> None:
    """Writes what was left out, and of which samples boxes were, into a run folder, each with its set's name."""
    damages = [{"set": name, **dataclasses.asdict(one)} for name, some in sets.items() for one in some.damages]
    flaws = [{"set": name, **one} for name, some in sets.items() for one in flaw_records(some.samples)]
    folder.write_losses("test", damages, flaws)


def loss_lines(evaluation: SetsEvaluation, where: str | None = None) -> Iterator[str]:
    """Yields a line for each test set that was not measured as a whole.

    Args:
        evaluation: The evaluation.
        where: The run folder that lists the rows, if it is to be said.
    """
    for name, one in evaluation.sets.items():
        if one.rows:
            intake = Intake(**one.rows)
            files = [f"test.{kind}.jsonl" for kind, some in _FILES if getattr(intake, some)]
            listed = f" ({where}: {', '.join(files)})" if where is not None and files else ""
            yield f"{name}: {intake}{listed}"
