"""Which files of a folder hold rows, and to which split each belongs."""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow.parquet as pq

from iapo.data.layouts import TABS, nearest, question_files
from iapo.data.rows import SUFFIXES, UNREADABLE, stem_of
from iapo.errors import InputError

QUARANTINE = ".quarantine.jsonl"
"""How the names of files end in which a run lists the damaged rows that it left out; they are no data."""

DAMAGED = ".damaged.jsonl"
"""How those end in which a conversion lists them; no data either."""

FLAWED = ".flawed.jsonl"
"""How those end in which a run lists the rows that it used with a flaw; no data either."""

# Values between tabs may be anything's.
_ANY = tuple(suffix for suffix in SUFFIXES if suffix != ".tsv")

KNOWN_SPLITS = ("train", "validation", "test")
"""The splits that have several names."""

_SPLITS = dict.fromkeys(("train", "training"), "train") | dict.fromkeys(("test", "testing"), "test")
_SPLITS |= dict.fromkeys(("validation", "val", "valid", "validating", "dev", "development"), "validation")
_WTQ = {"training": "train", "pristine-seen-tables": "validation", "pristine-unseen-tables": "test"}
# `a (1)`, `a - Copy`, `a_v2`, `a.bak`.
_COPY = re.compile(
    r"[-_. ]*\(\d+\)$|([-_. ]+(copy|kopie|bak|backup|old|orig|original)([-_. ]*\(?\d+\)?)?|[-_. ]+v\d+)$", re.IGNORECASE
)
_APART = ("descriptive_", "random-split-", "training-before")


def canonical(split: str) -> str:
    """Returns a split's name without case and space around it, `training` written as `train`, `testing` as `test`, and
    `val`, `valid` and `dev` as `validation`.
    """
    plain = split.strip().casefold()
    return _SPLITS.get(plain, plain)


def split_of(path: Path) -> str:
    """Returns the split that a file's name tells, `train`, `validation` or `test`; else its name without ending.

    For example `train` for `train_full.parquet` and `vwtq_syn` for `vwtq_syn-00000-of-00001.parquet`. CharXiv's
    descriptive questions and the random splits of WikiTableQuestions are sets of their own.
    """
    stem = stem_of(path.name)
    if stem in _WTQ:
        return _WTQ[stem]
    if stem.startswith(_APART):
        return stem
    found = {_SPLITS[word] for word in re.split(r"[-_. ]", stem.casefold()) if word in _SPLITS}
    return found.pop() if len(found) == 1 else stem


def files_of(path: Path) -> list[Path]:
    """Returns the data files of a folder and the folders in it, in the order of their names; of a file, itself.

    Of a known repository those with questions (`iapo.data.layouts`).

    Raises:
        InputError: If there is none.
    """
    if path.is_file():
        return [path]
    found = [file for file in question_files(path) if not file.name.endswith((QUARANTINE, DAMAGED, FLAWED))]
    if not found:
        raise InputError(
            f"the folder {path} holds no data file; there must be one that ends in {', '.join(_ANY)}, or {TABS}, "
            f"or give a reader of your own (FILE.py:NAME@PATH, docs/your-own.md){nearest(path)}"
        )
    return found


def choose(path: Path, split: str | None) -> list[Path]:
    """Returns the files of a split.

    Args:
        path: A file or a folder.
        split: A split, or the name of a file without its ending; None where there is one split alone.

    Raises:
        InputError: If there is no such split, or None is given and there are several.
    """
    files = files_of(path)
    if path.is_file():
        told = split_of(path)
        if split is not None and told in KNOWN_SPLITS and split != stem_of(path.name) and canonical(split) != told:
            raise InputError(f"{path} holds the split {told!r} by its name, not {split!r}")
        return files
    by_split: dict[str, list[Path]] = {}
    for file in files:
        by_split.setdefault(split_of(file), []).append(file)
    if split is None:
        if len(by_split) > 1:
            raise InputError(f"the folder {path} has the splits {', '.join(by_split)}; give one of them")
        _refuse_copies(files)
        return files
    named = [file for file in files if stem_of(file.name) == split]
    chosen = named or [file for name, some in by_split.items() if canonical(name) == canonical(split) for file in some]
    if not chosen and len(by_split) == 1 and not set(by_split) & set(KNOWN_SPLITS):
        # One file for all splits; its rows say to which each belongs.
        return files
    if not chosen:
        raise InputError(f"the folder {path} has no split {split!r}; it has {', '.join(by_split)}")
    if not named:
        _refuse_copies(chosen)
    return chosen


def _refuse_copies(files: list[Path]) -> None:
    """Refuses files of one split of which one is by its name a copy, or another state, of another one.

    Raises:
        InputError: If so.
    """
    there = {(file.parent, file.name) for file in files}
    for file in files:
        original = _COPY.sub("", file.stem) + file.suffix
        if original != file.name and (file.parent, original) in there:
            raise InputError(
                f"{file} is by its name a copy of {original} beside it, and its rows would count twice; move one of "
                f"them away, or give one alone, such as --split {stem_of(original)!r}"
            )


def expected_rows(source: str, split: str | None) -> int | None:
    """Returns how many rows local parquet files say that they hold; None for other data, which has to be read to
    know.
    """
    if not Path(source).exists():
        return None
    total = 0
    for file in choose(Path(source), split):
        if file.suffix.lower() != ".parquet":
            return None
        try:
            total += int(pq.read_metadata(file).num_rows)
        except UNREADABLE:
            # The loader says what is wrong with it.
            return None
    return total
