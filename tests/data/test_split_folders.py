"""Splits of folders: every row is of one split, under one id, or the folder is refused with the way out."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from iapo.data.check import check
from iapo.data.loading import load, splits_of, strict
from iapo.errors import InputError


def write_own(path: Path, texts: Sequence[str], *, ids: bool = False, split: str | None = None) -> None:
    """Writes rows of the format `own` with these questions, in the shape that the file's ending says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (32, 32), "white").save(path.parent / "a.png")
    told = {} if split is None else {"split": split}
    rows = [{"image": "a.png", "question": one, "answer": "1", **told, **({"id": one} if ids else {})} for one in texts]
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        path.write_text(json.dumps(rows) if path.suffix == ".json" else "".join(json.dumps(one) + "\n" for one in rows))


def read_split(path: Path, split: str | None) -> dict[str, str]:
    """Returns the ids of a split's samples, by their questions."""
    items = list(strict(load(path, split=split)))
    found = {one.question: one.id for one in items}
    assert len(found) == len(set(found.values())) == len(items)
    return found


@pytest.mark.parametrize(
    ("train", "test", "ids"),
    [
        ("train/data.jsonl", "test/data.jsonl", ("train/data-1", "test/data-1")),
        ("default/train/0000.parquet", "default/test/0000.parquet", ("default/train/0000-1", "default/test/0000-1")),
        ("train_charts/all.json", "TEST/all.json", ("train_charts/all-1", "TEST/all-1")),
        ("train/a/x.jsonl", "test/a/y.jsonl", ("x-1", "y-1")),
        ("test/train/x.jsonl", "train/test/x.jsonl", ("test/train/x-1", "train/test/x-1")),
        ("test/train_x.jsonl", "train/test_x.jsonl", ("train_x-1", "test_x-1")),
        ("training/train_vs_test.jsonl", "testing/data.jsonl", ("train_vs_test-1", "data-1")),
    ],
)
def test_folders_tell_splits(train: str, test: str, ids: tuple[str, str], tmp_path: Path) -> None:
    write_own(tmp_path / train, ["one"])
    write_own(tmp_path / test, ["two"])
    assert sorted(filter(None, splits_of(tmp_path))) == ["test", "train"]
    assert (read_split(tmp_path, "train"), read_split(tmp_path, "test")) == ({"one": ids[0]}, {"two": ids[1]})
    with pytest.raises(InputError, match="; give one of them"):
        load(tmp_path)
    # Of a file that is given itself the folder tells nothing.
    stem = Path(train).stem
    assert read_split(tmp_path / train, None) == {"one": f"{stem}-1"}


def test_files_of_one_name_in_folders_that_tell_no_split(tmp_path: Path) -> None:
    write_own(tmp_path / "a" / "data.jsonl", ["one"])
    write_own(tmp_path / "b" / "data.jsonl", ["two"])
    assert read_split(tmp_path, None) == read_split(tmp_path, "data") == {"one": "a/data-1", "two": "b/data-1"}
    write_own(tmp_path / "train" / "data.jsonl", ["three"])
    assert read_split(tmp_path, "data") == {"one": "a/data-1", "two": "b/data-1"}
    assert read_split(tmp_path, "train") == {"three": "train/data-1"}
    (tmp_path / "train" / "data.jsonl").unlink()
    with pytest.raises(InputError, match=r"neither their folders nor their rows say which .* the split 'test'"):
        load(tmp_path, split="test")


@pytest.mark.parametrize("ending", ["parquet", "jsonl", "json"])
def test_made_ids_of_shards_differ(ending: str, tmp_path: Path) -> None:
    for number, texts in enumerate((["one", "two"], ["three"])):
        write_own(tmp_path / f"train-{number:05}-of-00002.{ending}", texts)
    expected = {"one": "0-of-00002-1", "two": "0-of-00002-2", "three": "1-of-00002-1"}
    assert read_split(tmp_path, "train") == {text: f"train-0000{made}" for text, made in expected.items()}
    assert read_split(tmp_path / f"train-00001-of-00002.{ending}", "train") == {"three": "train-1"}


