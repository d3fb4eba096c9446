"""Intervals are what they are called."""

from __future__ import annotations

import math

import numpy as np
import pytest

from iapo.estimates import Estimate, Tally, average, mean, over_seeds_and_samples, proportion


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
