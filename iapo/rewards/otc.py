"""`otc`: the outcome, scaled down by calls that were not needed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from iapo.records import Trace
from iapo.rewards.columns import Column, Preset, Sources, reward


@reward()
def preset(sources: Sources) -> Preset:
    """Makes the reward `R = r_tool outcome`: OTC-GRPO (arXiv 2504.14870) with alpha = 1.

    With m calls in the rollout and n the fewest calls of any right rollout of this question so far, `r_tool` is 1 for
    m = n = 0, `cos(m pi / (2m + c))` for n = 0, and else `sin(f pi / 2n)` with `f = 2nm / (m + n)`. As a column of its
    own it is `call_discount = outcome (r_tool - 1)`, so that the sum of outcome and discount is the product. Ours:
    c = 1, the most programs that a rollout of two turns can have; edits that one program chains count singly; each
    process remembers n for itself.
    """
    fewest: dict[tuple[str, str], int] = {}

    def call_discount(trace: Sequence[Trace], **columns: Any) -> list[float]:
        right = [score.value == 1 for score in sources.outcome(trace)]
        names = [(one.sample.source, one.sample.id) for one in trace]
        calls = [count_calls(one) for one in trace]
        for name, number, is_right in zip(names, calls, right, strict=True):
            if is_right:
                fewest[name] = min(number, fewest.get(name, number))
        return [
            tool_efficiency(number, fewest[name]) - 1 if is_right else 0.0
            for name, number, is_right in zip(names, calls, right, strict=True)
        ]

    return Preset((Column("call_discount", call_discount, memory=fewest),))


def count_calls(trace: Trace) -> int:
    """Counts the tool calls of a rollout; a program that was refused or failed is one at least."""
    return sum(max(1, len(one.calls)) for one in trace.results)


def tool_efficiency(calls: int, fewest: int, smoothing: float = 1.0) -> float:
    """Returns `r_tool` of OTC-GRPO, 0 to 1.

    Args:
        calls: m, the rollout's calls.
        fewest: n, the fewest with which the question was answered right.
        smoothing: c.
    """
    if fewest == 0:
        return 1.0 if calls == 0 else math.cos(calls * math.pi / (2 * calls + smoothing))
    return math.sin(2 * fewest * calls / (calls + fewest) * math.pi / (2 * fewest))
