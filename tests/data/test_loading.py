"""Every format loads when it is healthy, and says what is wrong, and where, when it is not."""

from __future__ import annotations

import copy
import re
from collections import Counter
from pathlib import Path

import pytest
from fixtures.harm import CASES, FLAWED, VICTIM, Kind, write_damaged
from fixtures.layouts import LAYOUTS, LEAK, Layout, write_parquet

from iapo.data.loading import FORMATS, Damage, detect, load, quarantine, strict
from iapo.data.rows import SOLUTION_COLUMNS, Row, read_rows
from iapo.records import Sample

LAYOUT = pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)


def assert_same(loaded: Sample, made: Sample, layout: Layout) -> None:
    assert loaded.image.tobytes() == made.image.tobytes()
    assert (loaded.question, loaded.answers, loaded.kind) == (made.question, made.answers, made.kind)
    if layout.boxes is None:
        assert not loaded.column_boxes
        assert not loaded.row_boxes
        assert loaded.axis is None
        return
    assert loaded.axis == made.axis
    for ours, theirs in ((loaded.column_boxes, made.column_boxes), (loaded.row_boxes, made.row_boxes)):
        # The fields of a struct have the same order in every row.
        assert list(ours) == list(theirs) or (layout.name == "vtool-struct" and ours.keys() == theirs.keys())
        for name, box in theirs.items():
            assert ours[name] == pytest.approx(box)


def samples_of(path: Path) -> list[Sample]:
    return list(strict(load(path)))


@LAYOUT
def test_healthy_files_load(layout: Layout, tmp_path: Path):
    path = layout.make(tmp_path)
    assert detect(path) == detect(tmp_path) == layout.format
    loaded = samples_of(path)
    for one, made in zip(loaded, layout.samples(), strict=True):
        assert_same(one, made, layout)
    assert len({one.id for one in loaded}) == len(loaded)
    assert [one.id for one in strict(load(tmp_path))] == [one.id for one in loaded]


@LAYOUT
def test_what_gives_the_solution_away_does_not_load(layout: Layout, tmp_path: Path):
    path = layout.make(tmp_path)
    assert all(LEAK not in str(one.to_json(image_path="")) for one in samples_of(path))
    if layout.format == "charxiv":
        # The answers to its other questions.
        return
    for row in read_rows(path):
        assert isinstance(row, Row)
        assert LEAK not in str(row.fields)
        assert not SOLUTION_COLUMNS & row.fields.keys()


@pytest.mark.parametrize(("layout", "kind"), CASES, ids=[f"{layout.name}: {kind.name}" for layout, kind in CASES])
def test_damage_is_said_and_the_rest_loads(layout: Layout, kind: Kind, tmp_path: Path):
    path, row_id = write_damaged(layout, kind, tmp_path)
    items = list(load(path, format=layout.format))
    (damage,) = [item for item in items if isinstance(item, Damage)]
    assert items.index(damage) == VICTIM
    assert damage.row == VICTIM + 1
    assert damage.file == path.name
    assert re.search(kind.reason, damage.reason), damage.reason
    assert damage.reason.count("\n") == 0
    if kind.keeps_id:
        # CharXiv's rows have no id but their figure's path.
        assert damage.id == row_id or layout.id == "figure_path"
    healthy = [made for index, made in enumerate(layout.samples()) if index != VICTIM]
    for one, made in zip([item for item in items if isinstance(item, Sample)], healthy, strict=True):
        assert_same(one, made, layout)


@pytest.mark.parametrize(("layout", "kind"), FLAWED, ids=[f"{layout.name}: {kind.name}" for layout, kind in FLAWED])
def test_a_flawed_box_is_left_out_and_the_row_stays(layout: Layout, kind: Kind, tmp_path: Path):
    path, _ = write_damaged(layout, kind, tmp_path)
    samples = list(strict(load(path, format=layout.format)))
    flawed = samples.pop(VICTIM)
    (flaw,) = flawed.flaws
    assert re.search(kind.reason, flaw), flaw
    assert flaw.endswith("; it is left out")
    made = layout.samples()
    whole = made.pop(VICTIM)
    assert (flawed.question, flawed.answers) == (whole.question, whole.answers)
    first = next(iter(whole.column_boxes))
    assert flawed.column_boxes.keys() == whole.column_boxes.keys() - {first}
    assert flawed.row_boxes.keys() == whole.row_boxes.keys()
    for one, sample in zip(samples, made, strict=True):
        assert_same(one, sample, layout)
        assert not one.flaws


