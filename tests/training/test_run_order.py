"""`iapo train` in its order: what is refused is refused before the first rollout, and leaves no folder behind."""

from __future__ import annotations

import dataclasses
import io
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from transformers import TrainerControl, TrainerState
from transformers.utils import logging

from iapo.display.quiet import quiet_libraries
from iapo.errors import InputError
from iapo.training import held_out, run, trainer
from iapo.training.arguments import RunArguments
from iapo.training.config import IAPOConfig
from iapo.training.progress import StepProgress, bar, duration
from iapo.training.settings import parse, read_flags

FLAGS = ["--max_steps", "1", "--per_device_train_batch_size", "8", "--train_samples", "8", "--eval_samples", "3"]
FLAGS += ["--case_study_steps", "0"]

SHORT = ["--max_turn_tokens", "6"]
"""For tests that do not care what a rollout says: too short for a call."""


def settings(out: Path, *flags: str, config: str = "demo-iapo") -> tuple[RunArguments, IAPOConfig]:
    return parse(config, read_flags(FLAGS) | read_flags(flags) | {"output_dir": str(out)})


def spoil(name: str, value: Any) -> Callable[[RunArguments, IAPOConfig], None]:
    def change(arguments: RunArguments, training: IAPOConfig) -> None:
        setattr(arguments if hasattr(arguments, name) else training, name, value)

    return change


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (spoil("reward", "nonesuch"), "no reward 'nonesuch'; use one of"),
        (spoil("reward", "trm"), "reward 'trm' needs a verifier"),
        (spoil("component_weights", {"execution": 1.0}), "component_weights names 'execution'"),
        (spoil("component_weights", {"alignment": "much"}), "gives 'alignment' the weight 'much'; give a number"),
        (spoil("component_weights", "alignment=1"), "component_weights is 'alignment=1'; give a mapping"),
        (spoil("teacher", None), "there is no teacher"),
        (spoil("teacher", "no-such-teacher"), "no checkpoint 'no-such-teacher'"),
        (spoil("eval_teacher", "no-such-teacher"), "no checkpoint 'no-such-teacher'"),
        (spoil("model", "no-such-student"), "no checkpoint 'no-such-student'"),
    ],
)
def test_refused_before_any_data_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[..., None], sentence: str
) -> None:
    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("data was read, or a rollout made")

    monkeypatch.setattr(run, "run_samples", never)
    monkeypatch.setattr(held_out, "evaluate", never)
    arguments, training = settings(tmp_path / "run")
    change(arguments, training)
    with pytest.raises(InputError, match=sentence):
        run.run(arguments, training)
    assert not (tmp_path / "run").exists()


def test_wrong_table_is_refused_before_the_first_rollout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from iapo.training.store_teacher import store_teacher

    flags = ["--train_samples", "2", "--max_turn_tokens", "24"]
    store_teacher("demo-iapo", flags, tmp_path / "table.parquet", model="tiny-teacher", split="train")

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("a rollout was made")

    monkeypatch.setattr(held_out, "evaluate", never)
    with pytest.raises(InputError, match="has no row"):
        run.run(*settings(tmp_path / "run", "--teacher_table", str(tmp_path / "table.parquet")))
    assert not (tmp_path / "run").exists()


