"""Tokens of images and prompts, and whether rollouts fit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from iapo.errors import InputError
from iapo.records import Sample
from iapo.rollout.budget import Budget, Length, exact, image_tokens, lengths, too_long
from iapo.rollout.prompt import PromptEncoder
from iapo.tools import ToolDefinition
from iapo.training.doctor.findings import Findings, share, some

CHECK = "lengths"


@dataclass(frozen=True, slots=True)
class Spread:
    """How a count is spread over samples.

    Attributes:
        low: The least.
        median: The median.
        most: What 95% of the samples do not exceed.
        high: The largest.
        sample: Id of the sample that has it.
    """

    low: int
    median: int
    most: int
    high: int
    sample: str

    @classmethod
    def of(cls, found: Sequence[Length], count: Callable[[Length], int]) -> Spread:
        """Sums up a count of some lengths."""
        values = np.array([count(one) for one in found])
        top = found[int(values.argmax())].sample.id
        median, most = (int(value) for value in np.quantile(values, [0.5, 0.95], method="higher"))
        return cls(int(values.min()), median, most, int(values.max()), top)


def check_fit(
    samples: Sequence[Sample],
    what: str,
    encoder: PromptEncoder,
    budget: Budget,
    context: int,
    tools: Mapping[str, ToolDefinition],
    findings: Findings,
) -> list[Length]:
    """Counts the tokens of samples, and says which do not fit.

    Args:
        samples: The samples; their prompts can be encoded.
        what: Noun for them, `training` or `test`.
        encoder: The student's encoder.
        budget: Limits of a rollout.
        context: Number of tokens that the student takes.
        tools: The offered tools.
        findings: Where it is said.

    Returns:
        Their lengths, those of samples whose images the processor can take.
    """
    seen, unseen = [], []
    for sample in samples:
        try:
            image_tokens(sample, encoder)
        except InputError:
            unseen.append(sample)
        else:
            seen.append(sample)
    if unseen:
        size = " and ".join("{} x {}".format(*image.size) for image in unseen[0].images)
        findings.error(
            CHECK,
            f"the processor cannot take the images of {share(len(unseen), len(samples))} {what} samples "
            f"({some(unseen)}, {size} pixels); leave them out",
        )
    found = lengths(seen, encoder, tools, budget.turns)
    if not found:
        return []
    counts: dict[str, Callable[[Length], int]] = {
        "image": lambda one: one.images,
        "prompt": lambda one: one.prompt,
        "sequence": lambda one: one.needed(budget),
    }
    numbers: dict[str, Any] = findings.numbers.setdefault(CHECK, {"budget": budget, "context": context})
    numbers[what] = {name: Spread.of(found, count) for name, count in counts.items()}
    worst = exact(max(found, key=lambda one: one.needed(budget)), encoder, tools)
    if budget.sequence is not None and worst.needed(budget) > budget.sequence:
        too_many = [one.sample for one in found if one.needed(budget) > budget.sequence]
        text = too_long(worst, budget, context, encoder)
        findings.error(CHECK, f"{share(max(1, len(too_many)), len(found))} {what} samples do not fit: {text}")
    return found


def check_limits(budget: Budget, findings: Findings) -> None:
    """Warns of limits of turns that leave the second turn nothing.

    Args:
        budget: Limits of a training's rollout.
        findings: Where it is said.
    """
    if budget.written is not None and budget.first is not None and budget.first >= budget.written:
        findings.warn(
            "settings",
            f"a first turn may take all {budget.written} tokens of max_completion_length, and then there is no answer; "
            f"set max_turn_tokens, for example to {max(1, budget.written // 2)}",
        )
