"""Folders: which files are data, and to which split they belong."""

from __future__ import annotations

import contextlib
import copy
import itertools
import json
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fixtures.layouts import LAYOUTS, Layout

from iapo.data.choosing import choose
from iapo.data.damage import RowError
from iapo.data.files import files_of, split_of
from iapo.data.loading import Damage, detect, load, splits_of, strict
from iapo.errors import InputError
from iapo.records import Sample


def write(layout: Layout, path: Path, rows: slice) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return layout.write(layout.rows(layout.samples())[rows], path)


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train_full.parquet", "train"),
        ("val_full.parquet", "validation"),
        ("table_test.parquet", "test"),
        ("test-00000-of-00002.parquet", "test"),
        ("test-00001-of-00002-0123456789abcdef.parquet", "test"),
        ("vwtq_syn-00000-of-00001.parquet", "vwtq_syn"),
        ("chartQA_h_bar_wbb.json", "chartQA_h_bar_wbb"),
        ("contest.jsonl", "contest"),
        ("Train.jsonl", "train"),
        ("training.jsonl", "train"),
        ("TESTING-00000-of-00001.parquet", "test"),
        ("development.jsonl", "validation"),
        ("world_development.jsonl", "world_development"),
        ("training_loss.jsonl", "training_loss"),
        ("mytraining.jsonl", "mytraining"),
        ("train_vs_test.jsonl", "train_vs_test"),
    ],
)
def test_split_of(name: str, split: str):
    assert split_of(Path(name)) == split


def test_vtool_folder(tmp_path: Path):
    charts, tables = LAYOUTS["vtool-json"], LAYOUTS["vtool-table"]
    write(charts, tmp_path / "train_full.parquet", slice(0, 2))
    write(charts, tmp_path / "test_full.parquet", slice(2, 3))
    write(tables, tmp_path / "table_train.parquet", slice(0, 4))
    assert [one.kind for one in strict(load(tmp_path, split="train"))] == ["table"] * 4 + ["chart"] * 2
    assert [one.kind for one in strict(load(tmp_path, split="train_full"))] == ["chart"] * 2
    assert [one.kind for one in strict(load(tmp_path, split="test"))] == ["chart"]
    assert detect(tmp_path) == "vtool"
    with pytest.raises(ValueError, match=r"has the splits train, test; give one of them"):
        load(tmp_path)
    with pytest.raises(ValueError, match=r"has no split 'validation'; it has train, test"):
        load(tmp_path, split="validation")


def test_shards_are_one_split(tmp_path: Path):
    """Rows without ids are numbered over all shards, as on the hub."""
    layout = LAYOUTS["chartqa"]
    write(layout, tmp_path / "data/test-00000-of-00002.parquet", slice(0, 1))
    write(layout, tmp_path / "data/test-00001-of-00002.parquet", slice(1, 4))
    assert [one.id for one in strict(load(tmp_path))] == ["test-1", "test-2", "test-3", "test-4"]


def test_a_broken_shard_is_damage(tmp_path: Path):
    layout = LAYOUTS["chartqa"]
    write(layout, tmp_path / "test-00001-of-00002.parquet", slice(1, 4))
    (tmp_path / "test-00000-of-00002.parquet").write_bytes(b"PAR1")
    first, *others = load(tmp_path)
    assert isinstance(first, Damage)
    assert first.file == "test-00000-of-00002.parquet"
    assert not any(isinstance(item, Damage) for item in others)
    assert len(others) == 3


def test_ids_are_unique_over_all_files(tmp_path: Path):
    layout = LAYOUTS["own"]
    write(layout, tmp_path / "a_train.jsonl", slice(0, 2))
    write(layout, tmp_path / "b_train.jsonl", slice(1, 3))
    assert [str(item) for item in load(tmp_path) if isinstance(item, Damage)] == [
        "b_train.jsonl, row 1 (id 'hbar-train-3-0'): the id was already used in row 2 of a_train.jsonl"
    ]


def test_a_file_of_another_split(tmp_path: Path):
    layout = LAYOUTS["own"]
    path = write(layout, tmp_path / "test.jsonl", slice(0, 2))
    assert len(list(load(path, split="test"))) == 2
    with pytest.raises(ValueError, match=r"test\.jsonl holds the split 'test' by its name, not 'train'"):
        load(path, split="train")
    other = write(layout, tmp_path / "charts.jsonl", slice(0, 2))
    assert len(list(load(other, split="train"))) == 2


