"""Rewards of the user's own: what they are told, and the sentence where they raise or return what is no reward."""

from __future__ import annotations

import asyncio
import functools
import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from iapo.endpoints.chat import EndpointError
from iapo.errors import InputError
from iapo.plugins import function_name
from iapo.records import Sample, Score, ToolResult, Trace
from iapo.rewards.columns import Column, Preset, Sources, reward
from iapo.rewards.own import own_function, own_reward
from iapo.rewards.presets import find_reward

HEAD = "import functools, math\nfrom iapo.rewards.columns import Column, Preset, reward\n"


def trace(name: str = "s") -> Trace:
    return Trace.of(Sample(name, Image.new("RGB", (2, 2)), "?", ("42",)), "no", ToolResult("no_call"))


TRACES = [trace("one"), trace("two")]


def nothing(rows: Any) -> list[Any]:
    raise AssertionError("nothing of this is asked for")


SOURCES = Sources(
    lambda traces: [Score(0.25 + place) for place, _ in enumerate(traces)], nothing, nothing, nothing, nothing
)


@pytest.fixture
def mine(tmp_path: Path) -> Any:
    """Writes a file with a reward `f`, and returns the reference to it."""
    made = iter(range(1000))

    def write(code: str) -> str:
        path = tmp_path / f"mine_{next(made)}.py"
        path.write_text(f"{HEAD}{code}\n")
        return f"{path}:f"

    return write


