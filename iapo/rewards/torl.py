"""`torl`: the outcome, less where the tool program fails to execute."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from iapo.records import Trace
from iapo.rewards.columns import Column, Preset, Sources, reward


@reward()
def preset(sources: Sources) -> Preset:
    """Makes the reward `R = outcome - 0.5 [the program does not execute]`: ToRL (arXiv 2503.23383), as the IAPO paper
    compares with it.

    ToRL's own table gives 1 for a right and -1 for a wrong answer, and -0.5 where a response holds code that cannot be
    executed. The outcome is 0 or 1 here as in all other presets, so that the same -0.5 weighs twice as much against it.
    A rollout without a program has nothing that fails.
    """
    return Preset((Column("execution", execution, 0.5),))


def execution(trace: Sequence[Trace], **columns: Any) -> list[float]:
    """Returns -1 where a program was refused or failed, also where a later one mended it, else 0."""
    return [-1.0 if any(not result.executed for result in one.results) else 0.0 for one in trace]
