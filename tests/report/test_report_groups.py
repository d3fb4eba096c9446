"""Rewards and advantages that the report computes again, against the training's own; whole groups in a cut."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from report_runs import make_group, make_run, make_trace

from iapo.records import Score
from iapo.report.groups import credit, group_lines
from iapo.report.lines import Line
from iapo.report.pictures import Pictures
from iapo.report.read import find_runs
from iapo.report.traces import browse, pick
from iapo.training.scope import component_advantages


def lines_of(rewards: list[list[float]], *, group: int, cut: int | None = None) -> list[Line]:
    """Two components, side by side in groups of one step."""
    return [
        Line(1.0, ("s", str(place // group)), {"outcome": row[0], "alignment": row[1]}, place == cut)
        for place, row in enumerate(rewards)
    ]


@pytest.mark.parametrize("scale", ["group", "batch", "none", True])
@pytest.mark.parametrize("cut", [None, 5])
def test_advantages_are_the_trainings(tmp_path: Path, scale: Any, cut: int | None):
    draw = random.Random(3)
    rewards = [[draw.random(), -draw.random()] for _ in range(12)]
    make_run(tmp_path, [], num_generations=4, scale_rewards=scale, generation_batch_size=12)
    (run,) = find_runs([tmp_path]).runs
    groups, found = credit(run, lines_of(rewards, group=4, cut=cut))
    table = torch.tensor(rewards, dtype=torch.float64)
    if cut is not None:
        table[cut] = torch.nan
    weights = torch.tensor([1.0, 0.1], dtype=torch.float64)
    wanted = component_advantages(table, weights, 4, "group" if scale is True else scale)
    assert [len(one.lines) for one in groups] == [4, 4, 4]
    for one, parts in zip(found, wanted.tolist(), strict=True):
        assert [one.parts["outcome"], one.parts["alignment"]] == pytest.approx(parts, abs=1e-6)
        assert one.advantage == pytest.approx(sum(parts), abs=1e-6)
    assert found[0].reward == pytest.approx(rewards[0][0] + 0.1 * rewards[0][1])
    assert cut is None or (found[cut].reward, found[cut].advantage) == (None, 0.0)


@pytest.mark.parametrize(
    ("settings", "steps", "said"),
    [
        ({"num_generations": 8}, 20, "kept 4 of 8 rollouts"),
        ({}, 20, "does not say num_generations"),
        ({"num_generations": 4}, 0, "not in metrics.jsonl"),
        ({"num_generations": 4, "scale_rewards": "batch", "generation_batch_size": 64}, 20, "over the whole batch"),
        ({"num_generations": 4, "multi_objective_aggregation": "normalize_then_sum"}, 20, "normalize_then_sum"),
    ],
)
def test_no_advantage_without_all_that_it_takes(tmp_path: Path, settings: dict[str, Any], steps: int, said: str):
    make_run(tmp_path, [], steps=steps, **settings)
    (run,) = find_runs([tmp_path]).runs
    (group,), found = credit(run, lines_of([[1.0, 0.0]] * 4, group=4))
    assert said in group.missing
    assert {one.advantage for one in found} == {None}
    assert {one.reward for one in found} == ({None} if steps == 0 else {1.0})


def test_equal_rewards_have_no_advantage(tmp_path: Path):
    make_run(tmp_path, [], num_generations=2)
    (run,) = find_runs([tmp_path]).runs
    _, found = credit(run, lines_of([[1.0, 0.0], [1.0, 0.0]], group=2))
    assert [one.advantage for one in found] == [0.0, 0.0]


def test_a_prompt_twice_in_a_step_is_two_groups():
    one, other = Line(1.0, ("s", "a"), {}, False), Line(1.0, ("s", "b"), {}, False)
    assert group_lines([one, one, other, other, one, one], 2) == [[0, 1], [4, 5], [2, 3]]
    assert group_lines([one, other, one], None) == [[0, 2], [1]]


def test_a_cut_keeps_groups_and_pairs_whole(tmp_path: Path):
    assert pick([[0, 1], [2, 3], [4, 5], [6, 7]], 5) == [0, 1, 4, 5]
    assert pick([[0, 1, 2, 3]], 2) == [0, 2]
    assert pick([[0, 2], [1, 3]], 9) == [0, 1, 2, 3]
    traces = [trace for number in range(6) for trace in make_group(number)]
    held_out = [make_trace(number, step=step) for step in (0, 20) for number in range(200, 206)]
    make_run(tmp_path, traces, held_out=held_out, num_generations=4)
    browsed = browse(find_runs([tmp_path]).runs, Pictures("embed", tmp_path), 17)
    shown = browsed.traces
    assert len(shown) <= 17
    training = [trace for trace in shown if trace["part"] == "training"]
    counts = {trace["group"]: sum(one["group"] == trace["group"] for one in training) for trace in training}
    assert set(counts.values()) == {4}
    assert {trace["advantage"] is None for trace in training} == {False}
    held = [(trace["sample"], trace["step"]) for trace in shown if trace["part"] == "held-out"]
    assert {step for _, step in held} == {0, 20}
    assert all((sample, 20 - step) in held for sample, step in held)


def test_scores_too_large_are_a_sentence(tmp_path: Path):
    group = [dataclasses.replace(one, scores={"outcome": Score(1e308)}) for one in make_group(1)]
    make_run(tmp_path, group, num_generations=4)
    with pytest.raises(ValueError, match="scores too large"):
        browse(find_runs([tmp_path]).runs, Pictures("embed", tmp_path), 0)
