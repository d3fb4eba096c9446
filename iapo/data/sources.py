"""Where a test set's name becomes samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice

from iapo.data.benchmarks import load_benchmark
from iapo.data.loading import load, strict
from iapo.data.synthetic import SMALLEST, generate
from iapo.data.synthetic.families import BY_NAME, FAMILIES
from iapo.errors import InputError
from iapo.records import Sample


@dataclass(frozen=True, slots=True)
class SourceSettings:
    """Which samples of a source; written down with a result.

    Attributes:
        count: How many, the first ones; 0 takes all, where a source has an end.
        seed: Of synthetic pictures.
        split: `train`, `validation` or `test`, or what a source of your own calls it.
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
        name: A family of synthetic pictures (`vbar`, see `iapo.data.synthetic.families`); a test set of the paper and
            where it lies (`vwtq@FOLDER`, or `vwtq@hub`, see `iapo.data.benchmarks`); or a file, a folder or a hub id.
        settings: Which of its samples.

    Raises:
        InputError: If there is no such source, it has not what the settings ask for, or a row of it is damaged.
    """
    if settings.count < 0:
        raise InputError(f"{settings.count} samples of {name!r} are asked for; give at least 1, or 0 for all")
    if name in BY_NAME:
        if not settings.count:
            raise InputError(f"synthetic pictures of {name!r} have no end; say how many samples")
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
    benchmark, at, where = name.partition("@")
    if at:
        rows = load_benchmark(benchmark, None if where == "hub" else where)
    else:
        try:
            rows = load(name, split=settings.split)
        except ValueError as error:
            raise InputError(f"test set {name!r} is no family ({', '.join(FAMILIES)}), and {error}") from error
    samples = list(islice(strict(rows), settings.count or None))
    if not samples:
        raise InputError(f"test set {name!r} has no sample of the split {settings.split!r}")
    return samples


def split_list(text: str) -> tuple[str, ...]:
    """Takes a list with commas apart."""
    return tuple(part.strip() for part in text.split(",") if part.strip())
