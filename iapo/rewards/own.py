"""Rewards of the user's own: a plain function of a rollout by reference, or all that a preset can be."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence, Set, Sized
from typing import Any, cast

from iapo.errors import InputError
from iapo.plugins import function_name, name_in, resolve, users_code
from iapo.records import Trace
from iapo.rewards.columns import Column, Preset, Reward, RewardFunction, Sources

FORMS = "(trace), (trace, outcome), (trace, **columns) or (sources)"
"""The forms that a function may have; docs/rewards.md has one of each."""

_NO_LIST = (Mapping, Set, str, bytes, bytearray, memoryview)
"""What has a length and can be gone through, and yet is no list: keys and letters are no rewards, sets unordered."""

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def own_reward(reference: str) -> Reward:
    """Returns the reward that a reference names.

    Args:
        reference: `FILE.py:NAME` or `package.module:NAME` of a `Reward`, or of a function in one of four forms:
            `(trace) -> float` and `(trace, outcome) -> float` say what one rollout is worth, the second is told the
            outcome, 0 or 1, as a judge or the rules have it; `(trace, **columns) -> list of floats` is TRL's form, for
            a batch; `(sources) -> Preset` has no more than the outcome to draw on unless `reward` declares it. What the
            first three give takes the outcome's place in the reward. Further parameters may have defaults; one that is
            called `outcome` is told it, with a default or without.

    Raises:
        InputError: If there is none, or it is of another form.
    """
    found = resolve(reference, "reward", callable, f"a function {FORMS}")
    what = f"reward {reference!r}"
    if isinstance(found, Reward):
        return _own_preset(what, found.make, found)
    if inspect.iscoroutinefunction(found):
        raise InputError(f"{what} is async; give a plain function {FORMS}")
    name = name_in(reference)
    try:
        parameters = tuple(inspect.signature(found).parameters.values())
    except (TypeError, ValueError) as error:
        raise InputError(f"{what} has no readable signature; give a function {FORMS}") from error
    needed = [one for one in parameters if one.default is one.empty and one.kind in _POSITIONAL]
    if [one.name for one in needed] == ["sources"]:
        return _own_preset(what, found, Reward(found))
    if any(one.kind is one.VAR_KEYWORD for one in parameters):
        return _instead(name, lambda sources: own_function(what, found))
    told = next((one for one in parameters if one.name == "outcome"), None)
    by_name = told is not None and told.kind is not told.POSITIONAL_ONLY
    if by_name and told is next(iter(parameters)):
        raise InputError(f"{what} takes the outcome first; give a function {FORMS}")
    for one in parameters:
        if one.default is one.empty and one.kind is one.KEYWORD_ONLY and one is not told:
            raise InputError(f"{what} needs {one.name!r} by name, which nothing is; give a function {FORMS}")
    # The outcome is told to whoever asks for it, a default or not.
    needed = [one for one in parameters if one.kind in _POSITIONAL and (one in needed or one is told)]
    if by_name and len([one for one in needed if one is not told]) == 1:
        return _instead(name, lambda sources: _of_outcomes(what, found, sources, by_name=True))
    if len(needed) == 2 and not by_name:
        return _instead(name, lambda sources: _of_outcomes(what, found, sources, by_name=False))
    if len(needed) == 1 and told is None:
        return _instead(name, lambda sources: _of_traces(what, found))
    raise InputError(f"{what} takes {len(needed)} arguments; give a function {FORMS}")


def own_function(what: str, function: RewardFunction) -> RewardFunction:
    """Returns a reward function of the user's own in TRL's form, with what it raises and returns looked at.

    Args:
        what: Noun for it with its name, as sentences begin.
        function: The function; one that is async stays so.

    Returns:
        The function under its own name. It raises `InputError` where the user's raises anything, or returns other than
        a number, or None, for each rollout.
    """
    if inspect.iscoroutinefunction(function):

        async def later(*args: Any, **columns: Any) -> list[float | None]:
            count, check = _rows(args, columns), _kept(what, columns)
            with users_code(what, function):
                numbers = _numbers(what, await function(*args, **columns), count)
            check()
            return numbers

        return _named_as(function, later)

    def now(*args: Any, **columns: Any) -> list[float | None]:
        count, check = _rows(args, columns), _kept(what, columns)
        with users_code(what, function):
            numbers = _numbers(what, function(*args, **columns), count)
        check()
        return numbers

    return _named_as(function, now)


def _named_as(function: Any, wrapper: Any) -> RewardFunction:
    """Returns a wrapper under the name of what it wraps, also where that is a partial function or an object."""
    functools.update_wrapper(wrapper, function)
    wrapper.__name__ = function_name(function)
    return cast("RewardFunction", wrapper)


def _own_preset(what: str, make: Callable[[Sources], Any], declared: Reward) -> Reward:
    """Returns a reward whose preset is made by the user's function, with all of it looked at."""

    def made(sources: Sources) -> Preset:
        with users_code(what, make):
            try:
                found = make(sources)
            except InputError as error:
                if type(error) is not InputError:
                    raise
                # Of `Column` and `Preset`, which do not know whose they are.
                raise InputError(f"{what}: {error}") from error
        if not isinstance(found, Preset):
            raise InputError(f"{what} returned {_shown(found)} from its sources; return a `Preset`")
        columns = (
            dataclasses.replace(one, function=own_function(f"component {one.name!r} of {what}", one.function))
            for one in found.columns
        )
        return dataclasses.replace(found, columns=tuple(columns))

    return Reward(made, declared.uses)


