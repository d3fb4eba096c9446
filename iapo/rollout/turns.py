"""Two turns around an injected `generate` (docs/method.md, section 2); a bad rollout is data, not a crash."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from PIL import Image

from iapo.grouping import distinct
from iapo.records import Sample, ToolResult, Trace
from iapo.rollout.budget import Budget
from iapo.rollout.prompt import EncodedPrompt, PromptEncoder, build_blocks
from iapo.tools import TOOLS, ToolDefinition, execute

Generate = Callable[[list[list[int]], list[list[Image.Image]]], list[list[int]]]
"""Continues each row of token ids, given the row's images in order; returns the new ids, end token included."""

NO_LIMITS = Budget()


@dataclass(frozen=True, slots=True)
class FirstTurn:
    """A first turn, read and executed.

    Attributes:
        ids: Its token ids.
        text: Its text, without special tokens.
        result: Result of its program.
        target: Target of its tokens belong to the program, hence to the attribution target; all False without one.
    """

    ids: list[int]
    text: str
    result: ToolResult
    target: list[bool]


@dataclass(frozen=True, slots=True)
class Rollout:
    """A finished rollout: the record, and the tokens behind it.

    Attributes:
        trace: The record.
        prompt: The encoded prompt.
        first: The first turn.
        completion_ids: All after the prompt: turn 1, observation, turn 2.
        model_written: Model written for each completion token, whether the model wrote it (it did not write the
            observation).
        images: The images of the whole sequence, in order.
        edits: The images that tools made.
    """

    trace: Trace
    prompt: EncodedPrompt
    first: FirstTurn
    completion_ids: list[int]
    model_written: list[bool]
    images: list[Image.Image]
    edits: list[Image.Image]


def encode_prompts(
    samples: Sequence[Sample], encoder: PromptEncoder, tools: Mapping[str, ToolDefinition] = TOOLS
) -> list[EncodedPrompt]:
    """Encodes the samples' prompts; one object that comes several times (a group) is encoded once."""
    different, places = distinct(samples)
    encoded = [encoder.encode(build_blocks(sample, tools, encoder.template)) for sample in different]
    return [encoded[place] for place in places]


def read_first_turn(
    ids: Sequence[int], sample: Sample, encoder: PromptEncoder, tools: Mapping[str, ToolDefinition] = TOOLS
) -> FirstTurn:
    """Decodes a first turn, runs its program and marks the program's tokens."""
    text, ends = encoder.offsets(ids)
    result = execute(text, sample, tools, lenient=encoder.template.lenient)
    target = [False] * len(ids)
    if result.span is not None:
        special = set(encoder.tokenizer.all_special_ids)
        start = 0
        for index, end in enumerate(ends):
            # A token belongs to the program if it shares a character with it.
            if end > start:
                target[index] = start < result.span[1] and end > result.span[0]
            elif index and ids[index] not in special:
                # The further bytes of a character that takes several tokens.
                target[index] = target[index - 1]
            start = end
    return FirstTurn(list(ids), text, result, target)


