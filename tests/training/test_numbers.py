"""Numbers that are NaN or infinite stop a step before it is taken, or have it skipped, with their evidence on disk."""

from __future__ import annotations

import copy
import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from scripted import scripted
from transformers import TrainerCallback

from iapo.attribution.settings import AttributionSettings
from iapo.data.synthetic import generate
from iapo.errors import NumberError
from iapo.evaluation.local import EvaluationSettings, evaluate
from iapo.records import Sample
from iapo.rollout.policy import Policy, load_policy
from iapo.teachers.references import OwnCall


@pytest.fixture(scope="module")
def charts() -> list[Sample]:
    return list(generate("vbar", 8, seed=11, question_types=("value",)))


@pytest.fixture
def policy() -> Policy:
    return load_policy("tiny-student")


def spoilt(policy: Policy, value: float = float("nan")) -> Policy:
    model = copy.deepcopy(policy.model)
    with torch.no_grad():
        model.lm_head.weight[3:5] = value
    return Policy(model, policy.processor)


def reward_of(bad: float, from_step: int = 1) -> Any:
    """A reward that goes wrong for the third rollout of a step."""

    def fine_at_first(trace: Any, trainer_state: Any, **columns: Any) -> list[float | None]:
        wrong = trainer_state.global_step + 1 >= from_step
        return [None, 1.0, bad if wrong else 0.5, 0.0]

    return fine_at_first


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_reward_that_goes_wrong_stops_the_step(
    tmp_path: Path, policy: Policy, charts: list[Sample], bad: float
) -> None:
    before = policy.model.state_dict()
    trainer = scripted(tmp_path, policy.model, policy.processor, charts, reward_funcs=reward_of(bad))
    with pytest.raises(NumberError, match="step 1: the reward fine_at_first is not finite; the step was not taken"):
        trainer.train()
    (path,) = (tmp_path / "run" / "nonfinite").iterdir()
    told = json.loads(path.read_text())
    assert [row["values"] for row in told["rollouts"]] == [[0.0], [1.0], [str(bad)], [0.0]]
    assert {row["id"] for row in told["rollouts"]} <= {chart.id for chart in charts}
    assert told["rollouts"][0]["turn_1"].startswith("```python")
    assert told["tensors"]["the reward fine_at_first"]["nan" if bad != bad else "infinite"] == 1
    assert all(torch.equal(one, before[name]) for name, one in trainer.model.state_dict().items())


def test_a_skipped_step_changes_nothing(tmp_path: Path, policy: Policy, charts: list[Sample]) -> None:
    bad = scripted(
        tmp_path, policy.model, policy.processor, charts,
        reward_funcs=reward_of(float("nan"), from_step=2), on_nonfinite="skip", max_steps=2,
    )  # fmt: skip
    bad.train()
    one = load_policy("tiny-student")
    good = scripted(tmp_path / "good", one.model, one.processor, charts, reward_funcs=reward_of(0.5), max_steps=1)
    good.train()
    weights = good.model.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in bad.model.state_dict().items())
    (evidence,) = (tmp_path / "run" / "nonfinite").iterdir()
    assert evidence.name == "step-2-the-reward-fine_at_first.json"


@pytest.mark.parametrize("bad", [0, 1, 2])
def test_a_step_of_several_batches_is_skipped_for_any(
    tmp_path: Path, policy: Policy, charts: list[Sample], bad: int
) -> None:
    """Two batches of rollouts a step: a bad one, the first or the second, has its step skipped, and no other."""
    asked, sums = [], []

    def reward(trace: Any, **columns: Any) -> list[float]:
        asked.append(len(trace))
        return [0.0, 1.0, 0.0, float("nan") if len(asked) - 1 == bad else 1.0]

    class Sums(TrainerCallback):
        def on_step_end(self, *_: Any, **given: Any) -> None:
            sums.append(sum(float(one.detach().double().sum()) for one in given["model"].parameters()))

    steps = {"gradient_accumulation_steps": 2, "steps_per_generation": 1, "max_steps": 2}
    trainer = scripted(
        tmp_path, policy.model, policy.processor, charts, reward_funcs=reward, on_nonfinite="skip", **steps
    )
    trainer.add_callback(Sums())
    start = sum(float(one.detach().double().sum()) for one in trainer.model.parameters())
    trainer.train()
    assert len(asked) == 4
    moved = [before != after for before, after in itertools.pairwise([start, *sums])]
    assert moved == ([True, False] if bad == 2 else [False, True])


