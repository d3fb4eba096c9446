"""The six test sets of the paper, by name, with its sizes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from iapo.data.damage import Damage, strict
from iapo.data.files import files_of
from iapo.data.leakage import Leak, PictureIndex
from iapo.data.loading import load
from iapo.data.rows import stem_of
from iapo.errors import InputError
from iapo.kinds import checks_kinds
from iapo.records import Axis, Kind, Sample


@dataclass(frozen=True, slots=True)
class Benchmark:
    """One test set.

    Attributes:
        name: Its name here.
        title: Its name in the paper's table.
        size: Its questions in the paper.
        kind: `chart` or `table`.
        axis: The right axis of its images, where they have one.
        stems: Names, without ending, of the files that hold it, some with their folder's name; the first that a folder
            has is taken. Where a file holds both sets of bars, those of the other axis are left out.
        hub: The hub id that has it, and the split there; None where none has.
    """

    name: str
    title: str
    size: int
    kind: Kind
    axis: Axis | None
    stems: tuple[str, ...]
    hub: tuple[str, str] | None = None


_TABLES = "terryoo/TableVQA-Bench"
# Its test split has 826 questions, the 444 and the 382 of the two sets of bars.
_CHARTS = ("VTOOL/Refocus_Chart", "test")

# Files of VTool-R1 and of ReFocus that hold both sets of bars.
_BOTH = ("test_full", "chartqa_vcot/test")

_REFOCUS_SYN = ("table-vwtq_syn_wbb", "tablevqa-vwtq_syn_wbb", "vwtq_syn")

_ALL = (
    Benchmark("chartqa_h_bar", "ChartQA horizontal bars", 444, "chart", "rows", ("chartQA_h_bar_wbb", *_BOTH), _CHARTS),
    Benchmark(
        "chartqa_v_bar", "ChartQA vertical bars", 382, "chart", "columns", ("chartQA_v_bar_wbb", *_BOTH), _CHARTS
    ),
    Benchmark("charxiv", "CharXiv", 143, "chart", None, ("charxiv-subfigures", "charxiv_subfigures", "reasoning_val")),
    Benchmark("vwtq", "VWTQ", 750, "table", None, ("tablevqa_wbb", "vwtq"), (_TABLES, "vwtq")),
    Benchmark("vwtq_syn", "VWTQ-Syn", 250, "table", None, _REFOCUS_SYN, (_TABLES, "vwtq_syn")),
    Benchmark("vtabfact", "VTabFact", 250, "table", None, ("tablevqa-vtabfact_wbb", "vtabfact"), (_TABLES, "vtabfact")),
)

BENCHMARKS = {one.name: one for one in _ALL}
"""By name."""


def find_benchmark(name: str) -> Benchmark:
    """Returns the test set of that name.

    Raises:
        InputError: If there is none.
    """
    if name not in BENCHMARKS:
        raise InputError(f"unknown test set {name!r}; use one of {', '.join(BENCHMARKS)}")
    return BENCHMARKS[name]


@checks_kinds
def load_benchmark(name: str, source: str | Path | None = None, *, any_size: bool = False) -> Iterator[Sample | Damage]:
    """Yields a test set, one question at a time.

    Args:
        name: One of `BENCHMARKS`.
        source: A file, a folder that has a file of one of its names, or a hub id; its own hub id if None.
        any_size: Whether a copy with another number of questions than the paper's is accepted.

    Yields:
        Samples, and damage, which counts as a question.

    Raises:
        InputError: At the call, if the source does not have the test set; at the end, if the number of questions is
            not the paper's and `any_size` is not set.
    """
    one = find_benchmark(name)
    where, split = _locate(one, source)
    return _counted(one, load(where, split=split), str(where), any_size)


@checks_kinds
def report_leaks(
    train: Iterable[Sample], names: Iterable[str], source: str | Path | None = None
) -> dict[str, list[Leak]]:
    """Finds the images that test sets share with a training set.

    Args:
        train: The training samples; read once for each test set, so give a list or the like.
        names: Names, some of `BENCHMARKS`.
        source: Source as in `load_benchmark`.

    Raises:
        InputError: If a test set cannot be loaded, or has a damaged row.
    """
    index = PictureIndex()
    for sample in train:
        index.add(sample)
    return {name: index.find_all(strict(load_benchmark(name, source, any_size=True))) for name in names}


def _locate(one: Benchmark, source: str | Path | None) -> tuple[str | Path, str | None]:
    if source is None:
        if one.hub is None:
            raise InputError(
                f"no hub set holds the {one.size} questions of {one.title} alone; give a file or a folder with "
                f"{one.stems[0]}.json, from the data of ReFocus"
            )
        return one.hub
    path = Path(source)
    if not path.exists():
        return source, one.hub[1] if one.hub is not None else "test"
    if path.is_file():
        return path, None
    files = files_of(path)
    for stem in one.stems:
        folder, _, name = stem.lower().rpartition("/")
        found = [file for file in files if stem_of(file.name).lower() == name and folder in ("", file.parent.name)]
        if found:
            return (found[0], None) if len(found) == 1 else (path, stem)
    raise InputError(f"the folder {path} has no file of {one.title}; name it {' or '.join(one.stems)}, with its ending")


def _counted(one: Benchmark, items: Iterator[Sample | Damage], where: str, any_size: bool) -> Iterator[Sample | Damage]:
    count = 0
    for item in items:
        if one.axis is not None and isinstance(item, Sample):
            if item.axis not in (None, one.axis):
                continue
            # The file's name tells the axis only where the file is called as in ReFocus.
            item = dataclasses.replace(item, axis=one.axis)
        count += 1
        yield item
    if count != one.size and not any_size:
        raise InputError(
            f"{where} has {count} questions, and {one.title} has {one.size} in the paper, so that its scores cannot be "
            "compared with the paper's; name the data without the test set and @ to take a split of them, or set "
            "data_damage to quarantine, or any_size in Python, to accept that"
        )
