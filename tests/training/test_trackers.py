"""Live logging: each tracker gets the numbers of `metrics.jsonl` and pictures; training is the same."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import io
import json
import sqlite3
import struct
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file
from scripted import four_ways, scripted, settings

from iapo.data.synthetic import generate
from iapo.display.heatmap import draw_blocks
from iapo.records import Sample, ToolResult, Trace
from iapo.rollout.policy import Policy
from iapo.runs import METRICS, RunFolder
from iapo.training.config import TRACKERS
from iapo.training.run import run
from iapo.training.settings import parse
from iapo.training.trackers import COLUMNS, PICTURES, named, pick, report_live, show

STEPS = 3


@pytest.fixture(scope="module")
def charts() -> list[Sample]:
    return list(generate("vbar", 4, seed=11, question_types=("value",)))


def train(folder: Path, model: Any, teacher: Any, processor: Any, charts: list[Sample], **more: Any) -> Any:
    """Three steps of four scripted rollouts with the penalty; rollouts are shown in steps 1 and 3."""
    trainer = scripted(
        folder,
        model,
        processor,
        charts,
        teacher=Policy(teacher, processor),
        penalty_weight=0.3,
        max_steps=STEPS,
        trace_every=2,
        report_traces=3,
        **more,
    )
    trainer.train()
    return trainer


def numbers(folder: Path) -> list[dict[str, float]]:
    """The lines of `metrics.jsonl` without what was not measured."""
    rows = RunFolder(folder / "run").read_metrics()
    assert len(rows) == STEPS
    return [{name: value for name, value in row.items() if value is not None} for row in rows]


def events(folder: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (found,) = {path.parent for path in folder.rglob("events.out.tfevents.*")}
    return EventAccumulator(str(found), size_guidance={"images": 0, "tensors": 0, "scalars": 0}).Reload()


def picture_of(event: Any) -> Image.Image:
    return Image.open(io.BytesIO(event.encoded_image_string)).convert("RGB")


@pytest.mark.slow(2)
def test_tensorboard(tmp_path: Path, model: Any, other_model: Any, processor: Any, charts: list[Sample]) -> None:
    train(tmp_path, model, other_model, processor, charts, report_to="tensorboard")
    read = events(tmp_path)
    scalars = {tag: {event.step: event.value for event in read.Scalars(tag)} for tag in read.Tags()["scalars"]}
    rows = numbers(tmp_path)
    assert {"reward/total", "attribution/divergence", "tools/misuse_rate", "weight/alignment"} <= rows[0].keys()
    for row in rows:
        for name, value in row.items():
            if name != "step":
                assert scalars[name][row["step"]] == np.float32(value), name
    # One name a number: neither Transformers' prefix nor TRL's names of what the run folder names.
    assert not [name for name in scalars if name.startswith("train/") or name == "reward"]
    assert not [name for name in scalars if name.endswith(("_reward/mean", "alignment/mean", "/weight"))]
    assert {"learning_rate", "grad_norm"} <= scalars.keys()
    assert sorted(set(read.Tags()["images"])) == [
        "traces/1/attribution",
        "traces/1/edited",
        "traces/1/original",
        "traces/2/attribution",
        "traces/2/edited",
        "traces/2/original",
        "traces/3/attribution",
        "traces/3/original",
    ]
    for tag in read.Tags()["images"]:
        assert [event.step for event in read.Images(tag)] == [1, 3]
    original, edited = (picture_of(read.Images(f"traces/1/{name}")[0]) for name in ("original", "edited"))
    assert original.tobytes() in {chart.image.convert("RGB").tobytes() for chart in charts}
    assert edited.size == original.size
    assert edited.tobytes() != original.tobytes()
    (text, _) = (event.tensor_proto.string_val[0].decode() for event in read.Tensors("traces/1/text_summary"))
    assert "focus_on_columns_with_mask(image_1" in text
    assert any(chart.question in text for chart in charts)
    assert "FINAL ANSWER" in text
    assert "divergence" in text


@pytest.mark.slow(3)
@pytest.mark.parametrize("tracker", sorted(TRACKERS))
def test_training_is_the_same(
    tracker: str,
    tmp_path: Path,
    model: Any,
    other_model: Any,
    processor: Any,
    charts: list[Sample],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip(tracker)
    quietly(tracker, tmp_path, monkeypatch)
    for name, more in (("with", {"report_to": tracker}), ("without", {"report_to": "none"})):
        train(tmp_path / name, model, other_model, processor, charts, **more).save_model(
            str(tmp_path / name / "policy")
        )
    logged, silent = (load_file(tmp_path / name / "policy" / "model.safetensors") for name in ("with", "without"))
    assert logged.keys() == silent.keys()
    assert all(bool((logged[name] == silent[name]).all()) for name in logged)
    for one, other in zip(numbers(tmp_path / "with"), numbers(tmp_path / "without"), strict=True):
        assert {name for name in one if one[name] != other[name]} <= {name for name in METRICS if "time/" in name}


def quietly(tracker: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keeps a tracker on this machine and in the test's folder."""
    for variable in ("WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(variable, str(folder))
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    if tracker == "trackio":
        import trackio

        # The folder is read from the environment once, at import, by several modules.
        for module in ("utils", "sqlite_storage", "media.utils", "media.media", "table", "run"):
            for name, below in (("TRACKIO_DIR", "."), ("MEDIA_DIR", "media")):
                if hasattr(found := importlib.import_module(f"trackio.{module}"), name):
                    monkeypatch.setattr(found, name, folder / "trackio" / below)
        assert trackio


def test_wandb(
    tmp_path: Path,
    model: Any,
    other_model: Any,
    processor: Any,
    charts: list[Sample],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wandb = pytest.importorskip("wandb")
    quietly("wandb", tmp_path, monkeypatch)
    train(tmp_path, model, other_model, processor, charts, report_to="wandb")
    folder = Path(wandb.run.dir).parent
    wandb.finish()
    (file,) = folder.glob("run-*.wandb")
    # W&B's own process writes the file.
    for _ in range(4000):
        records = read_wandb(file)
        if any(record.HasField("exit") for record in records):
            break
        time.sleep(0.1)
    history = [
        {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in record.history.item}
        for record in records
        if record.HasField("history")
    ]
    for row in numbers(tmp_path):
        (line,) = (line for line in history if line.get("step") == row["step"] and "loss" in line)
        assert {name: line[name] for name in row} == row
    assert [line["step"] for line in history if "traces/path" in line] == [1, 3]
    # The table is an artifact with its pictures.
    tables = [record.artifact.manifest.contents for record in records if record.HasField("artifact")]
    files = {entry.path: Path(entry.local_path) for entry in tables[0]}
    assert len(tables) == 2
    table = json.loads(files.pop("traces.table.json").read_text())
    assert table["columns"] == list(COLUMNS + PICTURES)
    assert len(table["data"]) == 3
    first, third = (dict(zip(table["columns"], table["data"][index], strict=True)) for index in (0, 2))
    assert "focus_on_columns_with_mask" in first["program"]
    assert third["edited"] is None
    original, edited = (Image.open(files[first[name]["path"]]) for name in ("original", "edited"))
    assert original.tobytes() in {chart.image.convert("RGB").tobytes() for chart in charts}
    assert edited.tobytes() != original.tobytes()
    assert first["attribution"]["path"] in files
    axes = [record.metric.step_metric for record in records if record.metric.glob_name == "*"]
    assert axes[-1] == "step"


def read_wandb(file: Path) -> list[Any]:
    """The records of an offline run: protocol buffers in a log of blocks of 32 KiB, in one part or several."""
    from wandb.proto import wandb_internal_pb2

    data, place, parts, records = file.read_bytes(), 7, b"", []
    while place + 7 <= len(data):
        if (left := 32768 - place % 32768) < 7:
            place += left
            continue
        _, length, kind = struct.unpack_from("<IHB", data, place)
        if place + 7 + length > len(data):
            break
        parts += data[place + 7 : place + 7 + length]
        place += 7 + length
        # 1: the whole record; 2, 3, 4: its first part, a middle one, the last one.
        if kind in (1, 4):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(parts)
            records.append(record)
            parts = b""
    return records


def test_trackio(
    tmp_path: Path,
    model: Any,
    other_model: Any,
    processor: Any,
    charts: list[Sample],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("trackio")
    quietly("trackio", tmp_path, monkeypatch)
    train(tmp_path, model, other_model, processor, charts, report_to="trackio", project="live")
    (file,) = (tmp_path / "trackio").glob("*.db")
    with sqlite3.connect(file) as connection:
        rows = connection.execute("SELECT step, metrics FROM metrics ORDER BY id").fetchall()
    lines = [(step, json.loads(metrics)) for step, metrics in rows]
    for row in numbers(tmp_path):
        (line,) = (line for step, line in lines if step == row["step"] and "loss" in line)
        assert {name: line[name] for name in row if name != "step"} == {k: v for k, v in row.items() if k != "step"}
    tables = {step: line["traces"] for step, line in lines if "traces" in line}
    assert list(tables) == [1, 3]
    first, _, third = tables[1]["_value"]
    assert list(first) == list(COLUMNS + PICTURES)
    assert "focus_on_columns_with_mask" in first["program"]
    assert third["edited"] is None
    pictures = list((tmp_path / "trackio" / "media").rglob("*.png"))
    assert len(pictures) == 2 * (3 + 2 + 3)


@pytest.mark.slow(1)
def test_iapo_train(tmp_path: Path) -> None:
    flags = "--max_steps 2 --per_device_train_batch_size 8 --train_samples 8 --eval_samples 0 --disable_tqdm true"
    flags += f" --report_to tensorboard --report_traces 2 --output_dir {tmp_path / 'run'}"
    folder = run(*parse("demo-iapo", flags.split()))
    read = events(folder.path)
    for row in folder.read_metrics():
        for name in METRICS[1:]:
            if row[name] is None:
                continue
            values = {event.step: event.value for event in read.Scalars(name)}
            assert values[row["step"]] == np.float32(row[name])
    assert "traces/1/original" in read.Tags()["images"]
    # The saved traces are those that they were; two different charts are shown.
    texts = [read.Tensors(f"traces/{number}/text_summary")[0].tensor_proto.string_val[0] for number in (1, 2)]
    assert len(folder.read_traces()) == 8
    assert len(texts) == 2


@pytest.mark.parametrize("tracker", sorted(TRACKERS))
def test_a_tracker_that_is_not_installed_is_refused(
    tracker: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == tracker else find(name, *rest))
    with pytest.raises(ValueError, match=rf"report_to is '{tracker}', which is not installed; `pip install {tracker}`"):
        settings(tmp_path, report_to=tracker)


def test_no_pictures(tmp_path: Path, model: Any, other_model: Any, processor: Any, charts: list[Sample]) -> None:
    for name, more in (("no-traces", {"report_traces": 0}), ("never", {"trace_every": 0})):
        trainer = scripted(tmp_path / name, model, processor, charts, report_to="tensorboard", **more)
        trainer.train()
        tags = events(tmp_path / name).Tags()
        assert not tags["images"]
        assert "reward/total" in tags["scalars"]
    with pytest.raises(ValueError, match="report_traces is -1"):
        settings(tmp_path, report_traces=-1)


def test_rollouts_are_handed_on(tmp_path: Path, model: Any, processor: Any, charts: list[Sample]) -> None:
    seen: list[int] = []
    trainer = scripted(
        tmp_path,
        model,
        processor,
        charts,
        report_to="tensorboard",
        max_steps=2,
        on_rollouts=lambda step, traces: seen.append(step),
    )
    trainer.train()
    assert seen == [1, 2]


def test_evaluation_has_its_own_names(tmp_path: Path, model: Any, processor: Any, charts: list[Sample]) -> None:
    from iapo.training.batches import to_dataset

    trainer = scripted(tmp_path, model, processor, charts, report_to="tensorboard", per_device_eval_batch_size=4)
    trainer.evaluate(to_dataset(charts[:1]))
    tags = events(tmp_path).Tags()["scalars"]
    assert {"eval/reward/total", "eval/reward/outcome", "eval/tools/misuse_rate"} <= set(tags)
    assert not [name for name in tags if name.startswith("eval_")]


def test_without_trackers_nothing_changes(tmp_path: Path, model: Any, processor: Any, charts: list[Sample]) -> None:
    trainer = scripted(tmp_path, model, processor, charts)
    keep = lambda step, traces: None  # noqa: E731
    assert trainer.on_rollouts is None
    assert report_live(trainer, keep) is keep


def test_names() -> None:
    logs = {"reward": 1, "rewards/outcome_reward/mean": 2, "rewards/outcome_reward/weight": 3, "kl": None, "x": "text"}
    assert named(logs) == {"reward/total": 1, "reward/outcome": 2, "weight/outcome": 3}
    assert named({"eval_reward": 1, "eval_loss": 2}) == {"eval/reward/total": 1, "eval/loss": 2}


def traces_of(charts: list[Sample], names: str) -> list[Trace]:
    return [
        Trace.of(charts["abcd".index(name)], f"{name}{index}", ToolResult("no_call"))
        for index, name in enumerate(names)
    ]


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (2, ["a0", "b2"]),
        (3, ["a0", "b2", "c5"]),
        (4, ["a0", "b2", "c5", "a1"]),
        (9, ["a0", "b2", "c5", "a1", "b3", "b4"]),
    ],
)
def test_different_samples_come_first(charts: list[Sample], count: int, expected: list[str]) -> None:
    assert [trace.turn_1 for trace in pick(traces_of(charts, "aabbbc"), count)] == expected


def test_what_is_shown(charts: list[Sample]) -> None:
    chart = dataclasses.replace(charts[0], question="What of ```a``` | b?")
    turn_1, turn_2 = four_ways(chart, 1)
    made = Trace.of(chart, turn_1, ToolResult("edited", (), charts[1].image, span=(10, 20)), turn_2)
    assert set(show(made).pictures) == {"original", "edited"}
    assert show(made).texts["program"] == turn_1[10:20].strip()
    assert show(made).texts["answer"] == turn_2
    silent = Trace.of(chart, "FINAL ANSWER: 3. TERMINATE", ToolResult("no_call"))
    assert show(silent).texts | {"answer": "FINAL ANSWER: 3. TERMINATE", "program": ""} == show(silent).texts
    shares = {"student": {"image": 0.75, "query": 0.25}, "teacher": {"image": 0.5, "query": 0.5}}
    both = show(dataclasses.replace(made, attribution=shares)).pictures["attribution"]
    other = draw_blocks(shares | {"teacher": {"image": 0.1, "query": 0.9}})
    assert both.size == other.size
    assert both.tobytes() == draw_blocks(shares).tobytes() != other.tobytes()


@pytest.mark.parametrize(
    ("shares", "reason"),
    [({}, "no attribution"), ({"student": {"image": 1.0}, "teacher": {"query": 1.0}}, "of the same blocks")],
)
def test_bars_that_cannot_be_drawn(shares: dict[str, dict[str, float]], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        draw_blocks(shares)