def values(reference: str) -> list[float]:
    (column,) = own_reward(reference)(SOURCES).columns
    return column.function(trace=TRACES, rollout=TRACES, prompts=[], completions=[])


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("def f(trace):\n    return len(trace.sample.id)", [3, 3]),
        ("def f(trace, bonus=0.5):\n    return bonus", [0.5, 0.5]),
        *[
            (f"def f({parameters}):\n    return 2 * outcome", [0.5, 2.5])
            for parameters in (
                *("trace, outcome", "trace, outcome=9.0", "trace, *, outcome", "trace, *, outcome=None"),
                *("trace, bonus=1, outcome=0.0", "trace, outcome, /", "trace, outcome=0.0, /"),
            )
        ],
        ("def g(trace, outcome, w):\n    return w * outcome\nf = functools.partial(g, w=3)", [0.75, 3.75]),
        ("def f(trace, **columns):\n    return (True, None)", [1.0, None]),
        ("class K:\n    def __call__(self, trace):\n        return 1\nf = K()", [1, 1]),
    ],
)
def test_what_it_is_told(mine: Any, code: str, expected: list[float]) -> None:
    assert values(mine(code)) == expected


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        (
            "def f(trace):\n    return 1 / 0",
            r"mine_0\.py:f' failed \(ZeroDivisionError: division by zero, line 4\); mend",
        ),
        ("def f(trace):\n    raise SystemExit(3)", r"failed \(SystemExit: 3, line 4\)"),
        ("def f(trace):\n    pass", "mine_0.py:f' returned None for a rollout of sample /one; return a number"),
        ("def f(trace):\n    return [1.0]", r"returned a list \(\[1.0\]\) for a rollout"),
        ("def f(trace):\n    return '1'", "returned a str"),
        ("def f(trace):\n    yield 1", "returned a generator"),
        ("def f(trace, outcome):\n    return {'a': outcome}", "returned a dict"),
        ("def f(trace, **columns):\n    return {0: 1.0, 1: 1.0}", "returned a dict .* return a list of 2 numbers"),
        ("def f(trace, **columns):\n    return 1.0", "returned a float"),
        ("def f(trace, **columns):\n    return [1.0]", "returned 1 values for 2 rollouts"),
        ("def f(trace, **columns):\n    return [1.0, '1']", "returned a list with a str"),
        ("def f(trace, **columns):\n    return (1.0 for one in trace)", "returned a generator"),
        ("def f(trace, **columns):\n    return columns['none']", r"failed \(KeyError: 'none', line 4\)"),
        ("def f(trace, outcome, **columns):\n    return [1.0, 1.0]", "failed .TypeError: .* 'outcome'"),
        ("async def f(trace):\n    return 1.0", "is async; give a plain function"),
        ("async def f(trace, **columns):\n    return [1.0, 1.0]", "is async; give a plain function"),
        ("def f(outcome, trace):\n    return outcome", "takes the outcome first"),
        ("def f(trace, *, bonus):\n    return bonus", "needs 'bonus' by name"),
        ("def f(a, b, c):\n    return 1", "takes 3 arguments"),
        ("@reward\ndef f(sources):\n    return Preset(())", r"stands without brackets; write @reward\(\)"),
        ("@reward('divergence')\ndef f(sources):\n    return Preset(())", "did you mean divergences"),
        ("def f(sources):\n    return None", "returned None from its sources; return a `Preset`"),
        ("@reward('divergences')\ndef f(trace):\n    return 1", "returned a int .* return a `Preset`"),
        ("def f(sources):\n    return 1 / 0", r"failed \(ZeroDivisionError: division by zero, line 4\)"),
        *[
            (f"def f(sources):\n    return {preset}", sentence)
            for preset, sentence in (
                ("Preset((Column('a', print, math.nan),))", "mine_0.py:f': component 'a': a weight is nan"),
                ("Preset((Column('a', print, math.inf),))", "component 'a': a weight is inf"),
                ("Preset((Column('a', print, 1.0, math.nan),))", "component 'a': a weight is nan"),
                ("Preset((Column('a', print, '1'),))", "component 'a': weight is '1'; it takes a number"),
                ("Preset((Column('a', print, None),))", "component 'a': weight is None"),
                ("Preset((Column('a', print, scope='x'),))", "scope is 'x'; it takes rollout or turn_1 or call"),
                ("Preset((Column(5, print),))", "name is 5; it takes a text"),
                ("Preset((Column('', print),))", "has an empty name"),
                ("Preset((Column('a', [1.0]),))", r"the function of component 'a' is \[1.0\]"),
                ("Preset((), math.nan)", "preset: a weight is nan"),
                ("Preset((), None)", "preset: outcome_weight is None"),
                ("Preset((print,))", "give a tuple of `Column`"),
            )
        ],
        ("def f(sources):\n    return Preset((Column('a', lambda trace, **c: 1 / 0),))", "component 'a' of .* failed"),
        (
            "def f(sources):\n    return Preset((Column('a', lambda trace, **c: None),))",
            "component 'a' of .* returned None",
        ),
    ],
)
def test_what_is_no_reward_is_one_sentence(mine: Any, code: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence) as caught:
        values(mine(code))
    assert "\n" not in str(caught.value)


def test_a_function_in_python() -> None:
    def given(trace: Any, **columns: Any) -> Any:
        return columns["rows"]

    looked_at = own_function("reward function 'given'", given)
    for rows in (
        [1, None],
        (1.0, None),
        np.array([1.0, 2.0]),
        torch.tensor([1, 2]),
        torch.ones(2, 1),
        [True, np.int64(3)],
    ):
        found = looked_at(trace=TRACES, rows=rows)
        assert [type(one) for one in found] in ([float, float], [float, type(None)])
    with pytest.raises(InputError, match=rf"reward function 'given' failed \(KeyError: 'rows', {__file__}, line \d+\)"):
        looked_at(trace=TRACES)

    async def later(trace: Any, **columns: Any) -> Any:
        return [1.0] if columns else [1.0, 2.0]

    # In a thread: that of the tests has a loop of its own once one of them has opened a browser.
    with ThreadPoolExecutor(1) as threads:
        assert threads.submit(asyncio.run, own_function("r", later)(trace=TRACES)).result() == [1.0, 2.0]
        with pytest.raises(InputError, match="r returned 1 values for 2 rollouts"):
            threads.submit(asyncio.run, own_function("r", later)(trace=TRACES, more=1)).result()


