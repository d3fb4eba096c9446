"""Means, shares and ratios with 95% intervals; no torch here.

scipy is imported where an interval is computed: to read a result, as a report does, needs none.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean with its 95% interval.

    Attributes:
        value: The mean; None where nothing was counted.
        low: Lower end.
        high: Upper end.
        count: Over how many rollouts.
    """

    value: float | None
    low: float | None
    high: float | None
    count: int

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Reads what `dataclasses.asdict` gave; ends and count may be missing."""
        return cls(data["value"], data.get("low"), data.get("high"), data.get("count", 0))


def proportion(outcomes: Sequence[bool]) -> Estimate:
    """Returns a share with its Wilson interval."""
    if not outcomes:
        return Estimate(None, None, None, 0)
    # A second to import, which few callers of this module need.
    from scipy import stats

    interval = stats.binomtest(sum(outcomes), len(outcomes)).proportion_ci(method="wilson")
    return Estimate(sum(outcomes) / len(outcomes), float(interval.low), float(interval.high), len(outcomes))


def mean(values: Sequence[float], resamples: int = 2000) -> Estimate:
    """Returns a mean with its percentile bootstrap interval; the resampling is seeded."""
    if not values:
        return Estimate(None, None, None, 0)
    array = np.asarray(values)
    if np.ptp(array) == 0:
        # All equal: nothing to resample.
        return Estimate(float(array[0]), float(array[0]), float(array[0]), len(array))
    # A second to import, which few callers of this module need.
    from scipy import stats

    result = stats.bootstrap(
        (array,), np.mean, n_resamples=resamples, method="percentile", rng=np.random.default_rng(0), batch=200
    )
    interval = result.confidence_interval
    return Estimate(float(array.mean()), float(interval.low), float(interval.high), len(array))


def mean_over_seeds(values: Sequence[float], least: float, most: float) -> Estimate | None:
    """Returns a mean over independent runs with its interval of Student's t.

    Args:
        values: One number a run.
        least: Lowest possible number, which the interval does not go below.
        most: Highest possible number.

    Returns:
        The mean; None of a single run, or where the runs do not differ at all, which say nothing of their spread.
    """
    array = np.asarray(values)
    if len(array) < 2 or np.ptp(array) == 0:
        return None
    from scipy import stats

    half = stats.t.ppf(0.975, len(array) - 1) * array.std(ddof=1) / np.sqrt(len(array))
    value = float(array.mean())
    return Estimate(value, float(max(least, value - half)), float(min(most, value + half)), len(array))


def mean_difference(values: Sequence[float], others: Sequence[float]) -> Estimate:
    """Returns the mean of paired differences, `values` less `others`, with its interval."""
    return mean([one - other for one, other in zip(values, others, strict=True)])


Counts = npt.NDArray[np.int64]
"""One number a sample."""


def ratio(successes: Counts, counted: Counts, resamples: int = 2000) -> Estimate:
    """Returns a share over samples that count several times each, with its percentile bootstrap interval over samples.

    Where all or none succeeded the interval is Wilson's for as many trials as there are samples.

    Args:
        successes: Successes of each sample; shape (samples,).
        counted: Trials of each sample; shape (samples,).
        resamples: Number of bootstrap draws; seeded.
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


def ratio_difference(successes: Counts, counted: Counts, resamples: int = 2000) -> Estimate:
    """Returns the difference of two shares over the same samples, with its percentile bootstrap interval over samples.

    Args:
        successes: Successes for each of the two and each sample how often it succeeded; shape (2, samples). The
            difference is the first less the second.
        counted: Counted for each of the two and each sample how often it was tried; shape (2, samples).
        resamples: Number of bootstrap draws; seeded. Draws in which one of the two tried nothing are left out.
    """
    totals = counted.sum(1)
    if not totals.all():
        return Estimate(None, None, None, 0)
    rng = np.random.default_rng(0)
    samples = counted.shape[1]
    differences = []
    # In parts, as in `ratio`.
    for _ in range(0, resamples, 200):
        drawn = rng.integers(samples, size=(200, samples))
        tried = counted[:, drawn].sum(2)
        shares = successes[:, drawn].sum(2) / np.where(tried, tried, 1)
        differences.append((shares[0] - shares[1])[tried.all(0)])
    low, high = np.quantile(np.concatenate(differences), [0.025, 0.975])
    value = successes.sum(1) / totals
    return Estimate(float(value[0] - value[1]), float(low), float(high), int(totals.sum()))


def average(outcomes: Sequence[Sequence[Sequence[float]]], resamples: int = 2000, *, shares: bool = True) -> Estimate:
    """Returns the unweighted mean of test sets, with a bootstrap interval over the samples of each.

    Where all outcomes are right or all wrong the interval is Wilson's for as many trials as there are samples.

    Args:
        outcomes: Outcomes for each set, for each repeat, the outcome of each sample.
        resamples: Number of bootstrap draws; seeded.
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
