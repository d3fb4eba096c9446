"""Run by `test_two_ranks.py` in two processes or one: trainings in which ranks must do something together."""

from __future__ import annotations

import gc
import json
import math
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from rank_run import whole
from scripted import four_ways, scripted
from sharded_on_cpu import allow
from transformers import TrainerCallback

from iapo.attribution.settings import AttributionSettings
from iapo.data.synthetic import generate
from iapo.errors import NumberError
from iapo.records import Sample
from iapo.rollout.policy import load_policy
from iapo.stopping import Stopped
from iapo.teachers.references import OwnCall
from iapo.training.checkpoints import last_whole
from iapo.training.run import run
from iapo.training.settings import parse


def alike(sample: Sample) -> bool:
    """Half of the samples, by name."""
    return int(sample.id.rpartition("-")[2]) % 2 == 0


def mixed(sample: Sample, index: int) -> tuple[str, str]:
    """All rollouts of half of the samples end alike."""
    if alike(sample):
        return f"FINAL ANSWER: {sample.answers[0]}. TERMINATE", ""
    return four_ways(sample, index)


def halves(sample: Sample, index: int) -> tuple[str, str]:
    """The same, and on the others every second rollout is right, on whichever rank a group begins."""
    answer = sample.answers[0] if alike(sample) or index % 2 else "none"
    return f"FINAL ANSWER: {answer}. TERMINATE", ""


class Looks(TrainerCallback):
    """Counts what this rank holds of a model between two attributions."""

    def __init__(self, model: Any) -> None:
        self.model, self.held = model, []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        weights = [getattr(one, "_local_tensor", one) for one in self.model.parameters()]
        self.held.append(sum(one.numel() for one in weights))


