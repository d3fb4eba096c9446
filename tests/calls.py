"""Calls for tests: as texts, and as what an attribution explains."""

from __future__ import annotations

from collections.abc import Sequence

from iapo.attribution.gradient import CallInput
from iapo.rollout.prompt import Block, PromptEncoder


def call_text(tool: str, name: str, axis: str) -> str:
    """A first turn that calls one tool."""
    return f'```python\ndisplay({tool}(image_1, ["{name}"], {axis}_bbox))\n```'


def make_call(
    encoder: PromptEncoder, blocks: Sequence[Block], turn: str, thought: str = "", picture: int | None = 0
) -> CallInput:
    """A call whose thought and end of turn are not scored."""
    prompt = encoder.encode(blocks)
    before, scored = (encoder.tokenizer(text, add_special_tokens=False)["input_ids"] for text in (thought, turn))
    return CallInput(
        prompt_ids=prompt.ids,
        block_of=prompt.block_of,
        blocks=len(blocks),
        turn_ids=[*before, *scored, encoder.tokenizer.eos_token_id],
        target=[False] * len(before) + [True] * len(scored) + [False],
        pictures=() if picture is None else (picture,),
    )