def _instead(name: str, make: Callable[[Sources], RewardFunction]) -> Reward:
    """Returns a reward of one column, beside which the outcome is logged but does not count."""
    return Reward(lambda sources: Preset((Column(name, make(sources)),), outcome_weight=0.0))


def _of_traces(what: str, value: Callable[[Trace], float]) -> RewardFunction:
    def function(trace: Sequence[Trace], **columns: Any) -> list[float]:
        return [_worth(what, value, one) for one in trace]

    return function


def _of_outcomes(what: str, value: Callable[..., float], sources: Sources, *, by_name: bool) -> RewardFunction:
    def function(trace: Sequence[Trace], **columns: Any) -> list[float]:
        scores = [one.value for one in sources.outcome(trace)]
        if by_name:
            return [_worth(what, value, one, outcome=score) for one, score in zip(trace, scores, strict=True)]
        return [_worth(what, value, one, score) for one, score in zip(trace, scores, strict=True)]

    return function


def _worth(what: str, value: Callable[..., float], trace: Trace, *args: Any, **named: Any) -> float:
    """Returns what the user's function says that one rollout is worth."""
    with users_code(what, value):
        found = value(trace, *args, **named)
        number = _number(found)
        if number is None:
            sample = f"{trace.sample.source}/{trace.sample.id}"
            raise InputError(f"{what} returned {_shown(found)} for a rollout of sample {sample}; return a number")
        return number


def _kept(what: str, columns: Mapping[str, Any]) -> Callable[[], None]:
    """Returns what refuses, once a function was called, that it changed lists of columns: others read them after it."""
    before = {name: list(some) for name, some in columns.items() if isinstance(some, list)}

    def check() -> None:
        for name, some in before.items():
            if len(some) != len(columns[name]) or any(map(operator.is_not, some, columns[name])):
                raise InputError(f"the column {name!r} was changed while {what} ran, and others read it; change a copy")

    return check


def _rows(args: Sequence[Any], columns: Mapping[str, Any]) -> int:
    """Returns the number of rollouts that a reward function is called with."""
    return len(columns["trace"] if "trace" in columns else args[0])


def _numbers(what: str, found: Any, count: int) -> list[float | None]:
    """Reads what a reward function returned, one number a rollout; None says that it has none for it.

    Raises:
        InputError: If it is anything else.
    """
    form = f"return a list of {count} numbers, one a rollout"
    if not isinstance(found, Iterable) or not isinstance(found, Sized) or isinstance(found, _NO_LIST):
        raise InputError(f"{what} returned {_shown(found)}; {form}")
    try:
        values = list(found)
    except (TypeError, RuntimeError) as error:
        # A tensor or an array of one number, or a tensor that is sparse.
        raise InputError(f"{what} returned {_shown(found)}; {form}") from error
    if len(values) != count:
        raise InputError(f"{what} returned {len(values)} values for {count} rollouts; {form}")
    numbers = [_number(one) for one in values]
    for value, number in zip(values, numbers, strict=True):
        if number is None and value is not None:
            raise InputError(f"{what} returned a list with {_shown(value)}; {form}")
    return numbers


def _number(value: Any) -> float | None:
    """Returns a number of Python, NumPy or torch as Python's; None for anything else."""
    try:
        # Of a complex number `float` would take a part.
        plain = value.item() if hasattr(value, "item") and not isinstance(value, type) else value
        return None if isinstance(plain, str | bytes) or not hasattr(plain, "__float__") else float(plain)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        # An array or a tensor of several numbers, or of none, a complex one, or a number of hundreds of digits.
        return None


def _shown(value: Any) -> str:
    text = " ".join(repr(value).split())
    return "None" if value is None else f"a {type(value).__name__} ({text if len(text) <= 60 else f'{text[:60]}...'})"
