"""Occlusion: what a tool call loses when a prompt block is taken away (docs/method.md, section 6).

An attribution that shares no mathematics with the gradient: no derivative and no linearisation, only the model's
probabilities for prompts that exist.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from iapo.attribution.gradient import CallInput, Pictures, call_values, check_alike
from iapo.attribution.memory import Budget
from iapo.attribution.vision import image_places

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def occlusion_scores(
    model: PreTrainedModel,
    calls: Sequence[CallInput],
    pictures: Pictures | None = None,
    batch_size: int = 32,
    budget: Budget | None = None,
) -> Tensor:
    """Scores every prompt block of every call: `S_j = s(x) - s(x without block j)`.

    `s` is the sum of the call's target tokens' scores. Of log-probabilities the block's score is in nats: how
    much more likely the block makes the call, given all other blocks. A block that makes the call less likely scores
    below 0, and blocks that say the same thing all score near 0, since each stands in for the others; scores do not sum
    to anything.

    The block's positions leave the sequence, with the chat scaffolding that belongs to them (and, for an image, its
    features); what follows moves up, its rotary positions computed anew for the shorter sequence. Nothing is set to
    zero, which to a model is a token like any other.

    The cost is m + 1 forward passes a call, in batches and without gradients.

    Args:
        model: A Qwen2.5-VL or Qwen3-VL model, unwrapped; its mode is left alone.
        calls: Calls to explain, all with the same number of blocks m.
        pictures: The distinct images that `CallInput.pictures` refers to.
        batch_size: Sequences in one forward pass.
        budget: Their tokens; None does not limit them.

    Returns:
        Scores, shape (len(calls), m), fp32, on the model's device; 0 for a block without a position in the prompt.

    Raises:
        ValueError: If there are no calls, they disagree on the number of blocks, `batch_size` is below 1, or a block
            is all of a prompt whose call has a scored first token, which nothing would then predict.
    """
    check_alike(calls)
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    image_token: int = model.config.image_token_id
    # Column 0 is the whole prompt, column 1 + j the prompt without block j.
    places = [(row, 0) for row in range(len(calls))]
    sequences = list(calls)
    for row, call in enumerate(calls):
        for block in sorted(set(call.block_of)):
            places.append((row, 1 + block))
            sequences.append(without_block(call, block, image_token))
    parts = [
        call_values(model, sequences[start : start + batch_size], pictures, budget)
        for start in range(0, len(sequences), batch_size)
    ]
    values = torch.cat(parts)
    whole = values[: len(calls), None]
    # A block without a position takes nothing away: its difference stays 0.
    table = whole.repeat(1, 1 + calls[0].blocks)
    rows, columns = zip(*places, strict=True)
    table[list(rows), list(columns)] = values
    return whole - table[:, 1:]


def without_block(call: CallInput, block: int, image_token: int) -> CallInput:
    """Cuts a block out of a call's prompt; the other blocks keep their numbers.

    Args:
        call: The call.
        block: The block to remove.
        image_token: The id of an image token; an image that loses all of them is in the prompt no more.

    Raises:
        ValueError: If nothing is left to predict the first scored token, or an image would be cut in two.
    """
    kept = [index for index, owner in enumerate(call.block_of) if owner != block]
    if not kept and call.target[0]:
        raise ValueError("a prompt of one block cannot lose it: nothing would predict the call's first token")
    return with_positions(call, kept, image_token)


def with_positions(call: CallInput, kept: Sequence[int], image_token: int) -> CallInput:
    """Leaves only some positions of a call's prompt; blocks keep their numbers.

    Args:
        call: The call.
        kept: The positions that stay, in order.
        image_token: The id of an image token; an image that loses all of them is in the prompt no more.

    Raises:
        ValueError: If an image would be cut in two.
    """
    stays, pictures = set(kept), []
    for picture, places in zip(call.pictures, image_places(call.prompt_ids, image_token), strict=True):
        left = stays.intersection(places)
        if left and len(left) < len(places):
            raise ValueError("a picture's tokens lie in several blocks; occlusion removes a picture as a whole")
        pictures += [picture] if left else []
    return replace(
        call,
        prompt_ids=[call.prompt_ids[index] for index in kept],
        block_of=[call.block_of[index] for index in kept],
        pictures=tuple(pictures),
    )
