"""Hub ids through the real streaming path of `datasets`, which finds the hub's files in a local folder here."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import datasets
import pytest
from fixtures.layouts import LAYOUTS, LEAK, Picture

from iapo.data.hub import open_hub
from iapo.data.loading import Damage, detect, load, strict


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that stands for the hub: `owner/name` is a folder in it."""
    root = tmp_path / "hub"
    load_dataset, split_names = datasets.load_dataset, datasets.get_dataset_split_names

    def here(source: str) -> str:
        if not (root / source).is_dir():
            raise datasets.exceptions.DatasetNotFoundError(f"Dataset '{source}' doesn't exist on the Hub")
        return str(root / source)

    monkeypatch.setattr(datasets, "get_dataset_split_names", lambda source: split_names(here(source)))
    monkeypatch.setattr(
        datasets, "load_dataset", lambda source, **more: load_dataset(here(source), cache_dir=str(tmp_path), **more)
    )
    return root


def upload(hub: Path, source: str, split: str, rows: list[dict[str, Any]]) -> None:
    """Writes rows as the hub keeps them: parquet with the features in its metadata."""
    folder = hub / source / "data"
    folder.mkdir(parents=True, exist_ok=True)

    def plain(value: Any) -> Any:
        if isinstance(value, Picture):
            return {"bytes": value.data, "path": None}
        return [plain(inner) for inner in value] if isinstance(value, list) else value

    table = datasets.Dataset.from_list([{name: plain(value) for name, value in row.items()} for row in rows])
    for name in ("image", "edited_image"):
        if name in table.features:
            table = table.cast_column(name, datasets.Image())
    if "images" in table.features:
        table = table.cast_column("images", datasets.List(datasets.Image()))
    table.to_parquet(folder / f"{split}-00000-of-00001.parquet")


@pytest.mark.parametrize("name", ["refocus-hub", "vtool-json", "chartqa", "vwtq", "charxiv", "ours"])
def test_streams_a_split(name: str, hub: Path):
    layout = LAYOUTS[name]
    rows = layout.rows(layout.samples())
    for row in rows if name == "vtool-json" else ():
        row["metadata"] = json.dumps(row["metadata"])
    upload(hub, "owner/set", "train", rows[:3])
    upload(hub, "owner/set", "test", [{**row, "split": "test"} if "split" in row else row for row in rows[3:]])
    assert detect("owner/set", split="test") == layout.format
    loaded = list(strict(load("owner/set", split="train")))
    for one, made in zip(loaded, layout.samples()[:3], strict=True):
        assert one.image.tobytes() == made.image.tobytes()
        assert (one.question, one.answers) == (made.question, made.answers)
        assert LEAK not in str(one.to_json(image_path=""))
        if layout.boxes is not None:
            assert one.column_boxes == made.column_boxes
            assert one.axis == made.axis
    assert len(list(load("owner/set", split="test"))) == 1


def test_a_damaged_picture_is_one_damaged_row(hub: Path):
    layout = LAYOUTS["refocus-hub"]
    rows = layout.rows(layout.samples())
    data = rows[1]["image"].data
    assert isinstance(data, bytes)
    rows[1]["image"] = Picture(data[:60])
    upload(hub, "owner/set", "train", rows)
    items = list(load("owner/set"))
    assert [isinstance(item, Damage) for item in items] == [False, True, False, False]
    assert str(items[1]).startswith("owner/set/train, row 2 (id 'hbar-train-3-0'): the picture is damaged: ")


def test_structs_that_differ_between_files(hub: Path):
    """`datasets` cannot stream them; a downloaded folder loads."""
    layout = LAYOUTS["vtool-struct"]
    rows = layout.rows(layout.samples())
    upload(hub, "owner/set", "train", rows[:3])
    assert len(list(strict(load("owner/set")))) == 3
    upload(hub, "owner/set", "test", rows[3:])
    with pytest.raises(ValueError, match=r"owner/set/(train|test) broke off after 0 rows: .* give its folder$"):
        [list(load("owner/set", split=split)) for split in ("train", "test")]
    assert [len(list(strict(load(hub / "owner/set", split=split)))) for split in ("train", "test")] == [3, 1]


