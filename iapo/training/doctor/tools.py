"""Scripted calls: each offered tool once on each sample."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from PIL import Image

from iapo.errors import InputError
from iapo.records import AXES, Sample, ToolResult, image_digest
from iapo.rollout.budget import Budget, Length
from iapo.rollout.prompt import PromptEncoder
from iapo.tools import TOOLS, ToolDefinition, ToolError, execute
from iapo.tools.errors import UNCHANGED
from iapo.training.doctor.findings import Findings, boxes_of, share

CHECK = "tools"

_BOXES = {"columns": "columns_bbox", "rows": "rows_bbox"}


def call_text(tool: ToolDefinition, names: Sequence[str]) -> str:
    """Writes a first turn that calls one tool."""
    listed = ", ".join(map(repr, names))
    return f"```python\ndisplay({tool.name}(image_1, [{listed}], {_BOXES[tool.axis]}))\n```"


def check_tools(
    lengths: Sequence[Length],
    encoder: PromptEncoder,
    budget: Budget,
    tools: Mapping[str, ToolDefinition],
    findings: Findings,
    progress: Callable[[int], None] = lambda done: None,
) -> None:
    """Calls each tool once on each sample that has boxes for it, and names every box once.

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
            names = list(boxes_of(length.sample, tool.axis))
            if not names:
                continue
            calls[tool.name] += 1
            result = _call(tool, [names[index % len(names)]], length.sample, tools)
            if isinstance(result, str):
                failed(tool.name, length, result)
                continue
            if result.image is None:
                # All is in the one box, and a mask leaves it; the image is as large as before.
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
            result = _call(tool, names, length.sample, tools)
            if isinstance(result, str):
                failed(tool.name, length, f"with all its names, {result}")


def _call(
    tool: ToolDefinition, names: Sequence[str], sample: Sample, tools: Mapping[str, ToolDefinition]
) -> ToolResult | str:
    """Returns the result of a call, or why it failed."""
    own = TOOLS.get(tool.name) is not tool
    before = image_digest(sample.image) if own else ""
    try:
        result = execute(call_text(tool, names), sample, tools)
    except (InputError, ToolError) as error:
        return str(error)
    except Exception as error:
        # A function of the user's own may raise anything; in a training this would end the run with a traceback.
        if not own:
            raise
        return f"it raises {type(error).__name__}: {error}"
    if not isinstance(result.image, Image.Image) and result.error != UNCHANGED:
        return result.error or f"the call is {result.status}"
    if own and image_digest(sample.image) != before:
        return "it changes the image that it is given; have it work on a copy"
    return result
