"""Our own parquet: what is written is what is read, a row group at a time."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fixtures.layouts import bars, samples_of
from PIL import Image

from iapo.data.damage import Damage
from iapo.data.formats import parquet
from iapo.data.formats.parquet import read_rows, write_rows
from iapo.data.loading import detect, load, strict
from iapo.data.pictures import encode_picture, read_picture
from iapo.records import Sample


def encoded(image: Image.Image, format: str, **more: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=format, **more)
    return buffer.getvalue()


def every_mode() -> list[Sample]:
    base = bars(1)[0]
    images = [base.image.convert(mode) for mode in ("RGB", "L", "P", "RGBA", "1", "LA")]
    return [dataclasses.replace(base, id=f"s{index}", image=image) for index, image in enumerate(images)]


def test_flaws_are_kept(tmp_path: Path):
    sample = Sample("s", Image.new("RGB", (40, 40)), "?", ("1",), flaws=("a box is left out",))
    write_rows([sample, dataclasses.replace(sample, id="t", flaws=())], tmp_path / "x.parquet")
    flawed, whole = (one for one in read_rows(tmp_path / "x.parquet") if isinstance(one, Sample))
    assert (flawed.flaws, whole.flaws) == (("a box is left out",), ())
    # A file of an earlier version has no such column.
    table = pq.read_table(tmp_path / "x.parquet").drop_columns(["flaws"])
    pq.write_table(table, tmp_path / "old.parquet")
    assert [one.flaws for one in strict(load(tmp_path / "old.parquet"))] == [(), ()]


def test_round_trip(tmp_path: Path):
    awkward = dataclasses.replace(
        bars(1)[0], id="Wie viel? 📊", answers=("ü", "a|||b"), column_boxes={"": (0, 0, 4, 6), "x1": (1, 1, 2.5, 3)}
    )
    samples = [*bars(), *samples_of("vtabfact"), *every_mode(), awkward]
    path = tmp_path / "set.parquet"
    assert write_rows(iter(samples), path, row_group=4) == len(samples)
    assert detect(path) == parquet.NAME
    for back in (list(strict(read_rows(path))), list(strict(load(path)))):
        for one, made in zip(back, samples, strict=True):
            assert one.to_json("") == made.to_json("")
            assert (one.image.mode, one.image.tobytes()) == (made.image.mode, made.image.tobytes())
    assert pq.ParquetFile(path).num_row_groups == -(-len(samples) // 4)


@pytest.mark.parametrize("format", ["PNG", "JPEG"])
def test_pictures_keep_their_bytes(format: str, tmp_path: Path):
    data = encoded(bars(1)[0].image, format)
    sample = dataclasses.replace(bars(1)[0], image=read_picture(data, None))
    write_rows([sample], tmp_path / "set.parquet")
    assert pq.read_table(tmp_path / "set.parquet")["image"][0]["bytes"].as_py() == data


@pytest.mark.parametrize("format", ["WEBP", "BMP", "GIF", "TIFF"])
def test_other_pictures_become_png(format: str):
    picture = read_picture(encoded(bars(1)[0].image, format), None)
    again = Image.open(io.BytesIO(encode_picture(picture)))
    assert again.format == "PNG"
    assert again.convert("RGB").tobytes() == picture.convert("RGB").tobytes()


def test_changed_pictures_are_encoded_anew():
    original = read_picture(encoded(bars(1)[0].image, "PNG"), None)
    for changed in (original.copy(), original.convert("RGB"), original.resize((20, 20)), original.crop((0, 0, 9, 9))):
        changed.paste((1, 2, 3), (0, 0, 5, 5))
        again = Image.open(io.BytesIO(encode_picture(changed)))
        assert again.convert("RGB").tobytes() == changed.convert("RGB").tobytes()


def test_the_file_appears_when_it_is_whole(tmp_path: Path):
    path = tmp_path / "set.parquet"
    write_rows(bars(1), path)

    def broken() -> Iterator[Sample]:
        yield from bars(2)
        raise RuntimeError("the source broke off")

    with pytest.raises(RuntimeError, match="broke off"):
        write_rows(broken(), path, row_group=1)
    assert len(list(read_rows(path))) == 1
    assert [file.name for file in tmp_path.iterdir()] == ["set.parquet"]


def test_it_streams_both_ways(tmp_path: Path):
    """A row group is written before the next sample is asked for, and the first row is read before the last."""
    path = tmp_path / "set.parquet"
    sizes = []

    def watched() -> Iterator[Sample]:
        for sample in samples_of("vbar", 40):
            (part,) = tmp_path.glob("set.parquet.*.part")
            sizes.append(part.stat().st_size)
            yield sample

    write_rows(watched(), path, row_group=8)
    assert sizes[8] > sizes[7]
    assert sizes[39] > sizes[9] > 0
    data = bytearray(path.read_bytes())
    # The middle of the file cannot be read; what lies before it can.
    data[len(data) // 2 : len(data) // 2 + 200] = bytes(200)
    (tmp_path / "broken.parquet").write_bytes(data)
    assert [one.id for one in strict(islice(read_rows(tmp_path / "broken.parquet"), 8))] == [
        f"vbar-train-3-{index}" for index in range(8)
    ]


def test_an_empty_set(tmp_path: Path):
    assert write_rows([], tmp_path / "none.parquet") == 0
    assert list(load(tmp_path / "none.parquet")) == []


@pytest.mark.parametrize("name", ["source", "question_type", "judge"])
def test_another_type_in_the_place_of_a_text_is_damage(name: str, tmp_path: Path):
    write_rows(bars(2), tmp_path / "x.parquet")
    table = pq.read_table(tmp_path / "x.parquet").drop_columns([name]).append_column(name, pa.array([5, None]))
    pq.write_table(table, tmp_path / "other.parquet")
    found, whole = load(tmp_path / "other.parquet")
    assert isinstance(found, Damage)
    assert isinstance(whole, Sample)
    assert found.reason == f"the field {name!r} is of type int; it must be text"


def test_row_groups_have_a_size(tmp_path: Path):
    with pytest.raises(ValueError, match="row_group is 0; give at least 1"):
        write_rows(bars(), tmp_path / "x.parquet", row_group=0)
    assert not list(tmp_path.iterdir())


def test_rules_of_grading_are_kept_and_older_files_have_none(tmp_path: Path):
    one, other = bars(1)[0], dataclasses.replace(bars(1)[0], id="b", grading="claim")
    path = tmp_path / "set.parquet"
    write_rows([one, other], path)
    assert [sample.grading for sample in strict(load(path))] == ["plain", "claim"]
    table = pq.read_table(path)
    pq.write_table(table.drop_columns(["grading"]), path)
    assert [sample.grading for sample in strict(load(path))] == ["plain", "plain"]
