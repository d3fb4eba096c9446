"""What is logged of a batch's divergences."""

from __future__ import annotations

import math

import pytest
import torch

from iapo.rewards.alignment import Measured
from iapo.training.metrics import divergence_metrics, measured_columns, reward_of, tied_groups_ranked

FLAGS = {"right": (1.0, 1.0, 1.0, 0.0, 0.0), "wrong": (1.0, 1.0, 1.0, 1.0, 0.0), "none": (0.0, 0.0, 0.0, 0.0, 0.0)}


def rows(*given: tuple[Measured, str]) -> torch.Tensor:
    return torch.cat([measured_columns([one for one, _ in given]), torch.tensor([FLAGS[flag] for _, flag in given])], 1)


def one(value: float, shuffled: float = 0.0, surprise: float = math.nan) -> Measured:
    return Measured(value, {"a": 0.5, "b": 0.5}, {"a": -1.0, "b": 0.0}, shuffled, surprise)


def test_pairs_within_groups() -> None:
    told = rows(
        (one(0.1, 0.9, 1.0), "right"), (one(0.2, 0.2, 3.0), "wrong"), (one(0.3, 0.2, 2.0), "right"), (one(0.5), "none"),
        (one(0.0, 0.1, 0.0), "right"), (one(0.4, 0.2, 5.0), "wrong"), (Measured(0.7, {}, {}), "none"),
        (one(0.1), "none"),
    )  # fmt: skip
    found = divergence_metrics(told, torch.zeros(8), 4)
    assert found["attribution/divergence"] == pytest.approx(2.3 / 8)
    assert found["attribution/misuse_auc"] == pytest.approx(2 / 3)
    assert found["attribution/misuse_auc_shuffled"] == pytest.approx(1.5 / 3)
    assert found["attribution/misuse_auc_surprise"] == 1
    assert found["attribution/student_entropy"] == pytest.approx(math.log(2))
    assert found["attribution/teacher_entropy"] == 0
    assert found["attribution/tied_groups_ranked"] == 1


def test_nothing_is_told_where_there_is_nothing_to_tell_it_from() -> None:
    found = divergence_metrics(rows((one(0.1), "right"), (one(0.2), "right")), torch.tensor([0.0, 1.0]), 2)
    assert {name for name, value in found.items() if math.isnan(value)} == {
        "attribution/misuse_auc",
        "attribution/misuse_auc_shuffled",
        "attribution/misuse_auc_surprise",
        "attribution/tied_groups_ranked",
    }
    # A pair without the teacher's log-probability has no surprise.
    found = divergence_metrics(rows((one(0.1), "right"), (one(0.2), "wrong")), torch.zeros(2), 2)
    assert found["attribution/misuse_auc"] == 1
    assert math.isnan(found["attribution/misuse_auc_surprise"])


def test_groups_that_the_penalty_alone_ranks() -> None:
    nan = math.nan
    divergences = torch.tensor([[0.1, 0.2], [0.3, 0.3], [0.1, 0.2], [0.1, 0.2], [0.1, 0.2]])
    rewards = torch.tensor([[1.0, 1.0], [0.0, 0.0], [0.0, 1.0], [1.0, nan], [nan, nan]])
    # Tied: the first, the second, and the fourth, of which one rollout is left.
    assert tied_groups_ranked(divergences, rewards) == pytest.approx(1 / 3)


def test_rewards_without_the_penalty() -> None:
    rewards = torch.tensor([[1.0, -0.5, 2.0], [math.nan] * 3, [0.0, math.nan, 1.0]])
    found = reward_of(rewards, torch.tensor([1.0, 0.1, 0.5]), ["outcome_reward", "alignment", "other"])
    assert found[[0, 2]].tolist() == [2.0, 0.5]
    assert math.isnan(found[1])
