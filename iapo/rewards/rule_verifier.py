"""A verifier without a model: whether a call fits the layout and names what the question names."""

from __future__ import annotations

import re
from collections.abc import Sequence

from iapo.records import Sample, ToolCall

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
        call: One checked call on it.
    """
    fits = sample.axis in (None, call.axis)
    boxes = sample.column_boxes if call.axis == "columns" else sample.row_boxes
    named = mentioned(sample.question, list(boxes))
    if not named:
        return float(fits)
    return 0.5 * fits + 0.5 * (set(call.targets) == named)


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
