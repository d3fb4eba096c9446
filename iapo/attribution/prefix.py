"""Gradient x embedding of log p(tool call) for groups of calls that share their prompt, computed on a shared prefix.

The result is that of `iapo.attribution.gradient.block_scores`; the cost is not. The calls of a GRPO group differ only
after the prompt, so the prompt is run once, into a key-value cache, and the calls attend to it. The chain rule is then
taken in two stages: one backward pass through the calls gives the gradients with respect to the cached keys and values,
a row for each call, and these are carried through the prompt, the cheaper way at each position (`tangent.best_cut`):
by one tangent for each *block* that has begun, or by one vector-Jacobian product for each *distinct* call. Prompts of
one length with the same number of distinct calls run as one batch, and so do their products.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, overload

import torch
from torch import Tensor
from transformers import DynamicCache

from iapo.attribution.clusters import Cluster, call_key, chunks, make_clusters, rounds
from iapo.attribution.gradient import (
    CallInput,
    Pictures,
    _Batch,
    _parts,
    block_scores,
    check_alike,
    dot,
    run_language_model,
    whole_scores,
)
from iapo.attribution.memory import Budget, without_parameters
from iapo.attribution.tangent import Tangents, tangents_where_cheaper
from iapo.attribution.token_values import others_of, token_log_probs, token_values
from iapo.models import put_in_place

if TYPE_CHECKING:
    from transformers import Cache, PreTrainedModel

LEAST_SAVED = 512
"""Prompt tokens that sharing must save, on average per batch of prompts: its passes have a price however short."""

logger = logging.getLogger(__name__)
_warned: set[str] = set()


@overload
def prefix_block_scores(
    model: PreTrainedModel,
    calls: Sequence[CallInput],
    pictures: Pictures | None = None,
    *,
    budget: Budget | None = None,
    with_log_probs: Literal[False] = False,
) -> Tensor: ...


@overload
def prefix_block_scores(
    model: PreTrainedModel,
    calls: Sequence[CallInput],
    pictures: Pictures | None = None,
    *,
    budget: Budget | None = None,
    with_log_probs: Literal[True],
) -> tuple[Tensor, list[Tensor]]: ...


def prefix_block_scores(
    model: PreTrainedModel,
    calls: Sequence[CallInput],
    pictures: Pictures | None = None,
    *,
    budget: Budget | None = None,
    with_log_probs: bool = False,
) -> Tensor | tuple[Tensor, list[Tensor]]:
    """Scores every prompt block of every call, as `block_scores(model, calls, pictures)` does, but faster.

    Calls with the same prompt share one pass over it, and identical calls (the same prompt, turn tokens up to the last
    scored one, and target) are scored once. The order of `calls` is free. While it runs the model is in eval mode
    without gradient checkpointing, which would drop the cache, and its parameters need no gradient, which saves the
    inputs of all linear layers; both are restored, and no parameter's `.grad` is touched.

    With a budget, as many prompts and calls are in one graph as it says, one of each at least. A prompt that is longer
    is differentiated by tangents, which need no graph, also where products would be faster.

    Args:
        model: A Qwen2.5-VL or Qwen3-VL model, unwrapped.
        calls: Calls to explain, all with the same number of blocks m.
        pictures: The distinct images that `CallInput.pictures` refers to.
        budget: Tokens in one graph; None does not limit them.
        with_log_probs: Whether to return the log-probabilities of the turns as well.

    Returns:
        Scores, shape (len(calls), m), fp32, on the model's device; with `with_log_probs` also, for each call, the
        log-probabilities of its turn's tokens up to the last scored or reported one, fp32; whatever score is explained.

    Raises:
        ValueError: If there is no call, or the calls disagree on the number of blocks or the score.
        InputError: If a call alone cannot fit into the budget's memory.
    """
    check_alike(calls)
    keys = [call_key(call) for call in calls]
    clusters = make_clusters(dict(zip(keys, calls, strict=True)), budget)
    distinct = [call for cluster in clusters for call in cluster.calls]
    place = {call_key(call): row for row, call in enumerate(distinct)}
    scores: list[Tensor] = []
    log_probs: list[Tensor] = []
    # Each prompt is read once instead of once for each of its distinct calls.
    read = {key[0]: len(key[0][0]) for key in place}
    saved = sum(len(call.prompt_ids) for call in distinct) - sum(read.values())
    with _frozen(model), torch.enable_grad():
        longest = max(len(call.prompt_ids) + call.length for call in distinct)
        fits = budget is None or longest <= budget.tokens
        if saved <= LEAST_SAVED * len(clusters) and fits and not with_log_probs:
            return whole_scores(model, distinct, pictures, budget=budget)[[place[key] for key in keys]]
        batch = _Batch.build(model, distinct, pictures)
        for cluster in clusters:
            first = len(log_probs)
            prefix = _Prefix.run(model, batch, slice(first, first + cluster.prompts), cluster, budget)
            if prefix is None:
                break
            rows = slice(first, first + len(cluster.calls))
            some_scores, some_log_probs = _score(model, prefix, batch, rows, cluster.calls, with_log_probs, budget)
            scores.append(some_scores)
            log_probs += some_log_probs
    if len(log_probs) < len(distinct):
        if type(model).__name__ not in _warned:
            _warned.add(type(model).__name__)
            logger.warning("the cache of %s holds no gradients; attribution takes the slow path", type(model).__name__)
        scores = [block_scores(model, distinct, pictures, budget=budget)]
        log_probs = _whole_log_probs(model, distinct, pictures, budget) if with_log_probs else []
    result = torch.cat(scores)[[place[key] for key in keys]]
    return (result, [log_probs[place[key]] for key in keys]) if with_log_probs else result


@dataclass(frozen=True, slots=True)
class _Prefix:
    """Prompts without their last token, which is left to the suffix: its output predicts the turn's first token.

    Attributes:
        head: The tangents of the first `cut` tokens, where these are cheaper than products.
        inputs: Merged embeddings and deepstack features of the others, a leaf, shape (K, U, P - 1 - cut, hidden units).
        states: Keys and values of each layer in turn, with the graph of these others, shapes (U, heads, P - 1, head
            units).
    """

    head: Tangents | None
    inputs: Tensor
    states: list[Tensor]

    @property
    def length(self) -> int:
        return self.states[0].shape[-2]

    @classmethod
    def run(
        cls, model: PreTrainedModel, batch: _Batch, rows: slice, cluster: Cluster, budget: Budget | None
    ) -> _Prefix | None:
        """Runs the prompts of rows for a cluster's calls; None if the model's cache gives no gradients."""
        length = int(batch.is_prompt[rows.start].sum()) - 1
        if length == 0:
            return None
        whole = batch.inputs_at(rows, slice(0, length))
        given = whole, batch.position_ids[:, rows, :length], batch.block_of[rows, :length]
        head = tangents_where_cheaper(model, *given, cluster.each, cluster.over(budget))
        cut = 0 if head is None else head.tokens
        if budget is not None:
            budget.check(cluster.prompts * (length - cut))
        rest = slice(cut, length)
        inputs = whole[:, :, rest].clone().requires_grad_(True)
        cache = DynamicCache(head and zip(head.states[::2], head.states[1::2], strict=True))
        layers = model.model.language_model.layers
        if cut < length:
            # Of the last layer only the keys and values are used.
            with _skipped(layers[-1].mlp):
                run_language_model(model, inputs, batch.is_image[rows, rest], batch.position_ids[:, rows, rest], cache)
        states = states_with_graph(cache, len(layers), length)
        return None if states is None else cls(head, inputs, states)


def states_with_graph(cache: Cache, layers: int, length: int) -> list[Tensor] | None:
    """Returns the keys and values of each layer in turn; None if the cache holds no gradients, or fewer tokens."""
    states = [getattr(layer, name, None) for layer in cache.layers for name in ("keys", "values")]
    held = [one for one in states if one is not None and one.requires_grad and one.shape[-2] == length]
    return held if len(held) == 2 * layers else None


def padded_turns(calls: Sequence[CallInput], device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the turns' tokens, right-padded with zeros, and masks of those that are scored and of those that are
    there; column t of what runs behind a prompt predicts token t. Shapes (k, longest turn).
    """
    lengths = [call.length for call in calls]
    turn = torch.zeros(len(calls), max(lengths), dtype=torch.long)
    scored, real = torch.zeros_like(turn, dtype=torch.bool), torch.zeros_like(turn, dtype=torch.bool)
    for row, (call, length) in enumerate(zip(calls, lengths, strict=True)):
        turn[row, :length] = torch.tensor(call.turn_ids[:length])
        scored[row, :length] = torch.tensor(call.target[:length])
        real[row, :length] = True
    return turn.to(device), scored.to(device), real.to(device)


