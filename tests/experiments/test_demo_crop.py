"""`iapo demo --world crop`: pages, start, training and table; and going on where it was stopped."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from documented import few_lessons, without_processes
from processes import iapo_here

from iapo.data.loading import load, strict
from iapo.errors import InputError
from iapo.experiments import demo_crop
from iapo.experiments.processes import Job, JobError
from iapo.report.read import find_runs
from iapo.runs import RunFolder
from iapo.tiny.crop.pages import draw
from iapo.training.files import find_config
from iapo.training.settings import parse

# What hardly was taught anything writes turns to their end; none of them calls a tool.
FEW = ["--per_device_train_batch_size", "8", "--eval_batch_size", "4", "--max_turn_tokens", "6"]
SCALE = 0.005


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A whole demo: two steps of lessons, two of reinforcement learning."""
    out = tmp_path_factory.mktemp("demo") / "crop"
    with pytest.MonkeyPatch.context() as patch:
        _shrink(patch)
        with without_processes(patch):
            found = demo_crop.run_crop_demo(out, steps=2, seed=0, samples=4, scale=SCALE)
    return out, found


def _shrink(patch: pytest.MonkeyPatch) -> None:
    few_lessons(patch)
    make_job = demo_crop._training_job

    def few(*words: Any) -> Job:
        job = make_job(*words)
        command = job.command
        return Job(job.name, lambda threads: [*command(threads), *FEW], job.log, job.steps, job.done, job.phase)

    patch.setattr(demo_crop, "_training_job", few)
    patch.setattr(demo_crop, "TRAINED_PAGES", 16)


@pytest.mark.slow(19)
def test_it_leaves_an_ordinary_run(demo: tuple[Path, dict[str, Any]]) -> None:
    out, found = demo
    folder = RunFolder(out / "grpo")
    assert [row["step"] for row in folder.read_metrics()] == [1, 2]
    manifest = json.loads((out / "grpo" / "manifest.json").read_text())
    assert manifest["config"]["run"]["tools"] == "iapo.tiny.crop.tool:CROP"
    assert manifest["config"]["prompt"]["name"] == "tiny-crop"
    evaluation = folder.read_evaluation()
    assert evaluation.samples == 4
    assert found["outcomes"] == dict(evaluation.outcomes)
    assert set(evaluation.greedy) == {"before", "after"}
    assert "outcome" in evaluation.greedy_differences
    assert [one.name for one in find_runs([out]).runs]
    assert (out / "report.html").stat().st_size > 10_000
    assert not list((out / "grpo").glob("checkpoint-*"))


@pytest.mark.slow(1)
def test_its_pages_are_ordinary_data(demo: tuple[Path, dict[str, Any]]) -> None:
    for split, count in (("train", 16), ("test", 4)):
        loaded = list(strict(load(demo[0] / "data", split=split)))
        drawn = [page.sample for page in draw(count, seed=0, split=split)]
        assert [one.id for one in loaded] == [one.id for one in drawn]
        assert [one.image.tobytes() for one in loaded] == [one.image.tobytes() for one in drawn]
        assert [one.column_boxes for one in loaded] == [one.column_boxes for one in drawn]


@pytest.mark.slow(1)
def test_a_finished_or_another_demo_is_refused(demo: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="already holds a finished run"):
        demo_crop.run_crop_demo(demo[0], steps=2, seed=0, samples=4)
    demo_crop._begin(tmp_path, {"steps": 60, "seed": 0})
    demo_crop._begin(tmp_path, {"steps": 60, "seed": 0})
    with pytest.raises(InputError, match="was begun with seed 0, not 1"):
        demo_crop._begin(tmp_path, {"steps": 60, "seed": 1})


@pytest.mark.slow(14)
def test_it_goes_on_where_it_was_stopped(
    demo: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The start and the pages stay as they are; the result is that of the demo that was never stopped."""
    out = tmp_path / "stopped"
    shutil.copytree(demo[0], out)
    shutil.rmtree(out / "grpo")
    made = {path: path.stat().st_mtime_ns for path in (out / "start" / "model.safetensors", out / "data/test.parquet")}
    _shrink(monkeypatch)
    run_jobs = demo_crop.run_jobs

    def fail(jobs: Sequence[Job], together: int) -> None:
        if jobs[0].name == "GRPO":
            raise JobError("stopped")
        run_jobs(jobs, together)

    with monkeypatch.context() as patch:
        patch.setattr(demo_crop, "run_jobs", fail)
        with pytest.raises(JobError):
            demo_crop.run_crop_demo(out, steps=2, seed=0, samples=4, scale=SCALE)
    with without_processes(monkeypatch):
        found = demo_crop.run_crop_demo(out, steps=2, seed=0, samples=4, scale=SCALE)
    assert {path: path.stat().st_mtime_ns for path in made} == made
    assert found["outcomes"] == demo[1]["outcomes"]
    assert found["before"] == demo[1]["before"]


def test_without_a_folder_the_first_that_is_not_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert demo_crop._parent(None) == Path("runs/demo-crop")
    (tmp_path / "runs/demo-crop/grpo").mkdir(parents=True)
    assert demo_crop._parent(None) == Path("runs/demo-crop")
    (tmp_path / "runs/demo-crop/grpo/finished.json").write_text("{}")
    assert demo_crop._parent(None) == Path("runs/demo-crop-2")


def test_the_command_runs_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(demo_crop, "run_crop_demo", lambda out, **more: asked.append((out, more)) or {"samples": 3})
    path = tmp_path / "numbers.json"
    done = iapo_here("demo", "--world", "crop", "--steps", "3", "--seed", "5", "--out", tmp_path / "x", "--json", path)
    assert done.returncode == 0, done.stderr
    assert asked == [(tmp_path / "x", {"steps": 3, "seed": 5, "samples": None})]
    assert json.loads(path.read_text()) == {"samples": 3}


def test_the_configuration_is_the_demos() -> None:
    settings = yaml.safe_load(find_config("demo-crop").read_text())
    assert settings["max_steps"] == demo_crop.STEPS
    assert settings["eval_samples"] == demo_crop.HELD_OUT_PAGES
    arguments, training = parse("demo-crop")
    assert arguments.tools == "iapo.tiny.crop.tool:CROP"
    assert training.reward == "grpo"
