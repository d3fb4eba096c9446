"""A model's own first turns, written and explained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from iapo.attribution.calls import ATTRIBUTED, Attributor, Turn
from iapo.attribution.reading import ReadPrompts
from iapo.records import Sample
from iapo.rollout.generation import Greedy
from iapo.rollout.prompt import EncodedPrompt, PromptEncoder
from iapo.rollout.turns import Generate, WrittenTurn, encode_prompts, read_turn
from iapo.tools import TOOLS, ToolDefinition


@dataclass(frozen=True, slots=True)
class ExplainedTurn:
    """A model's own first turn to a sample.

    Attributes:
        first: The turn, read and executed.
        block_names: Names of the compared blocks.
        distribution: Distribution of the call over the blocks, in their order; None without a call that has an
            attribution.
    """

    first: WrittenTurn
    block_names: tuple[str, ...]
    distribution: tuple[float, ...] | None


def explained_turns(
    samples: Sequence[Sample],
    encoder: PromptEncoder,
    generate: Generate,
    attributor: Attributor,
    tools: Mapping[str, ToolDefinition] = TOOLS,
    greedy: Greedy | None = None,
    prompts: Sequence[EncodedPrompt] | None = None,
) -> list[ExplainedTurn]:
    """Has a model write its own first turn to each sample of a batch, and explains the calls.

    Args:
        samples: The batch.
        encoder: The model's encoder.
        generate: Writes the turns.
        attributor: Explains the calls; of the same model.
        tools: The offered tools.
        greedy: The rules that `generate` goes by, where its turns are greedy. Then the prompts are read once, for the
            turns and for what explains them, if they may be in one graph; None always has `generate` write.
        prompts: Prompts of the samples as the encoder has them, where they are known.
    """
    prompts = encode_prompts(samples, encoder, tools) if prompts is None else prompts
    read = None if greedy is None else ReadPrompts.read(attributor, prompts, greedy.limit)
    if read is not None and greedy is not None:
        turns = read.write(greedy)
    else:
        turns = generate([prompt.ids for prompt in prompts], [list(prompt.images) for prompt in prompts])
    firsts = [read_turn(ids, sample, encoder, tools) for ids, sample in zip(turns, samples, strict=True)]
    called = [index for index, first in enumerate(firsts) if first.result.status in ATTRIBUTED]
    scored = [(firsts[index].ids, firsts[index].target) for index in called]
    found: dict[int, Sequence[float]] = {}
    if read is not None and called:
        found = dict(zip(called, [row.tolist() for row in read.distributions(called, scored)], strict=True))
    elif called:
        found = _distributions(attributor, [prompts[index] for index in called], called, scored)
    return [
        ExplainedTurn(
            first,
            attributor.settings.compared(prompt.block_names),
            tuple(found[index]) if index in found else None,
        )
        for index, (first, prompt) in enumerate(zip(firsts, prompts, strict=True))
    ]


def _distributions(
    attributor: Attributor, prompts: Sequence[EncodedPrompt], names: Sequence[int], turns: Sequence[Turn]
) -> dict[int, Sequence[float]]:
    """Returns the distributions of turns by their names, those explained together whose prompts have the same blocks:
    several images are more of them.
    """
    alike: dict[tuple[str, ...], list[int]] = {}
    for place, prompt in enumerate(prompts):
        alike.setdefault(prompt.block_names, []).append(place)
    found: dict[int, Sequence[float]] = {}
    for places in alike.values():
        rows = attributor.distributions([prompts[place] for place in places], [turns[place] for place in places])
        found |= {names[place]: row for place, row in zip(places, rows.tolist(), strict=True)}
    return found
