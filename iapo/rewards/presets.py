"""Rewards by name: the table of presets, and what a trainer's configuration makes of it (docs/rewards.md)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from iapo.endpoints.chat import EndpointSettings
from iapo.errors import InputError
from iapo.grading.judge import Judge
from iapo.grading.outcome import Outcome
from iapo.kinds import checks_kinds
from iapo.plugins import is_reference, look_up
from iapo.records import Score, Trace
from iapo.rewards import deepeyes, distill, grpo, iapo, mt_grpo, openthinkimg, otc, overlap, toolrl, torl, trm
from iapo.rewards.alignment import Measured
from iapo.rewards.columns import Preset, Reward, Scope, Sources
from iapo.rewards.own import own_reward
from iapo.rewards.rule_verifier import RULES, check_judged, verify_by_rules
from iapo.rewards.verifier import EndpointVerifier, LocalVerifier, call_scores
from iapo.rollout.load_settings import placed, settings_in
from iapo.rollout.policy import load_policy
from iapo.rollout.turns import Rollout
from iapo.tools import TOOLS, ToolDefinition

PRESETS: Mapping[str, Reward] = {
    "grpo": grpo.preset,
    "torl": torl.preset,
    "trm": trm.preset,
    "iapo": iapo.preset,
    "deepeyes": deepeyes.preset,
    "toolrl": toolrl.preset,
    "otc": otc.preset,
    "mt-grpo": mt_grpo.preset,
    "openthinkimg": openthinkimg.preset,
    "distill": distill.preset,
    "overlap": overlap.preset,
}
"""By name; `find_reward` also takes sums of them, and the user's own."""


class RewardArguments(Protocol):
    """The part of `iapo.training.config.IAPOConfig` that says what is rewarded."""

    reward: str
    component_weights: dict[str, float] | None
    penalty_weight: float
    penalty_decay: float
    distill_weight: float
    penalty_scope: Scope
    verifier: str | None
    verifier_url: str | None
    judge_model: str | None
    judge_url: str | None
    judge_key: str
    judge_on_error: str
    judge_timeout: float
    judge_retries: int
    judge_concurrency: int
    judge_cache: str | None
    judge_served_as: str | None
    verifier_served_as: str | None


@checks_kinds
def find_reward(text: str) -> Reward:
    """Returns the reward that a setting names.

    Args:
        text: One of `PRESETS`, a reference to a function or `Reward` of the user's own (`iapo.rewards.own`), or several
            with `+` between: the columns of all; their weights of the outcome are multiplied, so that a reward that
            takes the outcome's place does so in a sum, too.

    Raises:
        InputError: If there is none.
    """
    parts = [own_reward(part) if is_reference(part) else look_up(PRESETS, part, "reward") for part in text.split("+")]
    if len(parts) == 1:
        return parts[0]

    def make(sources: Sources) -> Preset:
        presets = [part(sources) for part in parts]
        columns = tuple(column for preset in presets for column in preset.columns)
        return Preset(columns, math.prod(preset.outcome_weight for preset in presets))

    return Reward(make, frozenset().union(*(part.uses for part in parts)))


def make_preset(
    args: RewardArguments,
    outcome: Outcome,
    divergences: Callable[[Sequence[Rollout]], list[float]],
    log_probs: Callable[[Sequence[Rollout]], list[float]],
    overlaps: Callable[[Sequence[Rollout]], list[float]],
    *,
    tools: Mapping[str, ToolDefinition] = TOOLS,
    device: torch.device | None = None,
) -> Preset:
    """Returns the reward that a configuration names.

    Args:
        args: The configuration.
        outcome: Grades the batch.
        divergences: Divergences as in `Sources`.
        log_probs: Log probs as in `Sources`.
        overlaps: Overlaps as in `Sources`.
        tools: The offered tools.
        device: Device of a local verifier, unless its settings place it (`verifier_device_map`).

    Returns:
        The preset, with the configuration's weights.

    Raises:
        InputError: If there is no such preset or component, or a needed verifier is not set.
    """
    check_verifier(args)
    reward = find_reward(args.reward)
    verify = _make_verifier(args, tools, device) if "verify" in reward.uses else _absent("verify")
    return _weighted_preset(
        args,
        reward,
        outcome.scores,
        divergences if "divergences" in reward.uses else _absent("divergences"),
        log_probs if "log_probs" in reward.uses else _absent("log_probs"),
        verify,
        overlaps if "overlaps" in reward.uses else _absent("overlaps"),
    )


