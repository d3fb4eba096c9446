"""`iapo`: the outcome, less the divergence of the call's attribution from the teacher's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from iapo.rewards.columns import Column, Preset, Sources, reward
from iapo.rollout.turns import Rollout


@reward("divergences")
def preset(sources: Sources) -> Preset:
    """Makes the reward `R = outcome - lambda_k KL(student || teacher)`: IAPO (arXiv 2606.11652); docs/method.md,
    section 4.

    `lambda_k = penalty_weight exp(-penalty_decay k)` at optimiser step k. With a penalty weight of 0 there is no such
    column: plain GRPO to the last bit.
    """
    if sources.penalty_weight == 0:
        return Preset()

    def alignment(rollout: Sequence[Rollout], **columns: Any) -> list[float]:
        return [-divergence for divergence in sources.divergences(rollout)]

    weight = sources.penalty_weight
    return Preset((Column("alignment", alignment, weight, sources.penalty_decay, sources.penalty_scope),))
