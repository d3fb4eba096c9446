"""Gradient x embedding of log p(tool call) for groups of calls that share their prompt, computed on a shared prefix.

The result is that of `iapo.attribution.gradient.block_scores`; the cost is not. The calls of a GRPO group differ only
after the prompt, so the prompt is run once, into a key-value cache, and the calls attend to it. The chain rule is then
taken in two stages: one backward pass through the calls gives the gradients with respect to the cached keys and values,
a row for each call, and one vector-Jacobian product for each *distinct* call carries them through the prompt's graph.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal, overload

import torch
from torch import Tensor
from transformers import DynamicCache

from iapo.attribution.gradient import CallInput, Pictures, _Batch, _last

if TYPE_CHECKING:
    from transformers import PreTrainedModel

logger = logging.getLogger(__name__)
_warned: set[str] = set()


@overload
def prefix_block_scores(
    model: PreTrainedModel,
    calls: Sequence[CallInput],
    pictures: Pictures | None = None,
    *,
    with_log_probs: Literal[False] = False,
) -> Tensor: ...


@overload
def prefix_block_scores(
    model: PreTrainedModel,
    calls: Sequence[CallInput],
    pictures: Pictures | None = None,
    *,
    with_log_probs: Literal[True],
) -> tuple[Tensor, list[Tensor]]: ...


def prefix_block_scores(
    model: PreTrainedModel,
    calls: Sequence[CallInput],
    pictures: Pictures | None = None,
    *,
    with_log_probs: bool = False,
) -> Tensor | tuple[Tensor, list[Tensor]]:
    """Scores every prompt block of every call, as `block_scores(model, calls, pictures)` does, but faster.

    Calls with the same prompt share one pass over it, and identical calls (the same prompt, turn tokens up to the last
    scored one, and target) are scored once. The order of `calls` is free. While it runs the model is in eval mode
    without gradient checkpointing, which would drop the cache, and its parameters need no gradient, which saves the
    inputs of all linear layers; both are restored, and no parameter's `.grad` is touched.

    Args:
        model: A Qwen2.5-VL model, unwrapped.
        calls: What to explain; all with the same number of blocks m.
        pictures: The distinct pictures that `CallInput.picture` refers to.
        with_log_probs: Whether to return the log-probabilities of the turns as well.

    Returns:
        Scores, shape (len(calls), m), fp32, on the model's device; with `with_log_probs` also, for each call, the
        log-probabilities of its turn's tokens up to the last scored one, fp32.

    Raises:
        ValueError: If there is no call, or the calls disagree on the number of blocks.
    """
    if not calls:
        raise ValueError("no calls to explain")
    if len({call.blocks for call in calls}) != 1:
        raise ValueError("all calls of a batch must have the same number of blocks")
    keys = [_key(call) for call in calls]
    groups: dict[_Prompt, dict[_Key, CallInput]] = {}
    for key, call in zip(keys, calls, strict=True):
        groups.setdefault(key[0], {})[key] = call
    # The rows of the batch are the distinct calls, those of one prompt next to each other.
    place = {key: row for row, key in enumerate(key for group in groups.values() for key in group)}
    distinct = [call for group in groups.values() for call in group.values()]
    scores: list[Tensor] = []
    log_probs: list[Tensor] = []
    with _frozen(model), torch.enable_grad():
        batch = _Batch.build(model, distinct, pictures)
        for group in groups.values():
            some = list(group.values())
            rows = slice(len(log_probs), len(log_probs) + len(some))
            group_scores, group_log_probs = _score_group(model, some, batch, rows, with_log_probs)
            scores.append(group_scores)
            log_probs += group_log_probs
    result = torch.cat(scores)[[place[key] for key in keys]]
    return (result, [log_probs[place[key]] for key in keys]) if with_log_probs else result


_Prompt = tuple[tuple[int, ...], tuple[int, ...], int | None]
_Key = tuple[_Prompt, tuple[int, ...], tuple[bool, ...]]


def _key(call: CallInput) -> _Key:
    """What a call's scores depend on; nothing after the last scored token does."""
    end = _last(call.target) + 1
    prompt = (tuple(call.prompt_ids), tuple(call.block_of), call.picture)
    return prompt, tuple(call.turn_ids[:end]), tuple(call.target[:end])


