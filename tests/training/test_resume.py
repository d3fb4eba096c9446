"""A run that was stopped or killed goes on by the same command as if nothing had been; one with other settings not."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from processes import run as run_process
from processes import started, wait_for
from safetensors.torch import load_file

from iapo.errors import InputError
from iapo.runs import RunFolder
from iapo.stopping import Stopped, stoppable
from iapo.training.checkpoints import STATE, fault_of, last_whole
from iapo.training.contents import INCOMPLETE, Contents, list_contents, names_in
from iapo.training.held_out import HeldOut
from iapo.training.resume import Start, check_free, find_start
from iapo.training.run import run
from iapo.training.settings import parse
from iapo.training.trainer import IAPOTrainer

TINY: dict[str, Any] = {
    "max_steps": 4,
    "per_device_train_batch_size": 4,
    "num_generations": 4,
    "train_samples": 16,
    "eval_samples": 0,
    "case_study_steps": 0,
    "save_strategy": "steps",
    "save_steps": 1,
    "trace_every": 1,
    "traces_per_step": 2,
}


def words(out: Path, **more: Any) -> list[str]:
    given = {**TINY, "output_dir": out, **more}
    flags = [part for name, value in given.items() for part in (f"--{name}", str(value))]
    return [sys.executable, "-m", "iapo", "train", "--config", "demo-iapo", *flags]


def trained(out: Path, **more: Any) -> Path:
    run(*parse("demo-iapo", {**TINY, "output_dir": str(out), **more}), quiet=True)
    return out


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nobody stopped."""
    return trained(tmp_path_factory.mktemp("whole") / "run")


def logged(folder: Path) -> dict[str, list[dict[str, Any]]]:
    found = {}
    for name in ("metrics.jsonl", "traces.jsonl"):
        rows = [json.loads(line) for line in (folder / name).read_text().splitlines()]
        found[name] = [{key: value for key, value in row.items() if not key.startswith("time/")} for row in rows]
    return found


def same(one: Path, other: Path) -> None:
    assert logged(one) == logged(other)
    for name in sorted(path.name for path in (one / "policy").glob("*.safetensors")):
        first, second = (load_file(folder / "policy" / name) for folder in (one, other))
        assert all(value.equal(second[key]) for key, value in first.items())


def steps(folder: Path) -> int:
    path = folder / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


