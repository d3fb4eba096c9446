"""Sums of evaluations in which each sample was rolled out several times."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from iapo.estimates import Estimate, mean, mean_difference, proportion, ratio, ratio_difference
from iapo.records import Trace

MEASURES = ("accuracy", "call_ratio", "call_success", "misuse")

# What counts, and among which traces; as in `iapo.evaluation.summarize`.
_COUNTED: dict[str, tuple[Callable[[Trace], bool], Callable[[Trace], bool]]] = {
    "accuracy": (lambda one: one.scores["outcome"].value == 1, lambda one: True),
    "call_ratio": (lambda one: one.result.status != "no_call", lambda one: True),
    "call_success": (lambda one: one.result.status == "edited", lambda one: one.result.status != "no_call"),
    "misuse": (
        lambda one: one.misused,
        lambda one: one.result.status == "edited" and one.sample.axis is not None,
    ),
}


def summarize_repeats(repeats: Sequence[Sequence[Trace]]) -> dict[str, Estimate]:
    """Accuracy, call ratio, call success and misuse of one test set.

    Args:
        repeats: The traces of each repeat, all on the same samples in the same order.

    Returns:
        Wilson intervals for a single repeat. Rollouts on one sample are not independent, so several repeats have
        bootstrap intervals in which whole samples are drawn.

    Raises:
        ValueError: If the repeats do not cover the same samples.
    """
    if len(repeats) == 1:
        found = summarize(repeats[0])
        return {name: found[name] for name in MEASURES}
    for one in repeats[1:]:
        if [trace.sample.id for trace in one] != [trace.sample.id for trace in repeats[0]]:
            raise ValueError("repeats must cover the same samples in the same order")
    estimates = {}
    for name, (counts, among) in _COUNTED.items():
        counted = np.array([[among(trace) for trace in one] for one in repeats]).sum(0)
        successes = np.array([[among(trace) and counts(trace) for trace in one] for one in repeats]).sum(0)
        estimates[name] = ratio(successes, counted)
    return estimates


def summarize(traces: Sequence[Trace]) -> dict[str, Estimate]:
    """Sums traces up.

    Returns:
        `accuracy` (of all), `call_ratio` (of all), `call_success` (executed, of the called), `misuse` (wrong axis, of
        the executed on samples that have a right one), each with a Wilson interval; and the mean `divergence` of all,
        of right calls (`divergence_right`) and of misused ones (`divergence_misused`), each with a bootstrap interval.
    """
    called = [trace for trace in traces if trace.result.status != "no_call"]
    edited = [trace for trace in called if trace.result.status == "edited" and trace.sample.axis is not None]
    divergences = {
        name: [trace.scores["divergence"].value for trace in some if "divergence" in trace.scores]
        for name, some in (
            ("divergence", traces),
            ("divergence_right", [trace for trace in edited if not trace.misused]),
            ("divergence_misused", [trace for trace in edited if trace.misused]),
        )
    }
    return {
        "accuracy": proportion([trace.scores["outcome"].value == 1 for trace in traces]),
        "call_ratio": proportion([trace.result.status != "no_call" for trace in traces]),
        "call_success": proportion([trace.result.status == "edited" for trace in called]),
        "misuse": proportion([trace.misused for trace in edited]),
        **{name: mean(values) for name, values in divergences.items()},
    }


def paired_difference(after: Sequence[Trace], before: Sequence[Trace], score: str = "outcome") -> Estimate:
    """Mean difference of a score between two evaluations of the same samples, with a bootstrap interval over samples.

    Raises:
        ValueError: If the two do not cover the same samples in the same order.
    """
    if [trace.sample.id for trace in after] != [trace.sample.id for trace in before]:
        raise ValueError("paired evaluations must cover the same samples in the same order")
    return mean_difference(*([one.scores[score].value for one in traces] for traces in (after, before)))


def paired_differences(after: Sequence[Trace], before: Sequence[Trace]) -> dict[str, Estimate]:
    """Differences of what `summarize` gives between two evaluations of the same samples, by measure.

    Returns:
        `after` less `before` with a percentile bootstrap interval over samples, which are drawn whole: `MEASURES`
        (`accuracy` is the difference of the outcomes) and, where both measured it, `divergence`.

    Raises:
        ValueError: If the two do not cover the same samples in the same order.
    """
    found = {"accuracy": paired_difference(after, before)}
    for name in MEASURES[1:]:
        counts, among = _COUNTED[name]
        tried = np.array([[among(trace) for trace in some] for some in (after, before)], dtype=np.int64)
        succeeded = np.array([[among(one) and counts(one) for one in some] for some in (after, before)], dtype=np.int64)
        found[name] = ratio_difference(succeeded, tried)
    if all("divergence" in trace.scores for trace in (*after, *before)):
        found["divergence"] = paired_difference(after, before, "divergence")
    return found


def mean_attribution(traces: Sequence[Trace]) -> dict[str, dict[str, float]]:
    """Mean block distribution of `student` and `teacher` over the traces that have one."""
    means: dict[str, dict[str, float]] = {}
    for who in ("student", "teacher"):
        found = [trace.attribution[who] for trace in traces if who in trace.attribution]
        names = list(found[0]) if found else []
        means[who] = {name: float(np.mean([blocks[name] for blocks in found])) for name in names}
    return means
