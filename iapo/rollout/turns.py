"""Turns around an injected `generate` (docs/method.md, section 2); a bad rollout is data, not a crash."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from PIL import Image

from iapo.grading.extraction import extract_answer
from iapo.grouping import distinct
from iapo.records import Sample, ToolResult, Trace, Turn
from iapo.rollout.budget import Budget
from iapo.rollout.prompt import EncodedPrompt, PromptEncoder, build_blocks
from iapo.rollout.template import check_wording
from iapo.rollout.wording import Observation
from iapo.samples import sample_list
from iapo.tools import TOOLS, ToolDefinition, execute

Generate = Callable[[list[list[int]], list[list[Image.Image]]], list[list[int]]]
"""Continues each row of token ids, given the row's images in order; returns the new ids, end token included."""

NO_LIMITS = Budget()


@dataclass(frozen=True, slots=True)
class Asked:
    """A turn that is to be written.

    Attributes:
        ids: Token ids of all that stands before it.
        images: The images among them, in order.
        limit: Longest turn in tokens; None is no limit.
    """

    ids: list[int]
    images: list[Image.Image]
    limit: int | None


Steps = Generator[Asked, Sequence[int], "Rollout"]
"""Yields each turn of one rollout that is to be written, is sent its ids, and returns the rollout."""


@dataclass(frozen=True, slots=True)
class WrittenTurn:
    """A turn of a model, read and executed.

    Attributes:
        ids: Its token ids.
        text: Its text, without special tokens.
        result: Result of its program.
        target: Target of its tokens belong to the program, hence to the attribution target; all False without one.
        cut: Whether its tokens were used up before the model ended it.
    """

    ids: list[int]
    text: str
    result: ToolResult
    target: list[bool]
    cut: bool = False


@dataclass(frozen=True, slots=True)
class Observed:
    """An observation in a model's tokens.

    Attributes:
        shown: What is shown.
        ids: Its token ids, with those that end the turn before it and begin the one behind it.
    """

    shown: Observation
    ids: list[int]


@dataclass(frozen=True, slots=True)
class Rollout:
    """A finished rollout: the record, and the tokens behind it.

    Attributes:
        trace: The record.
        prompt: The encoded prompt.
        turns: The turns, one at least.
        observations: What stands between them, one fewer.
        past: Turns and observations that are in the prompt, where this is the end of a longer rollout (`from_turn`).
    """

    trace: Trace
    prompt: EncodedPrompt
    turns: tuple[WrittenTurn, ...]
    observations: tuple[Observed, ...] = ()
    past: tuple[tuple[WrittenTurn, Observed], ...] = ()

    @property
    def first(self) -> WrittenTurn:
        """The first turn."""
        return self.turns[0]

    @property
    def completion_ids(self) -> list[int]:
        """All after the prompt: turn 1, observation, turn 2, and so on."""
        return [token for part, _ in self._parts() for token in part]

    @property
    def model_written(self) -> list[bool]:
        """For each completion token, whether the model wrote it (it did not write the observations)."""
        return [own for part, own in self._parts() for _ in part]

    @property
    def edits(self) -> list[Image.Image]:
        """The images that tools made and observations show."""
        return [one.shown.image for one in self.observations if one.shown.image is not None]

    @property
    def images(self) -> list[Image.Image]:
        """The images of the whole sequence, in order."""
        return [*self.prompt.images, *self.edits]

    def from_turn(self, turn: int, encoder: PromptEncoder) -> Rollout:
        """Returns the rollout from a turn on: what stands before it is its prompt, a block each turn and observation.

        Args:
            turn: Number of the turn, from 0; from the first one on it is the rollout itself.
            encoder: The encoder of the model that wrote it.
        """
        if turn == 0:
            return self
        past = tuple(zip(self.turns[:turn], self.observations[:turn], strict=True))
        prompt = encoder.extend(self.prompt, [(one.ids, seen.ids, seen.shown.image) for one, seen in past])
        trace = replace(self.trace, turns=self.trace.turns[turn:])
        return Rollout(trace, prompt, self.turns[turn:], self.observations[turn:], (*self.past, *past))

    def first_alone(self) -> Rollout:
        """Returns the rollout without what follows its first turn."""
        trace = replace(self.trace, turns=self.trace.turns[:1])
        return replace(self, trace=trace, turns=self.turns[:1], observations=())

    def _parts(self) -> list[tuple[list[int], bool]]:
        parts = [(self.turns[0].ids, True)]
        for seen, one in zip(self.observations, self.turns[1:], strict=True):
            parts += [(seen.ids, False), (one.ids, True)]
        return parts