def test_lines_that_say_their_split(tmp_path: Path):
    layout = LAYOUTS["own"]
    rows = copy.deepcopy(layout.rows(layout.samples()))
    for row, split in zip(rows, ("train", "dev", "train", "test"), strict=True):
        row["split"] = split
    layout.write(rows, tmp_path / "charts.jsonl")
    assert [len(list(load(tmp_path, split=split))) for split in ("train", "validation", "test")] == [2, 1, 1]
    assert splits_of(tmp_path) == splits_of(tmp_path / "charts.jsonl") == ["train", "validation", "test"]
    for source in (tmp_path, tmp_path / "charts.jsonl"):
        with pytest.raises(ValueError, match=r"have the splits train, validation, test; give one of them"):
            load(source)


@pytest.mark.parametrize("ending", ["jsonl", "json", "parquet"])
def test_splits_of_rows_however_they_are_spelt(tmp_path: Path, ending: str):
    layout = LAYOUTS["own"]
    row = layout.rows(layout.samples())[0]
    told = [None, "train", "Train", "TRAIN", "training", " train ", "", "test", "Testing", "val", "dev", "own"]
    rows = [{**row, "id": str(number), "split": one} for number, one in enumerate(told)]
    path = layout.write(rows, tmp_path / "all.jsonl")
    if ending != "jsonl":
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        path.unlink()
        if ending == "json":
            (tmp_path / "all.json").write_text(json.dumps(lines))
        else:
            pq.write_table(pa.Table.from_pylist(lines), tmp_path / "all.parquet")
    found = {split: list(load(tmp_path, split=split)) for split in ("train", "TRAIN", "test", "validation", "Own")}
    loaded = {split: [one.id for one in items if isinstance(one, Sample)] for split, items in found.items()}
    assert loaded == {
        "train": list("12345"),
        "TRAIN": list("12345"),
        "test": ["7", "8"],
        "validation": ["9", "10"],
        "Own": ["11"],
    }
    for items in found.values():
        damages = [one for one in items if isinstance(one, Damage)]
        assert [one.row for one in damages] == [1, 7]
        assert all("the field 'split' is empty, and other rows name one" in one.reason for one in damages)


def test_splits_that_are_no_text(tmp_path: Path):
    layout = LAYOUTS["own"]
    row = layout.rows(layout.samples())[0]
    rows = [{**row, "id": str(number), "split": one} for number, one in enumerate((0, ["train"], True, "train"))]
    layout.write(rows, tmp_path / "train.jsonl")
    found = list(load(tmp_path, split="train"))
    assert [isinstance(one, Damage) for one in found] == [True, True, True, False]
    assert "the field 'split' is of type list; it must be text" in str(found[1])


def test_rows_that_name_no_split(tmp_path: Path):
    layout = LAYOUTS["own"]
    row = layout.rows(layout.samples())[0]
    empty = [{**row, "id": str(number), "split": one} for number, one in enumerate((None, "", " "))]
    layout.write([*empty, {**row, "id": "x"}], tmp_path / "all.jsonl")
    assert len(list(strict(load(tmp_path, split="train")))) == len(list(strict(load(tmp_path)))) == 4
    # The file's name tells it of those that do not.
    layout.write([*empty, {**row, "id": "x", "split": "train"}], tmp_path / "all.jsonl")
    (tmp_path / "all.jsonl").rename(tmp_path / "train.jsonl")
    assert len(list(strict(load(tmp_path, split="train")))) == len(list(strict(load(tmp_path)))) == 4
    split = [{**row, "id": "x", "split": "test"}, *empty]
    layout.write(split, tmp_path / "train.jsonl")
    assert [one.id for one in strict(load(tmp_path, split="train"))] == ["0", "1", "2"]


