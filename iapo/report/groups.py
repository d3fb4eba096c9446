"""Groups of rollouts: those of one prompt in one step, with their rewards and the advantages that GRPO makes of them.

The run folder keeps the components' values and, step by step, their weights. Reward and advantage follow from them as
TRL computes them (`GRPOTrainer`, `scale_rewards`); where not all that it takes was kept, there is none, and the reason.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from iapo.report.lines import Line
from iapo.report.numbers import finite
from iapo.report.read import Run

_EPS = 1e-4
"""What TRL adds to a deviation before it divides."""


@dataclass(frozen=True, slots=True)
class Group:
    """The kept rollouts of one prompt in one step.

    Attributes:
        lines: Places of its rollouts in the file.
        asked: Number of rollouts that the run makes of a prompt; None where it does not say.
        mean: Mean reward.
        deviation: Deviation of the rewards by which advantages are divided; None where they are not.
        missing: Why there are no advantages, a sentence; empty where there are.
    """

    lines: Sequence[int]
    asked: int | None
    mean: float | None
    deviation: float | None
    missing: str


@dataclass(frozen=True, slots=True)
class Credit:
    """What training made of one rollout.

    Attributes:
        group: Place of its group among the file's.
        reward: Weighted sum of the components; None where a weight is not known, or the rollout was left out.
        advantage: Advantage of the rollout.
        parts: Part of each component in it, by name; they sum to it.
    """

    group: int
    reward: float | None
    advantage: float | None
    parts: Mapping[str, float]


def group_lines(lines: Sequence[Line], size: int | None) -> list[list[int]]:
    """Puts the rollouts of one prompt in one step together, in order; of a prompt that a step has twice, each time."""
    by_key: dict[tuple[Any, ...], list[int]] = {}
    for place, line in enumerate(lines):
        by_key.setdefault((line.step, line.sample), []).append(place)
    width = size or max(map(len, by_key.values()), default=1)
    return [places[start : start + width] for places in by_key.values() for start in range(0, len(places), width)]


def credit(run: Run, lines: Sequence[Line]) -> tuple[list[Group], list[Credit]]:
    """Computes rewards and advantages of a training's kept rollouts.

    Args:
        run: The run.
        lines: The lines of its file of traces.

    Returns:
        The groups, and for each line what training made of it.
    """
    training = run.config.get("training") or {}
    asked = training.get("num_generations")
    size = asked if isinstance(asked, int) and not isinstance(asked, bool) and asked > 0 else None
    weights = {finite(row.get("step")): weights_in(row) for row in run.metrics}
    in_step: dict[float | None, int] = {}
    for line in lines:
        in_step[line.step] = in_step.get(line.step, 0) + 1
    groups: list[Group] = []
    found: dict[int, Credit] = {}
    deviations = _deviations(lines, weights)
    for places in group_lines(lines, size):
        step = lines[places[0]].step
        known = weights.get(step) or {}
        rewards = {place: reward(lines[place], known) for place in places}
        missing = _missing(training, places, size, in_step[step], known)
        counted = [one for one in rewards.values() if one is not None]
        mean = math.fsum(counted) / len(counted) if counted else None
        scale = _scale(training)
        deviation = None if missing or scale == "none" else deviations[step] if scale == "batch" else spread(counted)
        divisor = None if missing else 1.0 if scale == "none" else None if deviation is None else deviation + _EPS
        parts = _parts([lines[place] for place in places], known, divisor) if not missing else [{} for _ in places]
        for place, one in zip(places, parts, strict=True):
            advantage = None if missing else math.fsum(one.values())
            found[place] = Credit(len(groups), rewards[place], advantage, one)
        groups.append(Group(places, size, mean, deviation, missing))
    return groups, [found[place] for place in range(len(lines))]


def weights_in(row: Mapping[str, Any]) -> dict[str, float]:
    """Reads the weight of each component of the reward in one line of `metrics.jsonl`."""
    return {
        key.removeprefix("weight/"): number
        for key, value in row.items()
        if key.startswith("weight/") and (number := finite(value)) is not None
    }


def reward(line: Line, weights: Mapping[str, float]) -> float | None:
    """Returns the weighted sum of a rollout's components; None where it was left out, or no weight is known."""
    given = [weights[name] * value for name, value in line.values.items() if name in weights]
    return None if line.cut or not given else math.fsum(given)


def spread(values: Sequence[float]) -> float | None:
    """Returns the sample deviation (`n - 1`); None of fewer than two values."""
    if len(values) < 2:
        return None
    mean = math.fsum(values) / len(values)
    try:
        return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))
    except OverflowError:
        return None


def _parts(lines: Sequence[Line], weights: Mapping[str, float], divisor: float | None) -> list[dict[str, float]]:
    """Splits advantages up by component; a rollout that was left out, or has nothing to compare with, gets zeros."""
    counted = [line for line in lines if reward(line, weights) is not None]
    found: list[dict[str, float]] = [{} for _ in lines]
    for name, weight in weights.items():
        # A component that gave no value for a rollout counts as 0 there, as in TRL's sum.
        mean = math.fsum(weight * line.values.get(name, 0.0) for line in counted) / max(1, len(counted))
        for line, parts in zip(lines, found, strict=True):
            alone = divisor is None or reward(line, weights) is None
            parts[name] = 0.0 if alone or divisor is None else (weight * line.values.get(name, 0.0) - mean) / divisor
    return found


def _scale(training: Mapping[str, Any]) -> str:
    given = training.get("scale_rewards", "group")
    if isinstance(given, bool):
        # As earlier versions of TRL have it.
        return "group" if given else "none"
    return given if isinstance(given, str) else "group"


def _missing(
    training: Mapping[str, Any], places: Sequence[int], size: int | None, in_step: int, weights: Mapping[str, float]
) -> str:
    if not weights:
        return "The weights of this step are not in metrics.jsonl, so that there is no reward and no advantage."
    if size is None:
        return "The manifest does not say num_generations, so that there is no advantage."
    if len(places) < size:
        return f"The run kept {len(places)} of {size} rollouts of this prompt, so that there is no advantage."
    if training.get("multi_objective_aggregation", "sum_then_normalize") != "sum_then_normalize":
        return "Advantages under multi_objective_aggregation: normalize_then_sum are not computed here."
    if _scale(training) not in ("group", "none") and in_step != training.get("generation_batch_size"):
        return "Advantages are scaled over the whole batch, of which the run kept a part, so that there is none."
    return ""


def _deviations(
    lines: Sequence[Line], weights: Mapping[float | None, Mapping[str, float]]
) -> dict[float | None, float | None]:
    by_step: dict[float | None, list[float]] = {}
    for line in lines:
        one = reward(line, weights.get(line.step) or {})
        by_step.setdefault(line.step, []).extend(() if one is None else (one,))
    return {step: spread(values) for step, values in by_step.items()}
