"""Samples of several images: records, rows, files, digests, leaks."""

from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from several import chart, mixed, photo, with_more

from iapo.data.check import check
from iapo.data.convert import convert
from iapo.data.formats.parquet import write_rows
from iapo.data.leakage import leaks
from iapo.data.loading import load
from iapo.data.pictures import fresh
from iapo.data.sheet import show
from iapo.errors import InputError
from iapo.evaluation.measures import mean_attribution
from iapo.records import Sample, ToolResult, Trace, images_digest
from iapo.runs import RunFolder, data_hash


def pixels(sample: Sample) -> list[Any]:
    return [(image.size, image.convert("RGB").tobytes()) for image in sample.images]


def test_records_keep_all_images(tmp_path: Path) -> None:
    for sample in mixed():
        data = json.loads(json.dumps(sample.to_json()))
        assert ("more_images" in data) == bool(sample.more_images)
        again = Sample.from_json(data)
        assert pixels(again) == pixels(sample)
        assert again.to_json() == sample.to_json()
    pair = mixed()[0]
    apart = pair.to_json(image_path="")
    assert apart["more_images"] == [{"path": ""}]
    assert pixels(Sample.from_json(apart, image=pair.image, more_images=pair.more_images)) == pixels(pair)
    with pytest.raises(InputError, match="has 1 of its 2 pictures"):
        Sample.from_json(apart, image=pair.image, more_images=())
    result = ToolResult("edited", image=photo(30, 30), made_of="image_2")
    assert ToolResult.from_json(result.to_json()).made_of == "image_2"
    assert "made_of" not in ToolResult("edited", image=photo(30, 30)).to_json()


def test_images_are_named_and_few() -> None:
    triple = mixed()[2]
    assert list(triple.named_images) == ["image_1", "image_2", "image_3"]
    assert list(triple.named_images.values()) == list(triple.images)
    dataclasses.replace(triple, more_images=(photo(30, 30),) * 7)
    with pytest.raises(InputError, match="has 9 images; give at most 8"):
        dataclasses.replace(triple, more_images=(photo(30, 30),) * 8)


def test_what_is_shown_next_keeps_boxes_of_the_first_image_alone() -> None:
    pair = with_more(chart(), (112, 112))
    edit = photo(*pair.image.size)
    assert pair.showing(edit).column_boxes == pair.column_boxes
    assert pair.showing(edit).more_images == pair.more_images
    # Of the same size, but made of an image without boxes.
    assert not pair.showing(edit, "image_2").column_boxes
    trace = Trace.of(pair, "turn", ToolResult("edited", image=edit, made_of="image_2"), "answer")
    assert trace.sample_at(1).image is edit
    assert not trace.sample_at(1).column_boxes


def test_digests_see_every_image() -> None:
    pair = mixed()[0]
    other = dataclasses.replace(pair, more_images=(photo(84, 140, "#000000"),))
    turned = dataclasses.replace(pair, image=pair.more_images[0], more_images=(pair.image,), column_boxes={})
    assert len({images_digest(one.images) for one in (pair, other, turned)}) == 3
    assert len({data_hash([one]) for one in (pair, other, dataclasses.replace(pair, more_images=()))}) == 3


def test_run_folders_keep_each_image_once(tmp_path: Path) -> None:
    pair, single, triple = mixed()
    folder = RunFolder(tmp_path / "run")
    folder.append_traces([Trace.of(one, "text", ToolResult("no_call")) for one in (pair, single, triple, pair)])
    assert len(list((tmp_path / "run" / "pictures").iterdir())) == 6
    for trace, sample in zip(folder.read_traces(), (pair, single, triple, pair), strict=True):
        assert pixels(trace.sample) == pixels(sample)


@pytest.fixture
def own(tmp_path: Path) -> Path:
    folder = tmp_path / "own"
    folder.mkdir()
    photo(120, 80).save(folder / "before.png")
    photo(60, 90, "#884422").save(folder / "after.jpg")
    rows: list[dict[str, Any]] = [
        {"images": ["before.png", "after.jpg"], "question": "what changed?", "answer": "a", "axis": "columns"},
        {"image": "before.png", "question": "what is it?", "answer": "b"},
        {"images": ["after.jpg"], "question": "what is it?", "answer": "c"},
        {"images": ["before.png", "gone.png"], "question": "what?", "answer": "d"},
        {"images": [], "question": "what?", "answer": "d"},
        {"images": ["before.png"] * 9, "question": "what?", "answer": "d"},
        {"images": "before.png", "question": "what?", "answer": "d"},
        {"image": "before.png", "images": ["after.jpg"], "question": "what?", "answer": "d"},
        {"question": "what?", "answer": "d"},
    ]
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


