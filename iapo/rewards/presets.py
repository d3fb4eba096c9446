"""Rewards by name: the table of presets, and what a trainer's configuration makes of it (docs/rewards.md)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

from iapo.endpoints.chat import EndpointSettings
from iapo.errors import InputError
from iapo.grading.judge import Judge
from iapo.grading.outcome import Outcome
from iapo.records import Grid, Score, Trace
from iapo.rewards import deepeyes, distill, grpo, iapo, otc, toolrl, torl, trm
from iapo.rewards.alignment import Measured
from iapo.rewards.columns import Preset, Sources
from iapo.rewards.verifier import EndpointVerifier, LocalVerifier, call_scores
from iapo.rollout.policy import load_policy
from iapo.rollout.turns import Rollout
from iapo.tools import TOOLS, ToolDefinition


def _iapo_and_distill(sources: Sources) -> Preset:
    """Both of the teacher's components: `R = outcome - lambda_k KL + w_k mean log p_teacher`."""
    return Preset((*iapo.preset(sources).columns, *distill.preset(sources).columns))


PRESETS: Mapping[str, Callable[[Sources], Preset]] = {
    "grpo": grpo.preset,
    "torl": torl.preset,
    "trm": trm.preset,
    "iapo": iapo.preset,
    "deepeyes": deepeyes.preset,
    "toolrl": toolrl.preset,
    "otc": otc.preset,
    "distill": distill.preset,
    "iapo+distill": _iapo_and_distill,
}


class RewardArguments(Protocol):
    """The part of `iapo.training.config.IAPOConfig` that says what is rewarded."""

    reward: str
    component_weights: dict[str, float] | None
    penalty_weight: float
    penalty_decay: float
    distill_weight: float
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


def make_preset(
    args: RewardArguments,
    outcome: Outcome,
    divergences: Callable[[Sequence[Rollout]], list[float]],
    log_probs: Callable[[Sequence[Rollout]], list[float]],
    *,
    tools: Mapping[str, ToolDefinition] = TOOLS,
    device: torch.device | None = None,
) -> Preset:
    """The reward that a configuration names.

    Args:
        args: The configuration.
        outcome: Grades the batch.
        divergences: As in `Sources`.
        log_probs: As in `Sources`.
        tools: The offered tools.
        device: Where a local verifier is moved to.

    Returns:
        The preset, with the configuration's weights.

    Raises:
        InputError: If there is no such preset or component, or `trm` has no verifier.
    """
    if args.reward not in PRESETS:
        raise InputError(f"no reward {args.reward!r}; use one of {', '.join(PRESETS)}")
    verify = _make_verifier(args, tools, device) if args.reward == "trm" else _no_verifier
    preset = PRESETS[args.reward](
        Sources(
            outcome.scores,
            divergences,
            log_probs,
            verify,
            penalty_weight=args.penalty_weight,
            penalty_decay=args.penalty_decay,
            distill_weight=args.distill_weight,
        )
    )
    weights = dict(args.component_weights or {})
    columns = tuple(
        dataclasses.replace(column, weight=float(weights.pop(column.name, column.weight))) for column in preset.columns
    )
    outcome_weight = float(weights.pop("outcome", preset.outcome_weight))
    if weights:
        known = ", ".join(["outcome", *(column.name for column in columns)])
        raise InputError(f"component_weights names {next(iter(weights))!r}; reward {args.reward!r} has {known}")
    return Preset(columns, outcome_weight)


def make_outcome(args: RewardArguments) -> Outcome:
    """The grader of a configuration: the rules, and a judge where `judge_model` names one."""
    return (
        Outcome()
        if args.judge_model is None
        else Outcome(Judge(_endpoint(args, args.judge_model, args.judge_url)).review)
    )


def scored_traces(
    rollouts: Sequence[Rollout], names: Sequence[str], rewards: Tensor, measured: Sequence[Measured], step: int
) -> list[Trace]:
    """The batch's records with what was measured of them.

    Args:
        rollouts: The n rollouts.
        names: Names of the c reward columns.
        rewards: Their values, shape (n, c).
        measured: The rollouts' attributions; empty where none were measured.
        step: The optimiser step.
    """
    traces = []
    for index, (one, row) in enumerate(zip(rollouts, rewards.tolist(), strict=True)):
        scores = {name: Score(value) for name, value in zip(names, row, strict=True)}
        attribution: dict[str, Mapping[str, float]] = {}
        patches: Mapping[str, Grid] = {}
        if measured:
            scores["divergence"] = Score(measured[index].divergence)
            patches = measured[index].patches
            if measured[index].student:
                attribution = {"student": measured[index].student, "teacher": measured[index].teacher}
        found = dataclasses.replace(one.trace, scores=scores, attribution=attribution, step=step, patches=patches)
        traces.append(found)
    return traces


def _make_verifier(
    args: RewardArguments, tools: Mapping[str, ToolDefinition], device: torch.device | None
) -> Callable[[Sequence[Trace]], list[float]]:
    if args.verifier is None:
        raise InputError(
            "reward 'trm' needs a verifier; set `verifier` to a local model, or to an endpoint's and `verifier_url`"
        )
    if args.verifier_url is not None:
        remote = EndpointVerifier(_endpoint(args, args.verifier, args.verifier_url), tools)
        return lambda traces: call_scores(traces, remote)
    policy = load_policy(args.verifier)
    if device is not None:
        policy.model.to(device)
    local = LocalVerifier(policy, tools)
    return lambda traces: call_scores(traces, local)


def _no_verifier(traces: Sequence[Trace]) -> list[float]:
    raise AssertionError("only the preset trm has a verifier")


def _endpoint(args: RewardArguments, model: str, url: str | None) -> EndpointSettings:
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
    )
