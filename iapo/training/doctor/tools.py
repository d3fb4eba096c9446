"""Scripted calls: each offered tool once on each sample."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from iapo.errors import InputError
from iapo.records import AXES, Sample, ToolResult
from iapo.rollout.budget import Budget, Length
from iapo.rollout.prompt import PromptEncoder
from iapo.tools import TOOLS, ToolDefinition, execute
from iapo.tools.errors import UNCHANGED
from iapo.training.doctor.findings import Findings, boxes_of, share

CHECK = "tools"

_BOXES = {"columns": "columns_bbox", "rows": "rows_bbox"}


def call_text(tool: ToolDefinition, names: Sequence[str]) -> str:
    """Writes a first turn that calls one tool that focuses."""
    listed = ", ".join(map(repr, names))
    assert tool.axis is not None
    return f"```python\ndisplay({tool.name}(image_1, [{listed}], {_BOXES[tool.axis]}))\n```"


def _scripted(tool: ToolDefinition, sample: Sample, index: int) -> str | None:
    """Returns a first turn that calls a tool on a sample; None where none can be made up."""
    if tool.free is not None:
        call = tool.call_text(sample)
        return None if call is None else f"```python\n{call}\n```"
    assert tool.axis is not None
    names = list(boxes_of(sample, tool.axis))
    return call_text(tool, [names[index % len(names)]]) if names else None


def check_tools(
    lengths: Sequence[Length],
    encoder: PromptEncoder,
    budget: Budget,
    tools: Mapping[str, ToolDefinition],
    findings: Findings,
    progress: Callable[[int], None] = lambda done: None,
) -> None:
    """Calls each tool once on each sample that has what it needs, and names every box once.

    Arguments of a free tool are made up: where they do not fit a sample, nothing is wrong with the tool.

    Args:
        lengths: The samples, with their lengths.
        encoder: The student's encoder.
        budget: Limits of a rollout.
        tools: The offered tools.
        findings: Where it is said.
        progress: Callback, called with the number of new samples done.
    """
    calls, failures, cut = Counter[str](), Counter[str](), Counter[str]()
    first: dict[str, str] = {}
    largest: dict[str, int] = {}

    def failed(tool: str, length: Length, reason: str) -> None:
        failures[tool] += 1
        first.setdefault(tool, f"sample {length.sample.id!r}: {reason}")

    for index, length in enumerate(lengths):
        for tool in tools.values():
            text = _scripted(tool, length.sample, index)
            if text is None:
                continue
            result = _call(text, length.sample, tools)
            if tool.free is not None and isinstance(result, ToolResult) and _does_not_fit(result):
                continue
            calls[tool.name] += 1
            if (reason := _why_not(result)) is not None:
                failed(tool.name, length, reason)
                continue
            if isinstance(result, str) or result.image is None:
                continue
            try:
                (tokens,) = encoder.image_token_counts((result.image,))
            except InputError as error:
                failed(tool.name, length, str(error))
                continue
            largest[tool.name] = max(tokens, largest.get(tool.name, 0))
            needed = length.needed(budget) + (budget.turns - 1) * (tokens - length.image)
            # What does not fit with an edit of the image's own size is said of the sample.
            if budget.sequence is not None and needed > max(budget.sequence, length.needed(budget)):
                cut[tool.name] += 1
                edited = "{} x {}".format(*result.image.size)
                first.setdefault(tool.name, f"sample {length.sample.id!r}: {edited} pixels are {tokens} tokens")
        _name_all(length, tools, failed)
        progress(1)
    findings.numbers[CHECK] = {
        name: {"calls": calls[name], "failed": failures[name], "cut": cut[name], "tokens": largest.get(name)}
        for name in tools
    }
    for name in tools:
        if failures[name]:
            findings.error(
                CHECK, f"{name} fails in {share(failures[name], calls[name])} scripted calls; first, {first[name]}"
            )
        elif cut[name]:
            findings.error(
                CHECK,
                f"what {name} returns does not fit into the longest sequence of {budget.sequence} tokens in "
                f"{share(cut[name], calls[name])} scripted calls; first, {first[name]}; such rollouts teach nothing: "
                "have the tool return smaller images, or raise max_sequence_length",
            )


def _name_all(length: Length, tools: Mapping[str, ToolDefinition], failed: Callable[[str, Length, str], None]) -> None:
    """Names all boxes of each axis in one call: a name may be such that no program can say it."""
    for axis in AXES:
        names = list(boxes_of(length.sample, axis))
        tool = next((one for one in tools.values() if one.axis == axis), None)
        if tool is not None and len(names) > 1 and tool.name in TOOLS:
            result = _call(call_text(tool, names), length.sample, tools)
            if (reason := _why_not(result)) is not None:
                failed(tool.name, length, f"with all its names, {reason}")


def _call(text: str, sample: Sample, tools: Mapping[str, ToolDefinition]) -> ToolResult | str:
    """Returns what came of a first turn; a sentence where a judge of calls failed."""
    try:
        return execute(text, sample, tools)
    except InputError as error:
        return str(error)


def _does_not_fit(result: ToolResult) -> bool:
    return result.status == "failed" and not result.broken


def _why_not(result: ToolResult | str) -> str | None:
    """Says why a call did not work; None where it did. A mask leaves the image as it is where all is in the one box."""
    if isinstance(result, str):
        return result
    if result.executed or result.error == UNCHANGED:
        return None
    return result.error or f"the call is {result.status}"
