"""Each preset's reward on fixed traces, against numbers worked out by hand from its formula."""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from iapo.grading.outcome import Outcome
from iapo.records import Axis, Sample, ToolCall, ToolResult, Trace
from iapo.rewards.columns import Column, Preset
from iapo.rewards.otc import tool_efficiency
from iapo.rewards.presets import make_outcome, make_preset
from iapo.training.settings import compared_rewards

PICTURE = Image.new("RGB", (2, 2))
RIGHT, WRONG, SILENT = "FINAL ANSWER: 42. TERMINATE", "FINAL ANSWER: 41. TERMINATE", "I do not know."


def call(axis: Axis = "columns") -> ToolCall:
    return ToolCall(f"focus_on_{axis}_with_mask", ("A",), f"{axis}_bbox", axis)


def edited(final: str, *calls: ToolCall, axis: Axis | None = "columns", name: str = "s") -> Trace:
    return Trace.of(
        sample(axis, name), "```...```", ToolResult("edited", calls or (call(),), PICTURE, span=(0, 1)), final
    )


def broken(status: Any, final: str, *calls: ToolCall, axis: Axis | None = "columns") -> Trace:
    return Trace.of(sample(axis), "```...```", ToolResult(status, calls, error="no", span=(0, 1)), final)


def uncalled(final: str, name: str = "s") -> Trace:
    return Trace.of(sample("columns", name), final, ToolResult("no_call"))


def sample(axis: Axis | None = "columns", name: str = "s") -> Sample:
    return Sample(name, PICTURE, "?", ("42",), {"A": (0, 0, 1, 1)}, {"A": (0, 0, 1, 1)}, axis=axis)


TRACES = {
    "right tool, right": edited(RIGHT),
    "right tool, wrong": edited(WRONG),
    "right tool, silent": edited(SILENT),
    "misuse, right": edited(RIGHT, call("rows")),
    "no axis, right": edited(RIGHT, call("rows"), axis=None),
    "no axis, wrong": edited(WRONG, axis=None),
    "failed, right": broken("failed", RIGHT),
    "failed, wrong": broken("failed", WRONG, call()),
    "refused, right": broken("refused", RIGHT),
    "refused, silent": broken("refused", SILENT),
    "no call, right": uncalled(RIGHT),
    "no call, wrong": uncalled(WRONG),
}
"""Sorted by what happened."""

DIVERGENCES = [0.5, 0.25, 0.0, 1.5, 0.5, 0.5, 0.5, 1.0, 2.0, 2.0, 2.0, 2.0]
LOG_PROBS = [-0.5, -0.25, -1.0, -3.0, -0.5, -0.5, -4.0, -4.0, -6.0, -6.0, -6.0, -6.0]
VERIFIED = [1.0, 0.8, 0.5, 0.1, 0.6, 0.6, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]
OVERLAPS = [0.5, 0.1, 0.0, -0.2, 0.3, 0.0, 0.0, -0.5, -1.0, -1.0, -1.0, -1.0]
"""What teacher, verifier and the student's attribution are made to say about these traces."""

HALF = math.cos(math.pi / 3)
"""OTC's r_tool of one call where none was needed."""

