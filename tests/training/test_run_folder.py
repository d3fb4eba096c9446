"""`IAPOTrainer` from Python writes the run folder that reports, studies and evaluations read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from processes import iapo_here
from scripted import batch, scripted

from iapo import IAPOConfig, IAPOTrainer, to_dataset
from iapo.data.synthetic import generate
from iapo.errors import InputError
from iapo.records import Sample
from iapo.rollout.policy import load_policy
from iapo.runs import RunFolder, data_hash
from iapo.studies.folders import find_runs
from iapo.studies.misuse import plan_of, policies


@pytest.fixture(scope="module")
def charts() -> list[Sample]:
    return list(generate("vbar", 8, seed=11, question_types=("value",)))


def iapo(*words: object) -> str:
    done = iapo_here(*words)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, charts: list[Sample]) -> Path:
    """A run as a script of a few lines makes it."""
    folder = tmp_path_factory.mktemp("python") / "run"
    args = IAPOConfig(
        str(folder),
        teacher="tiny-teacher",
        max_steps=2,
        per_device_train_batch_size=8,
        num_generations=4,
        max_turn_tokens=24,
        logging_steps=1,
        trace_every=1,
        traces_per_step=3,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        bf16=False,
        seed=5,
    )
    trainer = IAPOTrainer("tiny-student", args=args, train_dataset=to_dataset(charts))
    assert not (folder / "manifest.json").exists()
    trainer.train()
    trainer.save_model(str(folder / "policy"))
    return folder


def test_what_is_written(trained: Path, charts: list[Sample]) -> None:
    run = RunFolder(trained)
    assert [row["step"] for row in run.read_metrics()] == [1, 2]
    assert all(row["attribution/divergence"] >= 0 for row in run.read_metrics())
    traces = run.read_traces()
    assert [trace.step for trace in traces] == [1] * 3 + [2] * 3
    assert {trace.sample.id for trace in traces} <= {chart.id for chart in charts}
    assert all({"outcome", "divergence"} <= set(trace.scores) for trace in traces)
    manifest = json.loads((trained / "manifest.json").read_text())
    assert manifest["config"]["training"]["teacher"] == "tiny-teacher"
    # As given, and not as the trainer changes it for itself.
    assert manifest["config"]["training"]["remove_unused_columns"] == IAPOConfig("x", bf16=False).remove_unused_columns
    assert manifest["seeds"] == {"training": 5}
    # Which were given otherwise than their default; a batch of 8 is TRL's own.
    left = manifest["defaults"]["training"]
    assert (left["max_steps"], left["teacher"], left["num_generations"]) == (-1, None, 8)
    assert not {"per_device_train_batch_size", "learning_rate", "attribution_target"} & set(left)
    assert manifest["data"] == {"train": data_hash(charts)}


@pytest.mark.slow(1)
def test_report_and_curves(trained: Path) -> None:
    assert "1 runs, 6 traces" in iapo("report", trained)
    assert str(trained / "curves.csv") in iapo("study", "curves", trained).replace("\n", "")
    assert "reward/outcome" in (trained / "curves.csv").read_text()


@pytest.mark.slow(6)
def test_saved_policy_is_evaluated(trained: Path, tmp_path: Path) -> None:
    iapo("evaluate", "--model", trained / "policy", "--sets", "vbar", "--samples", 2, "--out", tmp_path / "e")
    assert json.loads((tmp_path / "e" / "evaluation.json").read_text())["sets"]["vbar"]["samples"] == 2
    assert (
        load_policy(str(trained / "policy")).processor.chat_template
        == load_policy("tiny-student").processor.chat_template
    )


def test_what_only_iapo_train_knows_is_asked_for(trained: Path) -> None:
    (run,) = find_runs([str(trained)])
    for question in (lambda: plan_of(run, {}), lambda: policies(run)):
        with pytest.raises(InputError, match="was trained from Python"):
            question()


def test_folder_with_a_run_is_refused_before_training(
    tmp_path: Path, model: Any, processor: Any, charts: list[Sample]
) -> None:
    scripted(tmp_path, model, processor, charts, save_strategy="steps", save_steps=1).train()
    written = (tmp_path / "run" / "metrics.jsonl").read_bytes()
    again = scripted(tmp_path, model, processor, charts, max_steps=2)
    with pytest.raises(InputError, match="already holds a run; choose another output_dir"):
        again.train()
    assert again.state.global_step == 0
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == written
    again.train(resume_from_checkpoint=True)
    assert [row["step"] for row in RunFolder(tmp_path / "run").read_metrics()] == [1, 2]


def test_switched_off(tmp_path: Path, model: Any, processor: Any, charts: list[Sample]) -> None:
    for _ in range(2):
        scripted(tmp_path, model, processor, charts, keep_run=False).train()
    assert not list((tmp_path / "run").glob("*.json*"))
    assert not (tmp_path / "run" / "pictures").exists()


def test_nothing_is_written_outside_training(tmp_path: Path, model: Any, processor: Any, charts: list[Sample]) -> None:
    batch(scripted(tmp_path, model, processor, charts), charts)
    assert not list((tmp_path / "run").iterdir())