def logged_as(name: str) -> str:
    """Returns what logs and records call a component or a reward function."""
    return name.removesuffix("_reward")


def check_logged(what: str, name: str) -> None:
    """Refuses a name under which logs and records have something else.

    Args:
        what: Subject that has it, as the sentence begins.
        name: The name.

    Raises:
        InputError: If so.
    """
    if logged_as(name) in _LOGGED:
        raise InputError(f"{what} {name!r}, and so is {_LOGGED[logged_as(name)]} called; take another name")


_LOGGED: Mapping[str, str] = {
    "total": "the whole reward in `metrics.jsonl`",
    "divergence": "the teacher's disagreement in `traces.jsonl`",
}


def check_reward(args: RewardArguments) -> Preset:
    """Refuses a reward that cannot be; loads nothing and asks no endpoint.

    Returns:
        The preset, whose components have no values: names, weights and scopes.

    Raises:
        InputError: If there is no such preset or component, a weight is no number, or a needed verifier is not set.
    """
    check_verifier(args)
    return _weighted_preset(args, find_reward(args.reward), _unasked, _unasked, _unasked, _unasked, _unasked)


def _weighted_preset(
    args: RewardArguments,
    reward: Reward,
    outcomes: Callable[[Sequence[Trace]], list[Score]],
    divergences: Callable[[Sequence[Rollout]], list[float]],
    log_probs: Callable[[Sequence[Rollout]], list[float]],
    verify: Callable[[Sequence[Trace]], list[float]],
    overlaps: Callable[[Sequence[Rollout]], list[float]],
) -> Preset:
    preset = reward(
        Sources(
            outcomes,
            divergences,
            log_probs,
            verify,
            overlaps,
            penalty_weight=args.penalty_weight,
            penalty_decay=args.penalty_decay,
            distill_weight=args.distill_weight,
            penalty_scope=args.penalty_scope,
        )
    )
    names = ["outcome", *(logged_as(column.name) for column in preset.columns)]
    for name in names:
        check_logged(f"reward {args.reward!r} has a component", name)
    if twice := next((name for index, name in enumerate(names) if name in names[:index]), None):
        raise InputError(f"reward {args.reward!r} has two components {twice!r}; give one of them another name")
    weights = _component_weights(args)
    columns = tuple(
        dataclasses.replace(column, weight=weights.pop(column.name, column.weight)) for column in preset.columns
    )
    outcome_weight = weights.pop("outcome", preset.outcome_weight)
    if weights:
        known = ", ".join(["outcome", *(column.name for column in preset.columns)])
        raise InputError(f"component_weights names {next(iter(weights))!r}; reward {args.reward!r} has {known}")
    return Preset(columns, outcome_weight)


def _component_weights(args: RewardArguments) -> dict[str, float]:
    given = args.component_weights or {}
    if not isinstance(given, Mapping):
        raise InputError(f"component_weights is {given!r}; give a mapping from names to numbers")
    for name, weight in given.items():
        # YAML's true and false are numbers to Python.
        if not isinstance(weight, (int, float)) or isinstance(weight, bool) or not math.isfinite(weight):
            raise InputError(f"component_weights gives {name!r} the weight {weight!r}; give a number")
    return {name: float(weight) for name, weight in given.items()}