@LAYOUT
def test_names_of_boxes_reach_the_prompt(layout: Layout, tmp_path: Path):
    listed = [sample.list_names for sample in strict(load(layout.make(tmp_path)))]
    own = [sample.list_names for sample in layout.samples()]
    people = {"vtool", "refocus-cot", "refocus-hub", "refocus-boxes"}
    assert listed == ([True] * len(own) if layout.format in people else own)


def test_each_format_has_ten_kinds_of_damage():
    counts = Counter(layout.name for layout, _ in CASES)
    assert counts.keys() == LAYOUTS.keys()
    assert min(counts.values()) >= 10
    # What lies in folders of its own is in test_layouts.py; `refocus` is any of ReFocus' formats.
    assert {layout.format for layout in LAYOUTS.values()} == FORMATS.keys() - {"tabfact", "wtq", "refocus"}


def test_strict_and_quarantine(tmp_path: Path):
    layout, kind = next((layout, kind) for layout, kind in CASES if kind.name == "no answer" and layout.name == "own")
    path, row_id = write_damaged(layout, kind, tmp_path)
    rows = strict(load(path))
    assert [next(rows).id for _ in range(VICTIM)] == [made.id for made in layout.samples()[:VICTIM]]
    with pytest.raises(ValueError, match=rf"own\.jsonl, row 3 \(id '{row_id}'\): the field 'answer' is missing"):
        next(rows)
    kept: list[Damage] = []
    assert len(list(quarantine(load(path), kept.append))) == 3
    assert [damage.row for damage in kept] == [3]


@pytest.mark.parametrize("name", ["vtool-struct", "vtool-json", "refocus-hub", "chartqa", "vwtq", "charxiv"])
def test_a_column_of_a_wrong_type_damages_every_row(name: str, tmp_path: Path):
    layout = LAYOUTS[name]
    rows = copy.deepcopy(layout.rows(layout.samples()))
    for row in rows:
        row[layout.question] = 7
    items = list(load(layout.write(rows, layout.path(tmp_path))))
    assert len(items) == 4
    assert all(isinstance(item, Damage) and "is of type int; it must be text" in item.reason for item in items)


@LAYOUT
def test_a_cut_off_file(layout: Layout, tmp_path: Path):
    path = layout.make(tmp_path)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    if layout.suffix == ".jsonl":
        # Its first rows are whole.
        assert isinstance(list(load(path))[-1], Damage)
        return
    with pytest.raises(ValueError, match=r"cannot be read as parquet|has no readable row: the file is not JSON"):
        load(path)
    (damage,) = load(path, format=layout.format)
    assert isinstance(damage, Damage)
    assert damage.row == 0
    assert re.fullmatch(rf"{path.name}, the file (is not JSON|cannot be read as parquet): .+", str(damage))


@LAYOUT
def test_an_unknown_format(layout: Layout, tmp_path: Path):
    path = layout.path(tmp_path)
    write = write_parquet if layout.suffix == ".parquet" else layout.write
    write([{"key": "k", "this": 1, "that": "x"}], path.with_stem("x"))
    path = path.with_stem("x")
    with pytest.raises(ValueError, match=r"cannot tell the format of .*, whose columns are .*that, this: "):
        load(path)
    with pytest.raises(ValueError, match="unknown format 'csv'; use one of iapo, vtool"):
        load(path, format="csv")


def test_what_is_not_there(tmp_path: Path):
    with pytest.raises(ValueError, match=r"there is no file 'data/absent\.parquet'"):
        load("data/absent.parquet")
    with pytest.raises(ValueError, match="there is no file or folder 'absent', and it is no hub id"):
        load("absent")
    with pytest.raises(ValueError, match=r"holds no data file; there must be one that ends in \.parquet"):
        load(tmp_path)
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(ValueError, match=r"notes\.txt is no data file"):
        load(tmp_path / "notes.txt")
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(ValueError, match="has no readable row; it is empty"):
        load(tmp_path / "empty.jsonl")
