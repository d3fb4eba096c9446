"""`distill`: the outcome, and how likely the teacher finds the student's call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from iapo.rewards.columns import Column, Preset, Sources, reward
from iapo.rollout.turns import Rollout


@reward("log_probs")
def preset(sources: Sources) -> Preset:
    """Makes the reward `R = outcome + w_k mean_t log p_teacher(y_t | x, y_<t)` over the program's tokens.

    It is not in the paper: it is the control that asks whether the teacher's *attribution* says more than the teacher's
    plain *likelihood*, which the same pass gives. As a reward it is the teacher's part of on-policy distillation's
    reverse KL (GKD, arXiv 2306.13649), without the student's entropy and averaged over tokens, so that short calls gain
    nothing. `w_k = distill_weight exp(-penalty_decay k)`, the schedule of the penalty. A rollout without a call gets
    the floor, as it gets the worst divergence (`iapo.rewards.alignment.Alignment.log_probs`).
    """

    def teacher_log_prob(rollout: Sequence[Rollout], **columns: Any) -> list[float]:
        return sources.log_probs(rollout)

    weight = sources.distill_weight
    return Preset((Column("teacher_log_prob", teacher_log_prob, weight, sources.penalty_decay, sources.penalty_scope),))
