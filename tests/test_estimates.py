"""Intervals are what they are called."""

from __future__ import annotations

import math

import numpy as np
import pytest

from iapo.estimates import Estimate, mean, proportion


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
