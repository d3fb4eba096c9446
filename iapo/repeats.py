"""Sums of evaluations in which each sample was rolled out several times."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from iapo.estimates import Estimate, proportion
from iapo.evaluation import summarize
from iapo.records import Trace

Counts = npt.NDArray[np.int64]
"""One number a sample."""

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


def ratio(successes: Counts, counted: Counts, resamples: int = 2000) -> Estimate:
    """A share over samples that count several times each, with its percentile bootstrap interval over samples.

    Where all or none succeeded the interval is Wilson's for as many trials as there are samples.

    Args:
        successes: For each sample how often it succeeded; shape (samples,).
        counted: For each sample how often it was tried; shape (samples,).
        resamples: How many bootstrap draws; seeded.
    """
    total = int(counted.sum())
    if not total:
        return Estimate(None, None, None, 0)
    if successes.sum() in (0, total):
        # Nothing varies between draws, yet little is known from few samples: each of them counts as one.
        return dataclasses.replace(proportion([bool(successes.sum())] * int((counted > 0).sum())), count=total)
    rng = np.random.default_rng(0)
    samples = len(counted)
    shares = []
    # In parts, so that large test sets do not need one large table of draws.
    for _ in range(0, resamples, 200):
        drawn = rng.integers(samples, size=(200, samples))
        tried = counted[drawn].sum(1)
        shares.append((successes[drawn].sum(1) / np.where(tried, tried, 1))[tried > 0])
    low, high = np.quantile(np.concatenate(shares), [0.025, 0.975])
    return Estimate(float(successes.sum() / total), float(low), float(high), total)


def average(outcomes: Sequence[Sequence[Sequence[float]]], resamples: int = 2000, *, shares: bool = True) -> Estimate:
    """The unweighted mean of test sets, with a bootstrap interval over the samples of each.

    Where all outcomes are right or all wrong the interval is Wilson's for as many trials as there are samples.

    Args:
        outcomes: For each set, for each repeat, the outcome of each sample.
        resamples: How many bootstrap draws; seeded.
        shares: Whether outcomes are shares and not, for example, differences.
    """
    sets = [np.asarray(one).mean(0) for one in outcomes]
    values = np.concatenate(sets)
    if shares and (np.all(values == 0) or np.all(values == 1)):
        return proportion((values == 1).tolist())
    rng = np.random.default_rng(0)
    draws = np.zeros(resamples)
    for one in sets:
        draws += [one[rng.integers(len(one), size=len(one))].mean() for _ in range(resamples)]
    low, high = np.quantile(draws / len(sets), [0.025, 0.975])
    return Estimate(float(np.mean([one.mean() for one in sets])), float(low), float(high), sum(map(len, sets)))
