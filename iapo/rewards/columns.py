"""What reward presets are made of: columns with weights, and the sources that they draw on (docs/rewards.md)."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from iapo.attribution.divergence import penalty_weight
from iapo.errors import InputError, unknown
from iapo.kinds import check_kinds
from iapo.records import Score, Trace
from iapo.rollout.turns import Rollout

Scope = Literal["rollout", "turn_1", "call"]
"""Tokens that a component speaks of: all that the model wrote, the turns that call (the first one at least), or the
calls in them."""

RewardFunction = Callable[..., list[float]]
"""As TRL calls it: with the batch's columns by name, `trace` and `rollout` among them."""


@dataclass(frozen=True, slots=True)
class Column:
    """One component of a reward, logged by itself.

    Attributes:
        name: Its name in logs and in `component_weights`.
        function: Gives its values.
        weight: Its weight at optimiser step 0.
        decay: The weight at step k is `weight * exp(-decay k)`.
        scope: Scope of its part in the advantage (`iapo.training.scope`).
        memory: What the function remembers from batch to batch, which a checkpoint of each process keeps and gives
            back as what it was: numbers, texts, NumPy's arrays, tensors on the CPU, and lists, tuples, sets, counters
            and dicts of these; None where it remembers nothing.

    Raises:
        InputError: If one of them is of another kind, or a number is not finite.
    """

    name: str
    function: RewardFunction
    weight: float = 1.0
    decay: float = 0.0
    scope: Scope = "rollout"
    memory: MutableMapping[Any, Any] | None = None

    def __post_init__(self) -> None:
        what = f"component {self.name!r}"
        if not callable(self.function) or inspect.iscoroutinefunction(self.function):
            shown = "async" if callable(self.function) else repr(self.function)
            raise InputError(f"the function of {what} is {shown}; give a plain function (**columns) -> list of numbers")
        _check(self, what, self.weight, self.decay)
        if not self.name:
            raise InputError("a component of a reward has an empty name; give it one")

    def weight_at(self, step: int) -> float:
        """Returns the weight at an optimiser step."""
        return penalty_weight(step, self.weight, self.decay)


@dataclass(frozen=True, slots=True)
class Preset:
    """A reward: `R = outcome_weight * outcome + sum of weight * column`.

    Attributes:
        columns: The components beside the outcome.
        outcome_weight: Weight of the outcome (0 or 1).

    Raises:
        InputError: If one of them is of another kind, or the weight is not finite.
    """

    columns: tuple[Column, ...] = ()
    outcome_weight: float = 1.0

    def __post_init__(self) -> None:
        if not isinstance(self.columns, list | tuple) or not all(isinstance(one, Column) for one in self.columns):
            raise InputError(f"the columns of a preset are {self.columns!r}; give a tuple of `Column`")
        _check(self, "preset", self.outcome_weight)


def _check(holder: Column | Preset, what: str, *found: float) -> None:
    try:
        check_kinds(holder)
        check_finite(found)
    except InputError as error:
        raise InputError(f"{what}: {error}") from error


def check_finite(values: Iterable[float]) -> None:
    """Refuses weights that are not finite: a component with one would drop out of the reward.

    Raises:
        InputError: If there is one.
    """
    for value in values:
        if not math.isfinite(value):
            raise InputError(f"a weight is {value}; give a finite number")


@dataclass(frozen=True, slots=True)
class Sources:
    """Where components get their numbers; each is asked only if a preset has a column that needs it.

    Attributes:
        outcome: Scores of the final answers, one a trace.
        divergences: `KL(student || teacher)` of the calls' attributions, one a rollout.
        log_probs: The teacher's mean log-probability of the calls, one a rollout.
        verify: A verifier's scores of the calls, 0 to 1, one a trace.
        overlaps: Parts of the student's attributions in the boxes of the calls, one a rollout (`iapo.rewards.overlap`).
        penalty_weight: First weight of the divergence; 0 leaves its column out.
        penalty_decay: Decay of the teacher's components per optimiser step.
        distill_weight: First weight of the log-probability.
        penalty_scope: Scope of the teacher's components.
    """

    outcome: Callable[[Sequence[Trace]], list[Score]]
    divergences: Callable[[Sequence[Rollout]], list[float]]
    log_probs: Callable[[Sequence[Rollout]], list[float]]
    verify: Callable[[Sequence[Trace]], list[float]]
    overlaps: Callable[[Sequence[Rollout]], list[float]]
    penalty_weight: float = 0.0
    penalty_decay: float = 0.0
    distill_weight: float = 0.1
    penalty_scope: Scope = "rollout"


Source = Literal["divergences", "log_probs", "verify", "overlaps"]
"""What a reward may draw on beside the outcome: these fields of `Sources` cost passes of the student, a teacher or a
verifier."""


@dataclass(frozen=True, slots=True)
class Reward:
    """A reward by name, made with `reward`.

    Attributes:
        make: Makes the preset from the sources of a run.
        uses: Sources that it draws on beside the outcome; those that it does not name are not there.
    """

    make: Callable[[Sources], Preset]
    uses: frozenset[Source] = frozenset()

    def __call__(self, sources: Sources) -> Preset:
        return self.make(sources)


def reward(*uses: Source) -> Callable[[Callable[[Sources], Preset]], Reward]:
    """Declares a function `(sources) -> Preset` as a reward.

    Args:
        uses: Sources that it draws on beside the outcome: `divergences` (then `penalty_weight` counts and a teacher is
            loaded), `log_probs` (a teacher that explains the student's call), `verify` (a verifier), `overlaps` (the
            student alone explains its calls).

    Raises:
        InputError: If there is no such source.
    """
    if wrong := next((one for one in uses if one not in get_args(Source)), None):
        if callable(wrong):
            raise InputError("@reward stands without brackets; write @reward(), with the names of sources in them")
        raise unknown("source of a reward", str(wrong), get_args(Source))
    return lambda make: Reward(make, frozenset(uses))


def per_trace(value: Callable[[Trace, Score], float], outcome: Callable[[Sequence[Trace]], list[Score]]) -> Any:
    """Returns a reward function from what one rollout and the score of its answer are worth."""

    def function(trace: Sequence[Trace], **columns: Any) -> list[float]:
        return [value(one, score) for one, score in zip(trace, outcome(trace), strict=True)]

    return function
