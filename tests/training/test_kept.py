"""What a checkpoint keeps of rewards: what they remember from batch to batch."""

from __future__ import annotations

import collections
import dataclasses
import io
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from iapo.calls import ToolResult
from iapo.errors import InputError
from iapo.records import Sample, Score, Trace
from iapo.rewards.columns import Column, Sources
from iapo.rewards.presets import find_reward
from iapo.training.kept import kept_state, load_kept, remembering

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


def test_values_of_numpy_are_kept_as_pythons() -> None:
    memory = collections.defaultdict(float, {("a", np.str_("b")): np.float64(0.5)})
    column = Column("mine", lambda **_: [], memory=memory)
    assert column.memory is memory
    state = through_a_file(kept_state(None, [column]))
    load_kept(state, None, [column])
    assert memory == {("a", "b"): 0.5}


@pytest.mark.parametrize("value", [{1, 2}, collections.Counter("a"), object(), [b"a"], {"a": {3}}])
def test_what_is_no_plain_value_is_refused(value: Any) -> None:
    column = Column("mine", lambda **_: [0.0], memory={"seen": value})
    for refused in (lambda: kept_state(None, [column]), lambda: remembering(column)(trace=[])):
        with pytest.raises(
            InputError, match=r"the memory of component 'mine' holds a value of type .*; give it numbers"
        ):
            refused()
    plain = Column("mine", lambda **_: [0.0])
    assert kept_state(None, [plain]) == {}
    assert remembering(plain) is plain.function
