"""`toolrl`: format and correctness, and correctness taken apart into the call's and the answer's."""

from __future__ import annotations

from iapo.records import Score, Trace
from iapo.rewards.columns import Column, Preset, Sources, per_trace, reward


@reward()
def preset(sources: Sources) -> Preset:
    """Makes the reward `R = format + 3 tool_match + 3 outcome`: ToolRL (arXiv 2504.13958).

    The paper's reward is `R_format + R_correct` with `R_format` 0 or 1 and `R_correct = 6 R_max / S_max - 3`, where
    `R_max / S_max` is the share of tool names, parameter names and parameter values that match the gold calls. Our
    samples have no gold calls, but some have a gold *axis*, and all have a gold answer: the share is here the mean of
    `tool_match` (every call of an executed program works on the right axis, or a judge says that it is right) and the
    outcome. Where that is not known, as of a sample without a right axis, `tool_match` is the outcome, which then
    counts for both. The constant -3 is left out, since the group's mean removes it. Note that this preset, and no
    other, is told the right axis, which is what misuse is measured by.
    """
    return Preset(
        (
            Column("format", per_trace(_format, sources.outcome)),
            Column("tool_match", per_trace(_tool_match, sources.outcome), 3.0),
        ),
        outcome_weight=3.0,
    )


def _format(trace: Trace, score: Score) -> float:
    """Returns 1 for programs in the tools' language, one at least, and a final answer: what the prompt asks for."""
    in_language = trace.called and all(one.status in ("edited", "failed") for one in trace.results)
    return float(in_language and score.answer is not None)


def _tool_match(trace: Trace, score: Score) -> float:
    # Not known of an image without a right axis, nor of a tool without one that no judge looks at.
    executed = trace.called and all(one.executed for one in trace.results)
    if trace.misuse is None and (trace.sample.axis is None or executed):
        return score.value
    return float(executed and trace.misuse is False)
