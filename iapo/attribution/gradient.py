"""Gradient x embedding of log p(tool call), summed per block (docs/method.md, section 3).

The reference computation: one padded batch of whole sequences, logits at the call's tokens only, the vision tower run
once per distinct picture, gradients of activations only (no parameter's `.grad` is touched).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True, slots=True)
class CallInput:
    """One tool call to explain, in one model's tokens.

    Attributes:
        prompt_ids: The prompt's token ids, length P, image tokens expanded.
        block_of: The block of each prompt position, length P, values `0 .. m-1`.
        blocks: The number of blocks m.
        turn_ids: The first turn, length T.
        target: Which turn tokens are scored (the program's; the thought before it only conditions), length T.
        picture: Index of the prompt's picture in the batch's pixel tensors, or None where the prompt has none.
    """

    prompt_ids: Sequence[int]
    block_of: Sequence[int]
    blocks: int
    turn_ids: Sequence[int]
    target: Sequence[bool]
    picture: int | None

    def __post_init__(self) -> None:
        if len(self.prompt_ids) != len(self.block_of):
            raise ValueError(f"{len(self.prompt_ids)} prompt tokens, but blocks for {len(self.block_of)}")
        if len(self.turn_ids) != len(self.target):
            raise ValueError(f"{len(self.turn_ids)} turn tokens, but a target mask of {len(self.target)}")
        if not any(self.target):
            raise ValueError("a call without a scored token has no attribution")


@dataclass(frozen=True, slots=True)
class Pictures:
    """The distinct pictures of a batch.

    Attributes:
        pixel_values: Patches of all pictures, shape (patches, features).
        grid_thw: Time, height and width of each picture in patches, shape (pictures, 3).
    """

    pixel_values: Tensor
    grid_thw: Tensor


def block_scores(
    model: PreTrainedModel, calls: Sequence[CallInput], pictures: Pictures | None = None, steps: int = 1
) -> Tensor:
    """Scores every prompt block of every call: `S_j = sum_{i in I_j} <ds/de_i, e_i>`.

    `s` is the sum of log-probabilities of the call's target tokens and `e_i` the merged input embedding (text
    embeddings with the projected picture scattered in), a leaf cut off from the vision tower. Calls are independent,
    so one backward pass serves the batch.

    Args:
        model: A Qwen2.5-VL model, unwrapped; its mode and its parameters' `.grad` are left alone.
        calls: What to explain; all with the same number of blocks m.
        pictures: The distinct pictures that `CallInput.picture` refers to.
        steps: Number of points of the integrated path from zero prompt embeddings; 1 is plain gradient x embedding.
            With many (128, for example), the scores sum to `s(x) - s(baseline)` (completeness).

    Returns:
        Scores, shape (len(calls), m), fp32, on the model's device.

    Raises:
        ValueError: If the calls disagree on the number of blocks, or `steps` is below 1.
    """
    if not calls:
        raise ValueError("no calls to explain")
    if len({call.blocks for call in calls}) != 1:
        raise ValueError("all calls of a batch must have the same number of blocks")
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    batch = _Batch.build(model, calls, pictures)
    gradient = torch.zeros_like(batch.embeddings, dtype=torch.float32)
    for fraction, weight in _path(steps):
        point = torch.where(batch.is_prompt[..., None], batch.embeddings * fraction, batch.embeddings)
        point = point.detach().requires_grad_(True)
        with torch.enable_grad():
            total = batch.log_probs(model, point).sum()
            gradient += torch.autograd.grad(total, point)[0].float() * weight
    token_scores = (gradient * batch.embeddings.float()).sum(-1)
    scores = token_scores.new_zeros(len(calls), calls[0].blocks + 1)
    # Column m collects the turn and the padding, which belong to no block.
    return scores.scatter_add_(1, batch.block_of, token_scores)[:, :-1]


def _path(steps: int) -> list[tuple[float, float]]:
    """Points of the path from the baseline (0) to the input (1) with the part of the path that each stands for.

    They crowd towards 0: a normalised network hardly sees the scale of its input until that is about as small as the
    normalisation's epsilon, so that nearly all of the change from the baseline happens in the first few hundredths.
    """
    if steps == 1:
        return [(1.0, 1.0)]
    ends = [(step / steps) ** 5 for step in range(steps + 1)]
    return [(((step + 0.5) / steps) ** 5, ends[step + 1] - ends[step]) for step in range(steps)]


def call_log_probs(model: PreTrainedModel, calls: Sequence[CallInput], pictures: Pictures | None = None) -> Tensor:
    """`s` of every call: the sum of log-probabilities of its target tokens, shape (len(calls),), without gradient."""
    with torch.no_grad():
        batch = _Batch.build(model, calls, pictures)
        return batch.log_probs(model, batch.embeddings)


@dataclass(frozen=True, slots=True)
class _Batch:
    """Right-padded sequences; right padding needs no attention mask under causal attention."""

    embeddings: Tensor  # (N, L, H), detached
    position_ids: Tensor  # (3, N, L)
    block_of: Tensor  # (N, L), m beyond the prompt
    is_prompt: Tensor  # (N, L) bool
    rows: Tensor  # (K,) which call each scored token belongs to
    columns: Tensor  # (K,) the position whose logits predict it
    tokens: Tensor  # (K,) the scored token

    @classmethod
    def build(cls, model: PreTrainedModel, calls: Sequence[CallInput], pictures: Pictures | None) -> _Batch:
        device = model.device
        # Nothing after the last scored token matters to it.
        turns = [call.turn_ids[: _last(call.target) + 1] for call in calls]
        length = max(len(call.prompt_ids) + len(turn) for call, turn in zip(calls, turns, strict=True))
        ids = torch.zeros(len(calls), length, dtype=torch.long)
        real = torch.zeros(len(calls), length, dtype=torch.long)
        block_of = torch.full((len(calls), length), calls[0].blocks, dtype=torch.long)
        rows: list[int] = []
        columns: list[int] = []
        for row, (call, turn) in enumerate(zip(calls, turns, strict=True)):
            start = len(call.prompt_ids)
            ids[row, : start + len(turn)] = torch.tensor([*call.prompt_ids, *turn])
            real[row, : start + len(turn)] = 1
            block_of[row, :start] = torch.tensor(call.block_of)
            scored = [start + i for i in range(len(turn)) if call.target[i]]
            rows += [row] * len(scored)
            columns += scored
        tokens = ids[rows, columns]
        ids, real = ids.to(device), real.to(device)
        embeddings, position_ids = _merge(model, ids, real, [call.picture for call in calls], pictures)
        return cls(
            embeddings=embeddings,
            position_ids=position_ids,
            block_of=block_of.to(device),
            is_prompt=(block_of < calls[0].blocks).to(device),
            rows=torch.tensor(rows, device=device),
            columns=torch.tensor(columns, device=device) - 1,
            tokens=tokens.to(device),
        )

    def log_probs(self, model: PreTrainedModel, embeddings: Tensor) -> Tensor:
        hidden = model.model(
            inputs_embeds=embeddings, position_ids=self.position_ids, use_cache=False, return_dict=True
        ).last_hidden_state
        logits = model.lm_head(hidden[self.rows, self.columns]).float()
        log_probs = logits.log_softmax(-1).gather(1, self.tokens[:, None]).squeeze(1)
        return log_probs.new_zeros(len(embeddings)).index_add_(0, self.rows, log_probs)


def _merge(
    model: PreTrainedModel, ids: Tensor, real: Tensor, picture_of: Sequence[int | None], pictures: Pictures | None
) -> tuple[Tensor, Tensor]:
    """Merged input embeddings and rotary positions of a batch; each distinct picture is seen once."""
    inner = model.model
    is_image = (ids == model.config.image_token_id) & (real == 1)
    with torch.no_grad():
        embeddings = model.get_input_embeddings()(ids)
        grids = None
        used = [index for index in picture_of if index is not None]
        if pictures is None and (used or is_image.any()):
            raise ValueError("the prompts have image tokens or name pictures, but no pictures were given")
        if pictures is not None and used:
            features = inner.get_image_features(
                pictures.pixel_values.to(model.device), pictures.grid_thw.to(model.device), return_dict=True
            ).pooler_output
            merged = torch.cat([features[index] for index in used]).to(embeddings.dtype)
            for tokens, index in zip(is_image.sum(1).tolist(), picture_of, strict=True):
                found = 0 if index is None else len(features[index])
                if tokens != found:
                    raise ValueError(f"{tokens} image tokens in a call's sequence, but {found} image features for it")
            embeddings = embeddings.masked_scatter(is_image[..., None], merged)
            grids = pictures.grid_thw.to(model.device)[used]
        # Positions are always computed here: with embeddings alone the model would reuse those of an earlier call.
        position_ids, _ = inner.get_rope_index(ids, is_image.long(), image_grid_thw=grids, attention_mask=real)
    return embeddings.detach(), position_ids


def _last(target: Sequence[bool]) -> int:
    return max(index for index, scored in enumerate(target) if scored)
