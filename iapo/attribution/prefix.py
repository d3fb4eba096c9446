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
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, overload

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import DynamicCache

from iapo.attribution.gradient import CallInput, Pictures, _Batch, _last, block_scores

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
    by_prompt: dict[_Prompt, dict[_Key, CallInput]] = {}
    for key, call in zip(keys, calls, strict=True):
        by_prompt.setdefault(key[0], {})[key] = call
    # The rows of the batch are the distinct calls, those of one prompt next to each other, the longest turns first.
    groups = [sorted(group.items(), key=lambda item: -_length(item[1])) for group in by_prompt.values()]
    place = {key: row for row, key in enumerate(key for group in groups for key, _ in group)}
    distinct = [call for group in groups for _, call in group]
    scores: list[Tensor] = []
    log_probs: list[Tensor] = []
    with _frozen(model), torch.enable_grad():
        batch = _Batch.build(model, distinct, pictures)
        for group in groups:
            first = len(log_probs)
            prefix = _Prefix.run(model, batch, first, len(group[0][1].prompt_ids) - 1)
            if prefix is None:
                break
            for start, end in _chunks([_length(call) for _, call in group], model.device):
                rows = slice(first + start, first + end)
                some_scores, some_log_probs = _score(model, prefix, batch, rows, distinct[rows], with_log_probs)
                scores.append(some_scores)
                log_probs += some_log_probs
    if len(log_probs) < len(distinct):
        if type(model).__name__ not in _warned:
            _warned.add(type(model).__name__)
            logger.warning("the cache of %s holds no gradients; attribution takes the slow path", type(model).__name__)
        scores = [block_scores(model, distinct, pictures)]
        log_probs = _whole_log_probs(model, distinct, pictures) if with_log_probs else []
    result = torch.cat(scores)[[place[key] for key in keys]]
    return (result, [log_probs[place[key]] for key in keys]) if with_log_probs else result


_Prompt = tuple[tuple[int, ...], tuple[int, ...], int | None]
_Key = tuple[_Prompt, tuple[int, ...], tuple[bool, ...]]


def _key(call: CallInput) -> _Key:
    """What a call's scores depend on; nothing after the last scored token does."""
    end = _length(call)
    prompt = (tuple(call.prompt_ids), tuple(call.block_of), call.picture)
    return prompt, tuple(call.turn_ids[:end]), tuple(call.target[:end])


def _length(call: CallInput) -> int:
    """The number of turn tokens up to the last scored one."""
    return _last(call.target) + 1


def _chunks(lengths: Sequence[int], device: torch.device) -> Iterator[tuple[int, int]]:
    """Cuts a group, longest turns first, where its padding costs more than another pass does.

    On an accelerator the launches of a pass take longer than the padding of any group; there it stays whole.
    """
    start = 0
    for end in range(1, len(lengths)):
        saved = (lengths[start] - lengths[end]) * (len(lengths) - end)
        if device.type == "cpu" and lengths[end] < 0.75 * lengths[start] and saved > 64:
            yield start, end
            start = end
    yield start, len(lengths)


@dataclass(frozen=True, slots=True)
class _Prefix:
    """A prompt without its last token, which is left to the suffix: its output predicts the turn's first token.

    Attributes:
        embeddings: The merged embeddings, a leaf, shape (1, P - 1, hidden units).
        states: Keys and values of each layer in turn, with the prompt's graph, shapes (1, heads, P - 1, head units).
    """

    embeddings: Tensor
    states: list[Tensor]

    @classmethod
    def run(cls, model: PreTrainedModel, batch: _Batch, row: int, length: int) -> _Prefix | None:
        """Runs the first `length` tokens of a row; None if the model's cache does not give their states' gradients."""
        if length == 0:
            return None
        embeddings = batch.embeddings[row : row + 1, :length].clone().requires_grad_(True)
        cache = DynamicCache()
        layers = model.model.language_model.layers
        # Of the last layer only the keys and values are used.
        with _skipped(layers[-1].mlp):
            model.model(
                inputs_embeds=embeddings,
                position_ids=batch.position_ids[:, row : row + 1, :length],
                past_key_values=cache,
                use_cache=True,
                return_dict=True,
            )
        states = [getattr(layer, name, None) for layer in cache.layers for name in ("keys", "values")]
        held = [one for one in states if one is not None and one.requires_grad and one.shape[-2] == length]
        return cls(embeddings, held) if len(held) == 2 * len(layers) else None


