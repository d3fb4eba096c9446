"""Means, shares and ratios with 95% intervals; no torch here.

What does not vary among few samples is not certain: where each sample of a set has one and the same value, no variance
tells how far the mean may be from it. Such a set widens an interval by itself (`_widened`).

scipy is imported where an interval is computed: to read a result, as a report does, needs none.
"""

from __future__ import annotations

import dataclasses
import math
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
        """Reads what `dataclasses.asdict` gave; ends and count may be missing.

        Raises:
            KeyError: If there is no value.
            TypeError: If one of them is no number.
            OverflowError: If one of them is a whole number that no float holds.
        """
        value, low, high = data["value"], data.get("low"), data.get("high")
        for one in (value, low, high, data.get("count", 0)):
            if one is not None and (not isinstance(one, int | float) or isinstance(one, bool)):
                raise TypeError(f"{one!r} is no number")
            float(one or 0)
        return cls(value, low, high, data.get("count", 0))


def proportion(outcomes: Sequence[bool]) -> Estimate:
    """Returns a share with its Wilson interval."""
    if not outcomes:
        return Estimate(None, None, None, 0)
    # A second to import, which few callers of this module need.
    from scipy import stats

    interval = stats.binomtest(sum(outcomes), len(outcomes)).proportion_ci(method="wilson")
    return Estimate(sum(outcomes) / len(outcomes), float(interval.low), float(interval.high), len(outcomes))


_SAME = 1e-12
"""Numbers that are no further apart do not vary: sums of shares are not exact."""


def _widened(
    found: Estimate, alike: Sequence[tuple[float, int]], parts: int = 1, *, least: float, most: float
) -> Estimate:
    """Widens an interval by what few samples have not shown.

    At most a share of the samples is other than those that were seen: Wilson's upper bound for none of so many. Each of
    them may lie at the end of the range, and a difference of a pair one success further. Sets that do not vary are
    taken together, each with as many samples as the smallest of them, so that the interval of sets that are all right
    is Wilson's. Their distance and that of the sets that vary add up as deviations do, below and above by themselves.

    Args:
        found: Mean over the parts, with the interval of those that vary.
        alike: Value and number of samples of each part in which all samples have one value.
        parts: Number of all parts, which count alike.
        least: Lowest possible number, which the interval does not go below.
        most: Highest possible number.
    """
    if not alike or found.value is None or found.low is None or found.high is None:
        return found
    ends = []
    for end, seen in ((least, found.low), (most, found.high)):
        further = [(abs(end - value), samples) for value, samples in alike if abs(end - value) > _SAME]
        if further:
            none = proportion([False] * (len(further) * min(samples for _, samples in further))).high
            assert none is not None
            unseen = min(1.0, max(distance for distance, _ in further)) * none * len(further) / parts
            seen = found.value + math.copysign(math.hypot(seen - found.value, unseen), end - found.value)
        ends.append(min(most, max(least, seen)))
    return dataclasses.replace(found, low=ends[0], high=ends[1])


def mean(
    values: Sequence[float], resamples: int = 2000, *, least: float | None = None, most: float | None = None
) -> Estimate:
    """Returns a mean with its percentile bootstrap interval.

    Args:
        values: The values.
        resamples: Number of bootstrap draws; seeded.
        least: Lowest possible value. Of values that have bounds and do not vary the interval says how far the mean may
            be from them; of others it has no width.
        most: Highest possible value.
    """
    if not values:
        return Estimate(None, None, None, 0)
    array = np.asarray(values)
    if np.ptp(array) == 0:
        # All equal: nothing to resample.
        one = float(array[0])
        same = Estimate(one, one, one, len(array))
        return same if least is None or most is None else _widened(same, [(one, len(array))], least=least, most=most)
    # A second to import, which few callers of this module need.
    from scipy import stats

    result = stats.bootstrap(
        (array,), np.mean, n_resamples=resamples, method="percentile", rng=np.random.default_rng(0), batch=200
    )
    interval = result.confidence_interval
    return Estimate(float(array.mean()), float(interval.low), float(interval.high), len(array))


@dataclass(frozen=True, slots=True)
class Tally:
    """What one run made of the samples of one test set.

    Attributes:
        successes: Successes of each sample; shape (samples,).
        counted: Trials of each sample, 0 where the measure is not about what the run did there; shape (samples,).
    """

    successes: npt.NDArray[np.float64]
    counted: npt.NDArray[np.float64]

    @property
    def share(self) -> float:
        """Successes over trials."""
        return float(self.successes.sum() / self.counted.sum())

    def influences(self) -> npt.NDArray[np.float64]:
        """Returns how far each sample draws the share: their mean is 0, their variance over the number of samples the
        share's (the delta method for a ratio).
        """
        return (self.successes - self.share * self.counted) / self.counted.mean()