def make_outcome(args: RewardArguments) -> Outcome:
    """Returns the grader of a configuration: the rules, and a judge where `judge_model` names one."""
    return (
        Outcome()
        if args.judge_model is None
        else Outcome(Judge(_endpoint(args, args.judge_model, args.judge_url, args.judge_served_as)).review)
    )


def scored_traces(
    rollouts: Sequence[Rollout], names: Sequence[str], rewards: Tensor, measured: Sequence[Measured], step: int
) -> list[Trace]:
    """Returns the batch's records with what was measured of them.

    Args:
        rollouts: The n rollouts.
        names: Names of the c reward columns.
        rewards: Their values, shape (n, c).
        measured: The rollouts' attributions; empty where none were measured.
        step: The optimiser step.
    """
    traces = []
    for index, (one, row) in enumerate(zip(rollouts, rewards.tolist(), strict=True)):
        # A component that gave no value has none, and no rollout that is left out has any.
        scores = {name: Score(value) for name, value in zip(names, row, strict=True) if not math.isnan(value)}
        trace = one.trace
        if measured:
            scores["divergence"] = Score(measured[index].divergence)
            trace = measured[index].told(trace)
        traces.append(dataclasses.replace(trace, scores=scores, step=step))
    return traces


def check_verifier(args: RewardArguments) -> None:
    """Refuses a reward that needs a verifier where none is set.

    Raises:
        InputError: If so.
    """
    if args.verifier is None and "verify" in find_reward(args.reward).uses:
        raise InputError(
            f"reward {args.reward!r} needs a verifier; set `verifier` to a local model, to an endpoint's and "
            f"`verifier_url`, or to {RULES}"
        )
    if args.verifier == RULES and args.verifier_url is not None:
        raise InputError(f"verifier is {RULES}, which asks nobody, but verifier_url is set; set that to none")


def local_verifier(args: RewardArguments) -> str | None:
    """Returns the checkpoint of the verifier that the reward loads; None where it asks none, an endpoint or rules."""
    return verifier_checkpoint(args.reward, args.verifier, args.verifier_url)


def verifier_checkpoint(reward: str, verifier: str | None, url: str | None) -> str | None:
    """Returns the checkpoint that a reward loads as its verifier, as `local_verifier`, from the settings alone."""
    asks = "verify" in find_reward(reward).uses and url is None and verifier != RULES
    return verifier if asks else None


def _make_verifier(
    args: RewardArguments, tools: Mapping[str, ToolDefinition], device: torch.device | None
) -> Callable[[Sequence[Trace]], list[float]]:
    assert args.verifier is not None
    if args.verifier_url is not None:
        remote = EndpointVerifier(_endpoint(args, args.verifier, args.verifier_url, args.verifier_served_as), tools)
        return lambda traces: call_scores(traces, remote)
    if args.verifier == RULES:
        check_judged(tools)
        return lambda traces: call_scores(traces, verify_by_rules)
    settings = placed(settings_in(args, "verifier"), None if device is None else str(device))
    local = LocalVerifier(load_policy(args.verifier, settings), tools)
    return lambda traces: call_scores(traces, local)


def _absent(source: str) -> Callable[[Any], list[float]]:
    def ask(batch: Any) -> list[float]:
        raise InputError(f"the reward asks for {source} that it did not declare; write @reward({source!r})")

    return ask


def _unasked(rollouts: Sequence[Any]) -> list[Any]:
    raise InputError("a source is asked while the preset is made; ask it in the function of a column")


def _endpoint(args: RewardArguments, model: str, url: str | None, served_as: str | None) -> EndpointSettings:
    if args.judge_on_error not in ("wait", "stop", "rules"):
        raise InputError(f"judge_on_error is {args.judge_on_error!r}; use wait, stop or rules")
    return EndpointSettings(
        model,
        url,
        key_variable=args.judge_key,
        timeout=args.judge_timeout,
        retries=args.judge_retries,
        concurrency=args.judge_concurrency,
        on_error=args.judge_on_error,  # type: ignore[arg-type]
        cache=args.judge_cache,
        served_as=served_as,
    )
