"""What a checkpoint keeps of rewards: what they remember from batch to batch."""

from __future__ import annotations

import dataclasses
import io
from typing import Any

import pytest
import torch
from PIL import Image

from iapo.calls import ToolResult
from iapo.errors import InputError
from iapo.records import Sample, Score, Trace
from iapo.rewards.columns import Column, Sources
from iapo.rewards.presets import find_reward
from iapo.training.kept import kept_state, load_kept

SAMPLE = Sample("s", Image.new("RGB", (28, 28)), "How many?", ("5",))
CALLED = Trace.of(SAMPLE, "code", ToolResult("failed"), "FINAL ANSWER: 5")
PLAIN = Trace.of(SAMPLE, "FINAL ANSWER: 5", ToolResult("no_call"))


def unasked(*_: Any) -> Any:
    raise AssertionError


def discount() -> Column:
    """A column of `otc`, as a new process has it."""
    sources = Sources(lambda traces: [Score(1.0)] * len(traces), unasked, unasked, unasked, unasked)
    return find_reward("otc")(sources).columns[0]


def through_a_file(state: dict[str, Any]) -> Any:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def test_fewest_calls_are_remembered() -> None:
    column, fresh, again = discount(), discount(), discount()
    column.function(trace=[PLAIN])
    load_kept(through_a_file(kept_state(None, [column])), None, [again])
    values = [one.function(trace=[CALLED])[0] for one in (column, fresh, again)]
    assert values[0] == values[2] < values[1] == 0


def test_a_weight_changes_no_memory() -> None:
    column = discount()
    assert dataclasses.replace(column, weight=0.5).memory is column.memory


def test_what_is_no_plain_value_is_refused() -> None:
    column = Column("mine", lambda **_: [], memory={"seen": {1, 2}})
    with pytest.raises(InputError, match="the memory of component 'mine' holds what a checkpoint cannot keep"):
        kept_state(None, [column])
    assert kept_state(None, [Column("mine", lambda **_: [])]) == {}
