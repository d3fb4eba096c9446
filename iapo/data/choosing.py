"""Which files hold the rows of a split, and what of their rows does."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from iapo.data.files import canonical, files_of, is_long_word, split_of
from iapo.data.row_splits import FIELD, RowSplits, Told, splits_in, told_by
from iapo.data.rows import UNREADABLE, stem_of
from iapo.errors import InputError

# `a (1)`, `a - Copy`, `a_v2`, `a.bak`.
_COPY = re.compile(
    r"[-_. ]*\(\d+\)$|([-_. ]+(copy|kopie|bak|backup|old|orig|original)([-_. ]*\(?\d+\)?)?|[-_. ]+v\d+)$", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Chosen:
    """The files of a split.

    Attributes:
        files: The files.
        split: The split of their rows; None for all of them.
        told: What is told of the splits of these files.
    """

    files: Sequence[Path]
    split: str | None
    told: Mapping[str, Told]

    def rows(self) -> RowSplits:
        """Returns what tells the rows of the split from others in the files."""
        return RowSplits(self.split, self.told)


def choose(path: Path, split: str | None) -> Chosen:
    """Returns the files of a split: of that name, else those that tell it by their names, else those whose rows do.

    Args:
        path: A file or a folder.
        split: A split, or the name of a file without its ending; None where there is one split alone.

    Raises:
        InputError: If there is no such split, or None is given and there are several.
    """
    files = files_of(path)
    if split is None:
        return _only(path, files)
    named = [file for file in files if stem_of(file.name) == split]
    if named and (alone := _alone(named, split)) is not None:
        return alone
    asked = canonical(split)
    told = told_by(file for file in files if canonical(split_of(file)) == asked)
    holders = [name for name, one in told.items() if one.has(split)]
    if not holders:
        told = told_by(files)
        holders = [name for name, one in told.items() if one.has(split)]
    if holders:
        chosen = [file for file in files if split_of(file) in holders]
        _refuse_doubled(chosen, split)
        return Chosen(chosen, split, {name: told[name] for name in holders})
    (only, *more) = told.values()
    if more or only.known or only.heeded:
        raise InputError(_no_split(path, split, told))
    if only.kinds:
        what = "numbers" if set(only.kinds) <= {int, float, bool} else "no texts"
        raise InputError(
            f"the field {FIELD!r} of {path} holds {what}, and so no row says whether it is of the split {split!r}; "
            "give no split, or write the splits' names into that field"
        )
    # One file for all splits, and no row says otherwise.
    return Chosen(files, None, told)


def splits_of_files(path: Path) -> list[str]:
    """Returns the splits of a file or a folder that have to be named; none where it can be read without.

    Raises:
        InputError: If the folder has no data.
    """
    told = told_by(files_of(path))
    splits = splits_in(told)
    return splits if len(splits) > 1 or len(told) > 1 else []


def expected_rows(source: str, split: str | None) -> int | None:
    """Returns how many rows local parquet files say that they hold; None for other data, which has to be read to
    know.
    """
    path = Path(source)
    if not path.exists() or all(file.suffix.lower() != ".parquet" for file in files_of(path)):
        return None
    total = 0
    for file in choose(path, split).files:
        if file.suffix.lower() != ".parquet":
            return None
        try:
            total += int(pq.read_metadata(file).num_rows)
        except UNREADABLE:
            # The loader says what is wrong with it.
            return None
    return total


def _only(path: Path, files: Sequence[Path]) -> Chosen:
    """Returns all files, of which there may be one split alone."""
    told = told_by(files)
    splits = ", ".join(splits_in(told))
    if len(told) > 1:
        raise InputError(f"the folder {path} has the splits {splits}; give one of them")
    if len(splits_in(told)) > 1:
        raise InputError(f"the rows of {path} have the splits {splits}; give one of them")
    _refuse_doubled(files, None)
    return Chosen(files, None, told)


def _alone(files: Sequence[Path], stem: str) -> Chosen | None:
    """Returns files that are chosen by their own name, with the split of their rows; None where that is not clear."""
    told = told_by(files)
    if len(told) > 1:
        return None
    (one,) = told.values()
    for split in (stem, one.name):
        if one.has(split):
            return Chosen(files, split, told)
    # Where the name tells a split that no row is of, it would be another one that is read under it.
    return Chosen(files, None, told) if len(one.splits) == 1 and not one.known else None


def _no_split(path: Path, split: str, told: Mapping[str, Told]) -> str:
    there = ", ".join(splits_in(told))
    only = next(iter(told.values()))
    if len(told) == 1 and only.heeded:
        return f"no row of {path} belongs to the split {split!r}; its rows have {there}"
    if path.is_dir():
        return f"the folder {path} has no split {split!r}; it has {there}"
    return f"{path} holds the split {only.name!r} by its name, not {split!r}; give {only.name!r}, or no split"


def _refuse_doubled(files: Sequence[Path], split: str | None) -> None:
    """Refuses files of one split of which one is by its name a copy, or another state, of another one, or of which one
    has a word for the split that in other files is the name of a split of its own.

    Raises:
        InputError: If so.
    """
    there = {(file.parent, file.name): file for file in files}
    for file in files:
        original = there.get((file.parent, _COPY.sub("", file.stem) + file.suffix))
        if original is not None and original != file:
            raise InputError(
                f"{file} is by its name a copy of {original.name} beside it, and its rows would count twice; move one "
                f"of them away, or give one alone, such as {_way(original, split)}"
            )
    long = next((file for file in files if is_long_word(stem_of(file.name))), None)
    other = next((file for file in files if long and split_of(file) == split_of(long) and _differ(file, long)), None)
    if long is not None and other is not None:
        raise InputError(
            f"{other} and {long.name} both tell the split {split_of(long)!r} by their names; move one of them away, or "
            f"give one alone, such as {_way(other, split)}"
        )


def _differ(one: Path, other: Path) -> bool:
    return stem_of(one.name).casefold() != stem_of(other.name).casefold()


def _way(file: Path, split: str | None) -> str:
    """Returns how a file is given alone, so that its rows of a split are read."""
    stem = stem_of(file.name)
    alone = _alone([file], stem)
    if alone is not None and (split is None or alone.split is None or canonical(alone.split) == canonical(split)):
        return f"--split {stem!r}"
    (told,) = told_by([file]).values()
    return f"{file} with --split {split if split is not None and told.has(split) else told.splits[0]!r}"
