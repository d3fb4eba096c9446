"""What of a rollout goes through VeRL's batches beside its tokens, and the rollout that is made of it again."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

from transformers import ProcessorMixin

from iapo.records import Sample
from iapo.rollout.budget import Budget
from iapo.rollout.prompt import EncodedPrompt, PromptEncoder
from iapo.rollout.template import find_prompt
from iapo.rollout.turns import Asked, Rollout, Steps, steps
from iapo.tools import ToolDefinition
from iapo.tools.offered import offered_tools

TURNS, BUDGET = "iapo_turns", "iapo_budget"
"""Extra fields: the token ids of each turn, and the limits of the rollout."""


@functools.lru_cache(maxsize=8)
def make_encoder(processor: ProcessorMixin, prompt: str | None = None) -> PromptEncoder:
    """Returns a processor's encoder, the same for all rollouts.

    Args:
        processor: The processor.
        prompt: Prompt template (`iapo.rollout.template.find_prompt`); that of the processor, else `tools`, if None.
    """
    return PromptEncoder(processor, None if prompt is None else find_prompt(prompt))


@functools.lru_cache(maxsize=8)
def find_tools(setting: str | None = None) -> Mapping[str, ToolDefinition]:
    """Returns the offered tools, as `iapo.tools.offered.offered_tools`, the same for all rollouts."""
    return offered_tools(setting)


def fields_of(one: Rollout, budget: Budget) -> dict[str, Any]:
    """Returns the extra fields of a rollout: what reward functions and attributions need, as plain data.

    Args:
        one: The rollout.
        budget: Its limits.
    """
    return {
        TURNS: [list(turn.ids) for turn in one.turns],
        BUDGET: dataclasses.asdict(budget),
        "final_text": one.trace.final_text,
        "called": one.trace.called,
        "succeeded": one.trace.succeeded,
        "misused": one.trace.misused,
        "observation_cut": one.trace.observation_cut,
    }


def again(
    fields: Mapping[str, Any],
    sample: Sample,
    prompt: EncodedPrompt,
    encoder: PromptEncoder,
    tools: Mapping[str, ToolDefinition],
) -> Rollout:
    """Makes a rollout again from its turns: programs are read and tools run once more, nothing is generated.

    Args:
        fields: Extra fields of the rollout.
        sample: Its sample.
        prompt: Its encoded prompt.
        encoder: The policy's encoder.
        tools: The offered tools.

    Raises:
        ValueError: If the turns are not those of a whole rollout, since prompt, tools or sample are others.
    """
    going = steps(sample, prompt, encoder, tools=tools, budget=Budget(**fields[BUDGET]))
    asked: Asked | Rollout = next(going)
    for ids in fields[TURNS]:
        if not isinstance(asked, Asked):
            break
        asked = advance(going, ids)
    if isinstance(asked, Asked) or [turn.ids for turn in asked.turns] != fields[TURNS]:
        raise ValueError(
            f"sample {sample.id!r}: a rollout of {len(fields[TURNS])} turns goes another way when repeated"
        )
    return asked


def advance(going: Steps, ids: Sequence[int]) -> Asked | Rollout:
    """Hands a turn to a rollout, and returns the next one that is asked for, or the rollout at its end."""
    try:
        return going.send(ids)
    except StopIteration as end:
        # A future cannot hold it.
        finished: Rollout = end.value
        return finished