def test_it_is_a_stream(hub: Path, monkeypatch: pytest.MonkeyPatch):
    """The first samples come without the last row being read."""
    layout = LAYOUTS["chartqa"]
    upload(hub, "owner/set", "train", layout.rows(layout.samples()))
    seen: list[dict[str, Any]] = []
    load_dataset = datasets.load_dataset

    def counted(*arguments: Any, **more: Any) -> Any:
        assert more["streaming"] is True
        return load_dataset(*arguments, **more).filter(lambda row: seen.append(row) is None)

    monkeypatch.setattr(datasets, "load_dataset", counted)
    assert len(list(itertools.islice(load("owner/set", format="chartqa"), 2))) == 2
    assert len(seen) < 4


def test_splits(hub: Path):
    layout = LAYOUTS["vwtq"]
    rows = layout.rows(layout.samples())
    for index, split in enumerate(("vwtq", "vwtq_syn", "vtabfact")):
        upload(hub, "owner/tables", split, rows[index : index + 1])
    (one,) = strict(load("owner/tables", split="vwtq_syn"))
    assert (one.id, one.source) == (rows[1]["qa_id"], "tablevqa/vwtq_syn")
    with pytest.raises(ValueError, match=r"owner/tables has the splits .*vwtq_syn.*; give one of them"):
        load("owner/tables")
    with pytest.raises(ValueError, match="owner/tables has no split 'train'; it has "):
        load("owner/tables", split="train")


def test_validation_has_several_names(hub: Path):
    layout = LAYOUTS["chartqa"]
    rows = layout.rows(layout.samples())
    upload(hub, "owner/charts", "train", rows[:1])
    upload(hub, "owner/charts", "validation", rows[1:])
    assert [one.id for one in strict(load("owner/charts", split="val"))] == [f"validation-{n}" for n in (1, 2, 3)]


def test_rows_that_say_their_split(hub: Path):
    layout = LAYOUTS["refocus-hub"]
    rows = layout.rows(layout.samples())
    rows[1]["split"] = rows[3]["split"] = "test"
    upload(hub, "owner/set", "train", rows)
    # The hub's own split of that name wins over the field, and the field chooses in it.
    assert [one.id for one in strict(load("owner/set", split="test"))] == [rows[1]["id"], rows[3]["id"]]
    assert [one.id for one in strict(load("owner/set", split="train"))] == [rows[0]["id"], rows[2]["id"]]
    assert len(list(load("owner/set"))) == 4
    with pytest.raises(ValueError, match="no row of owner/set belongs to the split 'val'; its rows have test, train"):
        list(load("owner/set", split="val"))


@pytest.mark.parametrize("told", [("human", "augmented"), (0, 1)])
def test_a_field_that_is_no_split(hub: Path, told: tuple[object, ...]):
    layout = LAYOUTS["refocus-hub"]
    rows = layout.rows(layout.samples())
    for row, one in zip(rows, told * 2, strict=True):
        row["split"] = one
    upload(hub, "owner/set", "train", rows)
    assert len(list(strict(load("owner/set", split="train")))) == len(list(strict(load("owner/set")))) == 4


def test_short_floats_are_read_as_they_were_written(hub: Path):
    layout = LAYOUTS["refocus-hub"]
    rows = [{**row, "answer": 0.1} for row in layout.rows(layout.samples())]
    upload(hub, "owner/set", "train", rows)
    (path,) = (hub / "owner/set/data").iterdir()
    table = datasets.Dataset.from_parquet(str(path)).cast_column("answer", datasets.Value("float32"))
    table.to_parquet(path)
    assert {one.answers for one in strict(load("owner/set"))} == {("0.1",)}


def test_what_pandas_wrote_behind_a_filter_is_read(hub: Path):
    layout = LAYOUTS["ours"]
    rows = layout.rows(layout.samples())
    upload(hub, "owner/set", "train", [{**row, "__index_level_0__": 7} for row in rows])
    columns, found = open_hub("owner/set", "train")
    assert columns == rows[0].keys()
    assert {frozenset(one.fields) for one in found} == {columns}


def test_what_the_hub_does_not_have(hub: Path):
    with pytest.raises(ValueError, match="no file or folder 'owner/absent', and the hub does not give it: Dataset 'ow"):
        load("owner/absent")
