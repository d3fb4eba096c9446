"""Intervals are what they are called."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from iapo.estimates import (
    Estimate,
    Tally,
    average,
    mean,
    mean_difference,
    over_seeds_and_samples,
    proportion,
    ratio,
    ratio_difference,
)


def wilson(successes: int, count: int) -> tuple[float, float]:
    z = 1.959963984540054
    share = successes / count
    centre = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * math.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    return centre - half, centre + half


@pytest.mark.parametrize(("successes", "count"), [(0, 10), (10, 10), (3, 10), (250, 1000), (1, 1)])
def test_wilson_interval(successes: int, count: int):
    found = proportion([True] * successes + [False] * (count - successes))
    low, high = wilson(successes, count)
    assert (found.value, found.count) == (successes / count, count)
    assert found.low == pytest.approx(low, abs=1e-9)
    assert found.high == pytest.approx(high, abs=1e-9)


def test_a_known_wilson_interval():
    """The textbook's 8 of 10."""
    found = proportion([True] * 8 + [False] * 2)
    assert (found.low, found.high) == (pytest.approx(0.4902, abs=1e-4), pytest.approx(0.9433, abs=1e-4))


def test_nothing_counted():
    assert proportion([]) == mean([]) == Estimate(None, None, None, 0)


@pytest.mark.parametrize("values", [[0.25], [0.25] * 7, [-1.0, -1.0]])
def test_a_constant_has_no_spread(values: list[float]):
    assert mean(values) == Estimate(values[0], values[0], values[0], len(values))


def test_bootstrap():
    values = np.random.default_rng(3).normal(5.0, 2.0, size=400).tolist()
    found = mean(values)
    assert found.value == pytest.approx(np.mean(values))
    # With so many values it is the interval of the normal approximation.
    half = 1.96 * np.std(values) / math.sqrt(400)
    assert found.low == pytest.approx(np.mean(values) - half, abs=0.1 * half)
    assert found.high == pytest.approx(np.mean(values) + half, abs=0.1 * half)
    assert mean(values) == found


def test_bootstrap_of_few_stays_within_them():
    found = mean([0.0, 1.0])
    assert found == Estimate(0.5, 0.0, 1.0, 2)


def simulated(seed: int, noise: float = 0.5) -> tuple[list[list[Tally]], list[list[Tally]]]:
    """Five paired trainings on 200 samples; seeds, samples and both together move the outcomes, by 0.1 on average."""
    rng = np.random.default_rng(seed)
    samples, runs = rng.normal(0, 0.4, 200), []
    for shift in rng.normal(0.1, 0.05, 5):
        change = shift + rng.normal(0, 0.3, 200) + samples
        base = rng.normal(0, noise, 200)
        runs.append((base + change, base))
    ones = np.ones(200)
    return [[Tally(one, ones)] for one, _ in runs], [[Tally(other, ones)] for _, other in runs]


def test_an_interval_over_seeds_and_samples_covers_both():
    covered, seeds_alone = 0, 0
    for seed in range(300):
        runs, bases = simulated(seed)
        one = over_seeds_and_samples(runs, bases, least=-1, most=1)
        assert one is not None
        assert one.low is not None
        assert one.high is not None
        covered += one.low <= 0.1 <= one.high
        values = np.array([run[0].share - base[0].share for run, base in zip(runs, bases, strict=True)])
        seeds_alone += abs(values.mean() - 0.1) <= 2.776 * values.std(ddof=1) / 5**0.5
    assert covered / 300 >= 0.93
    # An interval over the seeds alone takes the samples for all that there are.
    assert seeds_alone < covered


def test_samples_that_do_not_count_are_left_out():
    counted = np.array([1.0, 1, 0, 0])
    runs = [[Tally(np.array([1.0, 0, 0, 0]), counted), Tally(np.zeros(3), np.zeros(3))]]
    one = over_seeds_and_samples(runs, least=0, most=1)
    assert one is not None
    assert (one.value, one.count) == (0.5, 1)
    # Influences (1, -1, 0, 0), variance 2/3, over four samples: t at three degrees of freedom is beyond the bounds.
    assert (one.low, one.high) == (0, 1)
    assert over_seeds_and_samples([runs[0][1:]], least=0, most=1) is None


def test_none_of_many_is_not_certainly_none():
    run = [Tally(np.zeros(50), np.ones(50))]
    one = over_seeds_and_samples([run, run], least=0, most=1)
    assert one is not None
    assert (one.value, one.low) == (0, 0)
    assert one.high == proportion([False] * 50).high


def test_an_average_draws_each_set_as_often():
    """One draw after the other gives the same numbers, whatever is drawn in one go."""
    sets = [np.random.default_rng(size).random(size) for size in (7, 32)]
    rng = np.random.default_rng(0)
    draws = sum(np.array([one[rng.integers(len(one), size=len(one))].mean() for _ in range(450)]) for one in sets)
    found = average([[list(one)] for one in sets], 450)
    assert (found.low, found.high) == tuple(np.quantile(draws / 2, [0.025, 0.975]))
    assert found.count == 39


def unseen(samples: int) -> float:
    """Wilson's upper bound for none of so many."""
    return wilson(0, samples)[1]


def tally(outcomes: list[float]) -> Tally:
    return Tally(np.array(outcomes), np.ones(len(outcomes)))


