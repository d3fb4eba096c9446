"""`deepeyes`: outcome and format, and a bonus for a right answer that a tool helped to."""

from __future__ import annotations

from iapo.records import Score, Trace
from iapo.rewards.columns import Column, Preset, Sources, per_trace, reward


@reward()
def preset(sources: Sources) -> Preset:
    """Makes the reward `R = 0.8 outcome + 0.2 format + 1.2 [right and a tool was used]`: DeepEyes (arXiv 2505.14362).

    The paper writes `R = R_acc + R_format + 1[R_acc > 0] R_tool`; the weights are those of its published code, where
    format is -1 for a response out of form and else 0. Out of form is here: no final answer, or a program outside the
    tools' language. A tool was used where a program was executed; the paper's tool is zooming in, and a judge model
    gives its `R_acc`.
    """
    return Preset(
        (
            Column("format", per_trace(_format, sources.outcome), 0.2),
            Column("tool_bonus", per_trace(_tool_bonus, sources.outcome), 1.2),
        ),
        outcome_weight=0.8,
    )


def _format(trace: Trace, score: Score) -> float:
    return -1.0 if score.answer is None or any(one.status == "refused" for one in trace.results) else 0.0


def _tool_bonus(trace: Trace, score: Score) -> float:
    return float(score.value == 1 and any(one.executed for one in trace.results))