def _score(
    model: PreTrainedModel,
    prefix: _Prefix,
    batch: _Batch,
    rows: slice,
    calls: Sequence[CallInput],
    every: bool,
    budget: Budget | None,
) -> tuple[Tensor, list[Tensor]]:
    """Scores the calls of a cluster.

    Args:
        model: The model, frozen.
        prefix: The cluster's U prompts.
        batch: The whole sequences of all calls.
        rows: Rows of these calls in the batch.
        calls: The n times U calls.
        every: Whether all tokens' log-probabilities are wanted; else they may be zero.
        budget: Tokens in one graph; None does not limit them.

    Returns:
        Scores, shape (n U, m), fp32, and the log-probabilities of each turn.
    """
    prompts, rest = prefix.inputs.shape[1:3]
    device = prefix.inputs.device
    # Of tokens whose scores come as sums alone, those of the head, the own scores are left at zero.
    token_scores = torch.zeros(len(calls), prefix.length + 1, device=device)
    scores = token_scores.new_zeros(len(calls), calls[0].blocks)
    log_probs: list[Tensor] = []
    head = [] if prefix.head is None else prefix.head.states
    held = rest if prefix.head is None else rest + prefix.head.held(budget)
    lengths = [call.length for call in calls]
    for first, last in rounds(lengths, prompts, held, prefix.length, budget):
        parts: list[list[Tensor]] = []
        for start, end in chunks(lengths[first:last], device):
            some = slice(first + start, first + end)
            of_prompt = torch.arange(some.start, some.stop, device=device) % prompts
            in_batch = slice(rows.start + some.start, rows.start + some.stop)
            found = _suffix_gradients(model, prefix, batch, in_batch, of_prompt, calls[some], every)
            token_scores[some, -1] = found[0]
            parts.append(found[1])
            log_probs += found[2]
        cotangents = [torch.cat(layer) for layer in zip(*parts, strict=True)]
        # Rows do not touch each other, so one product serves a call of every prompt at once.
        for start in range(0, last - first if rest else 0, prompts):
            own = [one[start : start + prompts] for one in cotangents]
            gradient, *into_head = torch.autograd.grad(prefix.states, [prefix.inputs, *head], own, retain_graph=True)
            token_scores[first + start : first + start + prompts, -1 - rest : -1] = dot(gradient, prefix.inputs)
            for one, through in zip(own, into_head, strict=False):
                one[:, :, :-rest] = through
        if prefix.head is not None:
            scores[first:last] += prefix.head.scores(cotangents, calls[0].blocks)
    block_of = torch.tensor([list(call.block_of) for call in calls], device=device)
    return scores.scatter_add_(1, block_of, token_scores), log_probs