def over(*runs: list[list[float]], bases: list[list[list[float]]] | None = None) -> Estimate:
    """Over seeds and samples, of outcomes by run and set."""
    sides = [[[tally(one) for one in run] for run in side] for side in (runs, bases or [])]
    found = over_seeds_and_samples(sides[0], sides[1] if bases else None, least=-1 if bases else 0, most=1)
    assert found is not None
    return found


ONES, NONES = [1.0] * 20, [0.0] * 20
HALF, BOTH = [0.5] * 12, np.array([[5] * 5, [0] * 5])
PART = unseen(20) / 2


@pytest.mark.parametrize(
    ("found", "value", "low", "high"),
    [
        # Some sets all right, some all wrong.
        (lambda: average([[ONES], [NONES]]), 0.5, 0.5 - PART, 0.5 + PART),
        (lambda: over([ONES, NONES]), 0.5, 0.5 - PART, 0.5 + PART),
        (lambda: over([ONES, NONES], [ONES, NONES]), 0.5, 0.5 - PART, 0.5 + PART),
        (lambda: average([[ONES], [[0.0] * 5]]), 0.5, 0.5 - PART, 0.5 + unseen(5) / 2),
        (lambda: over([ONES, NONES, NONES]), 1 / 3, 1 / 3 - unseen(20) / 3, 1 / 3 + unseen(40) * 2 / 3),
        # All right: as many trials as there are samples, and no more than the smallest set allows.
        (lambda: average([[ONES], [ONES]]), 1, 1 - unseen(40), 1),
        (lambda: average([[ONES], [[1.0] * 5]]), 1, 1 - unseen(10), 1),
        (lambda: over([NONES, [0.0] * 5]), 0, 0, unseen(10)),
        # Rollouts of one sample differ, samples do not.
        (lambda: average([[HALF]]), 0.5, 0.5 - unseen(12) / 2, 0.5 + unseen(12) / 2),
        (lambda: ratio(np.full(12, 1), np.full(12, 3)), 1 / 3, 1 / 3 - unseen(12) / 3, 1 / 3 + unseen(12) * 2 / 3),
        # Paired differences: none of the pairs differs, or all do alike.
        (lambda: average([[NONES]], shares=False), 0, -unseen(20), unseen(20)),
        (lambda: over([ONES], [ONES], bases=[[ONES], [ONES]]), 0, -unseen(20), unseen(20)),
        (lambda: over([ONES], bases=[[NONES]]), 1, 1 - unseen(20), 1),
        (lambda: mean_difference(ONES, ONES, shares=True), 0, -unseen(20), unseen(20)),
        (lambda: ratio_difference(BOTH, np.full((2, 5), 5)), 1, 1 - unseen(5), 1),
        (lambda: ratio_difference(BOTH[[1, 1]], np.full((2, 5), 5)), 0, -unseen(5), unseen(5)),
        # Only those that count tell something.
        (
            lambda: ratio_difference(np.array([[1, 1, 0], [0, 0, 0]]), np.array([[1, 1, 0], [1, 1, 1]])),
            1,
            1 - unseen(2),
            1,
        ),
    ],
)
def test_what_does_not_vary_among_few_samples_is_not_certain(
    found: Callable[[], Estimate], value: float, low: float, high: float
):
    one = found()
    assert (one.value, one.low, one.high) == (pytest.approx(value), pytest.approx(low), pytest.approx(high))


def test_sets_that_vary_and_sets_that_do_not_add_up_as_deviations_do():
    """Below the mean the set that is all right adds nothing above it, and below it its distance."""
    mixed = [0.0, 1.0] * 10
    alone, both = over([mixed]), over([mixed, ONES])
    assert alone.low is not None
    assert both.value == 0.75
    assert both.high == pytest.approx(0.75 + (0.5 - alone.low) / 2)
    assert both.low == pytest.approx(0.75 - math.hypot((0.5 - alone.low) / 2, PART))
    drawn, drawn_both = average([[mixed]]), average([[mixed], [ONES]])
    assert drawn.low is not None
    assert drawn_both.low == pytest.approx(0.75 - math.hypot((0.5 - drawn.low) / 2, PART))


@pytest.mark.parametrize("count", [12, 20, 40])
@pytest.mark.parametrize("right", [0.9, 0.95, 0.98, 0.99])
@pytest.mark.parametrize("estimate", [lambda one, other: average([[one], [other]], 200), lambda *two: over(list(two))])
def test_an_interval_covers_shares_near_one_and_zero(
    estimate: Callable[[list[float], list[float]], Estimate], right: float, count: int
):
    """Of a set nearly all of which is right and one of which nothing is, over all that may come of the first."""
    covered = 0.0
    for successes, chance in enumerate(stats.binom.pmf(range(count + 1), count, right)):
        if chance > 1e-6:
            found = estimate([1.0] * successes + [0.0] * (count - successes), [0.0] * count)
            assert found.low is not None
            assert found.high is not None
            covered += chance * (found.low <= right / 2 <= found.high)
    # All of them are right in 0.01 to 0.89 of the cases. Where few are wrong an interval is a bit too narrow still.
    assert covered >= 0.91


@pytest.mark.parametrize("seeds", [1, 2])
def test_a_set_of_one_sample_beside_larger_ones(seeds: int):
    larger = [Tally(np.array([1.0, 0, 0, seed]), np.ones(4)) for seed in range(seeds)]
    one = over_seeds_and_samples([[Tally(np.ones(1), np.ones(1)), some] for some in larger], least=0, most=1)
    assert one is not None
    assert one.low is not None
    assert one.high is not None
    assert one.low < one.value < one.high
