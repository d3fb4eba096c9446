"""Groups of rollouts: those without spread are counted and drawn anew, and prompts that are too long are dropped."""

from __future__ import annotations

import dataclasses
import json
import logging
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from scripted import four_ways, scripted, settings

from iapo.data.synthetic import generate
from iapo.errors import InputError
from iapo.records import Sample
from iapo.rollout.budget import lengths
from iapo.rollout.policy import Policy, load_policy
from iapo.rollout.prompt import PromptEncoder
from iapo.training.groups import flat_groups, group_metrics, total_rewards
from iapo.training.lengths import long_prompts


@pytest.fixture(scope="module")
def charts() -> list[Sample]:
    return list(generate("vbar", 8, seed=11, question_types=("value",)))


@pytest.fixture
def policy() -> Policy:
    return load_policy("tiny-student")


def easy(sample: Sample) -> bool:
    """Half of the samples, on which all rollouts end alike."""
    return int(sample.id.rpartition("-")[2]) % 2 == 0


def mixed(sample: Sample, index: int) -> tuple[str, str]:
    if easy(sample):
        return f"FINAL ANSWER: {sample.answers[0]}. TERMINATE", ""
    return four_ways(sample, index)


def test_groups_without_spread() -> None:
    nan = math.nan
    rewards = torch.tensor([1.0, 1.0, 0.0, 1.0, nan, 0.5, nan, nan, 0.3, 0.3 + 1e-7])
    assert flat_groups(rewards, 2) == [0, 2, 3, 4]
    assert flat_groups(rewards[:4], 4) == []
    parts = torch.tensor([[1.0, 2.0], [nan, 2.0], [nan, nan]])
    assert total_rewards(parts, torch.tensor([1.0, 0.5]))[:2].tolist() == [2.0, 1.0]
    assert total_rewards(parts, torch.tensor([1.0, 0.5]))[2].isnan()


def test_statistics_by_data_set() -> None:
    rewards = torch.tensor([1.0, 1.0, 0.0, 1.0, 0.0, 0.0])
    found = group_metrics(rewards, ["b", "b", "a", "a", "a", "a"], 2)
    half = math.sqrt(0.5)
    assert found == pytest.approx(
        {
            "groups/flat": 2 / 3,
            "groups/reward": 0.5,
            "groups/spread": half / 3,
            "groups/flat/a": 0.5,
            "groups/reward/a": 0.25,
            "groups/spread/a": half / 2,
            "groups/flat/b": 1.0,
            "groups/reward/b": 1.0,
            "groups/spread/b": 0.0,
        }
    )


@pytest.mark.slow(10)
@pytest.mark.parametrize("by", ["reward", "outcome"])
def test_groups_without_spread_are_drawn_anew(tmp_path: Path, charts: list[Sample], policy: Policy, by: str) -> None:
    seen: list[Any] = []
    trainer = scripted(
        tmp_path, policy.model, policy.processor, charts,
        script=mixed, on_rollouts=lambda step, traces: seen.extend(traces), max_steps=2,
        per_device_train_batch_size=8, dynamic_sampling=8, dynamic_sampling_by=by,
        teacher=policy, penalty_weight=0.1,
    )  # fmt: skip
    trainer.train()
    assert len(seen) == 16
    # Eight tries are more than the data have of such samples.
    assert not any(easy(trace.sample) for trace in seen)
    for group in range(4):
        rows = seen[4 * group : 4 * group + 4]
        assert len({trace.sample.id for trace in rows}) == 1
        assert [trace.scores["outcome"].value for trace in rows] == [1.0, 1.0, 0.0, 0.0]
        assert all("alignment" in trace.scores for trace in rows)
    rows = [row for row in trainer.state.log_history if "loss" in row]
    assert sum(row["groups/redrawn"] for row in rows) > 0
    assert [row["groups/flat"] for row in rows] == [0.0, 0.0]
    assert [row["rewards/outcome_reward/mean"] for row in rows] == [0.5, 0.5]
    assert all(row["groups/flat/synthetic/vbar"] == 0.0 for row in rows)


def test_at_most_so_many_times(tmp_path: Path, charts: list[Sample], policy: Policy) -> None:
    trainer = scripted(
        tmp_path, policy.model, policy.processor, [chart for chart in charts if easy(chart)],
        script=mixed, dynamic_sampling=3,
    )  # fmt: skip
    trainer.train()
    (row,) = [row for row in trainer.state.log_history if "loss" in row]
    assert (row["groups/redrawn"], row["groups/flat"], row["grad_norm"]) == (3.0, 1.0, 0.0)


@pytest.mark.slow(1)
def test_where_nothing_is_drawn_anew_nothing_changes(tmp_path: Path, charts: list[Sample]) -> None:
    ends = []
    for count in (0, 4):
        policy = load_policy("tiny-student")
        trainer = scripted(
            tmp_path / str(count), policy.model, policy.processor, charts,
            dynamic_sampling=count, max_steps=2, teacher=policy, penalty_weight=0.1,
        )  # fmt: skip
        trainer.train()
        rows = [row for row in trainer.state.log_history if "loss" in row]
        told = [{name: value for name, value in row.items() if "time" not in name} for row in rows]
        assert [row.pop("groups/redrawn", None) for row in told] == [0.0 if count else None] * 2
        ends.append((told, trainer.model.state_dict()))
    (first, before), (second, after) = ends
    assert first == second
    assert all(torch.equal(one, after[name]) for name, one in before.items())


def test_what_cannot_be_drawn_anew_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="dynamic_sampling is -1; give at least 0"):
        settings(tmp_path, dynamic_sampling=-1)


def test_long_prompts_are_refused_or_dropped(
    tmp_path: Path, charts: list[Sample], policy: Policy, caplog: pytest.LogCaptureFixture
) -> None:
    encoder = PromptEncoder(policy.processor)
    large = dataclasses.replace(charts[3], id="large", image=charts[3].image.resize((336, 336)))
    some = [*charts[:3], large, *charts[4:]]
    most = max(one.prompt for one in lengths(charts, encoder))
    given = {"max_prompt_length": most + 4}
    with pytest.raises(InputError, match=r"1 of 8 training prompts are longer.*'large'.*long_prompts to drop"):
        scripted(tmp_path, policy.model, policy.processor, some, **given)
    assert not (tmp_path / "run").exists()
    with caplog.at_level(logging.WARNING):
        trainer = scripted(tmp_path, policy.model, policy.processor, some, **given, long_prompts="drop")
    assert "1 of 8 training samples are too long, the longest prompt with" in caplog.text
    assert [json.loads(row)["id"] for row in trainer.train_dataset["sample"]] == [
        chart.id for chart in some if chart is not large
    ]
    # Without a limit of its own, what the sequence cannot take is dropped.
    args = settings(tmp_path, long_prompts="drop", max_sequence_length=most + 2 * 40 + 60)
    assert long_prompts(some, args, encoder, policy.model.config).places == (3,)
    args = settings(tmp_path, max_prompt_length=5, long_prompts="drop")
    with pytest.raises(InputError, match="all 8 training samples are too long and would be dropped"):
        long_prompts(some, args, encoder, policy.model.config)
    found = long_prompts(charts, settings(tmp_path, max_prompt_length=most), encoder, policy.model.config)
    assert found.to_json() == {"dropped": 0, "of": 8, "longest": 0}
