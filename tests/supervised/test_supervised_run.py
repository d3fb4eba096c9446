"""`iapo sft`: learns, measures what it holds out, resumes, and refuses early."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from calls import call_text
from rich.console import Console
from safetensors.torch import load_file
from transformers import PreTrainedModel
from trl.trainer.utils import add_fused_lm_head

from iapo.cli.main import main
from iapo.data.synthetic import generate
from iapo.errors import InputError
from iapo.records import save_png
from iapo.results import read_result
from iapo.rollout.policy import ImageTextProcessor, load_policy, prompt_of
from iapo.rollout.prompt import PromptEncoder
from iapo.rollout.template import find_prompt
from iapo.stopping import Stopped
from iapo.supervised import run as supervised_run
from iapo.supervised.examples import Collator, ExampleMaker
from iapo.supervised.run import choose, run
from iapo.supervised.settings import check, parse
from iapo.supervised.trainer import SupervisedTrainer, learnt_tokens_alone
from iapo.tools import TOOLS
from iapo.training.batches import to_dataset
from iapo.training.checkpoints import last_whole

COUNT = 12


@pytest.fixture(scope="module")
def transcripts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("transcripts")
    rows = []
    for number, chart in enumerate(generate("vbar", COUNT, seed=2, split="sft")):
        save_png(chart.image, folder / f"{number}.png")
        name = next(iter(chart.column_boxes))
        answer = f"FINAL ANSWER: {chart.answers[0]}. TERMINATE"
        rows.append(
            {
                "id": str(number),
                "image": f"{number}.png",
                "question": chart.question,
                "answer": chart.answers[0],
                "column_boxes": {key: list(box) for key, box in chart.column_boxes.items()},
                "turns": [call_text("focus_on_columns_with_draw", name, "columns"), answer],
            }
        )
    path = folder / "train.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def settings(transcripts: Path, out: Path, **more: Any) -> tuple[Any, Any]:
    given = {"model": "tiny-student", "transcripts": str(transcripts), "output_dir": str(out), "max_steps": 4}
    given |= {"per_device_train_batch_size": 4, "logging_steps": 1, "save_strategy": "no", "learning_rate": 1e-3}
    arguments, trainer = check(None, {**given, **more})
    return arguments, parse(trainer)


@pytest.mark.slow(1)
def test_an_adapter_learns(transcripts: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    policy = run(
        *settings(transcripts, out, max_steps=2, use_peft=True, dtype="bfloat16", learning_rate=0.01), quiet=True
    )
    assert (policy / "adapter_model.safetensors").exists()
    assert not (policy / "config.json").exists()
    loaded = load_policy(str(policy))
    start = load_policy("tiny-student").model.state_dict()
    assert any(not weight.equal(start[name]) for name, weight in loaded.model.state_dict().items())
    for wrong, message in (({"lora_r": 2}, "set use_peft"), ({"model_init_kwargs": {"a": 1}}, "set dtype")):
        with pytest.raises(InputError, match=message):
            settings(transcripts, out, **wrong)


@pytest.mark.slow(15)
def test_it_learns_and_writes_a_policy(transcripts: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    policy = run(*settings(transcripts, out, max_steps=8, held_out=2, eval_strategy="steps", eval_steps=8), quiet=True)
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    losses = [row["loss"] for row in rows if "loss" in row]
    assert losses[-1] < losses[0]
    assert any("eval_loss" in row for row in rows)
    manifest = read_result(out / "manifest.json", "supervised")
    assert manifest["data"]["train"]["transcripts"] == COUNT - 2
    assert manifest["data"]["held_out"]["transcripts"] == 2
    assert load_policy(str(policy)).template == prompt_of(str(out)) == find_prompt("tiny")


@pytest.mark.slow(25)
def test_a_run_that_goes_on_ends_as_one_that_never_stopped(transcripts: Path, tmp_path: Path) -> None:
    whole = run(*settings(transcripts, tmp_path / "whole", save_strategy="steps", save_steps=2), quiet=True)
    checkpoint = str(tmp_path / "whole" / "checkpoint-2")
    rest = run(*settings(transcripts, tmp_path / "rest", resume_from_checkpoint=checkpoint), quiet=True)
    first, second = (load_policy(str(one)).model.state_dict() for one in (whole, rest))
    assert all(torch.equal(weight, second[name]) for name, weight in first.items())
    start = load_policy("tiny-student").model.state_dict()
    assert any(not torch.equal(weight, start[name]) for name, weight in first.items())


@pytest.mark.slow(4)
def test_other_tools_of_ones_own_are_refused(transcripts: Path, tmp_path: Path) -> None:
    file, out = tmp_path / "tool.py", tmp_path / "run"
    text = (
        'from PIL import Image\n\ndef turn(image: Image.Image) -> Image.Image:\n    """Turns it."""\n    return image\n'
    )
    file.write_text(text)
    given = {"tools": f"standard,{file}", "save_strategy": "steps", "save_steps": 1, "max_steps": 2}
    run(*settings(transcripts, out, **given), quiet=True)
    (out / "finished.json").unlink()
    shutil.rmtree(out / "policy")
    shutil.rmtree(out / "checkpoint-2")
    file.write_text(text.replace("Turns", "Keeps"))
    with pytest.raises(InputError, match=rf"begun with other contents of {file} \(tools\)"):
        run(*settings(transcripts, out, **given), quiet=True)
    moved = tmp_path / "moved.py"
    moved.write_text(text)
    run(*settings(transcripts, out, **{**given, "tools": f"standard,{moved}"}), quiet=True)
    assert (out / "finished.json").exists()


def test_damage_and_wrong_answers_are_told_apart(transcripts: Path, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in transcripts.read_text().splitlines()]
    rows[0]["turns"][0] = call_text("focus_on_columns_with_draw", "nobody", "columns")
    rows[1]["turns"][1] = "FINAL ANSWER: something else"
    path = transcripts.parent / "test.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    maker = ExampleMaker(PromptEncoder(load_policy("tiny-student").processor), TOOLS)
    with pytest.raises(InputError, match=r"row 1 .*nobody.*set damage to quarantine to leave out the 1 such"):
        choose(*settings(path, tmp_path / "run"), maker, Console(quiet=True))
    chosen = choose(*settings(path, tmp_path / "run", damage="quarantine"), maker, Console(quiet=True))
    assert (len(chosen.train), chosen.wrong, len(chosen.damages)) == (COUNT - 2, 1, 1)
    everything = choose(*settings(path, tmp_path / "run", damage="quarantine", keep="all"), maker, Console(quiet=True))
    assert (len(everything.train), everything.wrong) == (COUNT - 1, 0)
    longest = chosen.tokens
    with pytest.raises(InputError, match=f"tokens, and max_length is {longest - 30}"):
        choose(*settings(transcripts, tmp_path / "run", max_length=longest - 30), maker, Console(quiet=True))


def test_what_is_too_long_is_damage_whoever_wrote_it(transcripts: Path, tmp_path: Path) -> None:
    """Not a rollout that failed: it is named, and listed."""
    rows = [json.loads(line) for line in transcripts.read_text().splitlines()]
    maker = ExampleMaker(PromptEncoder(load_policy("tiny-student").processor), TOOLS)
    whole = choose(*settings(transcripts, tmp_path / "run"), maker, Console(quiet=True))
    lengths = sorted(len(maker.example(one.sample, one.turns).ids) for one in whole.train)
    limit = lengths[-1] - 1
    found: list[Any] = []
    original = supervised_run._read

    def sampled(arguments: Any) -> Any:
        return (dataclasses.replace(one, sampled=True) for one in original(arguments))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(supervised_run, "_read", sampled)
        with pytest.raises(InputError, match=f"it has {lengths[-1]} tokens, and max_length is {limit}; mend it"):
            choose(*settings(transcripts, tmp_path / "run", max_length=limit), maker, Console(quiet=True))
        given = settings(transcripts, tmp_path / "run", max_length=limit, damage="quarantine")
        found.append(choose(*given, maker, Console(quiet=True)))
    assert len(rows) == len(whole.train)
    assert found[0].failed == 0
    assert len(found[0].damages) == sum(length > limit for length in lengths) > 0


def test_the_best_policy_is_kept(transcripts: Path, tmp_path: Path) -> None:
    """Here that with the highest loss, the first; Transformers looks for other names than those of the file."""
    more = {"eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps", "save_steps": 1, "max_steps": 3}
    more |= {"load_best_model_at_end": True, "metric_for_best_model": "loss", "greater_is_better": True, "held_out": 2}
    policy = run(*settings(transcripts, tmp_path / "run", **more), quiet=True)
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    losses = {row["step"]: row["eval_loss"] for row in rows if "eval_loss" in row}
    best = max(losses, key=losses.__getitem__)
    assert best < 3
    kept = load_file(policy / "model.safetensors")
    wanted = load_file(tmp_path / "run" / f"checkpoint-{best}" / "model.safetensors")
    assert all(torch.equal(value, wanted[name]) for name, value in kept.items())


def test_no_held_out_image_is_learnt(transcripts: Path, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in transcripts.read_text().splitlines()]
    twice = [{**row, "id": f"{row['id']}-{number}"} for row in rows for number in range(2)]
    path = transcripts.parent / "twice.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in twice), encoding="utf-8")
    maker = ExampleMaker(PromptEncoder(load_policy("tiny-student").processor), TOOLS)
    chosen = choose(*settings(path, tmp_path / "run", held_out=3), maker, Console(quiet=True))
    assert len(chosen.held_out) == 4
    learnt = {one.sample.image.tobytes() for one in chosen.train}
    assert not learnt & {one.sample.image.tobytes() for one in chosen.held_out}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--output_dir", "out"], "transcripts is not given"),
        (["--transcripts", "missing", "--output_dir", "out"], "no file or folder 'missing'"),
        (["--transcripts", "."], "output_dir is not given"),
        (["--transcripts", ".", "--output_dir", "out", "--lerning_rate", "1"], "did you mean learning_rate"),
        (["--transcripts", ".", "--output_dir", "out", "--model", "nobody"], "no checkpoint 'nobody'"),
        (["--transcripts", ".", "--output_dir", "out", "--held_out", "-1"], "held_out is -1"),
        (["--transcripts", ".", "--output_dir", "out", "--keep", "some"], "keep is 'some'"),
        *(
            (["--transcripts", ".", "--output_dir", "out", *words], said)
            for words, said in (
                (["--packing", "true"], "packing is True, but sequences with images are neither packed nor joined"),
                (
                    ["--completion_only_loss", "false"],
                    "but the loss is on what the model writes alone",
                ),
                (["--truncation_mode", "keep_end"], "truncation_mode is 'keep_end', but no transcript is cut"),
                (["--train_sampling_strategy", "group_by_length"], "but the lengths of sequences are not known"),
                (["--trust_remote_code", "true"], "but code in a checkpoint is never run"),
                (["--eos_token", "foo"], "eos_token is 'foo', but the checkpoint's own tokenizer is used"),
                (["--loss_type", "nosuch"], "no loss_type 'nosuch'"),
                (["--log_level", "nosuch"], "no log_level 'nosuch'"),
                (["--activation_checkpointing_kwargs", "{foo: 2}"], "no key 'foo' for activation_checkpointing_kwargs"),
                (["--eval_strategy", "steps"], "eval_strategy is 'steps', but no transcript is held out"),
                (["--eval_on_start", "true"], "eval_on_start is True, but no transcript is held out"),
                (["--held_out", "2", "--load_best_model_at_end", "true"], "does nothing without eval_strategy"),
                (
                    ["--held_out", "2", "--eval_strategy", "steps", "--metric_for_best_model", "nosuch"],
                    "no metric 'nosuch' for metric_for_best_model",
                ),
                (["--activation_offloading", "true", "--use_cpu", "true"], "and this is one; leave it out"),
                (["--optim", "lomo"], "which steps within the backward pass"),
                (["--dataloader_persistent_workers", "true"], "set dataloader_num_workers, too"),
            )
        ),
    ],
)
def test_wrong_words_are_one_sentence_and_nothing_is_written(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["sft", *words])
    assert ended.value.code == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


EPOCHS: dict[str, Any] = {
    "held_out": 4,
    "eval_strategy": "epoch",
    "load_best_model_at_end": True,
    "save_strategy": "steps",
    "max_steps": 6,
    "learning_rate": 0.03,
}


def stopped_in(monkeypatch: pytest.MonkeyPatch, method: str, step: int, given: tuple[Any, Any]) -> None:
    """Trains until SIGTERM comes in what the trainer does at a step."""
    does, left = getattr(SupervisedTrainer, method), [signal.SIGTERM]

    def interrupted(trainer: SupervisedTrainer, *some: Any, **more: Any) -> Any:
        if trainer.state.global_step == step and left:
            os.kill(os.getpid(), left.pop())
        return does(trainer, *some, **more)

    with monkeypatch.context() as patched:
        patched.setattr(SupervisedTrainer, method, interrupted)
        with pytest.raises(Stopped, match=r"after step \d, which is saved; the same command goes on from there"):
            run(*given, quiet=True)


@pytest.mark.slow(10)
@pytest.mark.usefixtures("heeded")
@pytest.mark.parametrize(
    ("more", "moments"),
    [
        # In the evaluation of an epoch, in its last step, and in the middle of one.
        ({"save_strategy": "epoch"}, [("_evaluate", 2), ("training_step", 3), ("training_step", 4)]),
        ({"save_steps": 1, "load_best_model_at_end": False}, [("_evaluate", 2)]),
        (
            {"save_steps": 2, "eval_strategy": "steps", "eval_steps": 2, "save_total_limit": 1},
            [("training_step", 4), ("_evaluate", 6)],
        ),
        ({"save_strategy": "best", "metric_for_best_model": "loss"}, [("_evaluate", 6)]),
        # The best of those that would have been saved without the stop.
        (
            {"eval_strategy": "steps", "eval_steps": 1, "save_steps": 2, "greater_is_better": True},
            [("training_step", 0)],
        ),
        # A line of an epoch is of all its steps, and of no others.
        (
            {"save_strategy": "best", "eval_strategy": "steps", "eval_steps": 1, "logging_strategy": "epoch"},
            [("training_step", 2)],
        ),
        (
            {"save_steps": 1, "logging_strategy": "epoch", "eval_strategy": "no", "load_best_model_at_end": False},
            [("training_step", 2), ("training_step", 3)],
        ),
    ],
)
def test_the_best_policy_is_that_of_a_run_that_was_not_stopped(
    transcripts: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    more: dict[str, Any],
    moments: list[tuple[str, int]],
) -> None:
    given = {**EPOCHS, **more, "eval_on_start": True}
    once = run(*settings(transcripts, tmp_path / "once", **given), quiet=True)
    for method, step in moments:
        stopped_in(monkeypatch, method, step, settings(transcripts, tmp_path / "run", **given))
        assert last_whole(tmp_path / "run")
    policy = run(*settings(transcripts, tmp_path / "run", **given), quiet=True)
    first, second = (load_file(one / "model.safetensors") for one in (once, policy))
    assert all(weight.equal(second[name]) for name, weight in first.items())
    lines = [
        [
            {key: value for key, value in json.loads(line).items() if "runtime" not in key and "per_second" not in key}
            for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        ]
        for name in ("once", "run")
    ]
    assert lines[0] == lines[1]


FIRST_IS_BEST: dict[str, Any] = {
    "held_out": 4,
    **{"eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps", "save_steps": 1},
    **{"load_best_model_at_end": True, "metric_for_best_model": "loss", "greater_is_better": True},
    "learning_rate": 0.03,
}


def policy_is(policy: Path, checkpoint: Path) -> bool:
    first, second = (load_file(one / "model.safetensors") for one in (policy, checkpoint))
    return all(weight.equal(second[name]) for name, weight in first.items())


@pytest.mark.slow(5)
@pytest.mark.usefixtures("heeded")
def test_the_best_policy_is_the_runs_own_where_its_folder_was_moved(
    transcripts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {**FIRST_IS_BEST, "max_steps": 3}
    stopped_in(monkeypatch, "training_step", 2, settings(transcripts, tmp_path / "was", **given))
    (tmp_path / "was").rename(tmp_path / "moved")
    # Another run has begun where it was.
    run(*settings(transcripts, tmp_path / "was", **{**given, "seed": 7, "max_steps": 1}), quiet=True)
    monkeypatch.chdir(tmp_path)
    policy = run(*settings(transcripts, Path("moved"), **given), quiet=True)
    assert policy_is(policy, tmp_path / "moved" / "checkpoint-1")
    assert not policy_is(policy, tmp_path / "was" / "checkpoint-1")


@pytest.mark.slow(6)
@pytest.mark.usefixtures("heeded")
def test_the_best_policy_is_of_the_course_that_was_named(
    transcripts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The second step's learning rate is the first that differs between courses of other lengths.
    given, first, out = {**FIRST_IS_BEST, "eval_delay": 2, "learning_rate": 3e-3}, tmp_path / "first", tmp_path / "out"
    run(*settings(transcripts, first, **given, max_steps=3), quiet=True)
    stopped_in(monkeypatch, "training_step", 2, settings(transcripts, out, **given, max_steps=12))
    named = {**given, "max_steps": 4, "resume_from_checkpoint": str(first / "checkpoint-3")}
    policy = run(*settings(transcripts, out, **named), quiet=True)
    assert policy_is(policy, first / "checkpoint-2")
    assert not policy_is(policy, out / "superseded-checkpoint-2")
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert {line["step"] for line in lines} == {4}


@pytest.mark.slow(4)
@pytest.mark.usefixtures("heeded")
def test_a_stop_at_an_epochs_end_keeps_the_best_checkpoint(
    transcripts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {**FIRST_IS_BEST, "eval_delay": 2, "learning_rate": 3e-3, "save_strategy": "epoch", "max_steps": 4}
    given |= {"load_best_model_at_end": False, "save_total_limit": 1}
    once, out = tmp_path / "once", tmp_path / "run"
    run(*settings(transcripts, once, **given), quiet=True)
    stopped_in(monkeypatch, "training_step", 1, settings(transcripts, out, **given))
    run(*settings(transcripts, out, **given), quiet=True)
    kept = [sorted(path.name for path in folder.glob("checkpoint-*")) for folder in (once, out)]
    assert kept == [["checkpoint-2", "checkpoint-4"]] * 2


@pytest.mark.slow(2)
def test_a_run_without_a_step_may_begin_with_other_data(
    transcripts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*given: object, **more: object) -> None:
        raise Stopped("stopped")

    changing = transcripts.with_name("changing.jsonl")
    given = settings(shutil.copy(transcripts, changing), tmp_path / "run", max_steps=1)
    with monkeypatch.context() as patched:
        patched.setattr(supervised_run.SupervisedTrainer, "train", stopped)
        with pytest.raises(Stopped):
            run(*given, quiet=True)
    changing.write_text("".join(transcripts.read_text().splitlines(keepends=True)[:8]))
    run(*given, quiet=True)
    assert read_result(tmp_path / "run" / "manifest.json", "supervised")["data"]["train"]["transcripts"] == 8
    (tmp_path / "run" / "finished.json").unlink()
    shutil.copy(transcripts, changing)
    with pytest.raises(InputError, match="begun with other data"):
        run(*given, quiet=True)


def test_a_folder_with_a_run_is_refused(transcripts: Path, tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").touch()
    with pytest.raises(InputError, match="already holds a run"):
        run(*settings(transcripts, tmp_path), quiet=True)


def test_too_few_transcripts_say_what_was_left_out(transcripts: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"12 transcript\(s\) are left to learn .* one step takes 16"):
        run(*settings(transcripts, tmp_path / "run", per_device_train_batch_size=16), quiet=True)
    assert not (tmp_path / "run").exists()


def test_scoring_the_learnt_tokens_alone_changes_nothing(model: PreTrainedModel, processor: ImageTextProcessor) -> None:
    charts = list(generate("vbar", 2, seed=3, split="sft"))
    encoder = PromptEncoder(processor)
    rows: list[Any] = [{**row, "turns": ["FINAL ANSWER: 3. TERMINATE"]} for row in to_dataset(charts)]
    batch = Collator(ExampleMaker(encoder, TOOLS))(rows)
    copied = copy.deepcopy(model)
    add_fused_lm_head(copied, outputs=("log_probs",))
    found = []
    for alone in (False, True):
        with learnt_tokens_alone() if alone else contextlib.nullcontext():
            loss = copied(**batch, fused_lm_head=True).loss
        loss.backward()
        found.append((loss.item(), copied.get_output_embeddings().weight.grad.clone()))
        copied.zero_grad()
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-6)
    assert torch.allclose(found[0][1], found[1][1], atol=1e-6)
