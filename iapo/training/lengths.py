"""Training samples that are too long: the data are refused, or the samples are dropped, counted and said."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from datasets import Dataset

from iapo.errors import InputError
from iapo.records import Sample
from iapo.rollout.budget import Length, exact, lengths, named
from iapo.rollout.prompt import PromptEncoder
from iapo.tools import TOOLS, ToolDefinition
from iapo.training.budget import dataset_samples, training_budget
from iapo.training.checks import check_enough
from iapo.training.config import IAPOConfig

logger = logging.getLogger(__name__)

_SLACK = 4
"""By how many tokens a cheap count may be wrong; what lies nearer to a limit is counted in full."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """What was left out of a training set.

    Attributes:
        places: Places of the samples that were left out.
        total: Number of samples that there were.
        longest: Tokens of the longest prompt among them; 0 where there is none.
    """

    places: tuple[int, ...]
    total: int
    longest: int

    def __str__(self) -> str:
        return (
            f"{len(self.places)} of {self.total} training samples are too long, the longest prompt with {self.longest} "
            "tokens"
        )

    def to_json(self) -> dict[str, int]:
        """Returns the counts, as the manifest keeps them."""
        return {"dropped": len(self.places), "of": self.total, "longest": self.longest}


def long_prompts(
    samples: Sequence[Sample],
    args: IAPOConfig,
    encoder: PromptEncoder,
    config: Any,
    tools: Mapping[str, ToolDefinition] = TOOLS,
) -> Dropped:
    """Finds the training samples that are to be left out, and says how many there are.

    Args:
        samples: The samples; their images' sizes are looked at, not their pixels.
        args: Settings of the training.
        encoder: The student's encoder.
        config: Configuration of the student's model.
        tools: The offered tools.

    Returns:
        Nothing to leave out with `long_prompts: refuse`; a rollout that may not fit is then left to
        `iapo.training.budget.check_samples`.

    Raises:
        InputError: If a prompt is longer than `max_prompt_length`, and such samples are not to be dropped; or if
            all are.
    """
    nothing = Dropped((), len(samples), 0)
    if args.max_prompt_length is None and args.long_prompts == "refuse":
        return nothing
    budget = training_budget(args, config)
    limit = args.max_prompt_length

    def over(one: Length) -> int:
        """By how many tokens a sample is too long; 0 or less is not."""
        excess = 0 if limit is None else one.prompt - limit
        if args.long_prompts == "drop" and budget.sequence is not None:
            excess = max(excess, one.needed(budget) - budget.sequence)
        return excess

    found = [
        exact(one, encoder, tools) if abs(over(one)) <= _SLACK else one for one in lengths(samples, encoder, tools)
    ]
    places = tuple(place for place, one in enumerate(found) if over(one) > 0)
    if not places:
        return nothing
    worst = max((found[place] for place in places), key=lambda one: one.prompt)
    if args.long_prompts == "refuse":
        raise InputError(
            f"{len(places)} of {len(samples)} training prompts are longer than max_prompt_length, {limit} tokens; the "
            f"longest, of {named(worst.sample)}, has {worst.prompt}: set long_prompts to drop to leave them out, or "
            "give more tokens"
        )
    if len(places) == len(samples):
        raise InputError(
            f"all {len(samples)} training samples are too long and would be dropped, the longest prompt with "
            f"{worst.prompt} tokens; raise max_prompt_length or max_sequence_length, or lower max_pixels"
        )
    dropped = Dropped(places, len(samples), worst.prompt)
    logger.warning("%s (%s); they are dropped.", dropped, named(worst.sample))
    return dropped


def without(samples: Sequence[Sample], dropped: Dropped) -> list[Sample]:
    """Returns the samples that stay."""
    gone = set(dropped.places)
    return [sample for place, sample in enumerate(samples) if place not in gone]


def short_enough(
    dataset: Dataset | None,
    args: IAPOConfig,
    encoder: PromptEncoder,
    config: Any,
    tools: Mapping[str, ToolDefinition] = TOOLS,
) -> Dataset | None:
    """Returns a training set without the samples that are to be left out, as `long_prompts` has it.

    Raises:
        InputError: As `long_prompts`, or if too few are left for a batch.
    """
    if not isinstance(dataset, Dataset) or (args.max_prompt_length is None and args.long_prompts == "refuse"):
        return dataset
    dropped = long_prompts(dataset_samples(dataset), args, encoder, config, tools)
    if not dropped.places:
        return dataset
    gone = set(dropped.places)
    left = dataset.select([place for place in range(len(dataset)) if place not in gone])
    check_enough(left, args)
    return left