@pytest.mark.slow(2)
@pytest.mark.parametrize("eval_teacher", [None, "tiny-teacher", "tiny-student"])
def test_everything_is_made_once_and_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, eval_teacher: str | None
) -> None:
    happened: list[str] = []

    def noted(module: Any, name: str, what: str) -> None:
        original = getattr(module, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            happened.append(what)
            return original(*args, **kwargs)

        monkeypatch.setattr(module, name, call)

    import iapo.teachers.student_call as student_call

    noted(student_call, "fingerprint", "reference")
    noted(run, "IAPOTrainer", "trainer")
    noted(trainer.IAPOTrainer, "train", "training")
    noted(held_out, "evaluate", "evaluation")
    arguments, training = settings(tmp_path / "run", *SHORT, "--attribution_form", "softmax")
    done = run.run(dataclasses.replace(arguments, eval_teacher=eval_teacher), training, quiet=True)
    own = ["reference"] if eval_teacher == "tiny-student" else []
    sampled_and_greedy = ["evaluation", "evaluation"]
    assert happened == ["reference", *own, "trainer", *sampled_and_greedy, "training", *sampled_and_greedy]
    assert done.read_evaluation().settings["batch_size"] == 64


@pytest.mark.slow(3)
def test_evaluation_draws_nothing_of_the_trainings(tmp_path: Path) -> None:
    weights = []
    for name, samples in (("with", "3"), ("without", "0")):
        run.run(*settings(tmp_path / name, "--eval_samples", samples), quiet=True)
        weights.append((tmp_path / name / "policy" / "model.safetensors").read_bytes())
    assert weights[0] == weights[1]


@pytest.mark.slow(3)
def test_evaluation_has_its_own_batch_size(tmp_path: Path) -> None:
    found = []
    for size in ("2", "64"):
        done = run.run(*settings(tmp_path / size, "--eval_batch_size", size, "--eval_temperature", "0"), quiet=True)
        found.append(done.read_evaluation())
    assert [one.settings["batch_size"] for one in found] == [2, 64]
    assert found[0].outcomes["before"] == found[1].outcomes["before"]


@pytest.mark.slow(2)
def test_what_is_said(tmp_path: Path, capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder) -> None:
    done = run.run(*settings(tmp_path / "my run", "--max_steps", "2"))
    said, errors = capfd.readouterr()
    assert errors == ""
    lines = said.splitlines()
    steps = [line for line in lines if line.startswith("step ")]
    rows = done.read_metrics()
    assert len(steps) == 2
    for number, (line, row) in enumerate(zip(steps, rows, strict=True), 1):
        assert line.startswith(f"step {number}/2  outcome {row['reward/outcome']:.3f}  misuse ")
        assert f"divergence {row['attribution/divergence']:.3f}" in line
    assert "{" not in said
    assert lines[0].startswith("held-out rollouts before training: 3 in ")
    assert lines[-1].endswith(f"Next: iapo report '{done.path}'")
    assert "difference" in said
    assert not [one for one in recwarn if "checkpointing" in str(one.message) or "pin_memory" in str(one.message)]


@pytest.mark.slow(1)
def test_quiet_says_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run.run(*settings(tmp_path / "run", *SHORT), quiet=True)
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow(1)
def test_damaged_rows_are_kept_once_the_run_is_accepted(tmp_path: Path) -> None:
    from fixtures.layouts import LAYOUTS

    folder = tmp_path / "data"
    folder.mkdir()
    path = LAYOUTS["own"].make(folder)
    lines = path.read_text().splitlines()
    crossed = json.loads(lines[0])
    crossed["column_boxes"]["crossed"] = [60, 10, 50, 90]
    path.write_text("\n".join(["{", json.dumps(crossed), *lines[1:]]))
    path.rename(folder / "train.jsonl")
    flags = ["--data", str(folder), "--data_damage", "quarantine", "--eval_samples", "0"]
    arguments, training = settings(tmp_path / "run", *flags)
    done = run.run(arguments, training, quiet=True)
    (line,) = (done.path / "train.quarantine.jsonl").read_text().splitlines()
    assert json.loads(line)["row"] == 1
    (line,) = (done.path / "train.flawed.jsonl").read_text().splitlines()
    assert json.loads(line)["id"] == crossed["id"]
    assert "'crossed' has no width" in json.loads(line)["flaws"][0]
    rows = json.loads((done.path / "manifest.json").read_text())["data"]["rows"]
    assert rows == {"train": {"samples": len(lines), "expected": len(lines) + 1, "damaged": 1, "flawed": 1}}


def logged(progress: StepProgress, step: int, **values: float) -> None:
    state = TrainerState(global_step=step, max_steps=30, is_world_process_zero=True)
    logs = {"loss": 0.0, **values}
    progress.on_log(IAPOConfig("x", bf16=False, report_to="none"), state, TrainerControl(), logs=logs)


def test_live_table_shows_the_last_steps() -> None:
    console = Console(file=io.StringIO(), width=100, force_terminal=True)
    progress = StepProgress(console, live=True)
    state = TrainerState(global_step=0, max_steps=30, is_world_process_zero=True)
    progress.on_train_begin(IAPOConfig("x", bf16=False, report_to="none"), state, TrainerControl())
    for step in range(1, 21):
        logged(progress, step, **{"rewards/outcome_reward/mean": step / 100, "tools/misuse_rate": 0.25})
    progress.close()
    assert isinstance(console.file, io.StringIO)
    # What stands there at the end, behind the last time that the cursor went back.
    last = console.file.getvalue().rpartition("\x1b[1A")[2]
    assert "20/30" in last
    assert "9/30" in last
    assert "\n│  8/30" not in last
    assert "0.200" in last
    assert "25.0%" in last
    assert "time left" in last


def test_bar_leaves_one_line() -> None:
    console = Console(file=io.StringIO(), width=80)
    with bar(console, "held-out rollouts", 4, live=False) as progress:
        progress(4)
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue() == "held-out rollouts: 4 in 0 s\n"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (119, "119 s"), (121, "2 min"), (7100, "118 min"), (7500, "2 h 5 min")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_only_named_messages_are_left_out() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with quiet_libraries():
            assert not logging.is_progress_bar_enabled()
            warnings.warn("`is_gradient_checkpointing` is deprecated and will be removed", FutureWarning, stacklevel=1)
            warnings.warn("`another_setting` is deprecated and will be removed", FutureWarning, stacklevel=1)
            warnings.warn("'pin_memory' argument is set as true but not for you", UserWarning, stacklevel=1)
    assert logging.is_progress_bar_enabled()
    assert [str(one.message)[:17] for one in caught] == ["`another_setting`", "'pin_memory' argu"]
