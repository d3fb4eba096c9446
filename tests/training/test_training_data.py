"""`iapo train` on data from disk: two steps of the packaged student on each kind."""

from __future__ import annotations

import copy
import dataclasses
import io
import json
import logging
from pathlib import Path
from typing import Any

import pytest
from fixtures.layouts import LAYOUTS, Picture
from PIL import Image

from iapo.data.loading import Damage, load, strict
from iapo.data.synthetic import generate
from iapo.errors import InputError
from iapo.records import image_digest
from iapo.runs import RunFolder
from iapo.training.batches import samples_of, to_dataset
from iapo.training.run import run, run_samples, shared_pictures
from iapo.training.settings import parse


def flags(folder: Path, out: Path, **more: Any) -> list[str]:
    values = {
        "data": folder,
        "output_dir": out,
        "eval_samples": 0,
        "max_steps": 2,
        "per_device_train_batch_size": 4,
        "num_generations": 2,
        "eval_teacher": "tiny-teacher",
        "disable_tqdm": "true",
        **more,
    }
    return [word for name, value in values.items() for word in (f"--{name}", str(value))]


def train(folder: Path, out: Path, **more: Any) -> RunFolder:
    return run(*parse("demo-grpo", flags(folder, out, **more)))


@pytest.mark.parametrize(
    ("name", "file"),
    [("vtool-json", "train_full.parquet"), ("refocus-cot", "train.jsonl"), ("own", "train.jsonl")],
)
def test_two_steps(name: str, file: str, tmp_path: Path):
    layout = LAYOUTS[name]
    folder = tmp_path / "data"
    folder.mkdir()
    layout.make(folder).rename(folder / file)
    done = train(folder, tmp_path / "run")
    assert [row["step"] for row in done.read_metrics()] == [1, 2]
    ids = {sample.id for sample in layout.samples()}
    traces = done.read_traces()
    assert {trace.sample.id for trace in traces} <= ids
    assert traces
    # The sample comes through whole: the picture's pixels and the boxes that the tools take.
    found = {sample.id: sample for sample in strict(load(folder))}
    for trace in traces:
        assert trace.sample.column_boxes == found[trace.sample.id].column_boxes
        assert trace.sample.image.tobytes() == found[trace.sample.id].image.tobytes()
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["config"]["run"]["data"] == str(folder)
    assert manifest["data"]["shared_pictures"] == {"exact": 0, "near": 0}


def arguments(folder: Path, **more: Any) -> Any:
    return parse("demo-grpo", flags(folder, folder / "run", **more))[0]


def write_own(folder: Path, file: str, *, start: int = 0, count: int = 4, **changes: Any) -> None:
    layout = LAYOUTS["own"]
    rows = copy.deepcopy(layout.rows(list(generate("vbar", start + count, seed=1))[start:]))
    for row in rows:
        row.update(changes)
        picture = row["image"]
        assert picture.data is not None
        name = f"{row['id']}.png"
        (folder / name).write_bytes(picture.data)
        row["image"] = name
    (folder / file).write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_splits_and_limits(tmp_path: Path):
    write_own(tmp_path, "train.jsonl", count=4)
    write_own(tmp_path, "test.jsonl", start=4, count=3)
    some = arguments(tmp_path, eval_samples=2, data_samples=3)
    train_set, test_set = run_samples(some, "train"), run_samples(some, "test")
    assert [one.id for one in train_set] == [f"vbar-train-1-{index}" for index in range(3)]
    assert [one.id for one in test_set] == [f"vbar-train-1-{index}" for index in (4, 5)]
    assert shared_pictures(train_set, test_set)["exact"] == 0
    assert len(run_samples(arguments(tmp_path), "train")) == 4
    assert run_samples(arguments(tmp_path), "test") == []
    with pytest.raises(ValueError, match="has no split 'val'; it has test, train"):
        run_samples(arguments(tmp_path, eval_samples=2, eval_split="val"), "test")


def test_training_samples_are_not_evaluated_on(tmp_path: Path):
    write_own(tmp_path, "charts.jsonl")
    with pytest.raises(ValueError, match=r"sample 'vbar-train-1-0' of own/charts is trained and evaluated on; give"):
        run(*parse("demo-grpo", flags(tmp_path, tmp_path / "run", eval_samples=2)))


@pytest.mark.slow(1)
def test_shared_pictures_are_counted_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    write_own(tmp_path, "train.jsonl")
    write_own(tmp_path, "test.jsonl", start=3, count=1, question="another?")
    some = arguments(tmp_path, eval_samples=5)
    assert shared_pictures(run_samples(some, "train"), run_samples(some, "test")) == {"exact": 1, "near": 0}
    with caplog.at_level(logging.WARNING):
        done = train(tmp_path, tmp_path / "run", eval_samples=5, max_steps=1)
    assert "test samples whose picture is trained on: 1 exactly, 0 nearly" in caplog.text
    assert json.loads((done.path / "manifest.json").read_text())["data"]["shared_pictures"] == {"exact": 1, "near": 0}
    assert done.read_evaluation().samples == 1


def test_damage(tmp_path: Path):
    write_own(tmp_path, "train.jsonl")
    lines = (tmp_path / "train.jsonl").read_text().splitlines()
    (tmp_path / "train.jsonl").write_text("\n".join([lines[0], "{", *lines[1:]]))
    with pytest.raises(ValueError, match=r"train\.jsonl, row 2: the line is not JSON"):
        run_samples(arguments(tmp_path), "train")
    some = arguments(tmp_path, data_damage="quarantine")
    damages: list[Damage] = []
    assert len(run_samples(some, "train", damages.append)) == 4
    assert [(one.row, one.file) for one in damages] == [(2, "train.jsonl")]
    (tmp_path / "train.jsonl").write_text("{\n")
    with pytest.raises(ValueError, match="has no readable row"):
        run_samples(some, "train")


def test_jpeg_pictures_are_not_compressed_again():
    """Training sees the same pixels as evaluation, and as the teacher's table."""
    sample = next(iter(generate("vbar", 1, seed=0)))
    buffer = io.BytesIO()
    sample.image.convert("RGB").save(buffer, format="JPEG", quality=60)
    from iapo.data.pictures import read_picture

    for data in (buffer.getvalue(), Picture.of(sample.image).data):
        one = dataclasses.replace(sample, image=read_picture(data, None))
        (row,) = samples_of(list(to_dataset([one])))
        assert image_digest(row.image) == image_digest(one.image)
    assert image_digest(read_picture(buffer.getvalue(), None)) == image_digest(Image.open(buffer))


def test_samples_may_come_from_a_generator() -> None:
    some = list(generate("vbar", 3, seed=0))
    rows = to_dataset(one for one in some)
    assert (len(rows), list(rows["sample"])) == (3, list(to_dataset(some)["sample"]))
    assert len(to_dataset(generate("vbar", 3, seed=0))) == 3


@pytest.mark.parametrize(
    ("samples", "reason"),
    [
        (None, "the samples are of type NoneType; give a list or a generator of iapo.Sample"),
        ("vbar", "the samples are of type str"),
        ([1], "sample 1 of 1 is of type int; give iapo.Sample"),
    ],
)
def test_what_is_no_sample(samples: Any, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        to_dataset(samples)
