"""`openthinkimg`: the outcome, and the share of turns that are in form."""

from __future__ import annotations

from iapo.records import Score, Trace
from iapo.rewards.columns import Column, Preset, Sources, per_trace, reward


@reward()
def preset(sources: Sources) -> Preset:
    """Makes the reward `R = outcome + format`: V-ToolRL of OpenThinkIMG (arXiv 2505.08617), as its code has it.

    There `format` is the mean over a response's turns of whether the turn holds a well-formed action. In form is here:
    a turn with a program in the tools' language, and a last turn with a final answer.
    """
    return Preset((Column("format", per_trace(_format, sources.outcome)),))


def _format(trace: Trace, score: Score) -> float:
    answered = float(score.answer is not None)
    # Of turns with a program and the one with the answer.
    formed = [float(one.status != "refused") for one in trace.results] + [answered]
    return sum(formed) / len(formed)
