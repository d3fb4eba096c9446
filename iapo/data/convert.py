"""`iapo data convert` and `iapo data make`: data in our own parquet, what is damaged in a file beside it."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from iapo.data.boxes import add_boxes
from iapo.data.boxes.names import Names, check_names
from iapo.data.damage import Damage, quarantine, strict
from iapo.data.files import DAMAGED
from iapo.data.formats.parquet import write_rows
from iapo.data.loading import count_rows, load
from iapo.data.synthetic import generate
from iapo.display.terminal import progress
from iapo.errors import InputError
from iapo.kinds import checks_kinds
from iapo.records import Sample
from iapo.storage import append_record, check_place, make_folder, whole_file


@dataclass(slots=True)
class Converted:
    """What a conversion did.

    Attributes:
        samples: Rows written.
        damaged: Rows put aside.
        quarantine: The file that lists them; None where there are none.
        flawed: Samples with a flaw, such as a box that was left out; their flaws are written with them.
        boxed: Samples that had no boxes and were given some.
        boxless: Number of samples that have no boxes even so, by the reason why none were found.
    """

    samples: int = 0
    damaged: int = 0
    quarantine: Path | None = None
    flawed: int = 0
    boxed: int = 0
    boxless: Counter[str] = field(default_factory=Counter)


@checks_kinds
def convert(
    source: str,
    out: Path,
    *,
    split: str | None = None,
    format: str | None = None,
    find_boxes: bool = False,
    names: Names = "places",
    refuse_damage: bool = False,
) -> Converted:
    """Writes a data set as our parquet; damaged rows are listed in `OUT.damaged.jsonl` (row, id, reason, file).

    Neither file appears before all is read; memory does not depend on the number of rows but for a digest of each id.

    Args:
        source: A file, a folder or a hub id.
        out: The parquet file to write.
        split: Split; None where there is one alone.
        format: One of `iapo.data.loading.FORMATS`; detected if None.
        find_boxes: Whether images without boxes are searched for some (`iapo.data.boxes`).
        names: How found boxes are named, as in `iapo.data.boxes.add_boxes`.
        refuse_damage: Whether the first damaged row ends the conversion, with nothing written.

    Returns:
        The counts.

    Raises:
        InputError: If a file would be overwritten, the data cannot be read, no row of it loads, a row is damaged
            and `refuse_damage` is set, or `names` needs what is not installed.
    """
    check_names(names)
    aside = out.parent / f"{out.name}{DAMAGED}"  # with_name refuses a path without a name, which is told below
    _check_free(out, aside)
    done = Converted()
    items = progress(load(source, split=split, format=format), "converting", count_rows(source, split, format))
    with whole_file(aside) as part:

        def keep(damage: Damage) -> None:
            done.damaged += 1
            append_record(part, {"row": damage.row, "id": damage.id, "reason": damage.reason, "file": damage.file})

        samples = strict(items) if refuse_damage else quarantine(items, keep)
        if find_boxes:
            samples = _with_boxes(samples, done, names)
        first = next(samples, None)
        if first is None:
            raise InputError(f"no row of {source} gives a sample; iapo data check {source} says why")
        done.samples = write_rows(_counted(itertools.chain([first], samples), done), out)
    if done.damaged:
        done.quarantine = aside
    return done


def make(
    family: str,
    count: int,
    out: Path,
    *,
    seed: int = 0,
    size: int = 112,
    split: str = "train",
    question_types: Sequence[str] | None = None,
) -> int:
    """Writes synthetic samples as our parquet.

    Args:
        family: Family as `iapo.data.synthetic.generate` takes it, like all but `out`.
        count: Number of them.
        out: The parquet file to write.
        seed: Seed of the images.
        size: Their side in pixels.
        split: Their split.
        question_types: Question types, some of the family's; all if None.

    Returns:
        How many were written.

    Raises:
        InputError: If the file would be overwritten, `count` is not positive, or `generate` refuses an argument.
    """
    _check_free(out)
    if count < 1:
        raise InputError(f"the number of samples is {count}; give at least 1")
    samples = generate(family, count, seed=seed, size=size, split=split, question_types=question_types)
    return write_rows(progress(samples, f"drawing {family}", count), out)


def _check_free(out: Path, *others: Path) -> None:
    if out.suffix != ".parquet":
        raise InputError(f"the output is a parquet file, but is named {out}; give it a name that ends in .parquet")
    for path in (out, *others):
        if path.exists():
            raise InputError(f"{path} already exists; remove it or give another name")
        check_place(path)
    make_folder(out.parent)


def _counted(samples: Iterable[Sample], done: Converted) -> Iterator[Sample]:
    for sample in samples:
        done.flawed += bool(sample.flaws)
        yield sample


def _with_boxes(samples: Iterator[Sample], done: Converted, names: Names) -> Iterator[Sample]:
    for sample in samples:
        boxed, reason = add_boxes(sample, names)
        if reason:
            done.boxless[reason] += 1
        done.boxed += boxed is not sample
        yield boxed
