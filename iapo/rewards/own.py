"""Rewards of the user's own, by reference: a plain function of a rollout, or all that a preset can be."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from iapo.errors import InputError
from iapo.plugins import name_in, resolve
from iapo.records import Trace
from iapo.rewards.columns import Column, Preset, Reward, RewardFunction, Sources

FORMS = "(trace), (trace, outcome), (trace, **columns) or (sources)"
"""The forms that a function may have; docs/rewards.md has one of each."""


def own_reward(reference: str) -> Reward:
    """Returns the reward that a reference names.

    Args:
        reference: `FILE.py:NAME` or `package.module:NAME` of a `Reward`, or of a function in one of four forms:
            `(trace) -> float` and `(trace, outcome) -> float` say what one rollout is worth, the second is told the
            outcome, 0 or 1, as a judge or the rules have it; `(trace, **columns) -> list of floats` is TRL's form, for
            a batch; `(sources) -> Preset` has no more than the outcome to draw on unless `reward` declares it. What the
            first three give takes the outcome's place in the reward.

    Raises:
        InputError: If there is none, or it is of another form.
    """
    found = resolve(reference, "reward", callable, f"a function {FORMS}")
    if isinstance(found, Reward):
        return found
    name = name_in(reference)
    try:
        parameters = inspect.signature(found).parameters.values()
    except (TypeError, ValueError) as error:
        raise InputError(f"reward {reference!r} has no readable signature; give a function {FORMS}") from error
    wanted = [one for one in parameters if one.default is one.empty and one.kind in _POSITIONAL]
    if [one.name for one in wanted] == ["sources"]:
        return Reward(found)
    if any(one.kind is one.VAR_KEYWORD for one in parameters):
        return _instead(name, lambda sources: found)
    if len(wanted) == 1:
        return _instead(name, lambda sources: _of_traces(found))
    if len(wanted) == 2:
        return _instead(name, lambda sources: _of_outcomes(found, sources))
    raise InputError(f"reward {reference!r} takes {len(wanted)} arguments; give a function {FORMS}")


_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def _instead(name: str, make: Callable[[Sources], RewardFunction]) -> Reward:
    """Returns a reward of one column, beside which the outcome is logged but does not count."""
    return Reward(lambda sources: Preset((Column(name, make(sources)),), outcome_weight=0.0))


def _of_traces(value: Callable[[Trace], float]) -> RewardFunction:
    def function(trace: Sequence[Trace], **columns: Any) -> list[float]:
        return [float(value(one)) for one in trace]

    return function


def _of_outcomes(value: Callable[[Trace, float], float], sources: Sources) -> RewardFunction:
    def function(trace: Sequence[Trace], **columns: Any) -> list[float]:
        scores = sources.outcome(trace)
        return [float(value(one, score.value)) for one, score in zip(trace, scores, strict=True)]

    return function
