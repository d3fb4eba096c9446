"""What attributions take while they run: graphs of whole sequences, or of prompts that their calls share."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from iapo.attribution.clusters import CLUSTER_TOKENS
from iapo.attribution.memory import HEAD_LOGITS, SHARE, TokenCost, token_cost
from iapo.attribution.prefix import LEAST_SAVED
from iapo.attribution.rows import MOST_ROWS, count_rows
from iapo.attribution.tangent import best_cut
from iapo.planning.passes import LOGITS, feature_bytes, seeing_bytes
from iapo.planning.shapes import Shape
from iapo.planning.workload import Workload


@dataclass(frozen=True, slots=True)
class _Size:
    """What a token takes in one model's attribution, in bytes.

    Attributes:
        cost: Cost by which the attribution itself decides what runs together.
        prompt: Graph of a prompt's token whose keys and values alone are used, so that the last layer keeps little.
        inputs: Inputs, their copy that is differentiated, and its gradient.
        passing: What is there beside the graph while an MLP's gradients, or its adapters' outputs, are computed.
        inner: Inner units of the MLP.
    """

    cost: TokenCost
    prompt: int
    inputs: int
    passing: int
    inner: int

    @classmethod
    def of(cls, shape: Shape, itemsize: int, adding: int) -> _Size:
        text, wide = shape.text, max(4, itemsize)
        cost = token_cost(text, itemsize)
        # Of the last layer there is no second norm, no query, no output of attention, and no MLP.
        unused = text.hidden_size * wide + itemsize * (3 * text.intermediate_size + 2 * shape.queries)
        return cls(
            cost=cost,
            prompt=cost.graph - unused,
            inputs=text.hidden_size * (2 * itemsize + wide),
            # The gradients of the activation, of what it is multiplied with, and of their product.
            passing=text.intermediate_size * max(3 * itemsize, adding),
            inner=itemsize * text.intermediate_size,
        )


def attribution_bytes(
    shape: Shape,
    itemsize: int,
    load: Workload,
    *,
    batch: int,
    tokens: int | None,
    left: float,
    adding: int = 0,
) -> tuple[int, int]:
    """Returns what the attribution of a batch of different calls takes, and the least that one call does.

    Args:
        shape: Shape of the model.
        itemsize: Bytes of its numbers.
        load: Tokens.
        batch: Calls that are attributed together.
        tokens: Setting of the tokens in one graph; None takes a part of what is left.
        left: Bytes that nothing else takes.
        adding: Bytes a unit that the output of an adapter on the MLP takes (`Student.adding`); 0 without one.
    """
    size = _Size.of(shape, itemsize, adding)
    most = tokens * size.cost.graph if tokens is not None else max(0.0, SHARE * left)
    calls = min(batch, load.rows)
    # What precedes a later turn's call is its own row's.
    each = 1 if load.turns > 2 else min(load.generations, calls)
    prompts = max(1, calls // each)
    held = prompts * load.edits * feature_bytes(shape, load, itemsize)
    # The vision tower is done before the language model begins.
    seeing = seeing_bytes(shape, load, prompts * load.edits, itemsize)
    graph, one = (_graph(shape, size, load, *some) for some in ((prompts, each, most), (1, 1, 1)))
    return held + max(seeing, graph), held + max(seeing, min(graph, one))


def _graph(shape: Shape, size: _Size, load: Workload, prompts: int, each: int, most: float) -> int:
    """Returns the bytes of prompts with so many calls to each, logits included; the graph within a limit if it can."""
    cost, explained = size.cost, load.explained
    length = len(explained) - 1
    call = cost.graph * load.turn + cost.cached * length
    together = max(1, min(prompts, CLUSTER_TOKENS // len(explained), _within(most, cost.graph * length + call)))
    whole = len(explained) + load.turn
    saved = prompts * (each - 1) * len(explained)
    if saved <= LEAST_SAVED * math.ceil(prompts / together) and cost.graph * whole <= most:
        # Too little is shared, so that each sequence has a graph of its own.
        rows = max(1, min(prompts * each, _within(most, cost.graph * whole)))
        beside = max(rows * whole * size.passing, _logits(shape, load, rows))
        return rows * whole * (cost.graph + size.inputs) + beside
    block_of = torch.tensor([explained[:length]])
    tangents = count_rows(block_of)
    cut = best_cut(block_of.repeat(together, 1), each)
    if together * (cost.graph * length + call) > most and cost.tangent * tangents < cost.graph * length:
        cut = length
    head = count_rows(block_of[:, :cut]) if cut else 0
    rest = length - cut
    # By what it takes the attribution decides, by what it holds it is counted.
    limit = cost.graph * rest + cost.tangent * head
    rounds = max(1, min(each, _within(most - together * limit, together * call)))
    held = size.prompt * rest + cost.tangent * head + size.inputs * length
    forward = max(3 * size.inner * min(together * head, max(MOST_ROWS, cut)), together * rest * size.passing)
    suffix = max(together * rounds * load.turn * size.passing, _logits(shape, load, together * rounds))
    return together * held + max(forward, together * rounds * call + suffix)


def _within(most: float, each: int) -> int:
    """Counts how many take no more than a limit; 2^31 where there is none."""
    return 2**31 if most == float("inf") else max(0, int(most / each))


def _logits(shape: Shape, load: Workload, calls: int) -> int:
    """Returns what the logits of calls that run together take, with their gradients."""
    scored = min(calls * load.turn, max(1, HEAD_LOGITS // shape.text.vocab_size))
    return LOGITS * 4 * scored * shape.text.vocab_size