class Spoils(torch.autograd.Function):
    """A number whose gradient is infinite."""

    @staticmethod
    def forward(_: Any, value: torch.Tensor) -> torch.Tensor:
        return value.clone()

    @staticmethod
    def backward(_: Any, gradient: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return gradient * math.inf


class Sums(TrainerCallback):
    """Parameters after each step."""

    def __init__(self, ranks: Ranks, trainer: Any) -> None:
        self.ranks, self.trainer, self.seen = ranks, trainer, [ranks.sum(trainer)]

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.seen.append(self.ranks.sum(self.trainer))


class Ranks:
    """The trainings; each writes what came of it.

    Args:
        out: Folder of what is written.
        sets: Settings of all trainings.
    """

    def __init__(self, out: Path, sets: dict[str, Any]) -> None:
        self.out, self.sets = out, sets
        self.charts = list(generate("vbar", 16, seed=5, question_types=("value",)))
        self.told: dict[str, Any] = {}

    def trainer(self, name: str, **given: Any) -> Any:
        """A trainer from the same start."""
        student = load_policy("tiny-student")
        return scripted(self.out / name, student.model, student.processor, self.charts, **{**self.sets, **given})

    def number_on_one_rank(self, reaction: str) -> None:
        """In the second step one rollout of the last rank has a reward that is NaN."""

        def reward(trace: list[Any], trainer_state: Any, **columns: Any) -> list[float]:
            values = [float(index % 2) for index in range(len(trace))]
            last = not dist.is_initialized() or dist.get_rank() == dist.get_world_size() - 1
            if last and trainer_state.global_step == 1:
                values[-1] = math.nan
            return values

        trainer = self.trainer(reaction, reward_funcs=reward, on_nonfinite=reaction, max_steps=3)
        sentence = ""
        try:
            trainer.train()
        except NumberError as error:
            sentence = str(error)
        self.told[reaction] = {"sentence": sentence, "step": trainer.state.global_step, "sum": self.sum(trainer)}

    def skipped(self) -> None:
        """A reward, a loss and a gradient of the last rank are not finite in steps 2, 3 and 4 of five."""

        def reward(trace: list[Any], trainer_state: Any, **columns: Any) -> list[float]:
            values = [float(index % 2) for index in range(len(trace))]
            return [math.nan, *values[1:]] if last and trainer_state.global_step == 1 else values

        def loss(model: Any, inputs: Any) -> torch.Tensor:
            made: torch.Tensor = original(model, inputs)
            if last and trainer.state.global_step == 2:
                made = made * math.nan
            return Spoils.apply(made) if last and trainer.state.global_step == 3 else made

        last = not dist.is_initialized() or dist.get_rank() == dist.get_world_size() - 1
        # Weights decay, and moments move parameters, also in steps without a gradient.
        more = {"optim": "adamw_torch", "weight_decay": 0.1, "learning_rate": 1e-3, "max_steps": 5}
        trainer = self.trainer("skipped", reward_funcs=reward, on_nonfinite="skip", **more)
        original, trainer._compute_loss = trainer._compute_loss, loss
        trainer.add_callback(sums := Sums(self, trainer))
        trainer.train()
        kept = sorted(path.name for path in (self.out / "skipped" / "run" / "nonfinite").iterdir())
        self.told["skipped"] = {"sums": sums.seen, "evidence": kept}

    def gradient_stops(self) -> None:
        """The last rank's gradient is not finite in the second step."""
        last = not dist.is_initialized() or dist.get_rank() == dist.get_world_size() - 1
        trainer = self.trainer("gradient", max_steps=3)
        original = trainer._compute_loss

        def loss(model: Any, inputs: Any) -> torch.Tensor:
            made: torch.Tensor = original(model, inputs)
            return Spoils.apply(made) if last and trainer.state.global_step == 1 else made

        trainer._compute_loss = loss
        trainer.add_callback(sums := Sums(self, trainer))
        sentence = ""
        try:
            trainer.train()
        except NumberError as error:
            sentence = str(error)
        self.told["gradient"] = {"sentence": sentence, "sums": [*sums.seen, self.sum(trainer)]}

    def drawn_anew(self, name: str = "drawn", script: Any = mixed, **given: Any) -> None:
        """Groups without spread are drawn again."""
        seen: list[Any] = []

        def see(step: int, traces: list[Any]) -> None:
            seen.extend([step, trace.sample.id, trace.turn_1, trace.scores["outcome"].value] for trace in traces)

        trainer = self.trainer(name, script=script, on_rollouts=see, dynamic_sampling=4, max_steps=2, **given)
        trainer.train()
        rows = [row for row in trainer.state.log_history if "loss" in row]
        self.told[name] = {"seen": seen, "redrawn": [row["groups/redrawn"] for row in rows]}
        self.told[name] |= {"flat": [row["groups/flat"] for row in rows], "sum": self.sum(trainer)}

    def shared_groups(self) -> None:
        """The same where a group is shared by both ranks, and one rank may have none to draw again."""
        self.drawn_anew("shared", halves, per_device_train_batch_size=6)

    def gone_on(self) -> None:
        """A training that ends after two of four steps, goes on, and one that never stopped."""
        settings = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2, "optim": "adamw_torch"}
        whole = self.trainer("whole", **settings)
        whole.train()
        checkpoint = self.out / "gone" / "run" / "checkpoint-2"
        if whole.is_world_process_zero():
            shutil.copytree(self.out / "whole" / "run" / "checkpoint-2", checkpoint)
        whole.accelerator.wait_for_everyone()
        again = self.trainer("gone", **settings)
        again.train(resume_from_checkpoint=str(checkpoint))
        losses = [[row["loss"] for row in one.state.log_history if "loss" in row] for one in (whole, again)]
        self.told["gone"] = {"sums": [self.sum(whole), self.sum(again)], "losses": losses}

    def stopped_late(self) -> None:
        """The last rank is asked to stop when all steps are done, and no checkpoint was to be."""
        last = not dist.is_initialized() or dist.get_rank() == dist.get_world_size() - 1

        class Asks(TrainerCallback):
            def on_train_end(self, *_: Any, **__: Any) -> None:
                if last:
                    os.kill(os.getpid(), signal.SIGTERM)

        trainer = self.trainer("late", max_steps=2, save_strategy="no")
        trainer.add_callback(Asks())
        sentence = ""
        try:
            trainer.train()
        except Stopped as error:
            sentence = error.text
        trainer.accelerator.wait_for_everyone()
        self.told["late"] = {"sentence": sentence, "saved": last_whole(self.out / "late" / "run")[1]}

    def begun_again(self) -> None:
        """A run that died behind its first steps, before its first checkpoint, and the same command again."""
        out = self.out / "again"
        given = {"output_dir": str(out), "max_steps": 2, "train_samples": 8, "eval_samples": 0, "case_study_steps": 0}
        given |= {"per_device_train_batch_size": 4, "num_generations": 4, "teacher": "none", "always_measure": False}
        for last in (False, True):
            run(*parse("demo-grpo", {**given, "save_strategy": "no", "use_cpu": True}), quiet=True)
            dist.barrier()
            if not last and dist.get_rank() == 0:
                (out / "finished.json").unlink()
                shutil.rmtree(out / "policy")
            dist.barrier()
        self.told["again"] = sorted(path.name for path in out.iterdir())

    def sharded_teacher(self) -> None:
        """Trainings whose teacher is whole on each rank, and in shards; explains its own call and the student's."""
        for name, shards in (("teacher_whole", False), ("teacher_sharded", True)):
            teacher = load_policy("tiny-teacher")
            looks, traces = Looks(teacher.model), []
            settings = {"teacher_reference": "both", "penalty_weight": 0.1, "teacher_shards": shards, "max_steps": 2}
            trainer = self.trainer(
                name, **settings, teacher=teacher, on_rollouts=lambda _, some, to=traces: to.extend(some)
            )
            trainer.add_callback(looks)
            trainer.train()
            rows = [row for row in trainer.state.log_history if "loss" in row]
            seen = [[one.sample.id, one.scores["alignment"].value, one.attribution] for one in traces]
            self.told[name] = {"held": looks.held, "traces": seen, "losses": [row["loss"] for row in rows]}
            self.told[name] |= {"sum": self.sum(trainer), "all": sum(one.numel() for one in teacher.model.parameters())}
            # As what is measured after a training finds it.
            own = OwnCall(teacher, AttributionSettings(max_turn_tokens=24)).explain(self.charts[:1])
            self.told[name]["after"] = own[0].distribution

    def sum(self, trainer: Any) -> list[float]:
        """Parameters in two numbers, which differ where one of them does."""
        values = [whole(one) for one in trainer.accelerator.unwrap_model(trainer.model).parameters()]
        return [
            float(sum(one.double().sum() for one in values)),
            float(sum((one.double() ** 2).sum() for one in values)),
        ]