def _suffix_gradients(
    model: PreTrainedModel,
    prefix: _Prefix,
    batch: _Batch,
    rows: slice,
    of_prompt: Tensor,
    calls: Sequence[CallInput],
    every: bool,
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """Runs calls on their prompts' states and goes back to these.

    Args:
        model: The model, frozen.
        prefix: The prompts.
        batch: The whole sequences of all calls.
        rows: Rows of these k calls in the batch.
        of_prompt: Each call's prompt, shape (k,).
        calls: The calls.
        every: Every, the same as in `_score`.

    Returns:
        Scores of the prompts' last tokens, shape (k,); the gradients with respect to the states, each with k rows;
        and the log-probabilities of each turn.
    """
    cut = prefix.length
    lengths = [call.length for call in calls]
    columns = slice(cut, cut + max(lengths))
    suffix = batch.inputs_at(rows, columns).requires_grad_(True)
    # Leaves of their own, a row for each call: here the backward pass through the suffix stops.
    leaves = [states.detach()[of_prompt].requires_grad_(True) for states in prefix.states]
    cache = DynamicCache(zip(leaves[::2], leaves[1::2], strict=True))
    # Right padding needs no mask.
    hidden = run_language_model(
        model, suffix, batch.is_image[rows, columns], batch.position_ids[:, rows, columns], cache
    )

    turn, scored, real = padded_turns(calls, hidden.device)
    unscored = real & ~scored
    log_probs = torch.zeros(hidden.shape[:2], device=hidden.device)
    score = calls[0].score
    values = token_values(model, hidden[scored], turn[scored], score, others_of(calls, hidden.device))
    with torch.no_grad():
        if score == "log_prob":
            log_probs[scored] = values.detach()
        elif every:
            log_probs[scored] = token_log_probs(model, hidden[scored], turn[scored])
        if every:
            log_probs[unscored] = token_log_probs(model, hidden[unscored], turn[unscored])

    # Rows do not touch each other, so the gradient of the sum holds each call's own gradient in its row.
    suffix_gradient, *cotangents = torch.autograd.grad(values.sum(), [suffix, *leaves])
    last = dot(suffix_gradient[:, :, 0], suffix[:, :, 0])
    return last, cotangents, [one[:length] for one, length in zip(log_probs, lengths, strict=True)]


def _whole_log_probs(
    model: PreTrainedModel, calls: Sequence[CallInput], pictures: Pictures | None, budget: Budget | None
) -> list[Tensor]:
    """Computes log-probabilities of each turn's tokens up to the last scored one, from whole sequences."""
    lengths = [call.length for call in calls]
    turns = [
        replace(call, turn_ids=call.turn_ids[:length], target=[True] * length, reported=None)
        for call, length in zip(calls, lengths, strict=True)
    ]
    found: list[Tensor] = []
    with torch.no_grad():
        for part in _parts(turns, budget):
            batch = _Batch.build(model, turns[part], pictures)
            hidden = run_language_model(model, batch.inputs, batch.is_image, batch.position_ids)
            found += token_log_probs(model, hidden[batch.rows, batch.columns], batch.tokens).split(lengths[part])
    return found


@contextmanager
def _frozen(model: PreTrainedModel) -> Iterator[None]:
    """Keeps eval mode and no gradients of parameters while it is open; then each module and parameter is as before."""
    training = [module for module in model.modules() if module.training]
    try:
        if training:
            model.eval()
        with without_parameters(model):
            yield
    finally:
        for module in training:
            module.training = True


@contextmanager
def _skipped(module: torch.nn.Module) -> Iterator[None]:
    """Makes a module return its input while it is open."""
    with put_in_place(module, "forward", lambda x: x):
        yield
