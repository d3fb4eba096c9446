"""Judges of calls: whether one is misuse, where no axis tells."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from iapo.errors import InputError, unknown
from iapo.kinds import checks_kinds, plain
from iapo.records import Sample, ToolCall
from iapo.tools.definitions import Judge, ToolDefinition

JUDGES: dict[str, Judge] = {}
"""Judges that samples may name (`Sample.judge`)."""


@checks_kinds
def add_judge(name: str, judge: Judge) -> None:
    """Makes a judge known by a name, which samples and rows of data can then say.

    Args:
        name: Its name.
        judge: Function of a sample and a call that tells whether the call is misuse; None where it cannot tell.

    Raises:
        InputError: If another one has that name.
    """
    if JUDGES.get(name, judge) is not judge and _home(JUDGES[name]) != _home(judge):
        raise InputError(f"there are two judges {name!r}; give one of them another name")
    JUDGES[name] = judge


def check_judges(samples: Iterable[Sample]) -> None:
    """Refuses samples whose judge is not known, before anything is rolled out.

    Raises:
        InputError: If there is one.
    """
    for sample in samples:
        if sample.judge:
            _known(sample)


def check_names(names: Iterable[str]) -> None:
    """Refuses names of judges that are not known.

    Raises:
        InputError: If there is one.
    """
    for name in names:
        if name not in JUDGES:
            raise unknown("judge", name, JUDGES, where=", which samples name")


def _known(sample: Sample) -> Judge:
    if sample.judge not in JUDGES:
        raise unknown("judge", sample.judge, JUDGES, where=f", which sample {sample.id!r} names")
    return JUDGES[sample.judge]


def judged(sample: Sample, tool: ToolDefinition, call: ToolCall) -> ToolCall:
    """Returns a call with the verdict of the sample's judge, else of the tool's; as it is where there is neither.

    Raises:
        InputError: If the sample names a judge that is not known, or a judge fails: what is right and wrong is no
            matter of a rollout.
    """
    judge = _known(sample) if sample.judge else tool.misuse
    if judge is None:
        return call
    whose = f"the judge of {f'sample {sample.id!r}' if sample.judge else f'tool {tool.name}'}"
    try:
        verdict = judge(sample, call)
    except Exception as error:
        # A function of the user's own may raise anything; the sentence names what it was asked about.
        raise InputError(
            f"{whose} failed on a call of {call.name} ({type(error).__name__}: {error}); mend it"
        ) from error
    # A comparison of NumPy's numbers gives a truth value of its own.
    verdict = plain(verdict)
    if verdict is not None and not isinstance(verdict, bool):
        raise InputError(f"{whose} returned {verdict!r}; return True for misuse, False, or None where it cannot tell")
    return dataclasses.replace(call, misused=verdict)


def _home(judge: Judge) -> tuple[str | None, str | None]:
    # A file that was changed and read again brings its functions anew.
    code = getattr(judge, "__code__", None)
    return getattr(code, "co_filename", None), getattr(judge, "__qualname__", None)
