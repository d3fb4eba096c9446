"""Which files of a folder hold questions, where data lie as in the repositories that they come from.

A repository has more than its questions: tables, annotations, other people's outputs. Where a folder is known by what
is in it, only the files with questions are taken of it; anywhere else each file is data whose name ends like one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from iapo.data.rows import CELLS, SUFFIXES, WTQ_COLUMNS
from iapo.errors import InputError

TABS = "a .tsv as WikiTableQuestions has them (its first line is id, utterance, context, targetValue with tabs between)"
"""What a file that ends in .tsv must be to be data, for messages."""

_NO_DATA = ("dataset_info.json", "dataset_infos.json", "state.json")
_OF_SYSTEMS = ("thumbs.db", "ehthumbs.db", "desktop.ini", "__pycache__", "__macosx", "@eadir")
"""Names of files and folders that systems put everywhere, and no reader means, one of one's own neither."""

_WTQ_HEAD = "\t".join(WTQ_COLUMNS).encode()


@dataclass(frozen=True, slots=True)
class Layout:
    """A folder of a repository.

    Attributes:
        title: Its name, for messages.
        marks: Names that it is known by, all of them in it.
        questions: Names of the files with questions, from the folder, with `/` between; a regular expression.
        missing: Their description, for the message where they are missing.
        only: Whether nothing else in it can be data; else it is a folder like any other where they are missing.
    """

    title: str
    marks: tuple[str, ...]
    questions: str
    missing: str
    only: bool = False


_HERE = r"[^/]+\.(json|jsonl|parquet)"
_CHARTQA = "its questions, such as test_human.json, beside png/"
_STATEMENTS = r"tokenized_data/(train|val|test)_examples\.json"
_TABFACT = "its statements, such as tokenized_data/train_examples.json, beside data/all_csv/"

LAYOUTS = (
    Layout("a split of ChartQA", ("png", "annotations"), _HERE, _CHARTQA),
    Layout("a split of ChartQA", ("png", "tables"), _HERE, _CHARTQA),
    Layout(
        "WikiTableQuestions",
        ("csv", "data"),
        r"data/[^/]+\.tsv",
        "its questions, such as data/training.tsv, beside csv/",
    ),
    Layout("TabFact", ("tokenized_data", "data"), _STATEMENTS, _TABFACT, only=True),
    Layout("TabFact", ("data", "collected_data"), _STATEMENTS, _TABFACT, only=True),
    Layout("TabFact", ("all_csv",), r"(train|val|test)_examples\.json", _TABFACT),
    Layout(
        "ReFocus",
        ("chartqa_vcot",),
        r"chartqa_vcot/[^/]+\.jsonl|[^/]+_wbb\.json|charxiv[-_]\w+\.json|[^/]+\.(jsonl|parquet)",
        "its rows, such as chartqa_vcot/test.jsonl",
    ),
    Layout(
        "the code of TableVQA-Bench",
        ("outputs", "src", "evaluate_tablevqa.sh"),
        r"data/[^/]+\.parquet",
        "the data set itself, such as data/vwtq-00000-of-00001.parquet (clone it from the hub)",
        only=True,
    ),
)
"""In the order in which they are asked."""

# A folder of CharXiv has nothing else that tells it.
_CHARXIV = re.compile(r"(reasoning|descriptive)_\w+\.json")


def question_files(folder: Path) -> list[Path]:
    """Returns the files with questions of a folder and the folders in it, in the order of their names; none where there
    are none.
    """
    return sorted(_walk(folder))


def nearest(folder: Path) -> str:
    """Returns which repository a folder without questions looks like, and what is missing; empty where it is like
    none.
    """
    for place, folders, files in os.walk(folder):
        names = _shown([*folders, *files])
        found = next((one for one in LAYOUTS if names.issuperset(one.marks)), None)
        if found is not None:
            return f"; {place} looks like {found.title}, but {found.missing}, is not there"
        if "png" in names:
            return f"; {place} looks like a split of ChartQA, but {_CHARTQA}, is not there"
        if "csv" in names and "data" not in names:
            return f"; {place} looks like WikiTableQuestions, but data/training.tsv, beside csv/, is not there"
    return ""


def _walk(folder: Path) -> Iterator[Path]:
    for root, folders, files in os.walk(folder, onerror=_refuse):
        place, names = Path(root), _shown([*folders, *files])
        known = next((one for one in LAYOUTS if names.issuperset(one.marks)), None)
        if known is not None:
            questions = list(_questions(place, known, names))
            if questions or known.only:
                yield from questions
                folders[:] = []
                continue
        folders[:] = [name for name in folders if name in names]
        charxiv = [name for name in files if _CHARXIV.fullmatch(name)]
        yield from (place / name for name in charxiv or files if name in names and _is_data(place / name))


def _refuse(error: OSError) -> None:
    raise InputError(f"the folder {error.filename} cannot be read: {error.strerror}") from error


def _questions(place: Path, known: Layout, names: Iterable[str]) -> Iterator[Path]:
    pattern = re.compile(known.questions, re.IGNORECASE)
    inner = [part for part in ("data", "chartqa_vcot", "tokenized_data") if part in names and (place / part).is_dir()]
    for name in [*names, *(f"{part}/{file.name}" for part in inner for file in (place / part).iterdir())]:
        if pattern.fullmatch(name) and "/." not in name and _is_data(place / name):
            yield place / name


def is_shown(name: str) -> bool:
    """Tells whether a file or folder can be meant by whoever names the folder that it is in."""
    return not name.startswith(".") and name.lower() not in _OF_SYSTEMS


def _shown(names: Iterable[str]) -> set[str]:
    return set(filter(is_shown, names))


def _is_data(file: Path) -> bool:
    if file.suffix.lower() not in SUFFIXES or file.name.endswith(CELLS) or file.name in _NO_DATA or not file.is_file():
        return False
    if file.suffix.lower() != ".tsv":
        return True
    try:
        with file.open("rb") as lines:
            return lines.readline(2**16).removeprefix(b"\xef\xbb\xbf").rstrip() == _WTQ_HEAD
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}") from error