def _score_group(
    model: PreTrainedModel, calls: Sequence[CallInput], batch: _Batch, rows: slice, every: bool
) -> tuple[Tensor, list[Tensor]]:
    """Scores the distinct calls of one prompt.

    Args:
        model: The model, frozen.
        calls: The n calls.
        batch: All calls' whole sequences.
        rows: Where these calls stand in the batch.
        every: Whether to compute the log-probabilities of the turns' unscored tokens, too.

    Returns:
        Scores, shape (n, m), fp32, and each turn's log-probabilities; those not computed are zero.
    """
    # The prompt's last token is left to the suffix: its output predicts the first token of the turn.
    cut = len(calls[0].prompt_ids) - 1
    ends = [_last(call.target) + 1 for call in calls]
    prompt = batch.embeddings[rows.start : rows.start + 1, :cut].clone().requires_grad_(True)
    suffix = batch.embeddings[rows, cut : cut + max(ends)].clone().requires_grad_(True)
    cached = _cache_prompt(model, prompt, batch.position_ids[:, rows.start : rows.start + 1, :cut])
    # Leaves of their own, a row for each call: the backward pass through the suffix stops here.
    leaves = [states.detach().expand(len(calls), -1, -1, -1).requires_grad_(True) for states in cached]
    cache = DynamicCache(zip(leaves[::2], leaves[1::2], strict=True))
    # Right padding needs no mask, but the positions must be given: with embeddings alone the model makes its own.
    hidden = model.model(
        inputs_embeds=suffix,
        position_ids=batch.position_ids[:, rows, cut : cut + max(ends)],
        past_key_values=cache,
        use_cache=True,
        return_dict=True,
    ).last_hidden_state

    # Column t of the suffix predicts token t of the turn.
    scored = torch.zeros(hidden.shape[:2], dtype=torch.bool)
    turn = torch.zeros(hidden.shape[:2], dtype=torch.long)
    for row, (call, end) in enumerate(zip(calls, ends, strict=True)):
        scored[row, :end] = torch.tensor(call.target[:end])
        turn[row, :end] = torch.tensor(call.turn_ids[:end])
    scored, turn = scored.to(hidden.device), turn.to(hidden.device)
    log_probs = torch.zeros(hidden.shape[:2], device=hidden.device)
    log_probs[scored] = _token_log_probs(model, hidden[scored], turn[scored])
    suffix_gradient, *gradients = torch.autograd.grad(log_probs.sum(), [suffix, *leaves])
    log_probs = log_probs.detach()
    if every:
        with torch.no_grad():
            log_probs[~scored] = _token_log_probs(model, hidden[~scored], turn[~scored])

    token_scores = torch.zeros(len(calls), cut + 1, device=hidden.device)
    token_scores[:, cut] = (suffix_gradient[:, 0].float() * suffix.detach()[:, 0].float()).sum(-1)
    for row in range(len(calls)):
        (gradient,) = torch.autograd.grad(
            cached, prompt, [leaf[row : row + 1] for leaf in gradients], retain_graph=row + 1 < len(calls)
        )
        token_scores[row, :cut] = (gradient[0].float() * prompt.detach()[0].float()).sum(-1)
    scores = token_scores.new_zeros(len(calls), calls[0].blocks)
    scores.index_add_(1, torch.tensor(calls[0].block_of, device=scores.device), token_scores)
    return scores, [one[:end] for one, end in zip(log_probs, ends, strict=True)]


def _cache_prompt(model: PreTrainedModel, prompt: Tensor, position_ids: Tensor) -> list[Tensor]:
    """Runs a prompt; its keys and values, each of shape (1, heads, tokens, head units), layer by layer."""
    cache = DynamicCache()
    with _idle(model.model.language_model.layers[-1].mlp):
        model.model(
            inputs_embeds=prompt, position_ids=position_ids, past_key_values=cache, use_cache=True, return_dict=True
        )
    return [states for layer in cache.layers for states in (layer.keys, layer.values)]


@contextmanager
def _idle(module: torch.nn.Module) -> Iterator[None]:
    """Makes a module return its input while it is open."""
    own = vars(module).get("forward")
    module.forward = lambda x: x
    try:
        yield
    finally:
        del module.forward
        if own is not None:
            module.forward = own


def _token_log_probs(model: PreTrainedModel, hidden: Tensor, tokens: Tensor) -> Tensor:
    """Log-probabilities, shape (K,), of tokens, shape (K,), given what predicts them, shape (K, hidden units); fp32."""
    logits = model.lm_head(hidden).float()
    return -torch.nn.functional.cross_entropy(logits, tokens, reduction="none")


@contextmanager
def _frozen(model: PreTrainedModel) -> Iterator[None]:
    """Eval mode and no gradients of parameters while it is open; then each module and parameter is as before."""
    training = [module for module in model.modules() if module.training]
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    try:
        model.eval()
        for parameter in trainable:
            parameter.requires_grad_(False)
        yield
    finally:
        for module in training:
            module.training = True
        for parameter in trainable:
            parameter.requires_grad_(True)
