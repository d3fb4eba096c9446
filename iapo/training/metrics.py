"""What a batch's rollouts are summed up to in the trainer's log."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from iapo.attribution.divergence import entropy, misuse_auc
from iapo.rewards.alignment import Measured
from iapo.rollout.turns import Rollout

PENALTY = "alignment"
"""Component of the reward that is minus the divergence."""

EQUAL = 1e-6
"""Difference of rewards, or of divergences, up to which they count as equal."""


def call_flags(rollouts: Sequence[Rollout]) -> Tensor:
    """Returns what came of each rollout's call, as 0 or 1, shape (rollouts, 5).

    Returns:
        Columns: it called a tool; its programs executed, all of them, and what they gave was seen; a program executed
        on an image that has wrong tools; one of them used such a tool; what the last one gave did not fit.
    """
    rows = []
    for one in rollouts:
        trace, misuse = one.trace, one.trace.misuse
        rows.append((trace.called, trace.succeeded, misuse is not None, bool(misuse), trace.observation_cut))
    return torch.tensor(rows, dtype=torch.float32)


def call_counts(rollouts: Sequence[Rollout]) -> Tensor:
    """Counts rollouts, sums `call_flags` over them, and counts their turns and tool calls, shape (8,)."""
    turns, calls = sum(len(one.trace.turns) for one in rollouts), sum(len(one.trace.calls) for one in rollouts)
    every, rest = torch.tensor([float(len(rollouts))]), torch.tensor([float(turns), float(calls)])
    return torch.cat([every, call_flags(rollouts).sum(0), rest])


def call_metrics(counts: Tensor, most_turns: int = 2) -> dict[str, float]:
    """Sums up calls.

    Args:
        counts: Counts as of `call_counts`, over all processes, shape (8,).
        most_turns: Most turns of a rollout; with more than two, turns and their calls are summed up as well.
    """
    every, called, edited, judged, misused, cut, turns, calls = counts.tolist()
    of_turns = {"tools/turns": _ratio(turns, every), "tools/calls_per_turn": _ratio(calls, turns)}
    return {
        "tools/call_ratio": _ratio(called, every),
        "tools/success_rate": _ratio(edited, called),
        "tools/misuse_rate": _ratio(misused, judged),
        "tools/observation_cut": _ratio(cut, every),
        **(of_turns if most_turns > 2 else {}),
    }


def measured_columns(measured: Sequence[Measured]) -> Tensor:
    """Returns what was measured of each rollout, shape (rollouts, 5).

    Returns:
        Columns: its divergence; that with the student's shares of another rollout; the teacher's surprise; the
        entropies of the student's and the teacher's shares, of the first turn's call. NaN where there is none.
    """
    rows = []
    for one in measured:
        shuffled = one.divergence if math.isnan(one.shuffled) else one.shuffled
        entropies = [
            entropy(torch.tensor(list(its.values()))).item() if its else math.nan for its in (one.student, one.teacher)
        ]
        rows.append((one.divergence, shuffled, one.surprise, *entropies))
    return torch.tensor(rows, dtype=torch.float32)


def reward_of(rewards: Tensor | None, weights: Tensor, names: Sequence[str]) -> Tensor:
    """Returns rewards without the penalty, shape (rollouts,); NaN of a rollout that is left out.

    Args:
        rewards: Components of the rewards, shape (rollouts, components).
        weights: Their weights, shape (components,).
        names: Their names.
    """
    assert rewards is not None
    others = torch.tensor([name != PENALTY for name in names], device=rewards.device)
    total = (rewards * weights.to(rewards.device) * others).nansum(1)
    return torch.where(rewards.isnan().all(1), torch.nan, total)


def divergence_metrics(rows: Tensor, rewards: Tensor, group: int) -> dict[str, float]:
    """Sums up divergences.

    Args:
        rows: Each rollout's `measured_columns` and `call_flags`, shape (rollouts, 10), those of a group together.
        rewards: Its reward without the penalty, shape (rollouts,).
        group: Rollouts of a group.

    Returns:
        By name; NaN, which is not logged, where there is nothing to tell it from.
    """
    divergences, shuffled, surprise, student, teacher, *flags = rows.T.reshape(10, -1, group)
    _, _, judged, misused, _ = flags
    wrong = misused.bool()
    right = judged.bool() & ~wrong
    asked = ~surprise.isnan()
    return {
        "attribution/divergence": divergences.mean().item(),
        "attribution/misuse_auc": misuse_auc(divergences, wrong, right),
        "attribution/misuse_auc_shuffled": misuse_auc(shuffled, wrong, right),
        "attribution/misuse_auc_surprise": misuse_auc(surprise.nan_to_num(), wrong & asked, right & asked),
        "attribution/student_entropy": student.nanmean().item(),
        "attribution/teacher_entropy": teacher.nanmean().item(),
        "attribution/tied_groups_ranked": tied_groups_ranked(divergences, rewards.reshape(-1, group)),
    }


def tied_groups_ranked(divergences: Tensor, rewards: Tensor) -> float:
    """Measures how often the penalty alone ranks rollouts.

    Args:
        divergences: Divergences, shape (groups, G).
        rewards: Rewards without the penalty, same shape; NaN of a rollout that is left out.

    Returns:
        Of the groups in which all rewards are equal the share in which divergences are not; NaN where there is none.
    """

    def spread(values: Tensor) -> Tensor:
        counted = ~rewards.isnan()
        low = torch.where(counted, values, torch.inf).amin(1)
        return torch.where(counted, values, -torch.inf).amax(1) - low

    tied = spread(rewards).abs() <= EQUAL
    return (spread(divergences)[tied] > EQUAL).float().mean().item()


def _ratio(part: float, whole: float) -> float:
    """Returns a share; NaN, which TRL leaves out of its averages, where there is nothing to share."""
    return part / whole if whole else float("nan")
