"""Resolves the name of a source to samples: one grammar for `--data`, `--sets`, configurations and studies."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice, zip_longest
from typing import Any, Literal

from iapo.bounds import COUNT_OR_NONE, SEED, SIDE, check_number, split_list
from iapo.data.benchmarks import BENCHMARKS, load_benchmark
from iapo.data.damage import Damage, quarantine
from iapo.data.formats.known import FORMATS
from iapo.data.loading import load
from iapo.data.synthetic import SMALLEST, generate
from iapo.data.synthetic.families import BY_NAME, FAMILIES
from iapo.errors import InputError
from iapo.kinds import check_kinds, checks_kinds
from iapo.plugins import is_reference
from iapo.records import Sample

Part = Literal["train", "test"]


@dataclass(frozen=True, slots=True)
class SourceSettings:
    """Which samples of a source; written down with a result.

    Attributes:
        count: Number of them, the first ones; 0 takes all, where a source has an end.
        seed: Seed of synthetic images.
        split: `train`, `validation` or `test`, or what a source of your own calls it.
        size: Longer side of synthetic images in pixels.
        question_types: Question types of synthetic images; empty: all that a family has.

    Raises:
        InputError: If a number cannot be.
    """

    count: int = 100
    seed: int = 0
    split: str = "test"
    size: int = SMALLEST
    question_types: Sequence[str] = field(default=())

    def __post_init__(self) -> None:
        check_kinds(self)
        for name, bound in (("count", COUNT_OR_NONE), ("seed", SEED), ("size", SIDE)):
            check_number(name, getattr(self, name), bound)


def source_names(text: str, what: str = "data") -> tuple[str, ...]:
    """Returns the sources that a setting names, with commas between; a path that exists is one, whatever is in it.

    Args:
        text: The setting.
        what: Its name.

    Raises:
        InputError: If a part of it is empty.
    """
    return (text,) if os.path.exists(text) else split_list(what, text)


def check_once(names: Sequence[str]) -> None:
    """Refuses sources of which one is named twice: its samples would count as more than they are.

    Raises:
        InputError: If so, by the same name or by another of the same place.
    """
    places = [os.path.realpath(name) if os.path.exists(name) else name for name in names]
    if again := next((name for name, place in zip(names, places, strict=True) if places.count(place) > 1), None):
        raise InputError(f"the source {again!r} is named twice; name each one once")


def sources_of(run: Mapping[str, Any], part: Part) -> tuple[tuple[str, ...], SourceSettings]:
    """Returns the sources that a training is made on or evaluated on, and which samples of them.

    Args:
        run: `iapo.training.run.RunArguments` as a dict, as in the manifest.
        part: `train` or `test`.
    """
    testing = part == "test"
    text = (run["eval_data"] or run["data"]) if testing else run["data"]
    names = tuple(run["families"]) if text is None else source_names(text)
    count, split = run["eval_samples"] if testing else run["train_samples"], str(part)
    if text is not None:
        split = run["eval_split"] if testing else run["data_split"]
        if not testing and (run["data_samples"] or not set(names) <= BY_NAME.keys()):
            count = run["data_samples"]
    return names, SourceSettings(
        count=count,
        seed=run["eval_seed"] if testing else run["charts_seed"],
        split=split,
        size=run["picture_size"],
        question_types=tuple(run["question_types"]),
    )


@checks_kinds
def read_sources(
    names: Sequence[str], settings: SourceSettings, keep: Callable[[Damage], object] | None = None
) -> list[Sample]:
    """Reads the samples of several sources, in turn.

    Args:
        names: Names as in `open_source`.
        settings: Samples; `count` of all sources together, in equal shares.
        keep: Keep as in `read_source`.

    Raises:
        InputError: As `read_source`.
    """
    if not names:
        raise InputError("no source of samples is named; give one at least")
    check_once(names)
    share, rest = divmod(settings.count, len(names))
    # A share of 0 would take all.
    counts = [share + (index < rest) for index in range(len(names))]
    columns = [
        read_source(name, dataclasses.replace(settings, count=count), keep)
        for name, count in zip(names, counts, strict=True)
        if count or not settings.count
    ]
    return [sample for row in zip_longest(*columns) for sample in row if sample is not None]


@checks_kinds
def read_source(name: str, settings: SourceSettings, keep: Callable[[Damage], object] | None = None) -> list[Sample]:
    """Reads the samples of a source.

    Args:
        name: Name as in `open_source`.
        settings: Settings of its samples.
        keep: Callback, called with each damaged row, which is then left out; None refuses the first.

    Raises:
        InputError: If there is no such source, it has not what the settings ask for, or a row of it is damaged and may
            not be left out.
    """
    first: list[Damage] = []

    def left_out(damage: Damage) -> None:
        if keep is None:
            raise InputError(f"{damage}; mend it, or set data_damage to quarantine to leave such rows out")
        first[:] = first or [damage]
        keep(damage)

    rows = open_source(name, settings, any_size=keep is not None)
    found = list(islice(quarantine(rows, left_out), settings.count or None))
    if not found:
        reason = f"; the first reason: {first[0]}" if first else ""
        raise InputError(f"{name!r} has no sample of the split {settings.split!r} that loads{reason}")
    return found


@checks_kinds
def open_source(name: str, settings: SourceSettings, *, any_size: bool = False) -> Iterator[Sample | Damage]:
    """Opens a source, which may hold more than `settings.count` samples.

    Args:
        name: A family of synthetic images (`vbar`, see `iapo.data.synthetic.families`); a file, a folder or a hub id;
            a test set of the paper and where it lies (`vwtq@FOLDER`, or `vwtq@hub`, see `iapo.data.benchmarks`); or a
            format and what is of it (`FORMAT@PATH`, with one of `FORMATS` or a reader of the user's own, such as
            `FILE.py:READER`).
        settings: Settings of its samples.
        any_size: Whether a test set of the paper may have another number of questions than there.

    Raises:
        InputError: If there is no such source.
    """
    if settings.count < 0:
        raise InputError(f"{settings.count} samples of {name!r} are asked for; give at least 1, or 0 for all")
    if name in BY_NAME:
        if not settings.count:
            raise InputError(f"synthetic pictures of {name!r} have no end; say how many samples")
        return generate(
            name,
            settings.count,
            seed=settings.seed,
            size=settings.size,
            question_types=settings.question_types or None,
            split=settings.split,
        )
    before, at, where = name.partition("@")
    if at and not os.path.exists(name):
        # A format may bear the name of a test set, whose layout it knows a part of.
        if before in BENCHMARKS:
            return load_benchmark(before, None if where == "hub" else where, any_size=any_size)
        if before not in FORMATS and not is_reference(before):
            known = ", ".join([*BENCHMARKS, *FORMATS])
            raise InputError(
                f"unknown test set {before!r}; before @ stands a test set or a format ({known}), or your own reader, "
                "FILE.py:NAME"
            )
        return load(where, split=settings.split, format=before)
    try:
        return load(name, split=settings.split)
    except InputError as error:
        raise InputError(f"{name!r} is no family ({', '.join(FAMILIES)}), and {error}") from error