def over_seeds_and_samples(
    runs: Sequence[Sequence[Tally]], bases: Sequence[Sequence[Tally]] | None = None, *, least: float, most: float
) -> Estimate | None:
    """Returns the mean over trainings of the unweighted mean over test sets, with an interval over seeds and samples.

    Trainings and samples are crossed: all runs are measured on the same samples. The variance is the sum of the runs'
    (`s^2 / runs`) and of the samples' (that of each sample's mean influence over the runs, over their number); the
    interval is Student's t with Satterthwaite's degrees of freedom. What varies with both is counted twice, so that it
    is rather too wide. Of a single run, or where runs do not differ, it covers the samples alone. A test set whose
    samples do not vary adds what they may not have shown.

    Args:
        runs: For each training seed, a tally a test set.
        bases: Bases of paired differences: for each of the same seeds the tallies of what is subtracted, on the same
            samples.
        least: Lowest possible number, which the interval does not go below.
        most: Highest possible number.

    Returns:
        The estimate, its `count` the number of runs; None where some run has no trial in any set. Sets in which one has
        none are left out.
    """
    sides = [runs] if bases is None else [runs, bases]
    places = [place for place in range(len(runs[0])) if all(one[place].counted.any() for side in sides for one in side)]
    if not places:
        return None
    signs = [1.0, -1.0][: len(sides)]
    values = np.array(
        [
            np.mean([sum(sign * one[place].share for sign, one in zip(signs, both, strict=True)) for place in places])
            for both in zip(*sides, strict=True)
        ]
    )
    by_samples, least_samples = 0.0, math.inf
    alike = []
    for place in places:
        both_sides = list(zip(*sides, strict=True))
        drawn = np.mean(
            [sum(sign * one[place].influences() for sign, one in zip(signs, both, strict=True)) for both in both_sides],
            axis=0,
        )
        if np.ptp(drawn) > _SAME:
            by_samples += float(drawn.var(ddof=1)) / len(drawn) / len(places) ** 2
            least_samples = min(least_samples, len(drawn))
        else:
            shares = [
                sum(sign * one[place].share for sign, one in zip(signs, both, strict=True)) for both in both_sides
            ]
            # What one of the runs or sides has tried seldom is known no better by the others.
            tried = min(int((one[place].counted > 0).sum()) for side in sides for one in side)
            alike.append((float(np.mean(shares)), tried))
    by_seeds = float(values.var(ddof=1)) / len(values) if len(values) > 1 else 0.0
    value, variance, half = float(values.mean()), by_seeds + by_samples, 0.0
    if variance:
        from scipy import stats

        freedom = variance**2 / (
            (by_seeds**2 / (len(values) - 1) if by_seeds else 0.0)
            + (by_samples**2 / (least_samples - 1) if by_samples else 0.0)
        )
        half = float(stats.t.ppf(0.975, freedom)) * variance**0.5
    found = Estimate(value, max(least, value - half), min(most, value + half), len(values))
    return _widened(found, alike, len(places), least=least, most=most)


def mean_difference(values: Sequence[float], others: Sequence[float], *, shares: bool = False) -> Estimate:
    """Returns the mean of paired differences, `values` less `others`, with its interval.

    Args:
        values: Values of the one.
        others: Values of the other, of the same samples.
        shares: Whether the values are outcomes or shares, from 0 to 1.
    """
    least, most = (-1.0, 1.0) if shares else (None, None)
    return mean([one - other for one, other in zip(values, others, strict=True)], least=least, most=most)


Counts = npt.NDArray[np.int64]
"""One number a sample."""


def ratio(successes: Counts, counted: Counts, resamples: int = 2000) -> Estimate:
    """Returns a share over samples that count several times each, with its percentile bootstrap interval over samples.

    Where all or none succeeded the interval is Wilson's for as many trials as there are samples; where all samples have
    one other share, it is as wide as for a share that few samples have not shown to vary.

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
    drawn_shares = np.concatenate(shares)
    low, high = np.quantile(drawn_shares, [0.025, 0.975])
    found = Estimate(float(successes.sum() / total), float(low), float(high), total)
    return _unvaried(found, drawn_shares, int((counted > 0).sum()), least=0.0)


def _unvaried(found: Estimate, draws: npt.NDArray[np.float64], samples: int, *, least: float) -> Estimate:
    """Widens an interval whose bootstrap draws are all one, up to 1 and down to `least`."""
    if found.value is None or np.ptp(draws) > _SAME:
        return found
    return _widened(found, [(found.value, samples)], least=least, most=1.0)


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
    draws = np.concatenate(differences)
    low, high = np.quantile(draws, [0.025, 0.975])
    value = successes.sum(1) / totals
    found = Estimate(float(value[0] - value[1]), float(low), float(high), int(totals.sum()))
    return _unvaried(found, draws, int((counted > 0).sum(1).min()), least=-1.0)


def average(outcomes: Sequence[Sequence[Sequence[float]]], resamples: int = 2000, *, shares: bool = True) -> Estimate:
    """Returns the unweighted mean of test sets, with a bootstrap interval over the samples of each.

    A set whose samples do not vary adds what they may not have shown. Where all outcomes are right or all wrong the
    interval is Wilson's for as many trials as there are samples, were each set as small as the smallest.

    Args:
        outcomes: Outcomes for each set, for each repeat, the outcome of each sample.
        resamples: Number of bootstrap draws; seeded.
        shares: Whether outcomes are shares and not, for example, differences.
    """
    sets = [np.asarray(one).mean(0) for one in outcomes]
    rng = np.random.default_rng(0)
    draws = np.zeros(resamples)
    for one in sets:
        # In parts, as in `ratio`.
        for start in range(0, resamples, 200):
            some = draws[start : start + 200]
            some += one[rng.integers(len(one), size=(len(some), len(one)))].mean(1)
    low, high = np.quantile(draws / len(sets), [0.025, 0.975])
    found = Estimate(float(np.mean([one.mean() for one in sets])), float(low), float(high), sum(map(len, sets)))
    alike = [(float(one.mean()), len(one)) for one in sets if np.ptp(one) <= _SAME]
    return _widened(found, alike, len(sets), least=0.0 if shares else -1.0, most=1.0)