def test_what_is_no_data(tmp_path: Path):
    layout = LAYOUTS["own"]
    path = write(layout, tmp_path / "own.jsonl", slice(0, 4))
    for name in (
        ".cache/old.jsonl",
        "__MACOSX/train.jsonl",
        "@eaDir/train.jsonl",
        "dataset_info.json",
        "own.quarantine.jsonl",
        "own.damaged.jsonl",
        "picture.png",
        "README.md",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(json.dumps({"x": 1}))
    assert files_of(tmp_path) == [path]
    assert [*choose(tmp_path, "train").files] == [path]


def test_values_between_tabs_are_data_of_one_format_alone(tmp_path: Path):
    """A folder with another file of them is not told that such a file is what is missing."""
    (tmp_path / "train.tsv").write_text("image\tquestion\nbars.png\thow?\n")
    with pytest.raises(InputError) as refused:
        files_of(tmp_path)
    said = str(refused.value)
    assert "must be one that ends in .parquet, .jsonl, .json, or a .tsv as WikiTableQuestions has them" in said
    assert "id, utterance, context, targetValue with tabs between" in said
    (tmp_path / "train.tsv").write_text("id\tutterance\tcontext\ttargetValue\n")
    assert files_of(tmp_path) == [tmp_path / "train.tsv"]


@pytest.mark.parametrize("mark", [" (1)", "_v2", " - Copy", " copy 2", ".bak", "_old", "_orig"])
def test_copies_do_not_count_twice(tmp_path: Path, mark: str):
    layout = LAYOUTS["own"]
    write(layout, tmp_path / "a_train.jsonl", slice(0, 2))
    write(layout, tmp_path / f"a_train{mark}.jsonl", slice(2, 4))
    for split in ("train", None):
        with pytest.raises(
            InputError, match=r"is by its name a copy of a_train\.jsonl beside it, .* --split 'a_train'$"
        ):
            load(tmp_path, split=split)
    assert len(list(strict(load(tmp_path, split="a_train")))) == 2
    assert len(list(strict(load(tmp_path, split=f"a_train{mark}")))) == 2


@pytest.mark.parametrize(
    "others", [("b_train", "a_train_2"), ("a_train_full", "a_train_new"), ("train_v2", "train_v3")]
)
def test_what_is_no_copy(tmp_path: Path, others: tuple[str, ...]):
    layout = LAYOUTS["own"]
    for place, name in enumerate(("a_train", *others)):
        write(layout, tmp_path / f"{name}.jsonl", slice(place, place + 1))
    assert len(list(strict(load(tmp_path, split="train")))) == 3


NAMES = (
    ("train",),
    ("my_train",),
    ("test",),
    ("development",),
    ("world_development",),
    ("data",),
    ("train", "test"),
    ("train", "data"),
    ("data", "more"),
    ("train", "train_v2"),
    ("test", "testing"),
    ("my_train", "your_train"),
    ("human", "augmented"),
    ("train", "train_extra"),
    ("a/data", "b/data"),
    ("train/data", "test/data"),
    ("train/data", "train"),
    ("data", "Data"),
)
ROWS: tuple[tuple[object, ...], ...] = (
    ("human", "augmented"),
    ("a", "b", "c"),
    ("train", "test"),
    ("train", "human"),
    ("Train", None),
    ("validation", "validation"),
    ("data", "more"),
    (0, 1),
    (True, False),
    ("train", 1),
    (None, None),
)
ASKED = (None, "train", "test", "val", "human", "data", "my_train", "testing", "nothing")


def taken(path: Path, split: str | None) -> list[object] | str:
    """Returns what the rows of a split say of theirs, without damaged ones, or the sentence that refuses it."""
    try:
        chosen = choose(path, split)
    except InputError as error:
        return str(error)
    splits = chosen.rows()
    told: list[object] = []
    for row in chosen.read():
        assert not isinstance(row, Damage)
        with contextlib.suppress(RowError):
            told += [row.fields["split"]] if splits.takes(row) else []
    return told


def proposed(said: str, path: Path) -> list[tuple[Path, str | None]]:
    """Returns the calls that a refusal proposes."""
    file = re.search(r"such as (?:(\S+) with )?--split '([^']+)'$", said)
    if file:
        return [(Path(file[1]) if file[1] else path, file[2])]
    if "numbers" in said:
        return [(path, None)]
    if said.endswith("or give one of the files, or no split"):
        return [(path, None)]
    own = re.search(r"; give '(\w+)', or no split$", said)
    if own:
        return [(path, own[1]), (path, None)]
    listed = re.search(r"(?:has|have)(?: the splits)? ([^;]+)(?:; give one of them)?$", said)
    assert listed, said
    return [(path, one) for one in listed[1].split(", ")]


@pytest.mark.slow(2)
@pytest.mark.parametrize("names", NAMES)
def test_no_split_is_a_dead_end(tmp_path: Path, names: tuple[str, ...]):
    """What a refusal names can be asked for, and what a listing has, too."""
    for number, (told, others) in enumerate(itertools.product(ROWS, ROWS if len(names) > 1 else ROWS[:1])):
        folder = tmp_path / str(number)
        folder.mkdir()
        for name, some in zip(names, (told, others), strict=False):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / f"{name}.jsonl").write_text("".join(json.dumps({"split": one}) + "\n" for one in some))
        for path in (folder, *files_of(folder)):
            listed = splits_of(path)
            for split in (*ASKED, *listed):
                found = taken(path, split)
                if not isinstance(found, str):
                    assert found
                    continue
                for place, other in proposed(found, path):
                    again = taken(place, other)
                    if isinstance(again, str):
                        # A listed split may still be of files that are copies; how one is given is said then.
                        assert "move one of them away" in again
                        assert again != found
                        ((place, other),) = proposed(again, path)
                        again = taken(place, other)
                    assert again, (told, others, split, found)
                    assert not isinstance(again, str), (told, others, split, found)


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
@pytest.mark.parametrize("told", [("human", "augmented"), ("easy", None), (0, 1), (True, False)])
def test_a_field_that_is_no_split(tmp_path: Path, ending: str, told: tuple[object, ...]):
    layout = LAYOUTS["own"]
    row = layout.rows(layout.samples())[0]
    rows = [{**row, "id": str(number), "split": one} for number, one in enumerate(told)]
    path = layout.write(rows, tmp_path / "my_train.jsonl")
    if ending == "parquet":
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        path.unlink()
        path = path.with_suffix(".parquet")
        pq.write_table(pa.Table.from_pylist(lines), path)
    for source in (path, tmp_path):
        for split in (None, "train", "my_train"):
            assert len(list(strict(load(source, split=split)))) == 2
        assert splits_of(source) == [None]
    with pytest.raises(InputError, match=r"split 'train' by its name, not 'human'; give 'train', or no split$"):
        load(path, split="human")


