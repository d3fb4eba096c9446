"""Which files hold the rows of a split, and what of their rows does.

The rows of a split are of files whose names or folders tell it, or else name it themselves. Where both is so, or one
file is called by the split alone and another one tells it, too, nobody says whether rows count twice: that is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow.parquet as pq

from iapo.data.damage import Damage
from iapo.data.files import KNOWN_SPLITS, canonical, files_of, origins_of, split_of
from iapo.data.row_splits import FIELD, RowSplits, Told, splits_in, told_by
from iapo.data.rows import UNREADABLE, Origin, Row, read_rows, shard_of, stem_of
from iapo.errors import InputError

# `a (1)`, `a - Copy`, `a_v2`, `a.bak`.
_COPY = re.compile(
    r"[-_. ]*\(\d+\)$|([-_. ]+(copy|kopie|bak|backup|old|orig|original)([-_. ]*\(?\d+\)?)?|[-_. ]+v\d+)$", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Chosen:
    """The files of a split.

    Attributes:
        files: The files, with what each is among all of the folder.
        split: The split of their rows; None for all of them.
        told: What is told of the splits of these files.
    """

    files: Mapping[Path, Origin]
    split: str | None
    told: Mapping[str, Told]

    def rows(self) -> RowSplits:
        """Returns what tells the rows of the split from others in the files."""
        return RowSplits(self.split, self.told)

    def read(self) -> Iterator[Row | Damage]:
        """Yields the rows of the files, of whichever split."""
        return (row for file in self.files for row in self.read_file(file))

    def read_file(self, file: Path, *, solutions: bool = False) -> Iterator[Row | Damage]:
        """Yields the rows of one of the files, as `iapo.data.rows.read_rows` does."""
        for row in read_rows(file, solutions=solutions):
            yield row if isinstance(row, Damage) else replace(row, origin=self.files[file])


def choose(path: Path, split: str | None) -> Chosen:
    """Returns the files of a split: those that tell it by their names or folders, or those whose rows do; else those of
    that name.

    Args:
        path: A file or a folder.
        split: A split, or the name of a file without its ending; None where there is one split alone.

    Raises:
        InputError: If there is no such split, None is given and there are several, or rows may count twice.
    """
    files = origins_of(path)
    told = told_by(files)
    if split is None:
        return _only(path, files, told)
    alike = [file for file in files if stem_of(file.name) == split]
    holders = [name for name, one in told.items() if one.has(split)]
    if holders:
        chosen = {file: origin for file, origin in files.items() if origin.split in holders}
        _refuse_scattered(files, chosen, alike, split)
        _refuse_doubled(files, chosen, split)
        return Chosen(chosen, split, {name: told[name] for name in holders})
    named = {file: files[file] for file in alike}
    if named and (alone := _alone(named, split)) is not None:
        _refuse_two_forms(files, named, split)
        return alone
    (only, *more) = told.values()
    if more or only.known or only.heeded:
        raise InputError(_no_split(path, split, told))
    if only.kinds:
        what = "numbers" if set(only.kinds) <= {int, float, bool} else "no texts"
        raise InputError(
            f"the field {FIELD!r} of {path} holds {what}, and so no row says whether it is of the split {split!r}; "
            "give no split, or write the splits' names into that field"
        )
    first, *others = files
    if elsewhere := next((file for file in others if file.parent != first.parent), None):
        raise InputError(
            f"{first} and {elsewhere} have one name, and neither their folders nor their rows say which of them holds "
            f"the split {split!r}; name the folders by their splits, or give one of the files, or no split"
        )
    _refuse_two_forms(files, files, split)
    # One file for all splits, and no row says otherwise.
    return Chosen(files, None, told)


def splits_of_files(path: Path) -> list[str]:
    """Returns the splits of a file or a folder that have to be named; none where it can be read without.

    Raises:
        InputError: If the folder has no data.
    """
    told = told_by(origins_of(path))
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


def _only(path: Path, files: Mapping[Path, Origin], told: Mapping[str, Told]) -> Chosen:
    """Returns all files, of which there may be one split alone."""
    splits = ", ".join(splits_in(told))
    if len(told) > 1:
        raise InputError(f"the folder {path} has the splits {splits}; give one of them")
    if len(splits_in(told)) > 1:
        raise InputError(f"the rows of {path} have the splits {splits}; give one of them")
    _refuse_doubled(files, files, None)
    return Chosen(files, None, told)


def _alone(files: Mapping[Path, Origin], stem: str) -> Chosen | None:
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


def _refuse_scattered(
    files: Mapping[Path, Origin], chosen: Mapping[Path, Origin], alike: Sequence[Path], split: str
) -> None:
    """Refuses a split that some files tell by their names or folders, and rows of others name.

    Args:
        files: All files.
        chosen: Those that hold rows of the split.
        alike: Those of that name.
        split: The split.

    Raises:
        InputError: If so.
    """
    named = [file for file, origin in chosen.items() if canonical(origin.split) == canonical(split)]
    # Of these the name is the split's as well, whatever their rows say; of others the folder tells another one.
    left = [file for file in alike if file not in chosen and split_of(file) == files[file].split]
    left = left if canonical(split) not in KNOWN_SPLITS else []
    others = [file for file in chosen if file not in named] or (named if left else [])
    if (named or left) and others:
        first = (left or named)[0]
        other = next((one for one in others if _told_alone(one, files[one]).has(split)), others[0])
        how = "name" if other in named else "rows"
        raise InputError(
            f"{first} tells the split {split!r} by its name or folder, and {other} by its {how}, so that some rows may "
            f"count twice; move one of them away, or give one alone, such as {_way(files, first, split)}"
        )


def _refuse_doubled(files: Mapping[Path, Origin], chosen: Mapping[Path, Origin], split: str | None) -> None:
    """Refuses files of one split of which one is by its name a copy, or another state, of another one, or of which one
    is called by the split alone and another one otherwise.

    Args:
        files: All files.
        chosen: Those of the split.
        split: The split; None for the one that there is.

    Raises:
        InputError: If so.
    """
    there = {(file.parent, file.name): file for file in chosen}
    for file in chosen:
        original = there.get((file.parent, _COPY.sub("", file.stem) + file.suffix))
        if original is not None and original != file:
            raise InputError(
                f"{file} is by its name a copy of {original.name} beside it, and its rows would count twice; move one "
                f"of them away, or give one alone, such as {_way(files, original, split)}"
            )
    _refuse_two_forms(files, chosen, split)
    plain: dict[str, Path] = {}
    for file in chosen:
        if canonical(stem_of(file.name)) in KNOWN_SPLITS:
            plain.setdefault(chosen[file].split, file)
    for other, origin in chosen.items():
        file = plain.get(origin.split, other)
        if _differ(other, file):
            raise InputError(
                f"{file} and {other} both tell the split {origin.split!r} by their names or folders, so that "
                "some rows may count twice; move one of them away, or give one alone, such as "
                f"{_way(files, file, split)}"
            )


def _refuse_two_forms(files: Mapping[Path, Origin], chosen: Mapping[Path, Origin], split: str | None) -> None:
    """Refuses files of one folder that have one name, but for case and ending, and are not parts of one set.

    Raises:
        InputError: If so.
    """
    by_name: dict[tuple[Path, str], list[Path]] = {}
    for file in chosen:
        by_name.setdefault((file.parent, stem_of(file.name).casefold()), []).append(file)
    for alike in by_name.values():
        numbers: dict[str, Path] = {}
        for file in alike:
            # Parts of one set have as many numbers, each once.
            number, count = shard_of(file.name) or ("", "")
            other = numbers.setdefault(number, file)
            if other is file and count != (shard_of(alike[0].name) or ("", ""))[1]:
                other = alike[0]
            if other is not file:
                raise InputError(
                    f"{other} and {file.name} beside it have one name, so that some rows may count twice; move one of "
                    f"them away, or give one alone, such as {_way(files, other, split)}"
                )


def _differ(one: Path, other: Path) -> bool:
    return stem_of(one.name).casefold() != stem_of(other.name).casefold()


def _told_alone(file: Path, origin: Origin) -> Told:
    (told,) = told_by({file: origin}).values()
    return told


def _way(files: Mapping[Path, Origin], file: Path, split: str | None) -> str:
    """Returns how a file is given alone, so that its rows of a split are read."""
    stem = stem_of(file.name)
    own = sum(not _differ(file, one) for one in files) == 1
    if own and not any(one.has(stem) for one in told_by(files).values()):
        alone = _alone({file: files[file]}, stem)
        if alone is not None and (split is None or alone.split is None or canonical(alone.split) == canonical(split)):
            return f"--split {stem!r}"
    told = _told_alone(*next(iter(origins_of(file).items())))
    any_split = not told.known and not told.heeded and not told.kinds
    return f"{file} with --split {split if split is not None and (any_split or told.has(split)) else told.splits[0]!r}"
