"""Turns that say nothing or were cut off: told where they are many, and an endpoint that never says anything fails."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from iapo.endpoints.chat import EndpointError
from iapo.evaluation.solvers import Solver
from iapo.records import Sample, Trace
from iapo.results import SetsEvaluation

MANY = 0.1
"""Share of rollouts from which a line tells of them; a few are there with any model."""

_SAID = {
    "empty_turn": "have an empty turn, which is measured as what the model said; look at traces.jsonl",
    "cut_turn": "have a turn that was cut off at its longest, before the model ended it; raise ",
}

OPTION = "--max-turn-tokens, with a new --out"


def shortfall_lines(evaluations: Sequence[SetsEvaluation], whose: str = "", longest: str = OPTION) -> Iterator[str]:
    """Yields a line for each test set and for each of empty and cut-off turns that are in many of its rollouts.

    Args:
        evaluations: Evaluations on the same test sets, whose rollouts are counted together; at least one.
        whose: Words before the test set's name, for example `grpo, `.
        longest: Words for what says how long a turn may be.
    """
    for name in evaluations[0].sets:
        found = [one.sets[name] for one in evaluations if name in one.sets]
        counts = [sum(map(len, one.outcomes)) for one in found]
        count = sum(counts)
        for key, said in _SAID.items():
            # A measure that is not there is of none.
            shares = [share.value if (share := one.measures.get(key)) and share.value else 0.0 for one in found]
            short = sum(round(share * of) for share, of in zip(shares, counts, strict=True))
            if short and short >= MANY * count:
                yield f"{whose}{name}: {short} of {count} rollouts {said}{longest if key == 'cut_turn' else ''}"


def refuse_silence(solver: Solver, name: str, done: Iterable[Trace] = ()) -> Solver:
    """Has an endpoint's solver fail where nothing in a call says anything, and nothing before it did.

    A model may say nothing once; one that never does is not asked as it should be, or its server keeps what it says.
    Rollouts are given on from the first one that says something, so that none of a silent endpoint is kept.

    Args:
        solver: The endpoint's solver.
        name: Name of model and endpoint, for the message.
        done: Rollouts with the endpoint that are there already.

    Returns:
        A solver that raises `iapo.endpoints.chat.EndpointError` in that case.
    """
    spoke = any(map(_says, done))

    def solve(samples: Sequence[Sample], seed: int) -> Iterator[Trace]:
        nonlocal spoke
        held: list[Trace] = []
        for trace in solver(samples, seed):
            held.append(trace)
            spoke = spoke or _says(trace)
            if spoke:
                yield from held
                held.clear()
        if held:
            raise EndpointError(_silent(name, held))

    return solve


def _says(trace: Trace) -> bool:
    return not all(one.empty for one in trace.turns)


def _silent(name: str, traces: Sequence[Trace]) -> str:
    todo = (
        "see that it gives what the model says as the message's content, and not as reasoning_content alone, and run "
        "the same command again"
    )
    if all(trace.turns[-1].cut for trace in traces):
        todo = "a turn ended before its text began, as behind long thoughts; raise --max-turn-tokens, with a new --out"
    return f"all {len(traces)} answers of {name} are empty, so that nothing is measured and none is kept; {todo}"
