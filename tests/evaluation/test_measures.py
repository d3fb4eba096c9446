"""Intervals where each sample was rolled out several times."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from test_local import ROWS, trace

from iapo.estimates import Estimate, average, proportion, ratio
from iapo.evaluation.measures import MEASURES, summarize, summarize_repeats
from iapo.records import Turn


def test_one_repeat_has_wilson_intervals():
    one = [trace("a", 1), trace("b", 0), trace("c", 1, "no_call")]
    found = summarize_repeats([one])
    assert found == {name: summarize(one)[name] for name in found}
    assert found["accuracy"] == proportion([True, False, True])


def test_repeats_are_counted_by_hand():
    first = [trace("a", 1, call=ROWS), trace("b", 0, "failed"), trace("c", 1, "no_call")]
    second = [trace("a", 0), trace("b", 0, "edited"), trace("c", 1, "no_call")]
    found = summarize_repeats([first, second])
    assert {name: (one.value, one.count) for name, one in found.items()} == {
        "accuracy": (3 / 6, 6),
        "call_ratio": (4 / 6, 6),
        "call_success": (3 / 4, 4),
        "misuse": (1 / 3, 3),
    }


def test_what_came_short_is_counted_where_there_is_some():
    """Of several repeats as the measures are, over samples."""
    said = trace("a", 1, "no_call")
    empty, cut = (replace(said, turns=(one,)) for one in (Turn("\n "), Turn("FINAL", cut=True)))
    assert summarize_repeats([[said, said]]).keys() == summarize_repeats([[said, said]] * 2).keys() == MEASURES.keys()
    once, twice = summarize_repeats([[empty, cut, cut, said]]), summarize_repeats([[empty, said], [empty, cut]])
    assert {name: (one.value, one.count) for name, one in once.items() if name not in MEASURES} == {
        "empty_turn": (1 / 4, 4),
        "cut_turn": (2 / 4, 4),
    }
    assert {name: (one.value, one.count) for name, one in twice.items() if name not in MEASURES} == {
        "empty_turn": (2 / 4, 4),
        "cut_turn": (1 / 4, 4),
    }


def test_rollouts_on_one_sample_are_not_independent():
    """Ten equal repeats of two hundred samples tell as much as one."""
    once = [trace(str(index), index % 2) for index in range(200)]
    low = proportion([index % 2 == 1 for index in range(200)]).low
    found = summarize_repeats([once] * 10)["accuracy"]
    assert found.value == 0.5
    assert found.count == 2000
    assert found.low == pytest.approx(low, abs=0.02)
    assert found.low < proportion([True, False] * 1000).low - 0.03


def test_all_right_is_not_certain():
    found = ratio(np.full(10, 3), np.full(10, 3))
    assert (found.value, found.high, found.count) == (1, 1, 30)
    assert found.low == proportion([True] * 10).low
    assert ratio(np.zeros(4, int), np.zeros(4, int)) == Estimate(None, None, None, 0)


def test_repeats_of_other_samples_are_refused():
    with pytest.raises(ValueError, match="the same samples"):
        summarize_repeats([[trace("a", 1)], [trace("b", 1)]])


def test_the_average_weighs_sets_alike():
    found = average([[[1.0] * 100], [[0.0, 1.0], [0.0, 0.0]]])
    assert found.value == pytest.approx((1 + 0.25) / 2)
    assert found.count == 102
    # The small set alone varies: 0, 1/4 or 1/2. The large one may be less than all right.
    none_of_100 = proportion([False] * 100).high
    assert none_of_100 is not None
    assert (found.low, found.high) == (pytest.approx(0.625 - math.hypot(0.125, none_of_100 / 2)), 0.75)


def test_the_measures_are_about_these_traces():
    """One trace of each kind: whether it counts, or None where the measure is not about it."""
    kinds = {
        "edited": trace("a", 1),
        "misused": trace("a", 0, call=ROWS),
        "no axis": trace("a", 1, axis=None),
        "failed": trace("a", 0, "failed", call=ROWS),
        "no call": trace("a", 1, "no_call"),
    }
    assert {name: [verdict(one) for one in kinds.values()] for name, verdict in MEASURES.items()} == {
        "accuracy": [True, False, True, False, True],
        "call_ratio": [True, True, True, True, False],
        "call_success": [True, True, True, False, None],
        "misuse": [False, True, None, None, None],
    }
