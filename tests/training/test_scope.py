"""Advantages by token: which tokens a component of the reward speaks of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from scripted import batch, scripted

from iapo.data.synthetic import generate
from iapo.errors import InputError
from iapo.rollout.policy import Policy
from iapo.training.checks import check_settings
from iapo.training.config import IAPOConfig
from iapo.training.scope import component_advantages, in_scope


@pytest.fixture(scope="module")
def charts() -> Any:
    return list(generate("vbar", 4, seed=11, question_types=("value",)))


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
def test_the_parts_sum_to_trls_advantage(tmp_path: Path, model: Any, processor: Any, charts: Any, scale: Any) -> None:
    trainer = scripted(tmp_path, model, processor, charts, reward="deepeyes", scale_rewards=scale)
    output = batch(trainer, charts)
    parts = component_advantages(trainer._batch.rewards, trainer.reward_weights, 4, scale)
    torch.testing.assert_close(parts.sum(1), output["advantages"], atol=1e-5, rtol=1e-5)


def test_a_rollout_without_reward_has_no_part() -> None:
    rewards = torch.tensor([[1.0, 0.0], [torch.nan, torch.nan], [0.0, 1.0], [0.0, torch.nan]])
    parts = component_advantages(rewards, torch.tensor([1.0, 0.5]), 4, "none")
    assert parts[1].tolist() == [0, 0]
    # The baseline is of the three others; a component that is not there counts as nothing.
    torch.testing.assert_close(parts[:, 0], torch.tensor([2 / 3, 0, -1 / 3, -1 / 3]))
    torch.testing.assert_close(parts[:, 1], torch.tensor([-1 / 6, 0, 1 / 3, -1 / 6]))


@pytest.mark.parametrize("scope", ["rollout", "turn_1", "call"])
def test_the_penalty_is_kept_to_its_tokens(
    tmp_path: Path, model: Any, other_model: Any, processor: Any, charts: Any, scope: Any
) -> None:
    given = {"teacher": Policy(other_model, processor), "penalty_weight": 0.5, "reward": "iapo"}
    whole = batch(scripted(tmp_path / "a", model, processor, charts, **given), charts)["advantages"]
    trainer = scripted(tmp_path / "b", model, processor, charts, penalty_scope=scope, **given)
    output = batch(trainer, charts)
    if scope == "rollout":
        assert torch.equal(output["advantages"], whole)
        return
    rollouts = trainer._batch.rollouts
    found, width = output["advantages"], output["completion_ids"].shape[1]
    assert found.shape == (4, width)
    outcome = component_advantages(trainer._batch.rewards, trainer.reward_weights, 4, "group")[:, 0]
    inside = in_scope(rollouts, scope, width)
    for row, one in enumerate(rollouts):
        for place in range(len(one.completion_ids)):
            expected = whole[row] if inside[row, place] else outcome[row]
            assert found[row, place].item() == pytest.approx(expected.item(), abs=1e-5)
        first = len(one.first.ids)
        assert not inside[row, first:].any()
        # The fence is no part of the call; a turn that calls nothing has its price all over.
        calls = any(one.first.target)
        assert bool(inside[row, :first].all()) == (scope == "turn_1" or not calls)
    # Some tokens are judged otherwise than their rollout: else nothing is shown.
    assert (found != whole[:, None]).any()


def test_turn_level_credit_is_the_first_turns(tmp_path: Path, model: Any, processor: Any, charts: Any) -> None:
    trainer = scripted(tmp_path, model, processor, charts, reward="mt-grpo")
    output = batch(trainer, charts)
    first = [len(one.first.ids) for one in trainer._batch.rollouts]
    parts = component_advantages(trainer._batch.rewards, trainer.reward_weights, 4, "group")
    for row, length in enumerate(first):
        assert output["advantages"][row, 0].item() == pytest.approx(parts[row].sum().item(), abs=1e-5)
        if length < output["advantages"].shape[1]:
            assert output["advantages"][row, length].item() == pytest.approx(parts[row, 0].item(), abs=1e-5)


def test_it_trains(tmp_path: Path, model: Any, other_model: Any, processor: Any, charts: Any) -> None:
    given = {"teacher": Policy(other_model, processor), "penalty_weight": 0.5, "reward": "iapo", "max_steps": 2}
    trainer = scripted(tmp_path, model, processor, charts, penalty_scope="call", **given)
    trainer.train()
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    assert len(losses) == 2
    assert all(abs(loss) < 100 for loss in losses)


def test_parts_need_a_sum() -> None:
    args = IAPOConfig(
        "unused", reward="mt-grpo", multi_objective_aggregation="normalize_then_sum", use_cpu=True, bf16=False
    )
    with pytest.raises(InputError, match="turn_execution"):
        check_settings(args)