@pytest.mark.slow(6)
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGUSR1, signal.SIGKILL])
def test_the_same_command_goes_on(tmp_path: Path, whole: Path, how: signal.Signals) -> None:
    out = tmp_path / "run"
    # One is a process of its own from the start, as a user's is.
    fork = how != signal.SIGTERM
    with started(words(out), fork, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        wait_for(lambda: steps(out) >= 2 or process.poll() is not None)
        process.send_signal(how)
        assert process.wait(400) == (-how if how == signal.SIGKILL else 75)
    assert not (out / "finished.json").exists()
    assert not (out / "policy").exists()
    if how != signal.SIGKILL:
        assert "after step" in process.stdout.read()
        assert last_whole(out) == (out / f"checkpoint-{steps(out)}", steps(out))
    trained(out)
    same(out, whole)
    assert json.loads((out / "finished.json").read_text())["step"] == 4
    with pytest.raises(InputError, match="already holds a finished run"):
        trained(out)


@pytest.mark.slow(6)
@pytest.mark.parametrize(
    "more",
    [
        # Three steps an epoch.
        {"reward": "otc", "learning_rate": 1e-4},
        {"reward": "grpo", "beta": 0.5, "sync_ref_model": True, "ref_model_sync_steps": 1, "learning_rate": 1e-3},
    ],
    ids=["what a reward remembers", "a reference policy that moves"],
)
def test_later_epochs_go_on(tmp_path: Path, more: dict[str, Any]) -> None:
    given = {**more, "train_samples": 3, "max_steps": 7, "teacher": "none", "penalty_weight": 0, "temperature": 0.3}
    once = trained(tmp_path / "once", **given)
    for last in (3, 4):
        out = tmp_path / str(last)
        shutil.copytree(once, out)
        (out / "finished.json").unlink()
        shutil.rmtree(out / "policy")
        for step in range(last + 1, 8):
            shutil.rmtree(out / f"checkpoint-{step}")
        trained(out, **given)
        same(out, once)


@pytest.mark.slow(4)
@pytest.mark.parametrize("adapter", [False, True])
def test_a_run_without_checkpoints_goes_on_from_its_last_policy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, adapter: bool
) -> None:
    given = {"save_strategy": "no", "eval_samples": 4, "use_peft": adapter, "learning_rate": 1e-2, "max_steps": 2}
    once, out = trained(tmp_path / "once", **given), tmp_path / "run"
    with monkeypatch.context() as patched:
        patched.setattr(HeldOut, "write", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(Stopped, match="the same command goes on from it"):
            trained(out, **given)
    assert json.loads((out / "trained.json").read_text())["step"] == 2
    damaged = tmp_path / "damaged"
    shutil.copytree(out, damaged)
    (weights,) = (damaged / "policy").glob("*.safetensors")
    content = bytearray(weights.read_bytes())
    content[-100] ^= 1
    weights.write_bytes(content)
    with pytest.raises(InputError, match="was trained to its end and has no whole checkpoint to be trained on from"):
        trained(damaged, **{**given, "max_steps": 3}, resume_from_checkpoint="true")
    # No step is taken once more.
    with monkeypatch.context() as patched:
        patched.setattr(IAPOTrainer, "train", None)
        trained(out, **given)
    assert "was trained up to its last step, 2, and goes on from its policy" in caplog.text
    same(out, once)
    for name in ("evaluation.json", "finished.json", "held-out.jsonl"):
        assert (out / name).read_text() == (once / name).read_text()
    assert not (out / "trained.json").exists()
    caplog.clear()
    trained(damaged, **given)
    assert "was stopped before its first whole checkpoint; it starts again" in caplog.text
    same(damaged, once)


@pytest.mark.slow(4)
@pytest.mark.usefixtures("heeded")
def test_a_signal_while_the_last_policy_is_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save = IAPOTrainer.save_model

    def interrupted(trainer: IAPOTrainer, *given: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        save(trainer, *given)

    with monkeypatch.context() as patched:
        patched.setattr(IAPOTrainer, "save_model", interrupted)
        with pytest.raises(Stopped, match="after step 4, which is saved; the same command goes on from there"):
            trained(tmp_path / "run", save_strategy="no")
    trained(tmp_path / "run", save_strategy="no")
    assert json.loads((tmp_path / "run" / "finished.json").read_text())["step"] == 4


def test_another_process_that_is_asked_is_not_the_first_signal() -> None:
    """It may reach this one later, while the state is being saved."""
    with stoppable() as stop, stop.later():
        stop.told = True
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(Stopped, match="stopped by SIGTERM; "):
            stop.check()
        with pytest.raises(Stopped):
            os.kill(os.getpid(), signal.SIGTERM)
    with stoppable() as stop:
        stop.told = True
        with pytest.raises(Stopped, match="stopped by the signal of another process; "):
            stop.check()


@pytest.mark.slow(4)
def test_a_checkpoint_of_another_run_is_passed_over(tmp_path: Path, whole: Path, caplog: pytest.LogCaptureFixture):
    out = tmp_path / "run"
    shutil.copytree(whole, out)
    (out / "finished.json").unlink()
    for name in ("policy", "checkpoint-2", "checkpoint-3", "checkpoint-4"):
        shutil.rmtree(out / name)
    shutil.copytree(trained(tmp_path / "other", learning_rate=1e-3) / "checkpoint-2", out / "checkpoint-2")
    trained(out)
    assert f"{out / 'checkpoint-2'} is passed over: it is of another run." in caplog.text
    assert "goes on from step 1" in caplog.text
    same(out, whole)


@pytest.mark.slow(4)
def test_what_a_dead_process_began_to_write_is_removed(
    tmp_path: Path, whole: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "run"
    shutil.copytree(whole, out)
    (out / "finished.json").unlink()
    (out / "checkpoint-4" / INCOMPLETE).touch()
    assert fault_of(out / "checkpoint-4") == "it was being written when the process ended"
    # Of a user, who kept the weights alone; and links whose targets are gone, or half written.
    (out / "checkpoint-3" / STATE).unlink()
    (out / "checkpoint-5").symlink_to(tmp_path / "gone")
    shutil.copytree(out / "checkpoint-4", tmp_path / "elsewhere")
    (out / "checkpoint-6").symlink_to(tmp_path / "elsewhere")
    shutil.copytree(out / "checkpoint-1", out / "checkpoint-export-9")
    trained(out)
    assert "checkpoint-4 is half written and is removed" in caplog.text
    # What nobody was writing is left for its owner to look at.
    assert sorted(path.name for path in out.glob("*checkpoint-*")) == [
        *(*(f"checkpoint-{step}" for step in range(1, 5)), "checkpoint-export-9"),
        *(f"superseded-checkpoint-{step}" for step in (3, 5, 6)),
    ]
    assert (out / "superseded-checkpoint-3" / "model.safetensors").is_file()
    assert (tmp_path / "elsewhere" / "model.safetensors").is_file()
    assert not any(out.glob(f"checkpoint-*/{INCOMPLETE}"))
    same(out, whole)


@pytest.mark.slow(2)
def test_a_run_that_goes_on_is_saved_as_often_as_is_asked_for_now(tmp_path: Path, whole: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(whole, out)
    (out / "finished.json").unlink()
    for step in (2, 3, 4):
        shutil.rmtree(out / f"checkpoint-{step}")
    trained(out, save_steps=2)
    assert sorted(path.name for path in out.glob("checkpoint-*")) == ["checkpoint-1", "checkpoint-2", "checkpoint-4"]
    same(out, whole)


def stopped_at(monkeypatch: pytest.MonkeyPatch, step: int, out: Path, **given: Any) -> None:
    """Trains until SIGTERM comes within a step."""
    compute = IAPOTrainer.compute_loss

    def interrupted(trainer: IAPOTrainer, *some: Any, **more: Any) -> Any:
        if trainer.state.global_step == step - 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return compute(trainer, *some, **more)

    with monkeypatch.context() as patched:
        patched.setattr(IAPOTrainer, "compute_loss", interrupted)
        with pytest.raises(Stopped, match=f"after step {step}, which is saved; the same command goes on from there"):
            trained(out, **given)


@pytest.mark.slow(5)
@pytest.mark.usefixtures("heeded")
@pytest.mark.parametrize("inside", [True, False], ids=["of the same folder", "of another folder"])
def test_the_same_command_goes_on_that_began_from_a_named_checkpoint(
    tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, inside: bool
) -> None:
    first, out = tmp_path / "first", tmp_path / ("first" if inside else "run")
    shutil.copytree(whole, first)
    given = {"max_steps": 6, "resume_from_checkpoint": str(first / "checkpoint-2")}
    once = trained(tmp_path / "once", **given)
    stopped_at(monkeypatch, 4, out, **given)
    caplog.clear()
    # It may have been removed by now, as one of too many.
    shutil.rmtree(first / "checkpoint-2")
    if inside:
        # As from another current folder, or where the run has moved with its checkpoints.
        first = out = first.rename(tmp_path / "moved")
        given["resume_from_checkpoint"] = f"{out}/./checkpoint-2/"
    trained(out, **given)
    assert "goes on from step 4 (checkpoint-4)" in caplog.text
    lines = [row["step"] for row in logged(out)["metrics.jsonl"]]
    assert lines == list(range(1 if inside else 3, 7))
    assert logged(out)["metrics.jsonl"][-4:] == logged(once)["metrics.jsonl"]
    with pytest.raises(InputError, match="already holds the finished run of this command"):
        trained(out, **given)
    if inside:
        # What it was before is set aside, and what comes from elsewhere is another command.
        assert (first / "superseded-checkpoint-3").is_dir()
        trained(out, max_steps=6, resume_from_checkpoint=str(first / "checkpoint-5"))


@pytest.mark.slow(4)
@pytest.mark.usefixtures("heeded")
@pytest.mark.parametrize("name", ["checkpoint-3", "stage1-2024", "best"])
def test_a_named_start_beside_checkpoints_of_another_course(
    tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """What the folder held before is of another course, and no checkpoint need be called by its step."""
    named = shutil.copytree(whole / "checkpoint-3", tmp_path / name)
    out = shutil.copytree(whole, tmp_path / "run")
    for path in ("checkpoint-3", "checkpoint-4", "policy"):
        shutil.rmtree(out / path)
    given = {"max_steps": 6, "resume_from_checkpoint": str(named)}
    with monkeypatch.context() as patched:
        patched.setattr(IAPOTrainer, "_save_checkpoint", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        patched.setattr(os, "kill", lambda *_: (_ for _ in ()).throw(Stopped("killed")))
        with pytest.raises(Stopped, match="killed"):
            trained(out, **given)
    for otherwise in (None, "true"):
        with pytest.raises(InputError, match=rf"was begun from .*{name} and has no whole checkpoint of its own"):
            trained(out, max_steps=6, resume_from_checkpoint=str(otherwise))
    stopped_at(monkeypatch, 5, out, **given)
    assert find_own(out, given).step == 5
    trained(out, **given)
    assert [row["step"] for row in logged(out)["metrics.jsonl"]][-3:] == [4, 5, 6]


def find_own(out: Path, given: dict[str, Any]) -> Start:
    """Where the same command begins."""
    arguments, settings = parse("demo-iapo", {**TINY, "output_dir": str(out), **given})
    config = {"run": dataclasses.asdict(arguments), "training": settings.to_dict()}
    return find_start(out, config, "training", named=settings.resume_from_checkpoint)


def test_fewer_steps_and_a_finished_run_are_refused(tmp_path: Path, whole: Path) -> None:
    out = shutil.copytree(whole, tmp_path / "run")
    with pytest.raises(InputError, match="holds the finished run of this command"):
        trained(out, resume_from_checkpoint="true")
    with pytest.raises(InputError, match="checkpoint-4 is of step 4, and max_steps is 2; give more steps"):
        trained(out, max_steps=2, resume_from_checkpoint="true")
    with pytest.raises(InputError, match="checkpoint-3 is of step 3, and max_steps is 2; give more steps"):
        trained(tmp_path / "other", max_steps=2, resume_from_checkpoint=str(whole / "checkpoint-3"))


@pytest.mark.slow(2)
def test_a_run_that_is_to_be_longer_is_no_finished_one_from_the_start(
    tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = shutil.copytree(whole, tmp_path / "run")
    given = {"max_steps": 5, "resume_from_checkpoint": str(out / "checkpoint-4")}
    with monkeypatch.context() as patched:
        patched.setattr(RunFolder, "write_manifest", lambda *_, **__: (_ for _ in ()).throw(Stopped("killed")))
        with pytest.raises(Stopped, match="killed"):
            trained(out, **given)
    assert not (out / "finished.json").exists()
    trained(out, **given)


@pytest.mark.slow(2)
@pytest.mark.usefixtures("heeded")
def test_a_state_stays_while_weights_alone_are_saved(
    tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"save_only_model": True, "save_total_limit": 1}
    stopped_at(monkeypatch, 2, tmp_path, **given)
    # Another machine's clock.
    os.utime(tmp_path / "checkpoint-2", (4e9, 4e9))
    trained(tmp_path, **given)
    assert sorted(path.name for path in tmp_path.glob("checkpoint-*")) == ["checkpoint-2", "checkpoint-4"]
    same(tmp_path, whole)


@pytest.mark.slow(3)
@pytest.mark.usefixtures("heeded")
def test_what_is_refused_loses_nothing(tmp_path: Path, whole: Path) -> None:
    """Later checkpoints are set aside, and a last policy's mark is taken away, when all is found right."""
    out = tmp_path / "run"
    shutil.copytree(whole, out)
    (out / "finished.json").rename(out / "trained.json")
    manifest = json.loads((out / "manifest.json").read_text())
    manifest["data"]["train"] = "of other samples"
    (out / "manifest.json").write_text(json.dumps(manifest))
    before = sorted(path.name for path in out.iterdir())
    with pytest.raises(InputError, match="begun with other data"):
        trained(out, max_steps=5, resume_from_checkpoint=str(whole / "checkpoint-2"))
    assert sorted(path.name for path in out.iterdir()) == before


@pytest.mark.slow(3)
@pytest.mark.usefixtures("heeded")
def test_the_state_where_it_was_stopped_is_whole_with_weights_alone(
    tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    stopped_at(monkeypatch, 2, out, save_only_model=True)
    assert fault_of(out / "checkpoint-1") == "it has no optimiser's state"
    assert last_whole(out) == (out / "checkpoint-2", 2)
    trained(out, save_only_model=True)
    same(out, whole)
    assert fault_of(out / "checkpoint-4") == "it has no optimiser's state"
    with stoppable() as stop:
        stop.places = [out]
        shutil.rmtree(out / "checkpoint-2")
        for name in ("finished.json", "evaluation.json"):
            (out / name).unlink(missing_ok=True)
        assert stop.ending.endswith("it begins anew")


@pytest.mark.slow(2)
@pytest.mark.usefixtures("heeded")
def test_a_second_signal_while_older_checkpoints_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def twice(*some: Any, **more: Any) -> None:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patched:
        patched.setattr(IAPOTrainer, "_rotate", twice)
        with pytest.raises(Stopped):
            trained(tmp_path, save_total_limit=1)
    assert last_whole(tmp_path) == (tmp_path / "checkpoint-1", 1)
    told = torch.load(tmp_path / "checkpoint-1" / "training_args.bin", weights_only=False)
    assert (told.save_total_limit, told.save_only_model, told.push_to_hub) == (1, False, False)
    trained(tmp_path, save_total_limit=1)
    assert [path.name for path in tmp_path.glob("checkpoint-*")] == ["checkpoint-4"]


@pytest.mark.slow(2)
def test_a_run_without_a_step_may_begin_otherwise(tmp_path: Path, whole: Path, caplog: pytest.LogCaptureFixture):
    """What ended before its first step has left a manifest and a prompt, and nothing that could be lost."""
    out = tmp_path / "run"
    out.mkdir()
    for name in ("manifest.json", "prompt.yaml"):
        shutil.copy(whole / name, out / name)
    trained(out, seed=5, max_steps=1)
    assert "was stopped before its first step; it starts again" in caplog.text
    assert json.loads((out / "manifest.json").read_text())["config"]["training"]["seed"] == 5
    (out / "finished.json").unlink()
    with pytest.raises(InputError, match="holds a run with seed 5, now it is 6"):
        trained(out, seed=6, max_steps=1)
    evaluated = tmp_path / "evaluated"
    evaluated.mkdir()
    manifest = json.loads((whole / "manifest.json").read_text())
    (evaluated / "manifest.json").write_text(json.dumps({**manifest, "kind": "evaluation"}))
    with pytest.raises(InputError, match="holds another kind of run"):
        trained(evaluated, max_steps=1)


@pytest.mark.slow(2)
def test_a_half_written_checkpoint_is_passed_over(
    tmp_path: Path, whole: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "run"
    shutil.copytree(whole, out)
    for name in ("finished.json", "policy"):
        (shutil.rmtree if (out / name).is_dir() else Path.unlink)(out / name)
    state = out / "checkpoint-4" / "trainer_state.json"
    state.write_text(state.read_text()[:200])
    metrics = out / "metrics.jsonl"
    first, *rest = metrics.read_text().splitlines(keepends=True)
    metrics.write_text("".join(rest))
    weights = out / "checkpoint-3" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    with caplog.at_level(logging.WARNING):
        trained(out)
    assert "checkpoint-4 is passed over: its trainer_state.json is cut off" in caplog.text
    assert "checkpoint-3 is passed over: its model.safetensors is cut off" in caplog.text
    assert "goes on from step 2" in caplog.text
    assert "metrics.jsonl has no line of step 1, nor of 0 others; they are lost" in caplog.text
    metrics.write_text(first + metrics.read_text())
    same(out, whole)


def test_all_files_of_a_checkpoint_must_be_there(tmp_path: Path, whole: Path) -> None:
    folder = tmp_path / "checkpoint-2"
    shutil.copytree(whole / "checkpoint-2", folder)
    files = sorted(one for one in folder.rglob("*") if one.is_file())
    assert {"scheduler.pt", "tokenizer.json", "prompt.yaml"} <= {one.name for one in files}
    for file in files:
        content = file.read_bytes()
        file.unlink()
        missing = fault_of(folder)
        # Without the list itself, as in checkpoints of earlier versions, the files that a state needs must be there.
        assert bool(missing) == (file.name != "contents.json"), file.name
        if file.name != STATE:
            file.write_bytes(content[: len(content) // 2])
            assert fault_of(folder), file.name
        file.write_bytes(content)
    assert fault_of(folder) is None
    contents = Contents.read(folder)
    assert contents is not None
    assert (contents.processes, contents.engine) == (1, "nothing split")
    # The other ranks' states, and what an engine keeps in folders of its own, are on the list like all others.
    (folder / "global_step2").mkdir()
    more = {"iapo_state_1.pt": b"of a rank", "global_step2/zero_pp_rank_1_optim_states.pt": b"of an engine"}
    for name, content in more.items():
        (folder / name).write_bytes(content)
    Contents(2, "DeepSpeed ZeRO-2", list_contents(folder, names_in(folder))).write(folder)
    for name in more:
        (folder / name).unlink()
        assert fault_of(folder) == f"its {name} is missing"
        (folder / name).write_bytes(more[name])


def test_another_number_of_processes_or_engine_is_refused(
    tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    shutil.copytree(whole, out)
    (out / "finished.json").unlink()
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match=r"written by 1 process \(nothing split\).* gone on from by 2 processes"):
        find_start(out, {}, "training")
    monkeypatch.delenv("WORLD_SIZE")
    folder = out / "checkpoint-4"
    contents = Contents.read(folder)
    assert contents is not None
    dataclasses.replace(contents, engine="FSDP2, SHARDED_STATE_DICT").write(folder)
    with pytest.raises(
        InputError, match=r"by 1 process \(FSDP2, SHARDED_STATE_DICT\), .* by 1 process \(nothing split"
    ):
        trained(out)


@pytest.mark.parametrize(
    "name", ["trainer_state.json", "model.safetensors", "optimizer.pt", "rng_state.pth", "iapo_state.pt"]
)
def test_every_file_of_a_checkpoint_must_be_whole(tmp_path: Path, whole: Path, name: str) -> None:
    folder = tmp_path / "checkpoint-2"
    shutil.copytree(whole / "checkpoint-2", folder)
    assert fault_of(folder) is None
    file = folder / name
    content = file.read_bytes()
    for cut in (len(content) - 2, len(content) // 2, 4, 0):
        file.write_bytes(content[:cut])
        assert fault_of(folder), cut
    # One bit, anywhere but in the trainer's readable state, whose numbers any text editor changes.
    for place in (100, len(content) // 3, len(content) // 2, len(content) - 40) if name != STATE else ():
        changed = bytearray(content)
        changed[place] ^= 1
        file.write_bytes(changed)
        fault = fault_of(folder)
        assert fault is not None, place
        assert fault.startswith((f"its {name} is damaged", f"its {name} is cut off")), fault
    file.write_bytes(content)
    assert fault_of(folder) is None
    if name != STATE:
        # Another checkpoint's, of the same length and whole in itself.
        shutil.copy(whole / "checkpoint-4" / name, file)
        assert fault_of(folder) is not None
    file.unlink()
    assert fault_of(folder)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"reward": "grpo"}, "holds a run with reward 'iapo', now it is 'grpo'"),
        ({"seed": 7}, "holds a run with seed 0, now it is 7"),
        ({"charts_seed": 7}, "holds a run with charts_seed 0, now it is 7"),
        ({"max_steps": 9}, "holds a run with max_steps 4, now it is 9"),
        ({"resume": "never"}, "already holds a run"),
    ],
)
def test_another_run_is_refused(tmp_path: Path, whole: Path, changed: dict[str, Any], message: str) -> None:
    out = tmp_path / "run"
    shutil.copytree(whole, out)
    (out / "finished.json").unlink()
    with pytest.raises(InputError, match=message):
        trained(out, **changed)
    named = str(out / "checkpoint-2")
    if "seed" in changed:
        with pytest.raises(InputError, match=message):
            trained(tmp_path / "other", **changed, resume_from_checkpoint=named)
        assert not (tmp_path / "other").exists()


def test_other_data_are_refused(tmp_path: Path, whole: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(whole, out)
    (out / "finished.json").unlink()
    manifest = json.loads((out / "manifest.json").read_text())
    manifest["data"]["train"] = "of other samples"
    (out / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match="begun with other data"):
        trained(out)


def test_what_else_a_folder_may_hold(tmp_path: Path) -> None:
    config = {"run": {"resume": "auto"}, "training": {}}
    assert find_start(tmp_path, config, "training").checkpoint is None
    with pytest.raises(InputError, match="holds no run to go on with"):
        find_start(tmp_path, config, "training", named=True)
    with pytest.raises(InputError, match="there is no checkpoint"):
        find_start(tmp_path, config, "training", named=str(tmp_path / "checkpoint-3"))
    (tmp_path / "metrics.jsonl").write_text("")
    with pytest.raises(InputError, match="already holds a run"):
        check_free(tmp_path, "auto", None)


@pytest.mark.slow(4)
def test_rollouts_of_several_steps_and_lines_of_several_steps(tmp_path: Path) -> None:
    """A checkpoint between two optimiser steps that share rollouts, and between two lines of the log."""
    more = {"num_iterations": 2, "logging_steps": 4, "max_steps": 5}
    more |= {"num_generations": 2, "dynamic_sampling": 2, "dynamic_sampling_by": "outcome"}
    one = trained(tmp_path / "one", **more)
    assert any(row.get("groups/redrawn") for row in logged(one)["metrics.jsonl"])
    other = tmp_path / "other"
    shutil.copytree(one, other)
    for name in ("finished.json", "policy", "checkpoint-5", "checkpoint-4"):
        (shutil.rmtree if (other / name).is_dir() else Path.unlink)(other / name)
    trained(other, **more)
    same(one, other)


@pytest.mark.slow(3)
@pytest.mark.parametrize("megabytes", [1, 6])
def test_a_full_disk_is_one_sentence(tmp_path: Path, whole: Path, megabytes: int) -> None:
    """A limit on the size of files is what comes nearest to a full disk here."""
    out = tmp_path / "run"
    done = run_process(words(out), fork=True, largest=megabytes * 2**20)
    assert done.returncode == 74, done.stderr[-2000:]
    assert "could not be written" in done.stderr
    assert "Traceback" not in done.stderr
    assert last_whole(out) is None
    assert not list(out.glob("checkpoint-*"))
    trained(out)
    same(out, whole)


@pytest.mark.slow(1)
def test_a_second_process_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "run"
    with started(words(out, max_steps=100), fork=True) as process:
        wait_for(lambda: (out / "run.lock").exists() and (out / "run.lock").read_text())
        second = run_process(words(out, max_steps=100), fork=True)
        assert second.returncode == 2
        assert f"in use by process {process.pid}" in second.stderr
        assert psutil.pid_exists(process.pid)


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"processes": 1, "engine": "x", "files": {"a": [Infinity, null]}}', "[]", "{"]
)
def test_a_list_of_files_may_be_anything(tmp_path: Path, whole: Path, text: str) -> None:
    folder = tmp_path / "checkpoint-2"
    shutil.copytree(whole / "checkpoint-2", folder)
    (folder / "contents.json").write_text(text)
    assert fault_of(folder) == "its contents.json is cut off or damaged"
    (folder / "contents.json").unlink()
    (folder / "contents.json").mkdir()
    assert fault_of(folder) == "its contents.json is cut off or damaged"
