"""`grpo`: the outcome alone."""

from __future__ import annotations

from iapo.rewards.columns import Preset, Sources, reward


@reward()
def preset(sources: Sources) -> Preset:
    """Makes the reward `R = outcome`, 1 for a right final answer and else 0: VTool-R1 (arXiv 2505.19255).

    The paper asks a judge model about every answer; here rules decide, and a judge can be asked where they say wrong.
    """
    return Preset()
