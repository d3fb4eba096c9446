"""How long the parts of a rollout may be, and whether samples fit (docs/real-models.md, "The length of a rollout").

Limits of turns count what the model writes. What it is shown, the prompt and the observation, counts towards the whole
sequence alone: an edited image that took the place of the answer would make calling a tool the worse choice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from iapo.bounds import TURNS, check_number
from iapo.errors import InputError
from iapo.kinds import check_kinds
from iapo.records import Sample
from iapo.rollout.prompt import PromptEncoder, build_blocks
from iapo.rollout.template import check_wording
from iapo.rollout.wording import Observation
from iapo.samples import sample_list
from iapo.tools import TOOLS, ToolDefinition

_ENCODED = 16
"""Longest prompts that are encoded in full: their cheap counts may be wrong by a token or two."""

_SLACK = 4

_MARKS = 2
"""Tokens around the tokens of an image."""


@dataclass(frozen=True, slots=True)
class Budget:
    """Limits of a rollout, those of lengths in tokens; None is no limit.

    Attributes:
        turn: Longest turn.
        written: Most that the model writes over all turns.
        sequence: Longest sequence: prompt, turns, and between them observations with edited images.
        turns: Most turns.

    Raises:
        InputError: If there cannot be that many turns.
    """

    turn: int | None = None
    written: int | None = None
    sequence: int | None = None
    turns: int = 2

    def __post_init__(self) -> None:
        check_number("max_turns", self.turns, TURNS)
        check_kinds(self)

    @property
    def first(self) -> int | None:
        """The longest first turn."""
        return _least(self.turn, self.written)

    @property
    def all(self) -> int | None:
        """The most that all turns may come to."""
        return _least(None if self.turn is None else self.turns * self.turn, self.written)

    def next(self, written: int) -> int | None:
        """Returns how long the next turn may be.

        Args:
            written: Tokens of the turns before it.
        """
        return _least(self.turn, None if self.written is None else max(0, self.written - written))

    def observation(self, sequence: int, written: int) -> int | None:
        """Returns how long an observation may be, so that after it the next turn still has all its tokens.

        Args:
            sequence: Tokens of all that stands before it.
            written: Tokens of the turns among it.
        """
        return None if self.sequence is None else self.sequence - sequence - (self.next(written) or 1)


@dataclass(frozen=True, slots=True)
class Length:
    """What a rollout on a sample takes, in tokens; the cheap counts of `lengths` are exact to a token or two.

    Attributes:
        sample: The sample.
        prompt: Tokens of its prompt.
        image: Those of them that its largest image takes; an edited image of the same size takes as many.
        images: Those of them that all its images take.
        observation: Tokens of the observation with such an image before the last turn, 0 where no tool is offered.
        more: Tokens of each observation before that one, where a rollout has more than two turns.
    """

    sample: Sample
    prompt: int
    image: int
    images: int
    observation: int
    more: tuple[int, ...] = ()

    @property
    def observed(self) -> int:
        """Tokens of all observations."""
        return self.observation + sum(self.more)

    def needed(self, budget: Budget) -> int:
        """Returns the longest sequence that the limits of turns allow on this sample."""
        turns = budget.all if self.observation else budget.first
        return self.prompt + (turns or 1) + self.observed


def context_length(config: Any) -> int:
    """Returns how many tokens a model takes, from its configuration."""
    return int(config.get_text_config().max_position_embeddings)


def longest_sequence(given: int | None, context: int) -> int:
    """Returns the longest sequence of a rollout: what is given, or what the model takes.

    Args:
        given: Setting `max_sequence_length`.
        context: Number of tokens that the model takes.

    Raises:
        InputError: If more is given.
    """
    if given is not None and given > context:
        raise InputError(f"max_sequence_length is {given}, but the model takes {context} tokens; give at most that")
    return context if given is None else given


def lengths(
    samples: Sequence[Sample], encoder: PromptEncoder, tools: Mapping[str, ToolDefinition] = TOOLS, turns: int = 2
) -> list[Length]:
    """Counts what samples take, looking at the sizes of their images and not at pixels.

    What prompts share is counted in one of them. 15,000 samples take seconds.

    Args:
        samples: The samples.
        encoder: The model's encoder.
        tools: The offered tools.
        turns: Most turns of a rollout.

    Raises:
        InputError: If the processor cannot take an image of such a size, or the template is worded for fewer turns.
    """
    check_wording(encoder.template, turns)
    if not samples:
        return []
    # A prompt has its images and its question for itself; all else is the same for all samples.
    texts = [encoder.template.question_text(sample, with_tools=bool(tools)) for sample in samples]
    counted = encoder.tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
    sizes = {tuple(image.size for image in sample.images): sample for sample in samples}
    tokens = {size: image_tokens(sample, encoder) for size, sample in sizes.items()}
    images = [tokens[tuple(image.size for image in sample.images)] for sample in samples]
    totals = [sum(its) + _MARKS * (len(its) - 1) + len(ids) for its, ids in zip(images, counted, strict=True)]
    top = max(range(len(samples)), key=totals.__getitem__)
    template = len(encoder.encode(build_blocks(samples[top], tools, encoder.template)).ids) - totals[top]
    around: list[int] = []
    if tools:
        shown = [Observation(samples[top].image, left=left) for left in range(turns - 1, 0, -1)]
        around = [len(encoder.observation(one, ended=False)) - images[top][0] for one in shown]
    found = []
    for sample, its, total in zip(samples, images, totals, strict=True):
        # Any of them may be edited, the largest as well.
        *more, last = [one + max(its) for one in around] or [0]
        found.append(Length(sample, total + template, max(its), sum(its), last, tuple(more)))
    return found


def image_tokens(sample: Sample, encoder: PromptEncoder) -> list[int]:
    """Counts the tokens of each of a sample's images.

    Raises:
        InputError: If the processor cannot take an image of such a size.
    """
    try:
        return encoder.image_token_counts(sample.images)
    except InputError as error:
        raise InputError(f"{named(sample)}: {error}") from error


def check_lengths(
    samples: Iterable[Sample],
    encoder: PromptEncoder,
    budget: Budget,
    context: int,
    tools: Mapping[str, ToolDefinition] = TOOLS,
    *,
    first: bool = False,
) -> None:
    """Refuses samples on which a rollout may not fit.

    Args:
        samples: The samples.
        encoder: The model's encoder.
        budget: Limits of a rollout; without one of the sequence nothing is checked.
        context: Number of tokens that the model takes.
        tools: The offered tools.
        first: Whether a rollout ends with its first turn.

    Raises:
        InputError: If a text holds a control token, or a sample does not fit; the message names the one that needs
            most, and the numbers to set.
    """
    # Looked at twice.
    samples = sample_list(samples)
    check_texts(samples, encoder)
    if budget.sequence is None or not samples:
        return
    found = lengths(samples, encoder, tools, budget.turns)
    if first:
        found = [replace(one, observation=0, more=()) for one in found]
    found.sort(key=lambda one: one.needed(budget), reverse=True)
    most = found[0].needed(budget)
    near = [one for one in found[:_ENCODED] if one.needed(budget) > most - _SLACK]
    worst = max((exact(one, encoder, tools) for one in near), key=lambda one: one.needed(budget))
    if worst.needed(budget) > budget.sequence:
        raise InputError(too_long(worst, budget, context, encoder))


def check_texts(samples: Sequence[Sample], encoder: PromptEncoder) -> None:
    """Refuses samples whose texts hold a control token of a model.

    Args:
        samples: The samples.
        encoder: The model's encoder.

    Raises:
        InputError: If one does; the message names it.
    """
    # As literals, names have their control tokens escaped.
    plain = encoder.template.names_style != "literal"
    for sample in samples:
        names = (*sample.column_boxes, *sample.row_boxes) if plain else ()
        for text in (sample.question, *names):
            if control := encoder.control.find(text, markup=True):
                raise InputError(
                    f"{named(sample)} holds {control} in {text[:100]!r}, a control token of the model; remove it from "
                    "the text, or leave the sample out"
                )


def exact(length: Length, encoder: PromptEncoder, tools: Mapping[str, ToolDefinition] = TOOLS) -> Length:
    """Returns a length with its prompt encoded in full."""
    prompt = len(encoder.encode(build_blocks(length.sample, tools, encoder.template)).ids)
    return replace(length, prompt=prompt)


def too_long(length: Length, budget: Budget, context: int, encoder: PromptEncoder) -> str:
    """Says of a sample on which a rollout does not fit what takes the room, and which numbers to set."""
    needed, sequence = length.needed(budget), budget.sequence or context
    size = " and ".join("{} x {}".format(*image.size) for image in length.sample.images)
    turns = needed - length.prompt - length.observed
    seen = f", {length.observation} of the observation with the edited image" if length.observation else ""
    if length.more:
        seen = f", {length.observed} of the {1 + len(length.more)} observations with edited images"
    advice = []
    if needed <= context:
        advice.append(f"set max_sequence_length to {needed} or more (the model takes {context})")
    edits = 1 + len(length.more) if length.observation else 0
    pictures = len(length.sample.images) + edits
    room = (sequence - (needed - length.images - edits * length.image)) // pictures
    if room > 0:
        processor = encoder.processor.image_processor
        side = processor.patch_size * processor.merge_size
        least = int(processor.size["shortest_edge"])
        if room * side * side >= least:
            advice.append(f"set max_pixels to {room * side * side} or less")
    if needed - turns < sequence:
        advice.append(f"have the turns take no more than {sequence - needed + turns} tokens together")
    advice = advice or [
        f"shorten the question{', leave the sample out' if length.sample.id else ''}, or offer fewer tools"
    ]
    what, those = ("images", "images") if length.sample.more_images else ("an image", "image")
    return (
        f"{named(length.sample)}, with {what} of {size} pixels, may need {needed} tokens ({length.prompt} of the "
        f"prompt, {length.images} of them the {those}; {turns} of the turns{seen}), but a sequence has {sequence}; "
        f"{', or '.join(advice)}"
    )


def named(sample: Sample) -> str:
    """Names a sample in a message; one without an id is a question that is asked."""
    if not sample.id:
        return "the question"
    return f"sample {sample.id!r} of {sample.source}" if sample.source else f"sample {sample.id!r}"


def _least(*limits: int | None) -> int | None:
    return min((limit for limit in limits if limit is not None), default=None)
