"""A verifier without a model: whether a call fits the layout and names what the question names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from iapo.errors import InputError
from iapo.records import Sample, ToolCall
from iapo.tools import ToolDefinition

RULES = "rules"
"""The verifier's name in a configuration."""


def rule_score(sample: Sample, call: ToolCall) -> float:
    """Returns how good a call is, from what is known of the sample: 0, 0.5 or 1.

    Half is for an axis that is not the wrong one (`Sample.axis`; any axis where both divide the image), half for
    naming exactly the columns or rows that the question names. Where the question names none of that axis ("which is
    the largest?"), which names are right cannot be told, and the axis decides alone.

    Args:
        sample: The sample; `axis` is the annotation that misuse is measured by, so that this verifier is told more than
            a model would be.
        call: One checked call on it. One that a judge has looked at (`ToolCall.misused`) is as good as that says.

    Raises:
        InputError: If it is of a tool without an axis, and no judge has looked at it.
    """
    if call.misused is not None:
        return float(not call.misused)
    if call.axis is None:
        raise _unscored(call.name)
    fits = sample.axis in (None, call.axis)
    boxes = sample.column_boxes if call.axis == "columns" else sample.row_boxes
    named = mentioned(sample.question, list(boxes))
    if not named:
        return float(fits)
    return 0.5 * fits + 0.5 * (set(call.targets) == named)


def check_judged(tools: Mapping[str, ToolDefinition]) -> None:
    """Refuses tools whose calls these rules cannot score: without an axis and without a judge of their own.

    Raises:
        InputError: If there is one.
    """
    for name, tool in tools.items():
        if tool.axis is None and tool.misuse is None:
            raise _unscored(name)


def _unscored(name: str) -> InputError:
    return InputError(
        f"the verifier {RULES} cannot score calls of {name}, which has no axis and no judge; give the tool one of "
        "these (docs/your-own.md), or take another verifier"
    )


def verify_by_rules(calls: Sequence[tuple[Sample, ToolCall]]) -> list[float]:
    """Returns the score of each call by `rule_score`."""
    return [rule_score(sample, call) for sample, call in calls]


def mentioned(question: str, names: Sequence[str]) -> set[str]:
    """Returns the names that stand in a question as whole words; of two that overlap, the longer one."""
    known = sorted((name for name in names if name.strip()), key=len, reverse=True)
    if not known:
        return set()
    pattern = "|".join(re.escape(name) for name in known)
    return {match.group() for match in re.finditer(rf"(?<!\w)(?:{pattern})(?!\w)", question)}