def _score(
    model: PreTrainedModel, prefix: _Prefix, batch: _Batch, rows: slice, calls: Sequence[CallInput], every: bool
) -> tuple[Tensor, list[Tensor]]:
    """Scores distinct calls of one prompt.

    Args:
        model: The model, frozen.
        prefix: The prompt.
        batch: The whole sequences of all calls.
        rows: Where these calls stand in the batch.
        calls: The n calls.
        every: Whether the log-probabilities of unscored tokens are wanted, too; else they are zero.

    Returns:
        Scores, shape (n, m), fp32, and the log-probabilities of each turn.
    """
    cut = prefix.embeddings.shape[1]
    lengths = [_length(call) for call in calls]
    columns = slice(cut, cut + max(lengths))
    suffix = batch.embeddings[rows, columns].clone().requires_grad_(True)
    # Leaves of their own, a row for each call: here the backward pass through the suffix stops.
    leaves = [states.detach().expand(len(calls), -1, -1, -1).requires_grad_(True) for states in prefix.states]
    # Right padding needs no mask; positions must be given, since with embeddings alone the model makes up its own.
    hidden = model.model(
        inputs_embeds=suffix,
        position_ids=batch.position_ids[:, rows, columns],
        past_key_values=DynamicCache(zip(leaves[::2], leaves[1::2], strict=True)),
        use_cache=True,
        return_dict=True,
    ).last_hidden_state

    # Column t of the suffix predicts token t of the turn.
    turn = torch.zeros(hidden.shape[:2], dtype=torch.long)
    scored, unscored = torch.zeros_like(turn, dtype=torch.bool), torch.zeros_like(turn, dtype=torch.bool)
    for row, (call, length) in enumerate(zip(calls, lengths, strict=True)):
        turn[row, :length] = torch.tensor(call.turn_ids[:length])
        scored[row, :length] = torch.tensor(call.target[:length])
        unscored[row, :length] = ~scored[row, :length]
    turn, scored, unscored = (one.to(hidden.device) for one in (turn, scored, unscored))
    log_probs = torch.zeros(hidden.shape[:2], device=hidden.device)
    of_scored = _token_log_probs(model, hidden[scored], turn[scored])
    log_probs[scored] = of_scored.detach()
    if every:
        with torch.no_grad():
            log_probs[unscored] = _token_log_probs(model, hidden[unscored], turn[unscored])

    # Rows do not touch each other, so the gradient of the sum holds each call's own gradient in its row.
    suffix_gradient, *cotangents = torch.autograd.grad(of_scored.sum(), [suffix, *leaves])
    token_scores = torch.zeros(len(calls), cut + 1, device=hidden.device)
    token_scores[:, cut] = _dot(suffix_gradient[:, 0], suffix[:, 0])
    for row in range(len(calls)):
        own = [one[row : row + 1] for one in cotangents]
        (gradient,) = torch.autograd.grad(prefix.states, prefix.embeddings, own, retain_graph=True)
        token_scores[row, :cut] = _dot(gradient[0], prefix.embeddings[0])
    scores = token_scores.new_zeros(len(calls), calls[0].blocks)
    scores.index_add_(1, torch.tensor(calls[0].block_of, device=scores.device), token_scores)
    return scores, [one[:length] for one, length in zip(log_probs, lengths, strict=True)]


def _dot(gradient: Tensor, embeddings: Tensor) -> Tensor:
    """Products summed over the last dimension, in fp32."""
    return (gradient.float() * embeddings.detach().float()).sum(-1)


def _token_log_probs(model: PreTrainedModel, hidden: Tensor, tokens: Tensor) -> Tensor:
    """Log-probabilities of tokens, shape (K,), from what predicts them, shape (K, hidden units); softmax in fp32."""
    return -cross_entropy(model.lm_head(hidden).float(), tokens, reduction="none")


def _whole_log_probs(model: PreTrainedModel, calls: Sequence[CallInput], pictures: Pictures | None) -> list[Tensor]:
    """Log-probabilities of each turn's tokens up to the last scored one, from whole sequences."""
    lengths = [_length(call) for call in calls]
    turns = [
        replace(call, turn_ids=call.turn_ids[:length], target=[True] * length)
        for call, length in zip(calls, lengths, strict=True)
    ]
    with torch.no_grad():
        batch = _Batch.build(model, turns, pictures)
        hidden = model.model(
            inputs_embeds=batch.embeddings, position_ids=batch.position_ids, use_cache=False, return_dict=True
        ).last_hidden_state
        return list(_token_log_probs(model, hidden[batch.rows, batch.columns], batch.tokens).split(lengths))


@contextmanager
def _frozen(model: PreTrainedModel) -> Iterator[None]:
    """Eval mode and no gradients of parameters while it is open; then each module and parameter is as before.

    Graphs recorded before are unharmed: a parameter's gradient is only collected where it requires one by then.
    """
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


@contextmanager
def _skipped(module: torch.nn.Module) -> Iterator[None]:
    """Makes a module return its input while it is open."""
    own = vars(module).get("forward")
    module.forward = lambda x: x
    try:
        yield
    finally:
        del module.forward
        if own is not None:
            module.forward = own
