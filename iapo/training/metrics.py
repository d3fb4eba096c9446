"""What a batch's rollouts are summed up to in the trainer's log."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from iapo.attribution.divergence import misuse_auc
from iapo.rollout.turns import Rollout


def call_flags(rollouts: Sequence[Rollout]) -> Tensor:
    """Returns what came of each rollout's call, as 0 or 1, shape (rollouts, 5).

    Returns:
        Columns: it called a tool; its program executed, and what it gave was seen; its program executed on an image
        that has wrong tools; its program used one of them; what it gave did not fit.
    """
    rows = []
    for one in rollouts:
        result, cut, misuse = (
            one.trace.result,
            one.trace.observation_cut,
            one.trace.result.misuse(one.trace.sample.axis),
        )
        seen = result.executed and not cut
        rows.append((result.called, seen, misuse is not None, bool(misuse), cut))
    return torch.tensor(rows, dtype=torch.float32)


def call_metrics(counts: Tensor) -> dict[str, float]:
    """Sums up calls.

    Args:
        counts: The number of rollouts, and the sums of `call_flags` over them, shape (6,).
    """
    every, called, edited, judged, misused, cut = counts.tolist()
    return {
        "tools/call_ratio": _ratio(called, every),
        "tools/success_rate": _ratio(edited, called),
        "tools/misuse_rate": _ratio(misused, judged),
        "tools/observation_cut": _ratio(cut, every),
    }


def divergence_metrics(rows: Tensor, group: int) -> dict[str, float]:
    """Sums up divergences.

    Args:
        rows: Each rollout's divergence and its `call_flags`, shape (rollouts, 6), the rollouts of a group together.
        group: Rollouts of a group.
    """
    divergences, _, _, judged, misused, _ = rows.T.reshape(6, -1, group)
    wrong = misused.bool()
    return {
        "attribution/divergence": divergences.mean().item(),
        "attribution/misuse_auc": misuse_auc(divergences, wrong, judged.bool() & ~wrong),
    }


def _ratio(part: float, whole: float) -> float:
    """Returns a share; NaN, which TRL leaves out of its averages, where there is nothing to share."""
    return part / whole if whole else float("nan")
