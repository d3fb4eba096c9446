"""`mt-grpo`: the outcome, and for the turns with a program alone whether it executes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from iapo.records import Trace
from iapo.rewards.columns import Column, Preset, Sources, reward


@reward()
def preset(sources: Sources) -> Preset:
    """Makes the reward `R = outcome + [the program executes]`, the second in the advantage of the turn with the program
    alone: MT-GRPO (arXiv 2505.11821), turn-level credit assignment.

    The paper adds to the outcome's advantage, in the turn of the call, the advantage of a verifiable turn reward; each
    is divided by its own deviation. Here both are divided by that of their sum, as all components are.
    """
    return Preset((Column("turn_execution", turn_execution, 1.0, scope="turn_1"),))


def turn_execution(trace: Sequence[Trace], **columns: Any) -> list[float]:
    """Returns the share of programs that were executed, 0 where there is none; of a single one it is 1 or 0."""
    return [sum(result.executed for result in one.results) / max(1, len(one.results)) for one in trace]
