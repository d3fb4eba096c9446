"""What the functions of evaluation are given: any iterable, read once, and one sentence for what cannot be."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
from PIL import Image
from test_local import ROWS, trace

from iapo.errors import InputError
from iapo.evaluation.local import EvaluationSettings, budget_of, evaluate, make_generator
from iapo.evaluation.measures import (
    mean_attribution,
    paired_difference,
    paired_differences,
    summarize,
    summarize_repeats,
)
from iapo.records import Sample, Trace
from iapo.rollout.policy import Policy
from iapo.rollout.turns import rollout
from iapo.tools import TOOLS, define

SETTINGS = EvaluationSettings(max_turn_tokens=2)
TRACES = [
    trace("a", 1, divergence=0.5, attribution={"student": {"x": 0.5, "y": 0.5}}),
    trace("b", 0, call=ROWS, divergence=1.0),
    trace("c", 1, "no_call", divergence=0.1),
]


def of_source(one: Trace, source: str) -> Trace:
    return dataclasses.replace(one, sample=dataclasses.replace(one.sample, source=source))


@pytest.mark.parametrize("measure", [summarize, mean_attribution, lambda some: summarize_repeats([some])])
def test_traces_may_come_from_a_generator(measure: Callable[[Any], Any]) -> None:
    assert measure(one for one in TRACES) == measure(TRACES) == measure(tuple(TRACES))


def test_repeats_and_pairs_may_come_from_generators() -> None:
    again = [dataclasses.replace(one) for one in TRACES]
    found = summarize_repeats((one for one in some) for some in (TRACES, again))
    assert found == summarize_repeats([TRACES, again])
    for paired in (paired_difference, paired_differences):
        assert paired(iter(TRACES), iter(again)) == paired(TRACES, again)  # type: ignore[operator]


def test_pairs_are_of_one_source() -> None:
    """Two sources may have a sample of the same id."""
    here, there = ([of_source(one, source) for one in TRACES] for source in ("own/a", "own/b"))
    for pair in (
        lambda: paired_difference(here, there),
        lambda: paired_differences(here, there),
        lambda: summarize_repeats([here, there]),
    ):
        with pytest.raises(InputError, match="the same samples in the same order; pair them by source and id"):
            pair()
    assert paired_difference(here, here).value == 0


def test_what_no_measure_takes() -> None:
    with pytest.raises(InputError, match="there is no repeat"):
        summarize_repeats([])
    with pytest.raises(InputError, match="no score 'zzz' of the trace of sample 'a'"):
        paired_difference(TRACES, TRACES, "zzz")


def test_samples_may_come_from_a_generator(student: Policy, samples: list[Sample]) -> None:
    some = samples[:2]
    found = evaluate(student, (one for one in some), SETTINGS)
    assert [one.sample.id for one in found] == [one.id for one in some]
    assert evaluate(student, some, SETTINGS) == found
    assert evaluate(student, iter([]), SETTINGS) == []
    encoder, generate = make_generator(student, SETTINGS)
    budget = budget_of(SETTINGS, student)
    rolled = rollout(iter(some), encoder, generate, budget=budget)
    assert [one.trace.turn_1 for one in rolled] == [one.turn_1 for one in found]


def shout(text: str) -> str:
    """Shout."""
    return text.upper()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"policy": "tiny-student"}, r"policy is of type str; iapo.load_policy\(NAME\) loads one"),
        ({"policy": None}, "policy is of type NoneType"),
        ({"settings": None}, "settings are of type NoneType; give iapo.EvaluationSettings"),
        ({"settings": {"temperature": 1}}, "settings are of type dict"),
        ({"alignment": "tiny-teacher"}, "alignment is of type str; give iapo.rewards.alignment.Alignment"),
        ({"samples": None}, "the samples are of type NoneType; give a list or a generator of iapo.Sample"),
        ({"samples": "vbar"}, "the samples are of type str"),
        ({"samples": [1]}, "sample 1 of 1 is of type int; give iapo.Sample"),
        ({"tools": {"other": define(shout)}}, "tools have the tool 'shout' for 'other'"),
        ({"tools": [*TOOLS.values()]}, "tools are no mapping of names to tools"),
    ],
)
def test_what_evaluate_does_not_take(changes: dict[str, Any], reason: str, student: Policy) -> None:
    sample = Sample("a", Image.new("RGB", (60, 60)), "how?", ("1",))
    given = {"policy": student, "samples": [sample], "settings": SETTINGS, **changes}
    with pytest.raises(InputError, match=reason):
        evaluate(given.pop("policy"), given.pop("samples"), given.pop("settings"), **given)


def test_a_policy_is_no_alignment(student: Policy) -> None:
    with pytest.raises(InputError, match="alignment is of type Policy"):
        evaluate(student, [], SETTINGS, alignment=student)  # type: ignore[arg-type]
