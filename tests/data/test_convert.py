"""`convert` and `make`: what is written, what is put aside, what is refused."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from own import DAMAGED, MIXED, row, write

from iapo.data.convert import convert, make
from iapo.data.loading import detect, load, strict
from iapo.data.rows import read_rows
from iapo.data.synthetic import generate
from iapo.records import Sample


def records(path: Path) -> list[dict[str, object]]:
    return [sample.to_json() for sample in strict(load(path))]


def test_healthy_rows_are_written_and_damaged_ones_listed(tmp_path: Path):
    source = write(tmp_path / "own", MIXED)
    out = tmp_path / "out" / "own.parquet"
    done = convert(str(source), out)
    assert (done.samples, done.damaged) == (3, 4)
    healthy = [one.to_json() for one in load(source) if isinstance(one, Sample)]
    assert records(out) == healthy
    assert detect(out) == "iapo"
    assert done.quarantine == tmp_path / "out" / "own.parquet.damaged.jsonl"
    listed = [json.loads(line) for line in done.quarantine.read_text().splitlines()]
    assert [one["row"] for one in listed] == list(DAMAGED)
    assert [one["id"] for one in listed] == ["gone", "unanswered", None, None]
    for one, reason in zip(listed, DAMAGED.values(), strict=True):
        assert reason in one["reason"]
    # The list is no data: the folder loads as before.
    assert [sample.id for sample in strict(load(out.parent))] == [one["id"] for one in healthy]
    assert len(list(out.parent.iterdir())) == 2


def test_no_list_where_nothing_is_damaged(tmp_path: Path):
    done = convert(str(write(tmp_path, [row("a"), row("b")])), tmp_path / "a.parquet")
    assert (done.samples, done.damaged, done.quarantine) == (2, 0, None)
    assert not (tmp_path / "a.parquet.damaged.jsonl").exists()


@pytest.mark.parametrize(
    ("rows", "refuse", "sentence"),
    [
        (MIXED, True, r"own.jsonl, row 2 \(id 'gone'\): there is no picture 'gone.png'"),
        ([row("a", image="gone.png")], False, "no row of .* gives a sample; iapo data check .* says why"),
    ],
)
def test_a_refused_file_leaves_nothing(
    rows: list[dict[str, object] | str], refuse: bool, sentence: str, tmp_path: Path
):
    source = write(tmp_path / "own", rows)
    out = tmp_path / "out" / "own.parquet"
    with pytest.raises(ValueError, match=sentence):
        convert(str(source), out, refuse_damage=refuse)
    assert not list(out.parent.iterdir())


@pytest.mark.parametrize("name", ["own.parquet", "own.parquet.damaged.jsonl"])
def test_nothing_is_overwritten(name: str, tmp_path: Path):
    source = write(tmp_path / "own", MIXED)
    (tmp_path / name).write_text("mine")
    with pytest.raises(ValueError, match=f"{name} already exists; remove it or give another name"):
        convert(str(source), tmp_path / "own.parquet")
    assert (tmp_path / name).read_text() == "mine"


def test_finds_boxes_where_there_are_none(tmp_path: Path):
    source = write(
        tmp_path, [row("boxed", column_boxes={"a": [1, 2, 3, 4]}), row("bare"), row("blank", image="blank.png")]
    )
    done = convert(str(source), tmp_path / "out.parquet", find_boxes=True)
    assert done.boxed == 1
    assert done.boxless == {"there are no two bars of one width on one base line": 1}
    boxed, bare, blank = strict(load(tmp_path / "out.parquet"))
    assert dict(boxed.column_boxes) == {"a": (1, 2, 3, 4)}
    assert (list(bare.column_boxes), bare.axis) == (["1", "2", "3"], "columns")
    assert not blank.column_boxes
    assert not blank.row_boxes
    plain = convert(str(source), tmp_path / "plain.parquet")
    assert (plain.boxed, plain.boxless.total()) == (0, 0)
    assert not [sample for sample in strict(load(tmp_path / "plain.parquet")) if sample.id == "bare" and sample.axis]


def test_a_file_is_never_in_memory_as_a_whole(tmp_path: Path):
    path = tmp_path / "large.parquet"
    with pq.ParquetWriter(path, pa.schema([("id", pa.string()), ("image", pa.binary())]), compression="none") as writer:
        for group in range(40):
            rows = [{"id": f"{group}-{index}", "image": os.urandom(100_000)} for index in range(5)]
            writer.write_table(pa.Table.from_pylist(rows))
    before = pa.total_allocated_bytes()
    most = max(pa.total_allocated_bytes() - before for _ in read_rows(path))
    assert most < path.stat().st_size / 4


def test_make_writes_what_generate_yields(tmp_path: Path):
    out = tmp_path / "made.parquet"
    assert make("vwtq", 3, out, seed=4, split="test") == 3
    assert records(out) == [sample.to_json() for sample in generate("vwtq", 3, seed=4, split="test")]


@pytest.mark.parametrize(
    ("family", "count", "name", "sentence"),
    [
        ("pie", 1, "a.parquet", "unknown family 'pie'"),
        ("vbar", 0, "a.parquet", "number of samples is 0; give at least 1"),
        ("vbar", 1, "a.csv", "name that ends in .parquet"),
    ],
)
def test_make_refuses(family: str, count: int, name: str, sentence: str, tmp_path: Path):
    with pytest.raises(ValueError, match=sentence):
        make(family, count, tmp_path / name)
    assert not list(tmp_path.iterdir())