def finish(
    samples: Sequence[Sample],
    prompts: Sequence[EncodedPrompt],
    turn_1: Sequence[Sequence[int]],
    encoder: PromptEncoder,
    generate: Generate,
    *,
    tools: Mapping[str, ToolDefinition] = TOOLS,
    budget: Budget = NO_LIMITS,
) -> list[Rollout]:
    """Runs the tools that first turns call, and has the second turns written.

    Args:
        samples: One a rollout.
        prompts: Their encoded prompts.
        turn_1: The first turns' token ids.
        encoder: The policy's encoder.
        generate: Writes the second turns.
        tools: The offered tools.
        budget: Limits of the rollout. One whose observation does not fit into the sequence ends after turn 1, without
            an edit's image, and its trace says so (`observation_cut`); so does one, without the mark, whose first turn
            took all that the model may write. A second turn is cut to what is left of that.

    Returns:
        The rollouts, in order.
    """
    firsts = [read_first_turn(ids, sample, encoder, tools) for ids, sample in zip(turn_1, samples, strict=True)]
    observations: dict[int, list[int]] = {}
    cut: set[int] = set()
    for index, (first, prompt) in enumerate(zip(firsts, prompts, strict=True)):
        if first.result.status == "no_call" or budget.second(len(first.ids)) == 0:
            continue
        ended = bool(first.ids) and first.ids[-1] == encoder.tokenizer.eos_token_id
        observation = encoder.observation(first.result, ended=ended)
        room = budget.observation(len(prompt.ids), len(first.ids))
        if room is None or len(observation) <= room:
            observations[index] = observation
        else:
            cut.add(index)
    images = [list(prompt.images) for prompt in prompts]
    edits: list[list[Image.Image]] = [[] for _ in prompts]
    for index in observations:
        if (edited := firsts[index].result.image) is not None:
            edits[index].append(edited)
    rows = list(observations)
    continued = (
        generate(
            [prompts[index].ids + firsts[index].ids + observations[index] for index in rows],
            [images[index] + edits[index] for index in rows],
        )
        if rows
        else []
    )
    second = dict(zip(rows, continued, strict=True))
    rollouts = []
    for index, (sample, prompt, first) in enumerate(zip(samples, prompts, firsts, strict=True)):
        ids, written = list(first.ids), [True] * len(first.ids)
        turn_2 = None
        if index in observations:
            new = second[index][: budget.second(len(ids))]
            ids += observations[index] + new
            written += [False] * len(observations[index]) + [True] * len(new)
            turn_2 = encoder.tokenizer.decode(new, skip_special_tokens=True)
        trace = Trace(sample, first.text, first.result, turn_2, observation_cut=index in cut)
        rollouts.append(
            Rollout(trace, prompt, first, ids, written, images=images[index] + edits[index], edits=edits[index])
        )
    return rollouts


def rollout(
    samples: Sequence[Sample],
    encoder: PromptEncoder,
    generate: Generate,
    *,
    tools: Mapping[str, ToolDefinition] = TOOLS,
    budget: Budget = NO_LIMITS,
) -> list[Rollout]:
    """Rolls out both turns for a batch of samples; see `finish` for the arguments."""
    prompts = encode_prompts(samples, encoder, tools)
    turn_1 = generate([prompt.ids for prompt in prompts], [list(prompt.images) for prompt in prompts])
    return finish(samples, prompts, turn_1, encoder, generate, tools=tools, budget=budget)


def first_turns(
    samples: Sequence[Sample], encoder: PromptEncoder, generate: Generate, tools: Mapping[str, ToolDefinition]
) -> list[Rollout]:
    """Rolls out first turns alone; no answer is asked for."""
    prompts = encode_prompts(samples, encoder, tools)
    turns = generate([prompt.ids for prompt in prompts], [list(prompt.images) for prompt in prompts])
    found = []
    for sample, prompt, ids in zip(samples, prompts, turns, strict=True):
        first: FirstTurn = read_first_turn(ids, sample, encoder, tools)
        trace = Trace(sample, first.text, first.result, None)
        found.append(Rollout(trace, prompt, first, list(ids), [True] * len(ids), list(prompt.images), []))
    return found


def answer(samples: Sequence[Sample], encoder: PromptEncoder, generate: Generate) -> list[Trace]:
    """Rolls out one turn without any tool for a batch of samples; what looks like a program in it stays text."""
    prompts = [encoder.encode(build_blocks(sample, {}, encoder.template)) for sample in samples]
    turns = generate([prompt.ids for prompt in prompts], [list(prompt.images) for prompt in prompts])
    texts = [encoder.tokenizer.decode(ids, skip_special_tokens=True) for ids in turns]
    return [Trace(sample, text, ToolResult("no_call")) for sample, text in zip(samples, texts, strict=True)]
