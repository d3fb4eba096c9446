"""Groups of rollouts: those of one prompt in one step, with their rewards and the advantages that GRPO makes of them.

The run folder keeps the components' values and, step by step, their weights. Reward and advantage follow from them as
TRL computes them (`GRPOTrainer`, `scale_rewards`); where not all that it takes was kept, there is none, and the reason.
"""

from __future__ import annotations

import collections
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from iapo.report.numbers import finite
from iapo.report.read import Run

_EPS = 1e-4
"""What TRL adds to a deviation before it divides."""


@dataclass(frozen=True, slots=True)
class Line:
    """What of a trace's line is needed to group it.

    Attributes:
        step: Its step.
        sample: Name of its sample.
        values: Values of the reward's components.
        cut: Whether training left the rollout out (`Trace.observation_cut`).
    """

    step: float | None
    sample: tuple[str, str]
    values: Mapping[str, float]
    cut: bool

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Line:
        """Reads a trace's JSON record.

        Raises:
            TypeError: If its step or a score is no number.
        """
        step = record["step"]
        if step is not None and finite(step) is None:
            raise TypeError("its step is no number")
        sample = record["sample"]
        for name, score in record["scores"].items():
            if isinstance(score["value"], bool) or not isinstance(score["value"], int | float | None):
                raise TypeError(f"its score {name} is no number")
        values = {
            name: number for name, score in record["scores"].items() if (number := finite(score["value"])) is not None
        }
        return cls(
            finite(step), (str(sample["source"]), str(sample["id"])), values, bool(record.get("observation_cut"))
        )


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


def foreign(run: Run, lines: Sequence[Line]) -> str:
    """Says whether a file of traces seems to hold those of another run, too; lines do not name their run.

    Args:
        run: The run.
        lines: The file's lines, in order.

    Returns:
        What tells so, as a predicate; empty where nothing does.
    """
    steps = [(number, line.step) for number, line in enumerate(lines, 1) if line.step is not None]
    for (_, before), (number, step) in itertools.pairwise(steps):
        if step < before:
            return f"line {number} is of step {step:g} and the one before it of step {before:g}"
    if (most := _most_in_step(run.config.get("training"))) is None:
        return ""
    counts = collections.Counter(step for _, step in steps)
    return next(
        (
            f"it has {count} rollouts of step {step:g}, and a step makes {most}"
            for step, count in counts.items()
            if count > most
        ),
        "",
    )


def _most_in_step(training: Any) -> int | None:
    """Returns how many rollouts a step of a training makes; None where its settings do not say."""
    if not isinstance(training, dict) or training.get("dynamic_sampling"):
        return None
    found = [
        one
        for name in ("generation_batch_size", "gradient_accumulation_steps", "steps_per_generation")
        if isinstance(one := training.get(name), int) and one > 0
    ]
    if len(found) < 3:
        return None
    batch, passes, together = found
    return batch * math.ceil(passes / together)


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