def test_a_batch_of_several_steps_is_bad_in_all_whatever_is_evaluated(
    tmp_path: Path, policy: Policy, charts: list[Sample]
) -> None:
    """A batch for two steps, an evaluation after each; one of the training's rewards is bad, or of an evaluation's."""

    def trained(bad: str) -> list[bool]:
        sums: list[float] = []

        def reward(trace: Any, trainer_state: Any, **columns: Any) -> list[float]:
            now = "train" if trainer.model.training else "eval"
            return [0.0, 1.0, 0.0, float("nan") if now == bad and trainer_state.global_step < 2 else 1.0]

        class Sums(TrainerCallback):
            def on_step_end(self, *_: Any, **given: Any) -> None:
                sums.append(sum(float(one.detach().double().sum()) for one in given["model"].parameters()))

        more = {"num_iterations": 2, "eval_strategy": "steps", "eval_steps": 1, "per_device_eval_batch_size": 4}
        trainer = scripted(
            tmp_path / bad, policy.model, policy.processor, charts, reward_funcs=reward, on_nonfinite="skip",
            eval_charts=charts[:1], max_steps=3, **more,
        )  # fmt: skip
        trainer.add_callback(Sums())
        start = sum(float(one.detach().double().sum()) for one in trainer.model.parameters())
        trainer.train()
        return [before != after for before, after in itertools.pairwise([start, *sums])]

    assert trained("train") == [False, False, True]
    assert trained("eval") == [True, True, True]


def test_a_bad_batch_is_bad_where_a_training_goes_on(
    tmp_path: Path, policy: Policy, charts: list[Sample], caplog: pytest.LogCaptureFixture
) -> None:
    """A batch of two steps; gone on from between them, the second is left out, too, and said."""

    def reward(trace: Any, trainer_state: Any, **columns: Any) -> list[float]:
        return [0.0, 1.0, 0.0, float("nan") if trainer_state.global_step == 0 else 1.0]

    steps = {"num_iterations": 2, "max_steps": 3, "save_strategy": "steps", "save_steps": 1, "on_nonfinite": "skip"}
    whole = scripted(tmp_path / "whole", policy.model, policy.processor, charts, reward_funcs=reward, **steps)
    whole.train()
    assert "Step 2 is skipped: numbers of rollouts that it shares are not finite" in caplog.text
    again = scripted(tmp_path / "again", policy.model, policy.processor, charts, reward_funcs=reward, **steps)
    again.train(resume_from_checkpoint=str(tmp_path / "whole" / "run" / "checkpoint-1"))
    wanted = whole.model.state_dict()
    assert all(torch.equal(value, wanted[name]) for name, value in again.model.state_dict().items())


def test_a_gradient_that_overflows_stops_the_step(tmp_path: Path, policy: Policy, charts: list[Sample]) -> None:
    before = policy.model.state_dict()
    trainer = scripted(tmp_path, policy.model, policy.processor, charts)
    trainer.model.lm_head.weight.register_hook(lambda gradient: gradient * float("inf"))
    with pytest.raises(NumberError, match="step 1: the gradient is not finite"):
        trainer.train()
    assert all(torch.equal(one, before[name]) for name, one in trainer.model.state_dict().items())


def test_a_loss_that_is_not_finite_stops_the_step(
    tmp_path: Path, policy: Policy, charts: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = scripted(tmp_path, policy.model, policy.processor, charts)
    original = type(trainer)._compute_loss
    monkeypatch.setattr(type(trainer), "_compute_loss", lambda *given: original(*given) * float("nan"))
    with pytest.raises(NumberError, match="step 1: the loss is not finite"):
        trainer.train()
    told = json.loads(next((tmp_path / "run" / "nonfinite").iterdir()).read_text())
    assert len(told["rollouts"]) == 4


def test_a_broken_teacher_is_told_from_a_silent_one(policy: Policy, charts: list[Sample]) -> None:
    settings = AttributionSettings(max_turn_tokens=24)
    assert OwnCall(policy, settings).explain(charts[:1])[0].distribution
    for value in (float("nan"), float("inf")):
        with pytest.raises(NumberError, match="gives logits that are not finite"):
            OwnCall(spoilt(policy, value), settings).explain(charts[:1])


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_broken_policy_is_not_evaluated(policy: Policy, charts: list[Sample], temperature: float) -> None:
    settings = EvaluationSettings(max_turn_tokens=8, temperature=temperature)
    with pytest.raises(NumberError, match="gives logits that are not finite"):
        evaluate(spoilt(policy), charts[:2], settings)


@pytest.mark.parametrize("reference", ["student_call", "own_call"])
def test_a_broken_teacher_stops_the_training(
    tmp_path: Path, policy: Policy, charts: list[Sample], reference: str
) -> None:
    trainer = scripted(
        tmp_path, policy.model, policy.processor, charts,
        teacher=spoilt(policy), teacher_reference=reference, penalty_weight=0.1,
    )  # fmt: skip
    with pytest.raises(NumberError, match="step 1: the attribution of a call is not finite"):
        trainer.train()
    assert list((tmp_path / "run" / "nonfinite").iterdir())