REASONS = (
    "picture 2 of 2: there is no picture 'gone.png'",
    "there are 0 pictures; give 1 to 8",
    "there are 9 pictures; give 1 to 8",
    "the pictures are of type str; they must be a list",
    "the fields 'image' and 'images' are both there; give one of them",
    "the field 'image' is missing; image (or images), question, answer must be there",
)


def test_rows_of_ones_own_name_several_files(own: Path) -> None:
    found = list(load(own))
    pair, single, one = (item for item in found if isinstance(item, Sample))
    assert [image.size for image in pair.images] == [(120, 80), (60, 90)]
    assert (single.image.size, one.image.size) == ((120, 80), (60, 90))
    assert not single.more_images
    assert not one.more_images
    for item, reason in zip(found[3:], REASONS, strict=True):
        assert reason in str(item)


def test_check_counts_them(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (counts,) = check(str(own)).values()
    assert (counts.samples, counts.several, counts.damaged) == (3, 1, 6)
    assert "1 of 3 samples have several images" in capsys.readouterr().out


def test_conversion_keeps_bytes(own: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.parquet"
    assert convert(str(own), out).samples == 3
    samples = [one for one in load(out) if isinstance(one, Sample)]
    assert [len(one.images) for one in samples] == [2, 1, 1]
    stored = pq.read_table(out).to_pylist()
    assert stored[0]["more_images"][0]["bytes"] == (own / "after.jpg").read_bytes()
    assert stored[1]["more_images"] is None
    again = tmp_path / "again.parquet"
    write_rows(map(fresh, samples), again)
    assert [pixels(one) for one in load(again) if isinstance(one, Sample)] == [pixels(one) for one in samples]
    assert data_hash(map(fresh, samples)) == data_hash(one for one in load(again) if isinstance(one, Sample))


def test_parquet_of_ones_own_holds_bytes(tmp_path: Path) -> None:
    encoded = []
    for image in (photo(40, 50), photo(70, 30)):
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        encoded.append({"bytes": buffer.getvalue(), "path": None})
    rows = [{"images": encoded, "question": "which is wider?", "answer": "the second", "id": "a"}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "own.parquet")
    (sample,) = load(tmp_path / "own.parquet")
    assert isinstance(sample, Sample)
    assert [image.size for image in sample.images] == [(40, 50), (70, 30)]


def test_leaks_are_found_in_any_image() -> None:
    pair, single, _ = mixed()
    shares = with_more(chart(seed=30), (84, 140))
    (leak,) = leaks([pair, single], [shares, chart("hbar", seed=31)])
    assert (leak.train, leak.test, leak.exact) == (pair.id, shares.id, True)
    alone = dataclasses.replace(chart(seed=32), image=pair.more_images[0], column_boxes={}, row_boxes={})
    assert leaks([pair], [alone])[0].exact
    lighter = dataclasses.replace(shares, more_images=(pair.more_images[0].point(lambda value: min(255, value + 3)),))
    (near,) = leaks([pair], [lighter])
    assert not near.exact


def test_sheets_show_them(own: Path, tmp_path: Path) -> None:
    _, page = show(str(own), tmp_path / "sheet", count=3)
    assert page.read_text().count("data:image/png;base64") == 4


def test_mean_shares_of_prompts_with_other_blocks() -> None:
    pair, single, _ = mixed()
    shares = [{"image_1": 0.5, "query": 0.5}, {"image_1": 0.25, "image_2": 0.5, "query": 0.25}]
    traces = [
        Trace.of(one, "", ToolResult("failed"), attribution={"student": its})
        for one, its in zip((single, pair), shares, strict=True)
    ]
    found = mean_attribution(traces)["student"]
    assert found == {"image_1": 0.375, "image_2": 0.25, "query": 0.375}
    assert list(found) == ["image_1", "image_2", "query"]
