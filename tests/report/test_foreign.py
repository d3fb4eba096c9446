"""What lies in a run folder and is of another run or model is told, on the page and on the terminal."""

from __future__ import annotations

import html
import json
from pathlib import Path
from typing import Any

import pytest
from report_runs import make_run, make_trace

from iapo.report.command import describe, write_report
from iapo.report.pictures import Pictures
from iapo.report.read import find_runs
from iapo.report.traces import browse
from iapo.runs import RunFolder


@pytest.mark.parametrize(
    ("settings", "steps", "sentence"),
    [
        ({}, [1, 2, 2, 1], "line 4 is of step 1 and the one before it of step 2"),
        (
            {"generation_batch_size": 2, "gradient_accumulation_steps": 1, "steps_per_generation": 1},
            [1, 1, 1, 1],
            "it has 4 rollouts of step 1, and a step makes 2",
        ),
        ({"generation_batch_size": 2, "gradient_accumulation_steps": 2, "steps_per_generation": 1}, [1] * 4, ""),
        ({"generation_batch_size": "x", "gradient_accumulation_steps": 2, "steps_per_generation": 0}, [1] * 4, ""),
    ],
)
def test_lines_of_another_run_are_told(tmp_path: Path, settings: dict[str, Any], steps: list[int], sentence: str):
    make_run(tmp_path, [make_trace(number, step=step) for number, step in enumerate(steps)], steps=2, **settings)
    found = browse(find_runs([tmp_path]).runs, Pictures("embed", tmp_path / "p"), 0)
    said = [f"{tmp_path.name}: traces.jsonl may hold traces of another run, too: {sentence}."] if sentence else []
    assert found.foreign == said


def odd_ones(path: Path) -> list[str]:
    """What a report says on the terminal of what is of another run; the page says the same."""
    written = write_report([path], path.parent / "page.html")
    page = written.path.read_text(encoding="utf-8")
    assert all(note in html.unescape(page) for note in written.foreign)
    assert describe(written)[1:] == list(written.foreign)
    return [note.partition(": ")[2] for note in written.foreign]


def test_lines_of_other_kinds_are_told(tmp_path: Path):
    """Rollouts of an evaluation and of a training in one another's files, and of other policies among the held-out."""
    traces = [make_trace(number, step=1) for number in range(2)]
    held_out = [make_trace(number, step=step) for step in (0, 2) for number in range(2)]
    folder = make_run(tmp_path / "run", traces, steps=2, held_out=held_out)
    assert odd_ones(folder.path) == []
    kept = {name: (folder.path / name).read_text() for name in ("traces.jsonl", "held-out.jsonl")}
    for name, more, step, sentence in (
        (
            "traces.jsonl",
            {"evaluation": {"run": "a", "set": "vbar", "repeat": 0}},
            None,
            "line 3 is of an iapo evaluate",
        ),
        ("traces.jsonl", {}, None, "line 3 is of no step, and training begins with step 1"),
        ("traces.jsonl", {}, 0, "line 3 is of step 0, and training begins with step 1"),
        ("held-out.jsonl", {}, 1, "it has rollouts of the steps 2, 1, and these are of the last alone"),
        ("held-out.jsonl", {}, None, "line 5 is of no step, and these are of the run's first and last policy"),
    ):
        record = json.loads(kept[name].splitlines()[0]) | {"step": step} | more
        (folder.path / name).write_text(kept[name] + json.dumps(record) + "\n")
        assert odd_ones(folder.path) == [f"{name} may hold traces of another run, too: {sentence}."]
        (folder.path / name).write_text(kept[name])


def evaluated(path: Path, *, model: str = "tiny-student", data: str = "c" * 64) -> RunFolder:
    """An evaluation on one set of two rollouts."""
    folder = RunFolder(path)
    folder.write_manifest({"evaluation": {"model": "tiny-student"}}, seeds={}, data={"vbar": "c" * 64})
    folder.append_traces([make_trace(number, step=None) for number in range(2)], {"evaluation": {"run": "a"}})
    one = {"samples": 2, "data": data, "accuracy": {"value": 0.5}, "outcomes": [[1.0, 0.0]]}
    folder.write_evaluation({"model": model, "settings": {}, "sets": {"vbar": one}})
    return folder


def test_evaluations_of_another_run_are_told(tmp_path: Path):
    assert odd_ones(evaluated(tmp_path / "right").path) == []
    other = evaluated(tmp_path / "other", model="big")
    assert odd_ones(other.path) == [
        "evaluation.json is of another run: it is of the model big, and the run of tiny-student."
    ]
    long = evaluated(tmp_path / "long", model="x" * 100_000)
    assert odd_ones(long.path) == [
        f"evaluation.json is of another run: it is of the model {'x' * 200}, and the run of tiny-student."
    ]
    data = evaluated(tmp_path / "data", data="d" * 64)
    assert odd_ones(data.path) == ["evaluation.json is of another run: its set vbar has other data than the run's."]
    with (data.path / "traces.jsonl").open("a") as file:
        record = json.loads((data.path / "traces.jsonl").read_text().splitlines()[0])
        file.write(json.dumps(record | {"evaluation": {"run": "b"}}) + "\n")
    assert odd_ones(data.path)[1:] == ["traces.jsonl may hold traces of another run, too: they are of 2 evaluations."]
    trained = make_run(tmp_path / "trained", [make_trace(1)], steps=1)
    (data.path / "evaluation.json").write_text((trained.path / "evaluation.json").read_text())
    assert odd_ones(data.path)[0].endswith("it is of a training, and the run is an iapo evaluate.")
    (trained.path / "evaluation.json").write_text((other.path / "evaluation.json").read_text())
    assert odd_ones(trained.path) == [
        "evaluation.json is of another run: it is of an iapo evaluate of big, and the run is a training."
    ]
    # The evaluation of a comparison lies in the run that it is of, with a manifest of its own.
    (trained.path / "evaluation.json").unlink()
    other.path.rename(trained.path / "evaluation")
    assert odd_ones(trained.path) == [
        "evaluation/evaluation.json is of another run: it is of the model big, and the run of tiny-student."
    ]


def test_an_evaluation_with_other_settings_is_told(tmp_path: Path):
    folder = make_run(tmp_path / "run", [make_trace(1)], steps=1, max_turns=2)
    path = folder.path / "evaluation.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"settings": {"max_turns": 2, "seed": 5}}))
    assert odd_ones(folder.path) == []
    path.write_text(json.dumps(json.loads(path.read_text()) | {"settings": {"max_turns": 3}}))
    assert odd_ones(folder.path) == ["evaluation.json is of another run: its max_turns is 3, and the run's 2."]