def check_skipped(told: list[dict[str, Any]]) -> None:
    """Asserts that of `skipped`'s five steps the first and the last are taken, and the three others are told of."""
    first, second = (one["skipped"] for one in told)
    assert first["sums"] == second["sums"]
    before, *after = first["sums"]
    assert before != after[0] == after[1] == after[2] == after[3] != after[4]
    what = [name.removesuffix("-rank-1.json").removesuffix(".json") for name in first["evidence"]]
    assert set(what) == {"step-2-the-reward-reward", "step-3-the-loss", "step-3-the-gradient", "step-4-the-gradient"}


def check_gradient(told: list[dict[str, Any]]) -> None:
    """Asserts that `gradient_stops` ends all before the second step is taken."""
    sentence = "step 2: the gradient is not finite; the step was not taken"
    for one in told:
        assert sentence in one["gradient"]["sentence"]
        before, after, at_last = one["gradient"]["sums"]
        assert before != after == at_last


def check_drawn(told: list[dict[str, Any]], out: Path) -> None:
    """Asserts that two processes draw the groups anew that one does, and end with the same parameters."""
    one = Ranks(out, {"optim": "sgd", "learning_rate": 0.05, "per_device_train_batch_size": 16})
    one.drawn_anew()
    alone, both = one.told["drawn"], [two["drawn"] for two in told]
    assert sorted(row for two in both for row in two["seen"]) == sorted(alone["seen"])
    assert alone["redrawn"] == both[0]["redrawn"] == both[1]["redrawn"]
    assert sum(alone["redrawn"]) > 0
    assert both[0]["sum"] == both[1]["sum"] == pytest.approx(alone["sum"], rel=1e-6)


def main(out: Path, options: dict[str, Any]) -> None:
    """Makes the trainings that are asked for, and writes `told-RANK.json`."""
    ranks = Ranks(out, options["settings"])
    for name in options["trainings"]:
        if name in ("stop", "skip"):
            ranks.number_on_one_rank(name)
        else:
            getattr(ranks, name)()
        gc.collect()
    rank = dist.get_rank() if dist.is_initialized() else 0
    (out / f"told-{rank}.json").write_text(json.dumps(ranks.told))
    if dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()


if __name__ == "__main__":
    allow()
    torch.set_num_threads(1)
    main(Path(sys.argv[1]), json.loads(sys.argv[2]))