@pytest.mark.parametrize(
    ("files", "split", "reason"),
    [
        ({"train": None, "more": "train"}, "train", r"train\.jsonl tells the split .* and \S+more\.jsonl by its rows"),
        ({"val": None, "test": "val"}, "validation", r"val\.jsonl tells the split .* and \S+test\.jsonl by its rows"),
        ({"train/data": None, "more": "train"}, "train", r"train/data\.jsonl tells .* and \S+more\.jsonl by its rows"),
        ({"human": None, "more": "human"}, "human", r"human\.jsonl tells the split .* and \S+more\.jsonl by its rows"),
        ({"TEST": None, "test": None}, "test", r"TEST\.jsonl and test\.jsonl beside it have one name"),
        ({"train": None, "train_extra": None}, "train", r"train\.jsonl and \S+train_extra\.jsonl both tell the split"),
        ({"val": None, "dev": None}, "val", r"dev\.jsonl and \S+val\.jsonl both tell the split 'validation'"),
        ({"train": None, "train/data": None}, "train", r"train\.jsonl and \S+train/data\.jsonl both tell the split"),
        ({"train": None, "train (1)": None}, "train", r"is by its name a copy of train\.jsonl beside it"),
    ],
)
def test_no_row_of_a_split_is_passed_over(
    files: dict[str, str | None], split: str, reason: str, tmp_path: Path
) -> None:
    for name, told in files.items():
        write_own(tmp_path / f"{name}.jsonl", [name], split=told)
    with pytest.raises(InputError, match=reason) as refused:
        load(tmp_path, split=split)
    with pytest.raises(InputError, match=r"some rows may|would count twice"):
        check(str(tmp_path))
    # What it proposes is one of the files.
    proposed = re.search(r"such as (?:(\S.*) with )?--split '(.*)'$", str(refused.value))
    assert proposed
    assert len(read_split(Path(proposed[1] or tmp_path), proposed[2])) == 1


def test_a_name_that_is_a_split_in_another_case(tmp_path: Path) -> None:
    write_own(tmp_path / "data.jsonl", ["one"], split="test")
    write_own(tmp_path / "Data.jsonl", ["two"])
    assert (read_split(tmp_path, "test"), read_split(tmp_path, "Data")) == ({"one": "data-1"}, {"two": "Data-1"})
    with pytest.raises(InputError, match=r"data\.jsonl tells the split 'data' .* and \S+Data\.jsonl by its name"):
        load(tmp_path, split="data")


@pytest.mark.parametrize("second", ["x_train.parquet", "x_train-00000-of-00002.jsonl", "X_TRAIN.jsonl"])
def test_two_forms_of_one_file_do_not_count_twice(second: str, tmp_path: Path) -> None:
    write_own(tmp_path / "x_train.jsonl", ["one"])
    write_own(tmp_path / second, ["two"])
    for split in (None, "train"):
        with pytest.raises(InputError, match="beside it have one name, so that some rows may count twice"):
            load(tmp_path, split=split)


def test_parts_of_sets_of_other_sizes_do_not_count_twice(tmp_path: Path) -> None:
    for number, name in enumerate(("test-00000-of-00002", "test-00001-of-00002", "test-00002-of-00003-0a1b")):
        write_own(tmp_path / f"{name}.jsonl", [str(number)])
    with pytest.raises(InputError, match="beside it have one name"):
        load(tmp_path)
    (tmp_path / "test-00002-of-00003-0a1b.jsonl").unlink()
    assert len(read_split(tmp_path, None)) == 2


FOLDERS = ("", "", "train", "test", "default/val", "a", "b/train_charts", "Test")
FILES = (
    "train", "test", "val", "dev", "data", "all", "more", "0000", "my_train", "train_extra", "test_human", "Train",
    "train-00000-of-00002", "train-00001-of-00002", "data-00000-of-00002", "data-00001-of-00002",
)  # fmt: skip


@pytest.mark.slow(1)
@pytest.mark.parametrize("seed", range(4))
def test_every_row_is_of_one_split_or_the_folder_is_refused(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(seed)
    monkeypatch.setattr("iapo.data.check.say", lambda line: None)
    counts = {"read": 0, "refused": 0}
    for number in range(40):
        folder = tmp_path / str(number)
        written: list[str] = []
        fields = chance.random() < 0.4
        for file in chance.sample(FILES, chance.choice((1, 2, 2, 3))):
            place = folder / chance.choice(FOLDERS) / f"{file}.{chance.choice(('jsonl', 'json', 'parquet'))}"
            texts = [f"{place.relative_to(folder)} {row}" for row in range(chance.choice((1, 2, 3)))]
            told = (
                chance.choice(("train", "Test", "val", "data", "human")) if fields and chance.random() < 0.7 else None
            )
            write_own(place, texts, ids=chance.random() < 0.3, split=told)
            written += texts
        splits = splits_of(folder)
        try:
            found = {split: read_split(folder, split) for split in splits}
        except InputError:
            with pytest.raises(InputError, match="count twice"):
                check(str(folder))
            counts["refused"] += 1
            continue
        assert sorted(text for some in found.values() for text in some) == sorted(written)
        ids = [made for some in found.values() for made in some.values()]
        assert len(ids) == len(set(ids))
        counted = {split: (one.samples, one.damaged) for split, one in check(str(folder)).items()}
        assert counted == {split or "all": (len(some), 0) for split, some in found.items()}
        counts["read"] += 1
    assert min(counts.values()) >= 5
