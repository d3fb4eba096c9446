"""Means and shares with 95% intervals; no torch here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats


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


def proportion(outcomes: Sequence[bool]) -> Estimate:
    """A share with its Wilson interval."""
    if not outcomes:
        return Estimate(None, None, None, 0)
    interval = stats.binomtest(sum(outcomes), len(outcomes)).proportion_ci(method="wilson")
    return Estimate(sum(outcomes) / len(outcomes), float(interval.low), float(interval.high), len(outcomes))


def mean(values: Sequence[float], resamples: int = 2000) -> Estimate:
    """A mean with its percentile bootstrap interval; the resampling is seeded."""
    if not values:
        return Estimate(None, None, None, 0)
    array = np.asarray(values)
    if np.ptp(array) == 0:
        # All equal: nothing to resample.
        return Estimate(float(array[0]), float(array[0]), float(array[0]), len(array))
    result = stats.bootstrap(
        (array,), np.mean, n_resamples=resamples, method="percentile", rng=np.random.default_rng(0), batch=200
    )
    interval = result.confidence_interval
    return Estimate(float(array.mean()), float(interval.low), float(interval.high), len(array))


def mean_difference(values: Sequence[float], others: Sequence[float]) -> Estimate:
    """The mean of paired differences, `values` less `others`, with its interval."""
    return mean([one - other for one, other in zip(values, others, strict=True)])
