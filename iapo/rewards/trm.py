"""`trm`: the outcome, and a verifier's score of every tool call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from iapo.records import Trace
from iapo.rewards.columns import Column, Preset, Sources, reward


@reward("verify")
def preset(sources: Sources) -> Preset:
    """Makes the reward `R = outcome + 0.5 mean_i v(call_i)`, v from 0 to 1: TRM (OpenReview LnBEASInVr), as the IAPO
    paper compares.

    TRM trains a process reward model on labelled calls and gives each turn an advantage of its own. The IAPO paper's
    re-implementation asks GPT-4o instead, and so is the verifier here a model that is asked, at an endpoint or local,
    and its score a part of the rollout's one reward. The weight is ours, neither text gives one. A rollout without an
    executed program gets 0, the lowest score, so that not calling does not pay; that is TRM's own concern, too.
    """

    def verifier(trace: Sequence[Trace], **columns: Any) -> list[float]:
        return sources.verify(trace)

    return Preset((Column("verifier", verifier, 0.5),))