REWARDS = {
    "grpo": [1, 0, 0, 1, 1, 0, 1, 0, 1, 0, 1, 0],
    "torl": [1, 0, 0, 1, 1, 0, 0.5, -0.5, 0.5, -0.5, 1, 0],
    "trm": [1.5, 0.4, 0.25, 1.05, 1.3, 0.3, 1, 0, 1, 0, 1, 0],
    "iapo": [0.95, -0.025, 0, 0.85, 0.95, -0.05, 0.95, -0.1, 0.8, -0.2, 0.8, -0.2],
    "deepeyes": [2.0, 0, -0.2, 2.0, 2.0, 0, 0.8, 0, 0.6, -0.2, 0.8, 0],
    "toolrl": [7, 4, 3, 4, 7, 1, 4, 1, 3, 0, 3, 0],
    "mt-grpo": [2, 1, 1, 2, 2, 1, 1, 0, 1, 0, 1, 0],
    "openthinkimg": [2, 1, 0.5, 2, 2, 1, 2, 1, 1.5, 0, 2, 1],
    "otc": [HALF, 0, 0, HALF, HALF, 0, HALF, 0, HALF, 0, 1, 0],
    "distill": [0.9, -0.05, -0.2, 0.4, 0.9, -0.1, 0.2, -0.8, -0.2, -1.2, -0.2, -1.2],
    "overlap": [1.05, 0.01, 0, 0.98, 1.03, 0, 1, -0.05, 0.9, -0.1, 0.9, -0.1],
    "iapo+distill": [0.85, -0.075, -0.2, 0.25, 0.85, -0.15, 0.15, -0.9, -0.4, -1.4, -0.4, -1.4],
}
COLUMNS = {
    "grpo": [],
    "torl": ["execution"],
    "trm": ["verifier"],
    "iapo": ["alignment"],
    "deepeyes": ["format", "tool_bonus"],
    "toolrl": ["format", "tool_match"],
    "otc": ["call_discount"],
    "mt-grpo": ["turn_execution"],
    "openthinkimg": ["format"],
    "distill": ["teacher_log_prob"],
    "overlap": ["overlap"],
    "iapo+distill": ["alignment", "teacher_log_prob"],
}


def arguments(reward: str, **more: Any) -> Any:
    values = {
        "reward": reward,
        "component_weights": None,
        "penalty_weight": 0.1,
        "penalty_decay": 0.01,
        "distill_weight": 0.2,
        "penalty_scope": "rollout",
        "verifier": "v",
        "verifier_url": None,
        "judge_model": None,
        "judge_url": None,
        "judge_key": "OPENAI_API_KEY",
        "judge_on_error": "stop",
        "judge_timeout": 5.0,
        "judge_retries": 0,
        "judge_concurrency": 2,
        "judge_cache": None,
        "judge_served_as": None,
        "verifier_served_as": None,
    }
    return SimpleNamespace(**{**values, **more})


