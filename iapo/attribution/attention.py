"""Attention as an attribution: how much the call's tokens attend to each prompt block (docs/method.md, section 6).

What Reinforced Attention Learning (arXiv 2602.04884) compares between a student and its teacher, in place of gradients:
a control, since attention says where a model looks and not what the look was worth.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from iapo.attribution.gradient import CallInput, Pictures, _Batch, _parts, check_alike, run_language_model
from iapo.attribution.memory import Budget

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_WATCHED = "iapo_watched_attention"
_QUERIES = 64
"""Queries whose weights are in memory at once, for all heads."""


@dataclass(slots=True)
class _Watch:
    """Collects what some positions attend to, summed over layers, a mean over heads.

    Attributes:
        rows: Row of each watched query, shape (S,).
        columns: Its position, shape (S,).
        layers: Number of layers seen.
        weights: Weights, shape (S, L), once a layer was seen.
    """

    rows: Tensor
    columns: Tensor
    layers: int = 0
    weights: Tensor | None = field(default=None)

    def see(self, query: Tensor, key: Tensor, scaling: float) -> None:
        """Adds one layer, whose queries and keys have shapes (N, heads, L, D) and (N, key heads, L, D)."""
        length, shared = key.shape[2], query.shape[1] // key.shape[1]
        if self.weights is None:
            self.weights = torch.zeros(len(self.rows), length, device=query.device)
        places = torch.arange(length, device=query.device)
        for start in range(0, len(self.rows), _QUERIES):
            part = slice(start, start + _QUERIES)
            rows, columns = self.rows[part], self.columns[part]
            heads = query[rows, :, columns].unflatten(1, (-1, shared)).float()  # (S, key heads, shared, D)
            scores = torch.einsum("skgd,skld->skgl", heads, key[rows].float()) * scaling
            scores = scores.masked_fill(places > columns[:, None, None, None], -torch.inf)
            self.weights[part] += scores.softmax(-1).mean((1, 2))
        self.layers += 1


def attention_scores(
    model: PreTrainedModel, calls: Sequence[CallInput], pictures: Pictures | None = None, budget: Budget | None = None
) -> Tensor:
    """Scores every prompt block of every call by attention: the weights on its positions, summed.

    The queries are those that predict the call's scored tokens, and the weights are a mean over them, the heads and the
    layers of the language model. What else the queries attend to (the turn so far) belongs to no block, so that the
    scores sum to less than 1. `CallInput.score` does not matter.

    Args:
        model: A Qwen2.5-VL or Qwen3-VL model, unwrapped; its mode is left alone.
        calls: Calls to explain, all with the same number of blocks m.
        pictures: The distinct images that `CallInput.picture` refers to.
        budget: Tokens in one pass; None has all calls in one.

    Returns:
        Scores, shape (len(calls), m), fp32, on the model's device.

    Raises:
        ValueError: If there are no calls, or they disagree on the number of blocks.
    """
    check_alike(calls)
    found = []
    for part in _parts(calls, budget):
        batch, weights = _attended(model, calls[part], pictures)
        scores = weights.new_zeros(len(weights), calls[0].blocks + 1)
        found.append(scores.scatter_add_(1, batch.block_of, weights)[:, :-1])
    return torch.cat(found)


def attention_token_scores(
    model: PreTrainedModel, calls: Sequence[CallInput], pictures: Pictures | None = None, budget: Budget | None = None
) -> list[Tensor]:
    """Scores the prompt's tokens, as `attention_scores` does the blocks; shapes (P,)."""
    check_alike(calls)
    found: list[Tensor] = []
    for part in _parts(calls, budget):
        _, weights = _attended(model, calls[part], pictures)
        found += [row[: len(call.prompt_ids)] for row, call in zip(weights, calls[part], strict=True)]
    return found


@torch.no_grad()
def _attended(model: PreTrainedModel, calls: Sequence[CallInput], pictures: Pictures | None) -> tuple[_Batch, Tensor]:
    """Returns the batch, and the mean weight on each position, shape (N, L)."""
    batch = _Batch.build(model, calls, pictures)
    watch = _Watch(batch.rows, batch.columns)
    with _watched(model, watch):
        run_language_model(model, batch.inputs, batch.is_image, batch.position_ids)
    assert watch.weights is not None
    counts = torch.bincount(batch.rows, minlength=len(calls))[:, None]
    total = watch.weights.new_zeros(len(calls), watch.weights.shape[1]).index_add_(0, batch.rows, watch.weights)
    return batch, total / (counts * watch.layers)


@contextmanager
def _watched(model: PreTrainedModel, watch: _Watch) -> Iterator[None]:
    """Has the language model's layers tell their attention, which is PyTorch's `sdpa` meanwhile."""
    modules = [layer.self_attn for layer in model.model.language_model.layers]
    own = [module.config for module in modules]
    for module in modules:
        module.config = copy.copy(module.config)
        module.config._attn_implementation = _WATCHED
        module.config.iapo_watch = watch
    try:
        yield
    finally:
        for module, config in zip(modules, own, strict=True):
            module.config = config


def _attend(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **given: Any
) -> tuple[Tensor, None]:
    scaling = given.get("scaling")
    module.config.iapo_watch.see(query, key, query.shape[-1] ** -0.5 if scaling is None else scaling)
    output, _ = sdpa_attention_forward(module, query, key, value, attention_mask, **given)
    return output, None


AttentionInterface.register(_WATCHED, _attend)