def test_numbers_tell_no_split(tmp_path: Path):
    layout = LAYOUTS["own"]
    row = layout.rows(layout.samples())[0]
    path = layout.write([{**row, "id": str(number), "split": number} for number in (0, 1)], tmp_path / "all.jsonl")
    assert len(list(strict(load(path)))) == 2
    with pytest.raises(InputError, match=r"'split' of .*all\.jsonl holds numbers, .*; give no split"):
        load(path, split="train")


def test_rows_of_a_split_that_their_file_does_not_tell(tmp_path: Path):
    layout = LAYOUTS["own"]
    row = layout.rows(layout.samples())[0]
    rows = [{**row, "id": str(number), "split": one} for number, one in enumerate(("train", "test", "train", None))]
    path = layout.write(rows, tmp_path / "train.jsonl")
    for source in (path, tmp_path):
        found = {split: [one.id for one in strict(load(source, split=split))] for split in ("train", "test")}
        assert found == {"train": ["0", "2", "3"], "test": ["1"]}
        assert splits_of(source) == ["train", "test"]
        with pytest.raises(InputError, match="have the splits train, test; give one of them"):
            load(source)


def test_two_words_for_a_split(tmp_path: Path):
    layout = LAYOUTS["own"]
    for place, name in enumerate(("test", "testing")):
        write(layout, tmp_path / f"{name}.jsonl", slice(place, place + 1))
    for split in (None, "Test", "test", "testing"):
        with pytest.raises(
            InputError, match=r"test\.jsonl and \S+testing\.jsonl both tell .* such as \S+test\.jsonl with"
        ):
            load(tmp_path, split=split)
    assert [len(list(strict(load(tmp_path / f"{name}.jsonl", split="test")))) for name in ("test", "testing")] == [1, 1]


def test_split_columns_that_python_cannot_hold(tmp_path: Path):
    given = {"image": ["a.png"] * 3, "question": ["how?"] * 3, "answer": ["1"] * 3}
    broken = pa.array([b"train", b"\xff", b"test"]).view(pa.string())
    pq.write_table(pa.table({**given, "split": broken}), tmp_path / "all.parquet")
    assert splits_of(tmp_path) == ["train", "test"]
    times = pa.array([2**62, 1, None], pa.timestamp("us"))
    pq.write_table(pa.table({**given, "split": times}), tmp_path / "all.parquet")
    assert len(list(load(tmp_path))) == 3
    with pytest.raises(InputError, match="holds no texts"):
        load(tmp_path, split="train")
