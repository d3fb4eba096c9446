"""Files that are there and cannot be read as they should: a damaged row or one sentence."""

from __future__ import annotations

import base64
import io
import os
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image, UnidentifiedImageError

from iapo.data.choosing import expected_rows
from iapo.data.convert import make
from iapo.data.damage import RowError
from iapo.data.loading import Damage, load
from iapo.data.pictures import read_picture
from iapo.errors import InputError
from iapo.records import Sample, image_from_text

YEAR_140000 = 2**62
STORED = {
    "timestamp": pa.array([YEAR_140000, 0], pa.timestamp("us")),
    "seconds": pa.array([YEAR_140000, 0], pa.duration("s")),
    "date": pa.array([2**31 - 1, 0], pa.date32()),
    "in a list": pa.array([[YEAR_140000], [0]], pa.list_(pa.timestamp("ms"))),
}


@pytest.fixture
def table(tmp_path: Path) -> pa.Table:
    make("vbar", 2, tmp_path / "made.parquet")
    return pq.read_table(tmp_path / "made.parquet")


def written(table: pa.Table, folder: Path) -> Path:
    path = folder / "x.parquet"
    pq.write_table(table, path)
    return path


@pytest.mark.parametrize("name", STORED)
def test_times_that_python_cannot_hold(name: str, table: pa.Table, tmp_path: Path):
    found = list(load(written(table.append_column("when", STORED[name]), tmp_path)))
    assert [type(item) for item in found] == [Damage, Sample]
    assert "column 'when' holds a value that Python cannot hold" in str(found[0])


def test_a_column_whose_name_is_no_text(table: pa.Table, tmp_path: Path):
    """A few bytes of the footer are damaged, where a name stands; pyarrow finds that out where it likes to."""
    path = written(table, tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"question", b"\x9a\xffestion"))
    assert path.read_bytes() != whole
    (item,) = load(path, format="iapo")
    assert isinstance(item, Damage)
    with pytest.raises(InputError, match="cannot be read as parquet"):
        load(path)
    assert expected_rows(str(path), None) in (None, 2)


def test_two_columns_of_one_name(table: pa.Table, tmp_path: Path):
    """Either of them could be meant."""
    path = written(table.append_column("question", pa.array(["other"] * 2)), tmp_path)
    with pytest.raises(InputError, match="two columns 'question'"):
        load(path)
    (item,) = load(path, format="iapo")
    assert isinstance(item, Damage)
    assert "two columns 'question'" in item.reason


@pytest.mark.parametrize("name", [None, "id"])
def test_what_pandas_writes_behind_a_filter_is_read(name: str | None, tmp_path: Path):
    """An index without a name is a column that the format does not know; one with a name is the data's own."""
    Image.new("RGB", (64, 64), "white").save(tmp_path / "a.png")
    index = pd.Index(["x", "y", "z"], name=name)
    frame = pd.DataFrame({"image": ["a.png"] * 3, "question": ["how?"] * 3, "answer": ["1", "2", "3"]}, index=index)
    path = tmp_path / "train.parquet"
    frame[frame["answer"] != "2"].to_parquet(path)
    assert pq.read_schema(path).names[-1] == (name or "__index_level_0__")
    found = list(load(path))
    assert [one.answers for one in found if isinstance(one, Sample)] == [("1",), ("3",)]
    assert [one.id for one in found] == (["x", "z"] if name else ["train-1", "train-2"])
    # Whoever gives a column of their own that name means something by it.
    table = pq.read_table(path).replace_schema_metadata({})
    damaged = list(load(written(table.rename_columns([*table.column_names[:-1], "__index_level_0__"]), tmp_path)))
    assert [type(one) for one in damaged] == [Damage, Damage]
    assert "__index_level_0__" in str(damaged[0])


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".tsv", ".parquet"])
def test_a_file_that_may_not_be_read(suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (path := tmp_path / f"x{suffix}").write_text("{}")

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    for name in ("open", "read_bytes"):
        monkeypatch.setattr(Path, name, refuse)
    monkeypatch.setattr(pq, "read_schema", refuse)
    with pytest.raises(InputError, match="cannot be read"):
        load(path)


def test_a_folder_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "x.jsonl").write_text("{}")

    def refuse(path: Any) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(InputError, match=r"cannot be read: Permission denied"):
        load(tmp_path)


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b", "a\udc80"], ids=["long", "null", "surrogate"])
def test_names_that_no_file_has(name: str):
    with pytest.raises(InputError):
        load(name + ".jsonl")


def test_links_in_a_circle(tmp_path: Path):
    (tmp_path / "in").symlink_to(tmp_path)
    (tmp_path / "x.jsonl").symlink_to("x.jsonl")
    with pytest.raises(InputError, match="holds no data file"):
        load(tmp_path)


def test_an_image_that_is_a_link_in_a_circle_is_a_damaged_row(tmp_path: Path):
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "loop.png").symlink_to("loop.png")
    (tmp_path / "train.jsonl").write_text('{"image": "p/loop.png", "question": "q", "answer": "8"}\n')
    (row,) = load(tmp_path, split="train")
    assert isinstance(row, Damage)
    assert "p/loop.png" in row.reason


def encoded(format: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (64, 64)).save(buffer, format)
    return buffer.getvalue()


@pytest.mark.parametrize("format", ["EPS", "PDF", "SGI", "PCX", "IM", "MSP"])
def test_no_image_of_another_format_is_opened_anywhere(format: str):
    """Those of traces that somebody else wrote, for one; Pillow starts a program for some."""
    if format == "MSP":
        buffer = io.BytesIO()
        Image.new("1", (64, 64)).save(buffer, format)
        data = buffer.getvalue()
    else:
        data = encoded(format)
    with pytest.raises(UnidentifiedImageError):
        image_from_text(base64.b64encode(data).decode())
    with pytest.raises(ValueError, match="no known picture format"):
        read_picture(data, None)


@pytest.mark.filterwarnings("ignore")
def test_bombs_are_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 64 * 64 - 1)
    with pytest.raises(ValueError, match="larger than 4,095 pixels"):
        read_picture(encoded("PNG"), None)
    with pytest.raises(Image.DecompressionBombError):
        image_from_text(base64.b64encode(encoded("PNG")).decode())


def test_a_palette_that_is_missing():
    """What Pillow only asserts is damage, too."""
    buffer = io.BytesIO()
    Image.new("P", (64, 64)).save(buffer, "PNG")
    data = buffer.getvalue()
    at = data.index(b"PLTE") - 4
    length = int.from_bytes(data[at : at + 4], "big") + 12
    with pytest.raises(RowError, match="damaged"):
        read_picture(data[:at] + data[at + length :], None)
