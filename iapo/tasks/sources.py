"""Where a test set's name becomes samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from iapo.records import Sample
from iapo.tasks.families import BY_NAME, FAMILIES
from iapo.tasks.synthetic import SMALLEST, generate


@dataclass(frozen=True, slots=True)
class SourceSettings:
    """Which samples of a source; written down with a result.

    Attributes:
        count: How many.
        seed: Of synthetic pictures.
        split: `train`, `validation` or `test`.
        size: Longer side of synthetic pictures in pixels.
        question_types: What is asked about synthetic pictures; empty: all that a family has.
    """

    count: int = 100
    seed: int = 0
    split: str = "test"
    size: int = SMALLEST
    question_types: Sequence[str] = field(default=())


def read_source(name: str, settings: SourceSettings) -> list[Sample]:
    """The samples of a source.

    Args:
        name: A family of synthetic pictures (`iapo.tasks.families`), such as `vbar`.
        settings: Which of its samples.

    Raises:
        ValueError: If there is no such source, or it has not what the settings ask for.
    """
    if settings.count < 1:
        raise ValueError(f"{settings.count} samples of {name!r} are asked for; give at least 1")
    if name in BY_NAME:
        return list(
            generate(
                name,
                settings.count,
                seed=settings.seed,
                size=settings.size,
                question_types=settings.question_types or None,
                split=settings.split,
            )
        )
    raise ValueError(f"unknown test set {name!r}; use one of {', '.join(FAMILIES)}")
