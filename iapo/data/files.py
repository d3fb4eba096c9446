"""Which files of a folder hold rows, and to which split each belongs."""

from __future__ import annotations

import re
from pathlib import Path

from iapo.data.layouts import TABS, nearest, question_files
from iapo.data.rows import SUFFIXES, Origin, stem_of
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

_WORDS = {"train": "train", "test": "test"} | dict.fromkeys(("validation", "val", "valid", "dev"), "validation")
# In a longer name of a file these may be of what it is about, as in `world_development`.
_LONG_WORDS = {"training": "train", "testing": "test", "validating": "validation", "development": "validation"}
_SPLITS = _WORDS | _LONG_WORDS
_WTQ = {"training": "train", "pristine-seen-tables": "validation", "pristine-unseen-tables": "test"}
_APART = ("descriptive_", "random-split-", "training-before")


def canonical(split: str) -> str:
    """Returns a split's name without case and space around it, `training` written as `train`, `testing` as `test`, and
    `val`, `valid` and `dev` as `validation`.
    """
    plain = split.strip().casefold()
    return _SPLITS.get(plain, plain)


def split_of(path: Path, root: Path | None = None) -> str:
    """Returns the split that a file's name tells, `train`, `validation` or `test`; else what the nearest folder does;
    else its name without ending.

    For example `train` for `train_full.parquet`, `training.jsonl` and `train/0000.parquet`, and `vwtq_syn` for
    `vwtq_syn-00000-of-00001.parquet`. CharXiv's descriptive questions and the random splits of WikiTableQuestions are
    sets of their own.

    Args:
        path: The file.
        root: The folder that is given, below which folders tell splits; None where the file itself is given.
    """
    stem = stem_of(path.name)
    if stem in _WTQ:
        return _WTQ[stem]
    if stem.startswith(_APART):
        return stem
    folders = () if root is None else path.relative_to(root).parts[-2::-1]
    return next((told for told in map(_told_by, (stem, *folders)) if told), stem)


def _told_by(name: str) -> str:
    """Returns the split that a name tells; empty where it tells none, or several."""
    if name.casefold() in _LONG_WORDS:
        return _LONG_WORDS[name.casefold()]
    found = {_WORDS[word] for word in re.split(r"[-_. ]", name.casefold()) if word in _WORDS}
    return found.pop() if len(found) == 1 else ""


def origins_of(path: Path) -> dict[Path, Origin]:
    """Returns the files of `files_of`, with what each is among them.

    Raises:
        InputError: As `files_of`.
    """
    root = path if path.is_dir() else None
    splits = {file: split_of(file, root) for file in files_of(path)}
    by_stem: dict[str, list[Path]] = {}
    for file in splits:
        by_stem.setdefault(stem_of(file.name), []).append(file)
    found = {}
    by_name = {split for file, split in splits.items() if split_of(file) == split}
    # Behind those of a split that tell it themselves, so that no number in the ids of their rows changes.
    for file in sorted(splits, key=lambda one: splits[one] in by_name and split_of(one) != splits[one]):
        split = splits[file]
        stem = stem_of(file.name)
        alike = by_stem[stem]
        label = stem if root is None or len(alike) == 1 else file.relative_to(root).with_suffix("").as_posix()
        series = stem if len({splits[one] for one in alike}) == 1 else label
        found[file] = Origin(split, label, series)
    return found


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
