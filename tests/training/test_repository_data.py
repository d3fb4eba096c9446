"""`iapo train` and `iapo evaluate`, as typed, on folders as in the repositories that data sets come from.

The packaged student calls nothing on such images, so the rollouts of trainings are written by hand: of each four, two
call a tool on a name of the data and are right, one calls it on a name that is not there, and one calls nothing.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from documented import run
from repositories import SECRET, annotation, cells, chartqa, charxiv, refocus, tabfact, wtq
from scripted import Scripted

from iapo.data.loading import load, strict
from iapo.data.synthetic.table_data import HEADER
from iapo.records import Sample, Trace
from iapo.results import Manifest
from iapo.runs import RunFolder
from iapo.training.trainer import IAPOTrainer

BARS = [(10, 20, 50, 90), (60, 20, 100, 90), (110, 20, 150, 90)]
SMALL = "--max_steps 2 --per_device_train_batch_size 4 --num_generations 4 "
SMALL += "--case_study_steps 0 --trace_every 1 --attribution_normalization magnitude"


@pytest.fixture
def by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(IAPOTrainer, "_generate_single_turn", Scripted._generate_single_turn)
    monkeypatch.setattr(IAPOTrainer, "script", staticmethod(four_ways), raising=False)


def four_ways(sample: Sample, index: int) -> tuple[str, str]:
    axis, boxes = ("columns", sample.column_boxes) if sample.column_boxes else ("rows", sample.row_boxes)
    names = [[list(boxes)[1]], [next(iter(boxes))], ["nobody"]][index % 3]
    call = f"```python\ndisplay(focus_on_{axis}_with_mask(image_1, {json.dumps(names)}, {axis}_bbox))\n```"
    right = f"FINAL ANSWER: {sample.answers[0]}. TERMINATE"
    return [(call, right), (call, right), (call, "FINAL ANSWER: 0. TERMINATE"), ("TERMINATE", "")][index]


def train(data: Path, more: str = "") -> RunFolder:
    """Two steps with the penalty, rollouts by hand, and an evaluation before and after."""
    out = data.parent / "run"
    run(f"iapo train --config demo-iapo --data '{data}' {SMALL} --output_dir {out} --disable_tqdm true {more}")
    return RunFolder(out)


def check(done: RunFolder, train_samples: list[Sample], test_samples: list[Sample]) -> list[Trace]:
    """The run trained on the ones and was evaluated on the others; returns its traces."""
    assert [row["step"] for row in done.read_metrics()] == [1, 2]
    for row in done.read_metrics():
        assert (row["reward/outcome"], row["tools/call_ratio"]) == (0.5, 0.75)
        assert 0 < row["attribution/divergence"] < math.log(9) - 0.1
    traces = done.read_traces()
    known = {one.id: one for one in train_samples}
    assert traces
    for trace in traces:
        own = known[trace.sample.id]
        assert (trace.sample.column_boxes, trace.sample.row_boxes) == (own.column_boxes, own.row_boxes)
        assert (trace.sample.axis, trace.sample.grading) == (own.axis, own.grading)
        assert trace.sample.image.tobytes() == own.image.tobytes()
        edited = trace.result.status == "edited"
        assert bool(trace.attribution) == bool(trace.result.calls or trace.result.error)
        assert edited == (trace.scores["outcome"].value == 1)
        for call in trace.result.calls:
            boxes = own.column_boxes if call.axis == "columns" else own.row_boxes
            assert not edited or set(call.targets) <= set(boxes)
    assert {trace.sample.id for trace in done.read_held_out()} == {one.id for one in test_samples}
    assert SECRET not in (done.path / "traces.jsonl").read_text()
    assert {trace.result.status for trace in traces} == {"edited", "failed", "no_call"}
    return traces


@pytest.mark.slow(2)
@pytest.mark.usefixtures("by_hand")
def test_training_on_tabfact(tmp_path: Path):
    data = tmp_path / "TabFact"
    data.mkdir()
    tabfact(data, ("train", "val", "test"))
    done = train(data)
    trained, tested = (list(strict(load(data, split=split))) for split in ("train", "test"))
    traces = check(done, trained, tested)
    assert {trace.sample.source for trace in traces} == {"tabfact"}
    assert all(HEADER in trace.sample.row_boxes for trace in traces)


@pytest.mark.slow(2)
@pytest.mark.usefixtures("by_hand")
@pytest.mark.parametrize("kind", ["v_bar", "h_bar"])
def test_training_on_chartqa_with_its_annotations(kind: str, tmp_path: Path):
    data = tmp_path / "ChartQA"
    for split, second in (("train", "h_bar" if kind == "v_bar" else "v_bar"), ("val", "pie"), ("test", "line")):
        chartqa(data, {"one": annotation(kind), "two": annotation(second)}, split)
    done = train(data)
    trained, tested = (list(strict(load(data, split=split))) for split in ("train", "test"))
    assert {one.axis for one in trained} == {"columns", "rows"}
    assert all(set(one.column_boxes or one.row_boxes) == {"A", "B, C", "D"} for one in trained)
    assert {one.axis for one in tested} == {"columns" if kind == "v_bar" else "rows", None}
    check(done, trained, tested)
    # The charts of both splits look the same.
    assert Manifest.read(done.path / "manifest.json").data["shared_pictures"]["exact"] == 3
    # What reads runs takes one on data of its own.
    run(f"iapo report {done.path} --out {tmp_path / 'report.html'}")
    assert (tmp_path / "report.html").stat().st_size > 10_000


def make_tabfact(root: Path) -> Path:
    return tabfact(root, ("test",))


def make_refocus(root: Path) -> Path:
    return refocus(root, BARS)


def make_chartqa(root: Path) -> Path:
    return chartqa(root, {"one": annotation("h_bar")})


@pytest.mark.parametrize(
    ("format", "make", "split", "questions"),
    [
        ("chartqa", make_chartqa, "test", 3),
        ("charxiv", charxiv, "validation", 2),
        ("charxiv", charxiv, "descriptive_val", 5),
        ("tablevqa", cells, "questions", 1),
        ("tabfact", make_tabfact, "test", 3),
        ("wtq", wtq, "train", 2),
        ("refocus", make_refocus, "test", 2),
    ],
)
def test_evaluation_of_each_repository(
    format: str, make: Callable[[Path], Any], split: str, questions: int, tmp_path: Path
):
    data, out = tmp_path / "data", tmp_path / "out"
    data.mkdir()
    make(data)
    # Before @, `charxiv` is the paper's test set of 143 questions.
    source = data if format == "charxiv" else f"{format}@{data}"
    words = f"--sets '{source}' --split {split} --samples 0 --max-turn-tokens 24 --out {out}"
    run(f"iapo evaluate --model tiny-student {words}")
    expected = {one.id: one for one in strict(load(data, split=split, format=format))}
    traces = RunFolder(out).read_traces()
    assert [trace.sample.id for trace in traces] == list(expected)
    assert len(traces) == questions
    assert all(trace.turn_1 for trace in traces)
    assert all(trace.sample.answers == expected[trace.sample.id].answers for trace in traces)
    assert SECRET not in (out / "traces.jsonl").read_text()