@pytest.mark.parametrize("error", [EndpointError("no answer"), MemoryError("none left")])
def test_what_is_no_fault_of_the_function_stays_what_it_is(error: Exception) -> None:
    def asks(trace: Any, **columns: Any) -> Any:
        raise error

    with pytest.raises(type(error)):
        own_function("r", asks)(trace=TRACES)


def test_names() -> None:
    class Kind:
        def __call__(self, trace: Any, **columns: Any) -> list[float]:
            return [0.0] * len(trace)

    def named(trace: Any, **columns: Any) -> list[float]:
        return [0.0] * len(trace)

    partial = functools.partial(functools.partial(named), one=1)
    assert [function_name(one) for one in (named, partial, Kind(), len)] == ["named", "named", "Kind", "len"]
    assert [own_function("r", one).__name__ for one in (partial, Kind())] == ["named", "Kind"]


class Broken:
    """A list of two that fails where it is read."""

    def __len__(self) -> int:
        return 2

    def __iter__(self) -> Any:
        raise KeyError("rows")


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (Broken(), r"^r failed \(KeyError: 'rows', .*\); mend it"),
        (frozenset((1.0, 2.0)), "returned a frozenset .* return a list of 2 numbers"),
        ({1.0: 0, 2.0: 0}.keys(), "returned a dict_keys"),
        (bytearray(b"ab"), "returned a bytearray"),
        (memoryview(b"ab"), "returned a memoryview"),
        (np.array([1j, 2]), "returned a list with a complex128"),
        (torch.tensor([1j, 2]), "returned a list with a Tensor"),
        (torch.eye(2).to_sparse(), "returned a list with a Tensor"),
        (torch.ones(2, device="meta"), "returned a list with a Tensor"),
        (torch.ones(3), "returned 3 values for 2 rollouts"),
        (np.array(1.0), "returned a ndarray"),
        ([np.str_("1"), 1.0], "returned a list with a str_"),
    ],
)
def test_what_looks_like_a_list_of_numbers(given: Any, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        own_function("r", lambda trace, **columns: given)(trace=TRACES)


@pytest.mark.filterwarnings("error")
def test_numbers_of_libraries_are_numbers() -> None:
    for given in (np.ones(2), torch.ones(2, requires_grad=True), [np.float32(1), torch.tensor([1.0])], (True, 1)):
        assert own_function("r", lambda trace, given=given, **columns: given)(trace=TRACES) == [1.0, 1.0]


def test_what_a_reward_is_given_stays_as_it_is(mine: Any) -> None:
    def scores(trace: Any, **columns: Any) -> list[float]:
        trace[0].scores["outcome"] = 5
        return [0.0] * len(trace)

    def rows(trace: Any, **columns: Any) -> list[float]:
        trace.reverse()
        return [0.0] * len(trace)

    with pytest.raises(InputError, match=r"^r failed \(TypeError: a record's map cannot be changed; change a copy"):
        own_function("r", scores)(trace=TRACES)
    with pytest.raises(
        InputError, match="the column 'trace' was changed while r ran, and others read it; change a copy"
    ):
        own_function("r", rows)(trace=list(TRACES))
    with pytest.raises(InputError, match=r"failed \(TypeError: a record's map cannot"):
        values(mine("def f(trace):\n    trace.attribution['student'] = {}\n    return 1.0"))


def test_weights_of_a_sum_stay_finite(mine: Any) -> None:
    found = find_reward(f"grpo+{mine('def f(trace): return 1')}")(SOURCES)
    assert found == Preset(found.columns, 0.0)
    assert not math.isnan(found.columns[0].weight_at(10))
    assert Column("a", nothing, np.float32(0.5)).weight_at(0) == 0.5  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"@reward stands without brackets"):
        reward(lambda sources: Preset())  # type: ignore[arg-type]