@dataclass(slots=True)
class _Growing:
    """A rollout under way; `sample` has the image that was shown last."""

    given: Sample
    prompt: EncodedPrompt
    sample: Sample
    turns: list[WrittenTurn] = field(default_factory=list)
    observations: list[Observed] = field(default_factory=list)
    cut: bool = False

    @property
    def written(self) -> int:
        return sum(len(one.ids) for one in self.turns)

    @property
    def ids(self) -> list[int]:
        rest = zip((one.ids for one in self.turns), (one.ids for one in self.observations), strict=True)
        return [*self.prompt.ids, *itertools.chain.from_iterable(part for pair in rest for part in pair)]

    @property
    def images(self) -> list[Image.Image]:
        return [*self.prompt.images, *(one.shown.image for one in self.observations if one.shown.image is not None)]

    def add(
        self, ids: Sequence[int], encoder: PromptEncoder, tools: Mapping[str, ToolDefinition], budget: Budget
    ) -> None:
        """Takes a turn up, and carries its program out where one may stand."""
        if len(self.turns) + 1 < budget.turns:
            one = read_turn(ids, self.sample, encoder, tools)
            # Where two turns are all, a program is one whatever else is said.
            ends = budget.turns > 2 and extract_answer(_without_thoughts(one.text)) is not None
        else:
            one, ends = _said(ids, encoder), False
        one = _said(ids, encoder) if ends else one
        self.turns.append(replace(one, cut=_is_cut(ids, budget.next(self.written), encoder)))

    def observe(self, encoder: PromptEncoder, budget: Budget) -> bool:
        """Appends what the last turn's program gave; tells whether there is another turn."""
        last = self.turns[-1]
        left = budget.turns - len(self.turns)
        if last.result.status == "no_call" or left == 0 or budget.next(self.written) == 0:
            return False
        ended = bool(last.ids) and last.ids[-1] == encoder.tokenizer.eos_token_id
        shown = Observation.of(last.result, left)
        observation = encoder.observation(shown, ended=ended)
        before = len(self.prompt.ids) + self.written + sum(len(one.ids) for one in self.observations)
        room = budget.observation(before, self.written)
        if room is not None and len(observation) > room:
            self.cut = True
            return False
        self.observations.append(Observed(shown, observation))
        if shown.image is not None:
            # Boxes that an earlier turn's image has not do not fit what is made of it.
            self.sample = self.sample.showing(
                shown.image, last.result.made_of, moved=last.result.moved, kept=last.result.kept
            )
        return True

    def done(self) -> Rollout:
        turns = tuple(Turn(one.text, one.result, cut=one.cut) for one in self.turns)
        trace = Trace(self.given, turns, observation_cut=self.cut)
        return Rollout(trace, self.prompt, tuple(self.turns), tuple(self.observations))


def encode_prompts(
    samples: Sequence[Sample], encoder: PromptEncoder, tools: Mapping[str, ToolDefinition] = TOOLS
) -> list[EncodedPrompt]:
    """Encodes the samples' prompts; one object that comes several times (a group) is encoded once."""
    different, places = distinct(samples)
    encoded = [encoder.encode(build_blocks(sample, tools, encoder.template)) for sample in different]
    return [encoded[place] for place in places]


def read_turn(
    ids: Sequence[int], sample: Sample, encoder: PromptEncoder, tools: Mapping[str, ToolDefinition] = TOOLS
) -> WrittenTurn:
    """Decodes a turn, runs its program on the sample's image and marks the program's tokens."""
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
    return WrittenTurn(list(ids), text, result, target)


def _without_thoughts(text: str) -> str:
    """Leaves out what stands between `<think>` and `</think>`: an answer that a model weighs is not given yet."""
    said, *parts = text.split("<think>")
    # In one pass: a pattern would look for the end of each beginning.
    unclosed: list[str] = []
    for part in parts:
        _, closed, behind = part.partition("</think>")
        if closed:
            unclosed.clear()
            said += behind
        else:
            unclosed.append(part)
    return said + "".join(unclosed)


