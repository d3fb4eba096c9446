"""What is measured of traces: the four measures, each defined once, and sums of evaluations; no torch here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from iapo.errors import InputError, unknown
from iapo.estimates import Counts, Estimate, mean, mean_difference, proportion, ratio, ratio_difference
from iapo.kinds import checks_kinds
from iapo.records import Trace

Verdict = Callable[[Trace], bool | None]
"""Whether a trace counts as a success of a measure; None where it is not among the traces that the measure is about."""

MEASURES: Mapping[str, Verdict] = {
    "accuracy": lambda trace: trace.scores["outcome"].value == 1,
    "call_ratio": lambda trace: trace.called,
    "call_success": lambda trace: trace.succeeded if trace.called else None,
    "misuse": lambda trace: trace.misuse,
}
"""The four measures: right answers and calls of all traces, of those with a call the ones whose programs all executed
(what they gave was seen), and of those with a program that executed on a sample that has a right axis the ones with a
tool of the wrong one."""

SHORTFALLS: Mapping[str, Callable[[Trace], bool]] = {
    "observation_cut": lambda trace: trace.observation_cut,
    "empty_turn": lambda trace: any(one.empty for one in trace.turns),
    "cut_turn": lambda trace: any(one.cut for one in trace.turns),
}
"""What came short in a trace: an observation that did not fit, a turn in which the model said nothing, and one whose
tokens were used up before the model ended it. Their share stands among measures only where there is such a trace."""

TURNS, CALLS = "turns", "calls_per_turn"
"""Mean number of turns of a trace, and mean of its tool calls by the turn; among measures only where a trace has more
than two turns."""


def share(name: str, traces: Iterable[Trace]) -> Estimate:
    """Returns one of the `MEASURES` over traces that do not depend on one another, with its Wilson interval."""
    return proportion([verdict for trace in traces if (verdict := MEASURES[name](trace)) is not None])


def _shortfalls(repeats: Sequence[Sequence[Trace]]) -> dict[str, Estimate]:
    found = {}
    for name, came_short in SHORTFALLS.items():
        short, counted = _counts(came_short, repeats)
        if short.any():
            several = len(repeats) > 1
            found[name] = ratio(short.sum(0), counted.sum(0)) if several else proportion(list(map(bool, short[0])))
    return found


def _turns(repeats: Sequence[Sequence[Trace]]) -> dict[str, Estimate]:
    turns = np.array([[len(trace.turns) for trace in one] for one in repeats])
    if not turns.size or turns.max() <= 2:
        return {}
    calls = np.array([[len(trace.calls) for trace in one] for one in repeats])
    # Samples, not rollouts, are independent.
    return {TURNS: mean(turns.mean(0).tolist()), CALLS: mean((calls / turns).mean(0).tolist())}


@checks_kinds
def summarize_repeats(repeats: Iterable[Iterable[Trace]]) -> dict[str, Estimate]:
    """Returns accuracy, call ratio, call success and misuse of one test set.

    Args:
        repeats: The traces of each repeat, all on the same samples in the same order; at least one repeat, and each is
            read once.

    Returns:
        Wilson intervals for a single repeat. Rollouts on one sample are not independent, so several repeats have
        bootstrap intervals in which whole samples are drawn.

    Raises:
        InputError: If there is no repeat, or they do not cover the same samples.
    """
    runs = [list(one) for one in repeats]
    if not runs:
        raise InputError("there is no repeat to sum up; give one at least")
    if len(runs) == 1:
        return {name: share(name, runs[0]) for name in MEASURES} | _shortfalls(runs) | _turns(runs)
    for one in runs[1:]:
        _refuse_others(one, runs[0], "repeats")
    estimates = {}
    for name, verdict in MEASURES.items():
        successes, counted = _counts(verdict, runs)
        estimates[name] = ratio(successes.sum(0), counted.sum(0))
    return estimates | _shortfalls(runs) | _turns(runs)


def _refuse_others(some: Sequence[Trace], others: Sequence[Trace], what: str) -> None:
    """Refuses traces of other samples, or in another order; ids are unique within a source alone."""
    found, wanted = ([(one.sample.source, one.sample.id) for one in traces] for traces in (some, others))
    if found != wanted:
        raise InputError(f"{what} must cover the same samples in the same order; pair them by source and id before")


def verdicts(repeats: Sequence[Sequence[Trace]]) -> dict[str, list[list[bool | None]]]:
    """Returns each of the `MEASURES` but accuracy, which the outcomes tell, for each repeat and each trace."""
    return {
        name: [[verdict(trace) for trace in one] for one in repeats]
        for name, verdict in MEASURES.items()
        if name != "accuracy"
    }


def _counts(verdict: Verdict, runs: Sequence[Sequence[Trace]]) -> tuple[Counts, Counts]:
    """Counts the successes, and the traces that are counted at all; both of shape (runs, samples)."""
    verdicts = [[verdict(trace) for trace in one] for one in runs]
    successes = np.array([[bool(one) for one in some] for some in verdicts], dtype=np.int64)
    return successes, np.array([[one is not None for one in some] for some in verdicts], dtype=np.int64)


@checks_kinds
def summarize(traces: Iterable[Trace]) -> dict[str, Estimate]:
    """Sums traces up.

    Args:
        traces: The traces, read once.

    Returns:
        The `MEASURES`, each with a Wilson interval, and `SHORTFALLS`, `TURNS` and `CALLS` where they are there; and
        the mean `divergence` of all, of right calls (`divergence_right`) and of misused ones (`divergence_misused`),
        and the mean entropies of the students' and the teacher's shares (`student_entropy`, `teacher_entropy`, in
        nats), each with a bootstrap interval.
    """
    traces = list(traces)
    by_misuse = {
        "divergence": traces,
        "divergence_right": [trace for trace in traces if MEASURES["misuse"](trace) is False],
        "divergence_misused": [trace for trace in traces if MEASURES["misuse"](trace)],
    }
    divergences = {
        name: mean([trace.scores["divergence"].value for trace in some if "divergence" in trace.scores])
        for name, some in by_misuse.items()
    }
    entropies = {
        f"{who}_entropy": mean([_entropy(trace.attribution[who]) for trace in traces if who in trace.attribution])
        for who in ("student", "teacher")
    }
    shares = {name: share(name, traces) for name in MEASURES}
    return shares | _shortfalls([traces]) | _turns([traces]) | divergences | entropies


def _entropy(shares: Mapping[str, float]) -> float:
    """Returns the entropy of shares, of signed ones that of their magnitudes."""
    sizes = np.abs(list(shares.values()))
    sizes = sizes[sizes > 0] / sizes.sum()
    return float(-(sizes * np.log(sizes)).sum())


@checks_kinds
def paired_difference(after: Iterable[Trace], before: Iterable[Trace], score: str = "outcome") -> Estimate:
    """Returns the mean difference of a score between two evaluations of the same samples, with a bootstrap interval
    over samples.

    Args:
        after: Traces of the one, read once.
        before: Traces of the other, read once.
        score: Name of the score.

    Raises:
        InputError: If the two do not cover the same samples in the same order, or a trace has no such score.
    """
    after, before = list(after), list(before)
    _refuse_others(after, before, "paired evaluations")
    for one in (*after, *before):
        if score not in one.scores:
            raise unknown("score", score, one.scores, where=f" of the trace of sample {one.sample.id!r}")
    values, others = ([one.scores[score].value for one in traces] for traces in (after, before))
    return mean_difference(values, others, shares=score == "outcome")


@checks_kinds
def paired_differences(after: Iterable[Trace], before: Iterable[Trace]) -> dict[str, Estimate]:
    """Differences of what `summarize` gives between two evaluations of the same samples, by measure.

    Returns:
        `after` less `before` with a percentile bootstrap interval over samples, which are drawn whole: `MEASURES`
        (`accuracy` is the difference of the outcomes) and, where both measured it, `divergence`.

    Raises:
        InputError: If the two do not cover the same samples in the same order.
    """
    after, before = list(after), list(before)
    found = {"accuracy": paired_difference(after, before)}
    for name, verdict in MEASURES.items():
        if name != "accuracy":
            found[name] = ratio_difference(*_counts(verdict, (after, before)))
    if all("divergence" in trace.scores for trace in (*after, *before)):
        found["divergence"] = paired_difference(after, before, "divergence")
    return found


@checks_kinds
def mean_attribution(traces: Iterable[Trace]) -> dict[str, dict[str, float]]:
    """Returns the mean block distribution of `student` and `teacher` over the traces that have one; a block that a
    prompt has not, as an image that others have more, has no share in it.
    """
    traces = list(traces)
    means: dict[str, dict[str, float]] = {}
    for who in ("student", "teacher"):
        found = [trace.attribution[who] for trace in traces if who in trace.attribution]
        names = dict.fromkeys(name for blocks in sorted(found, key=len, reverse=True) for name in blocks)
        means[who] = {name: float(np.mean([blocks.get(name, 0.0) for blocks in found])) for name in names}
    return means