@pytest.fixture
def verified(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("iapo.rewards.presets._make_verifier", lambda *args: lambda traces: VERIFIED)


def preset_of(reward: str, **more: Any) -> tuple[Preset, Outcome]:
    outcome = Outcome()
    said = (lambda rollouts: DIVERGENCES, lambda rollouts: LOG_PROBS, lambda rollouts: OVERLAPS)
    made = make_preset(arguments(reward, **more), outcome, *said)
    return made, outcome


def rewards(preset: Preset, outcome: Outcome, traces: Sequence[Trace], step: int = 0) -> list[float]:
    """As TRL sums them: weighted columns."""
    columns = [Column("outcome", outcome, preset.outcome_weight), *preset.columns]
    values = [column.function(trace=traces, rollout=traces, completions=[], prompts=[]) for column in columns]
    weights = [column.weight_at(step) for column in columns]
    return [sum(w * v for w, v in zip(weights, row, strict=True)) for row in zip(*values, strict=True)]


@pytest.mark.usefixtures("verified")
@pytest.mark.parametrize("reward", compared_rewards())
def test_rewards_by_hand(reward: str) -> None:
    preset, outcome = preset_of(reward)
    found = rewards(preset, outcome, list(TRACES.values()))
    assert dict(zip(TRACES, found, strict=True)) == pytest.approx(dict(zip(TRACES, REWARDS[reward], strict=True)))
    assert [column.name for column in preset.columns] == COLUMNS[reward]


@pytest.mark.parametrize(("reward", "weights"), [("iapo", [0.1]), ("distill", [0.2]), ("iapo+distill", [0.1, 0.2])])
def test_the_teachers_components_decay(reward: str, weights: list[float]) -> None:
    preset, _ = preset_of(reward)
    for step in (0, 1, 100):
        expected = [weight * math.exp(-0.01 * step) for weight in weights]
        assert [column.weight_at(step) for column in preset.columns] == pytest.approx(expected)


@pytest.mark.usefixtures("verified")
@pytest.mark.parametrize("reward", ["torl", "trm", "deepeyes", "toolrl", "otc", "mt-grpo", "openthinkimg"])
def test_other_components_do_not(reward: str) -> None:
    preset, outcome = preset_of(reward)
    traces = list(TRACES.values())
    assert rewards(preset, outcome, traces, step=500) == pytest.approx(REWARDS[reward])


def test_without_a_weight_iapo_is_grpo() -> None:
    assert preset_of("iapo", penalty_weight=0.0)[0] == preset_of("grpo")[0] == Preset()


def test_weights_can_be_set() -> None:
    preset, outcome = preset_of("torl", component_weights={"execution": 2, "outcome": 3})
    assert rewards(preset, outcome, [TRACES["failed, right"], TRACES["right tool, right"]]) == [1.0, 3.0]
    with pytest.raises(ValueError, match="component_weights names 'exceution'; reward 'torl' has outcome, execution"):
        preset_of("torl", component_weights={"exceution": 2})


def test_an_unknown_reward_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no reward 'gpro'; did you mean grpo\? Or use one of grpo, torl, trm"):
        preset_of("gpro")


def test_trm_needs_a_verifier() -> None:
    with pytest.raises(ValueError, match="reward 'trm' needs a verifier; set `verifier`"):
        preset_of("trm", verifier=None)


def test_a_verifier_has_no_rules_to_fall_back_on() -> None:
    with pytest.raises(ValueError, match="no rules to fall back on; set judge_on_error to wait or stop"):
        preset_of("trm", verifier="m", verifier_url="http://127.0.0.1:9/v1", judge_on_error="rules")


def test_an_unknown_way_to_fail_is_refused() -> None:
    with pytest.raises(ValueError, match="judge_on_error is 'ignore'; use wait, stop or rules"):
        make_outcome(arguments("grpo", judge_model="m", judge_url="http://127.0.0.1:9/v1", judge_on_error="ignore"))


@pytest.mark.parametrize(
    ("calls", "fewest", "value"),
    [
        (0, 0, 1.0),
        (1, 0, math.cos(math.pi / 3)),
        (2, 0, math.cos(2 * math.pi / 5)),
        (1, 1, 1.0),
        (2, 2, 1.0),
        # f = 4/3, sin(2 pi / 3).
        (2, 1, math.sqrt(3) / 2),
        # f = 6/4, sin(3 pi / 4).
        (3, 1, math.sqrt(1 / 2)),
    ],
)
def test_tool_efficiency(calls: int, fewest: int, value: float) -> None:
    assert tool_efficiency(calls, fewest) == pytest.approx(value)


def test_otc_remembers_the_fewest_calls_of_a_question() -> None:
    preset, outcome = preset_of("otc")
    two, one = edited(RIGHT, call(), call()), edited(RIGHT)
    assert rewards(preset, outcome, [two]) == pytest.approx([1.0])
    # A wrong answer without a call says nothing about how many are needed.
    assert rewards(preset, outcome, [two, one, uncalled(WRONG)]) == pytest.approx([math.sqrt(3) / 2, 1.0, 0.0])
    assert rewards(preset, outcome, [two]) == pytest.approx([math.sqrt(3) / 2])
    other = edited(RIGHT, call(), call(), name="other")
    assert rewards(preset, outcome, [other, uncalled(RIGHT)]) == pytest.approx([1.0, 1.0])
    assert rewards(preset, outcome, [one]) == pytest.approx([0.5])
    # Another configuration's preset has a memory of its own.
    assert rewards(*preset_of("otc"), [two]) == pytest.approx([1.0])