def _said(ids: Sequence[int], encoder: PromptEncoder) -> WrittenTurn:
    """Returns a turn whose text is an answer, whatever it looks like."""
    text = encoder.tokenizer.decode(list(ids), skip_special_tokens=True)
    return WrittenTurn(list(ids), text, ToolResult("no_call"), [False] * len(ids))


def _is_cut(ids: Sequence[int], limit: int | None, encoder: PromptEncoder) -> bool:
    """Tells whether a turn took all the tokens that it may and has no end: one of several, all of them special."""
    return limit is not None and len(ids) >= limit > 0 and ids[-1] not in encoder.tokenizer.all_special_ids


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
    """Runs the tools that turns call on the image that was shown last, and has the further turns written.

    A turn without a program ends a rollout, and so does the last one that `budget` allows, in which a program is not
    looked for; where it allows more than two, also one with a final answer. Each round asks for the next turn of all
    rollouts that have not ended.

    Args:
        samples: One a rollout.
        prompts: Their encoded prompts.
        turn_1: The first turns' token ids.
        encoder: The policy's encoder.
        generate: Writes the further turns.
        tools: The offered tools.
        budget: Limits of the rollout. One whose observation does not fit into the sequence ends before it, without
            an edit's image, and its trace says so (`observation_cut`); so does one, without the mark, whose turns
            took all that the model may write. A further turn is cut to what is left of that.

    Returns:
        The rollouts, in order.

    Raises:
        InputError: If the encoder's template is worded for fewer turns than the budget allows.
    """
    check_wording(encoder.template, budget.turns)
    growing = [_Growing(sample, prompt, sample) for sample, prompt in zip(samples, prompts, strict=True)]
    for one, ids in zip(growing, turn_1, strict=True):
        one.add(ids, encoder, tools, budget)
    going = growing
    while going := [one for one in going if one.observe(encoder, budget)]:
        written = generate([one.ids for one in going], [one.images for one in going])
        for one, new in zip(going, written, strict=True):
            one.add(new[: budget.next(one.written)], encoder, tools, budget)
    return [one.done() for one in growing]


def steps(
    sample: Sample,
    prompt: EncodedPrompt,
    encoder: PromptEncoder,
    *,
    tools: Mapping[str, ToolDefinition] = TOOLS,
    budget: Budget = NO_LIMITS,
) -> Steps:
    """Rolls out one sample for who writes its turns as they come, such as a server that is awaited; as `rollout` does
    else.

    Args:
        sample: The sample.
        prompt: Its encoded prompt.
        encoder: The policy's encoder.
        tools: The offered tools.
        budget: Limits of the rollout, as in `finish`; a turn that is longer than asked for is cut.

    Raises:
        InputError: If the encoder's template is worded for fewer turns than the budget allows.
    """
    check_wording(encoder.template, budget.turns)
    one = _Growing(sample, prompt, sample)
    while True:
        limit = budget.next(one.written)
        new = yield Asked(one.ids, one.images, limit)
        one.add(new[:limit], encoder, tools, budget)
        if not one.observe(encoder, budget):
            return one.done()


def rollout(
    samples: Iterable[Sample],
    encoder: PromptEncoder,
    generate: Generate,
    *,
    tools: Mapping[str, ToolDefinition] = TOOLS,
    budget: Budget = NO_LIMITS,
) -> list[Rollout]:
    """Rolls out all turns for a batch of samples, which may come from a generator; see `finish` for the arguments."""
    samples = sample_list(samples)
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
        first = read_turn(ids, sample, encoder, tools)
        found.append(Rollout(Trace.of(sample, first.text, first.result), prompt, (first,)))
    return found


def answer(
    samples: Sequence[Sample], encoder: PromptEncoder, generate: Generate, limit: int | None = None
) -> list[Trace]:
    """Rolls out one turn without any tool for a batch of samples; what looks like a program in it stays text.

    Args:
        samples: The samples.
        encoder: The policy's encoder.
        generate: Writes the turns.
        limit: Longest turn in tokens, by which one that was cut off is told; None tells of none.
    """
    prompts = [encoder.encode(build_blocks(sample, {}, encoder.template)) for sample in samples]
    turns = generate([prompt.ids for prompt in prompts], [list(prompt.images) for prompt in prompts])
    texts = [encoder.tokenizer.decode(ids, skip_special_tokens=True) for ids in turns]
    return [
        Trace(sample, (Turn(text, cut=_is_cut(ids, limit, encoder)),))
        for sample, text, ids in zip(samples, texts, turns, strict=True)
    ]
