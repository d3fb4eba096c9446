"""What a checkpoint keeps of rewards: what they remember from batch to batch."""

from __future__ import annotations

import collections
import dataclasses
import enum
import fractions
import io
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image

from iapo.calls import ToolResult
from iapo.errors import InputError
from iapo.records import Sample, Score, Trace
from iapo.rewards.columns import Column, Sources
from iapo.rewards.presets import find_reward
from iapo.training.kept import kept_state, load_kept
from iapo.training.memories import remembering

SAMPLE = Sample("s", Image.new("RGB", (28, 28)), "How many?", ("5",))
CALLED = Trace.of(SAMPLE, "code", ToolResult("failed"), "FINAL ANSWER: 5")
PLAIN = Trace.of(SAMPLE, "FINAL ANSWER: 5", ToolResult("no_call"))


def unasked(*_: Any) -> Any:
    raise AssertionError


class Shade(enum.StrEnum):
    DARK = "dark"


class Point(NamedTuple):
    x: int
    y: int


ONE: list[int] = []
CIRCLE: list[Any] = []
CIRCLE.append(CIRCLE)
DEEP: Any = ()
for _ in range(3000):
    DEEP = (DEEP,)


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


def kept(memory: Any) -> Any:
    """What a mapping holds after a checkpoint was gone on from; the mapping itself is the same."""
    column = Column("mine", lambda **_: [], memory=memory)
    assert column.memory is memory
    state = through_a_file(kept_state(None, [column]))
    memory["later"] = 1
    load_kept(state, None, [column])
    return memory


@pytest.mark.parametrize(
    "make",
    [
        lambda: {"a": 1, 2: None, ("a", (3,)): [1.5, True], 2**70: float("inf")},
        lambda: collections.Counter("abba"),
        lambda: collections.defaultdict(list, {"a": [1, 2]}),
        lambda: collections.OrderedDict(b=1, a=2),
        lambda: {"a": collections.Counter({"x": 2}), "b": collections.OrderedDict(z=1, y=2), "c": {"d": {}}},
        lambda: {"a": {1, 2}, frozenset([1]): collections.deque([1, 2], 2), "b": ("list", [1]), "c": (), "d": set()},
        lambda: {np.int64(3): np.float32(0.1), "a": np.bool_(True), ("a", np.float64(2.0)): np.float16(1.0)},
    ],
)
def test_what_is_remembered_comes_back_as_what_it_was(make: Any) -> None:
    memory, found = make(), kept(make())
    assert (repr(found), type(found)) == (repr(memory), type(memory))
    for one, other in zip(found.items(), memory.items(), strict=True):
        assert list(map(type, one)) == list(map(type, other))


def test_arrays_and_tensors_come_back() -> None:
    found = kept(
        {"a": [np.arange(6.0, dtype=">f8").reshape(2, 3)], "b": torch.ones(2, dtype=torch.bfloat16), "c": np.str_("x")}
    )
    (array,) = found["a"]
    assert array.dtype.str == ">f8"
    array *= 0.5
    assert array.tolist() == [[0.0, 0.5, 1.0], [1.5, 2.0, 2.5]]
    assert found["b"].equal(torch.ones(2, dtype=torch.bfloat16))
    assert found["c"] == "x"


@pytest.mark.parametrize(
    "value",
    [
        *(object(), [b"a"], {"a": {3: 1j}}, fractions.Fraction(1, 3), collections.defaultdict(int), Shade.DARK),
        *(Point(1, 2), range(3), torch.ones(2, requires_grad=True), np.array([{}]), np.datetime64("2020-01-01")),
        *(collections.ChainMap({}), [ONE, ONE], CIRCLE, DEEP),
    ],
)
def test_what_would_not_come_back_is_refused(value: Any) -> None:
    memory: dict[str, Any] = {}
    column = Column("mine", lambda **_: [0.0], memory=memory)
    function = remembering(column)
    assert function(trace=[]) == [0.0]
    # In a later batch, too.
    memory["seen"] = value
    for refused in (lambda: kept_state(None, [column]), lambda: function(trace=[])):
        with pytest.raises(InputError, match=r"the memory of component 'mine' holds .*; give it numbers"):
            refused()
    plain = Column("mine", lambda **_: [0.0])
    assert kept_state(None, [plain]) == {}
    assert remembering(plain) is plain.function
