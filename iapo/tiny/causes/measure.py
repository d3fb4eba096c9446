"""What leads a student to a wrong tool: held-out charts with and without one cause, all else the same."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from transformers import set_seed

from iapo.data.synthetic import BAR_FAMILIES
from iapo.estimates import Estimate, proportion
from iapo.evaluation.local import EvaluationSettings, make_generator
from iapo.evaluation.measures import MEASURES, share
from iapo.grading.outcome import grade_sample
from iapo.records import Axis, Trace
from iapo.rollout.policy import Policy
from iapo.rollout.turns import rollout
from iapo.tiny.causes.lessons import first_tools
from iapo.tiny.causes.world import CauseChart, chart, table
from iapo.tiny.evaluate import TURN_TOKENS
from iapo.tiny.lessons import other

CASES = ("none", "position", "wording", "look", "wording, right", "look, right", "all")
"""What speaks for the wrong tool: nothing, one cause alone, nothing but a cue for the right one, or all three."""


def measure(policy: Policy, *, seed: int, samples: int) -> dict[str, Any]:
    """Measures each case, sampled at temperature 1 and greedily.

    Args:
        policy: The student.
        seed: Seed of the images and of the sampling.
        samples: Charts of each of the two families in each case, the same in all but for the cues; tables of each kind
            with either tools first.

    Returns:
        For `sampled` and `greedy`, for each of `CASES` and for `ranks` and `claims` with the right and the wrong tools
        first: `accuracy`, `call_ratio`, `call_success` and `misuse`, as JSON.
    """
    found = {}
    for name, temperature in (("sampled", 1.0), ("greedy", 0.0)):
        rows = measure_at(policy, temperature, seed=seed, samples=samples)
        found[name] = {case: {key: dataclasses.asdict(one) for key, one in row.items()} for case, row in rows.items()}
    return found


def measure_at(policy: Policy, temperature: float, *, seed: int, samples: int) -> dict[str, dict[str, Estimate]]:
    """Measures each case at one temperature, 0 for greedy; as `measure` has it."""
    rows = {case: _charts(policy, case, seed, samples, temperature) for case in CASES}
    for kind in ("ranks", "claims"):
        asked = [table(kind, index, seed=seed, split="test") for index in range(samples)]
        for order in ("right", "wrong"):
            rows[f"{kind}, {order} first"] = _rolled(policy, asked, order == "wrong", seed, temperature)
    return rows


def _charts(policy: Policy, case: str, seed: int, samples: int, temperature: float) -> dict[str, Estimate]:
    asked = []
    for family in BAR_FAMILIES:
        for index in range(samples):
            plain = chart(family, index, seed=seed, split="test")
            (right,) = plain.focus
            said: dict[str, Axis] = {
                cue: right if case.endswith("right") else other(right)
                for cue in ("wording", "look")
                if case == "all" or case.startswith(cue)
            }
            asked.append(chart(family, index, seed=seed, split="test", **said))
    return _rolled(policy, asked, case in ("position", "all"), seed, temperature)


def _rolled(
    policy: Policy, asked: Sequence[CauseChart], wrong_first: bool, seed: int, temperature: float
) -> dict[str, Estimate]:
    """Rolls out once on each sample, the tools of the right axis before the others or behind them."""
    settings = EvaluationSettings(max_turn_tokens=TURN_TOKENS, temperature=temperature, seed=seed)
    set_seed(seed)
    encoder, generate = make_generator(policy, settings)
    traces: list[Trace] = []
    for axis in ("columns", "rows"):
        some = [one.sample for one in asked if one.sample.axis == axis]
        for start in range(0, len(some), settings.batch_size):
            tools = first_tools(other(axis) if wrong_first else axis)
            batch = some[start : start + settings.batch_size]
            traces += [one.trace for one in rollout(batch, encoder, generate, tools=tools)]
    right = [grade_sample(one.final_text, one.sample).value == 1 for one in traces]
    return {"accuracy": proportion(right)} | {name: share(name, traces) for name in MEASURES if name != "accuracy"}
