"""`iapo data check`: what is in a data set, and what is wrong with it, reason by reason."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table

from iapo.data.loading import Damage, count_rows, detect, load, splits_of
from iapo.display.terminal import plain, progress, say
from iapo.kinds import checks_kinds
from iapo.records import Sample

EXAMPLES = 3
"""Rows that are shown of each kind of problem."""

_LONGEST = 2000
"""Characters of a reason that tell its kind; a name in it may be longer."""

# What stands in quotes or brackets, or after `in` as a path.
_OWN = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|\([^()]*\)|(?<= in )/\S+")
_NUMBER = re.compile(r"-?\d[\d.,]*(?:e[+-]?\d+)?|\bnan\b|\binf\b")


@dataclass(slots=True)
class Counts:
    """What one split holds.

    Attributes:
        format: Format as `iapo.data.loading` names it.
        samples: Rows that load.
        damaged: Rows that do not.
        kinds: Samples by `chart` and `table`.
        axes: Samples by the axis along which they divide, `either` where both or neither is right.
        boxless: Samples without any box.
        flawed: Samples with a flaw, such as a box that was left out; they load.
        several: Samples with several images.
        judges: Samples by the judge of calls that they name.
        reasons: Rows by what is wrong with them, in words that do not depend on the row.
    """

    format: str
    samples: int = 0
    damaged: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    axes: Counter[str] = field(default_factory=Counter)
    boxless: int = 0
    flawed: int = 0
    several: int = 0
    judges: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)


@checks_kinds
def check(source: str, *, split: str | None = None, format: str | None = None) -> dict[str, Counts]:
    """Reads a data set to its end, prints each kind of problem with its number and three examples, then the counts.

    Args:
        source: A file, a folder or a hub id.
        split: Split; of a local folder all of them if None.
        format: One of `iapo.data.loading.FORMATS`; detected if None.

    Returns:
        The counts of each split.

    Raises:
        ValueError: If there is no such data, or its format cannot be told.
    """
    found: dict[str, Counts] = {}
    splits = [split] if split is not None else splits_of(source, format)
    # All are opened before the first is read, so that what is refused is said at once.
    opened = [(one, format or detect(source, split=one), load(source, split=one, format=format)) for one in splits]
    for one, known, items in opened:
        counts = Counts(known)
        examples: dict[str, list[str]] = {}
        for item in progress(items, "checking", count_rows(source, one, format)):
            for reason, example in _problems(item):
                counts.reasons[kind_of(reason)] += 1
                examples.setdefault(kind_of(reason), []).append(example)
                del examples[kind_of(reason)][EXAMPLES:]
            if isinstance(item, Damage):
                counts.damaged += 1
                continue
            counts.flawed += bool(item.flaws)
            counts.samples += 1
            counts.kinds[item.kind] += 1
            counts.axes[item.axis or "either"] += 1
            counts.several += bool(item.more_images)
            counts.judges.update([item.judge] if item.judge else [])
            counts.boxless += not item.column_boxes and not item.row_boxes
        found[one or "all"] = counts
        for line in _lines(counts.reasons, examples):
            say(plain(line))
        where = f" of the split {plain(one)}" if len(splits) > 1 and one is not None else ""
        if counts.several:
            say(f"{counts.several:,} of {counts.samples:,} samples{where} have several images")
        for judge, count in counts.judges.most_common():
            say(f"{count:,} of {counts.samples:,} samples{where} name the judge {plain(judge)!r} (of the tools' file)")
    Console().print(_table(source, found))
    return found


def kind_of(reason: str) -> str:
    """Returns a reason without what it says of one row: names, numbers and paths."""
    return _NUMBER.sub("#", _OWN.sub("...", reason[:_LONGEST]))


def _problems(item: Sample | Damage) -> Iterator[tuple[str, str]]:
    """Yields what is wrong with a row, and the same with the row's place."""
    if isinstance(item, Damage):
        yield item.reason, str(item)
    else:
        for flaw in item.flaws:
            yield flaw, f"sample {item.id!r} is used: {flaw}"


def _lines(reasons: Mapping[str, int], examples: Mapping[str, Sequence[str]]) -> Iterator[str]:
    for reason, count in sorted(reasons.items(), key=lambda pair: -pair[1]):
        if count > EXAMPLES:
            yield f"{count:,} times: {reason}; for example"
        yield from examples[reason]


def _table(source: str, found: dict[str, Counts]) -> Table:
    table = Table(title=plain(source, 60).replace("[", "\\["))
    headings = ("split", "format", "samples", "damaged", "flawed", "kind", "axis", "without boxes")
    for heading in headings:
        table.add_column(
            heading, justify="right" if heading in ("samples", "damaged", "flawed", "without boxes") else "left"
        )
    for split, counts in found.items():
        table.add_row(
            plain(split).replace("[", "\\["),
            counts.format,
            f"{counts.samples:,}",
            f"{counts.damaged:,}",
            f"{counts.flawed:,}",
            ", ".join(f"{name} {count:,}" for name, count in sorted(counts.kinds.items())),
            ", ".join(f"{name} {count:,}" for name, count in sorted(counts.axes.items())),
            f"{counts.boxless:,}",
        )
    return table
