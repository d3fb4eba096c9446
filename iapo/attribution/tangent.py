"""Tangents of a prompt's cached keys and values, one for each of its blocks: forward-mode differentiation.

A block's tangent is the derivative of the cache in the direction of that block's inputs: its embeddings, and in
Qwen3-VL an image's deepstack features, which enter behind the first layers. It does not depend on what
follows the prompt, so all calls of a group share it, and since attention is causal it is zero before the block begins.
A call's score of the block is then the product of the tangent with the call's gradient with respect to the cache.

The decoder layers are linearised by hand, next to their own forward pass, so that nothing is computed again for a
block, and no graph is held. Layers that are not known here are left to autograd (`is_known`).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers.activations import SiLUActivation
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import rotate_half

from iapo.attribution.memory import Budget
from iapo.attribution.rows import Rows, Segment, count_rows
from iapo.models import DecoderLayers, decoder_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel

TANGENT_COST = 0.9
"""What a token of a tangent costs, in tokens of a vector-Jacobian product (measured with 3 and 12 layers on a CPU)."""

QUERIES = {"cpu": 128}
"""How many of a prompt's queries attend at once: few keep to the processor's cache and to the keys that they see."""

MOST_QUERIES = 1024
"""The same on other devices, where launches cost more; the weights of all queries of a long prompt would not fit."""

BLOCK_PRICE = 48
"""What each block of each prompt costs besides, in the same tokens: its small operations take their time however short
the prompt and narrow the model."""

LEAST_SAVED = 512
"""Tokens of products that tangents must save to be worth another pass."""


@dataclass(frozen=True, slots=True)
class Tangents:
    """Keys and values of the first tokens of U prompts, and how they change with each block's inputs.

    Attributes:
        states: Keys and values of each layer in turn, leaves, shapes (U, heads, tokens, head units).
        tangents: Their tangents, shapes (rows of all segments, heads times head units).
        segments: Rows belong to which block.
    """

    states: list[Tensor]
    tangents: list[Tensor]
    segments: list[Segment]

    @property
    def tokens(self) -> int:
        """The number of tokens of each prompt."""
        return self.states[0].shape[-2]

    def held(self, budget: Budget | None) -> float:
        """Returns what a prompt's tangents take, in tokens of a graph; 0 without a budget to measure by."""
        rows = self.segments[-1].rows.stop
        return 0.0 if budget is None else rows * budget.tangent / len(self.states[0])

    def scores(self, cotangents: Sequence[Tensor], blocks: int) -> Tensor:
        """Returns what the tokens contribute to the scores of n calls to each prompt.

        Args:
            cotangents: The calls' gradients with respect to the states, shapes (n U, heads, tokens or more, head
                units); the first call of each prompt, then the second of each, and so on.
            blocks: The number of blocks m.

        Returns:
            Sums over the layers of the products with each tangent, shape (n U, m), fp32.
        """
        prompts = len(self.states[0])
        result = torch.zeros(len(cotangents[0]) // prompts, prompts, blocks, device=cotangents[0].device)
        for cotangent, tangent in zip(cotangents, self.tangents, strict=True):
            flat = _wide(cotangent[:, :, : self.tokens]).transpose(1, 2).flatten(2).unflatten(0, (-1, prompts))
            for one in self.segments:
                own = flat[:, one.prompt, one.start :].flatten(1)
                result[:, one.prompt, one.block] += own @ _wide(tangent[one.rows]).flatten()
        return result.flatten(0, 1)


def tangents_where_cheaper(
    model: PreTrainedModel,
    inputs: Tensor,
    position_ids: Tensor,
    block_of: Tensor,
    calls: int,
    over: Budget | None = None,
) -> Tangents | None:
    """Runs as many first tokens of U prompts as `best_cut` says; None if it is none, or the model is not known.

    Where the prompts' graph would be too large, all tokens are run so if that takes less.

    Args:
        model: The model, in eval mode.
        inputs: Merged embeddings and deepstack features, shape (K, U, tokens, hidden units).
        position_ids: Rotary positions, shape (3, U, tokens).
        block_of: The block of each position, shape (U, tokens).
        calls: The number of distinct calls to each prompt.
        over: Budget of tokens that the prompts' graph is larger than; None where it fits.

    Returns:
        Keys, values and tangents of the first tokens.
    """
    cut = best_cut(block_of, calls) if is_known(model) else 0
    if over is not None and is_known(model) and over.tangent * count_rows(block_of) < block_of.numel():
        cut = block_of.shape[1]
    return run_tangents(model, inputs[:, :, :cut], position_ids[..., :cut], block_of[:, :cut]) if cut else None


def best_cut(block_of: Tensor, calls: int) -> int:
    """Counts the prompts' first tokens that are cheaper to differentiate by tangents than by products.

    A position costs a tangent for each block that has begun, or a vector-Jacobian product for each call. Later
    positions need more tangents and as many products, so tangents serve the tokens up to some cut, if any.

    Args:
        block_of: The block of each position of U prompts of one length, shape (U, tokens).
        calls: The number of distinct calls to each prompt.

    Returns:
        The number of tokens, 0 where the tangents would not be worth their price.
    """
    prompts, tokens = block_of.shape
    begins = torch.zeros(tokens)
    for row in block_of.tolist():
        for block in set(row):
            begins[row.index(block)] += 1
    begun = begins.cumsum(0)
    saved = (calls * prompts - TANGENT_COST * begun).cumsum(0) - BLOCK_PRICE * begun
    best = int(saved.argmax())
    if saved[best] < LEAST_SAVED:
        return 0
    # Another pass over a short rest would cost more than it saves.
    return tokens if saved[best] - saved[-1] < LEAST_SAVED / 4 else best + 1


def is_known(model: PreTrainedModel) -> bool:
    """Returns whether the language model consists of layers with tangents known here, unpatched and without hooks."""
    text = model.model.language_model
    decoder = decoder_of(text)
    if decoder is None or getattr(text, "has_sliding_layers", False):
        return False
    if torch.is_autocast_enabled(model.device.type):
        return False
    for layer in text.layers:
        attention, mlp = layer.self_attn, layer.mlp
        norms = [layer.input_layernorm, layer.post_attention_layernorm, *_head_norms(attention, decoder).values()]
        kinds: list[tuple[nn.Module, type[nn.Module]]] = [(layer, decoder.layer), (attention, decoder.attention)]
        kinds += [(mlp, decoder.mlp), (mlp.act_fn, SiLUActivation), *((norm, decoder.norm) for norm in norms)]
        linears = [attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj]
        linears += [mlp.gate_proj, mlp.up_proj, mlp.down_proj]
        if any(type(one) is not known for one, known in kinds) or not all(map(_is_linear, linears)):
            return False
    return not any(
        module._forward_hooks or module._forward_pre_hooks or _is_patched(module) for module in text.layers.modules()
    )


def _is_patched(module: nn.Module) -> bool:
    """Returns whether a module has a forward pass of its own before its class's, which can change what is asked."""
    own = vars(module).get("forward")
    return own is not None and not getattr(own, "only_adds_arguments", False)


@torch.no_grad()
def run_tangents(model: PreTrainedModel, inputs: Tensor, position_ids: Tensor, block_of: Tensor) -> Tangents:
    """Runs the first tokens of U prompts and differentiates their keys and values with respect to each block.

    Args:
        model: A model that `is_known`, in eval mode.
        inputs: Merged embeddings and deepstack features, shape (K, U, tokens, hidden units).
        position_ids: Rotary positions, shape (3, U, tokens).
        block_of: The block of each position, shape (U, tokens).

    Returns:
        Keys, values and tangents.
    """
    text = model.model.language_model
    decoder = decoder_of(text)
    assert decoder is not None
    rows = Rows.build(block_of)
    x, tangent = inputs[0], rows.pick(inputs[0]) * rows.is_own
    angles = [one.unsqueeze(-2) for one in text.rotary_emb(x, position_ids)]
    of_angles = [rows.pick(one) for one in angles]
    states: list[Tensor] = []
    tangents: list[Tensor] = []
    for index, layer in enumerate(text.layers):
        attention, norm = layer.self_attn, layer.input_layernorm
        # Of the last layer only the keys and values are used.
        projections = [attention.k_proj, attention.v_proj, attention.q_proj][: 2 if layer is text.layers[-1] else 3]
        hidden = norm(x)
        if states:
            of_hidden = _norm_tangent(norm, x, tangent, rows)
            of_heads = [_linear_tangent(one, of_hidden) for one in projections]
        else:
            # The direction is each token's own embedding, whose length the norm all but removes.
            of_hidden = (hidden * norm.variance_epsilon * _unit(norm, x)[1].square()).to(x.dtype)
            of_heads = [rows.pick(_linear_tangent(one, of_hidden)) * rows.is_own for one in projections]
        heads = [one(hidden).unflatten(-1, (-1, attention.head_dim)) for one in projections]
        of_heads = [one.unflatten(-1, (-1, attention.head_dim)) for one in of_heads]
        for place, head_norm in _head_norms(attention, decoder).items():
            if place < len(heads):
                of_heads[place] = _norm_tangent(head_norm, heads[place], of_heads[place], rows)
                heads[place] = head_norm(heads[place])
        heads[::2] = [_rotate(one, *angles) for one in heads[::2]]
        of_heads[::2] = [_rotate(one, *of_angles) for one in of_heads[::2]]
        heads = [one.transpose(1, 2).contiguous() for one in heads]
        states += heads[:2]
        tangents += [one.flatten(1) for one in of_heads[:2]]
        if len(heads) == 3:
            output, of_output = _attention(heads, of_heads, rows, attention.scaling)
            x = x + attention.o_proj(output)
            tangent = tangent + _linear_tangent(attention.o_proj, of_output)
            norm = layer.post_attention_layernorm
            of_output = _norm_tangent(norm, x, tangent, rows)
            output, of_output = _mlp(layer.mlp, norm(x), of_output, rows)
            x, tangent = x + output, tangent + of_output
            if index + 1 < len(inputs):
                x, tangent = x + inputs[index + 1], tangent + rows.pick(inputs[index + 1]) * rows.is_own
    return Tangents([one.requires_grad_() for one in states], tangents, rows.segments)


def _is_linear(module: nn.Module) -> bool:
    """Returns whether a module is linear but for a bias: PyTorch's own, or that with plain LoRA adapters."""
    if type(module).__module__ == "peft.tuners.lora.layer" and type(module).__name__ == "Linear":
        return type(module.base_layer) is nn.Linear and not module.lora_variant
    return type(module) is nn.Linear


def _linear_tangent(module: nn.Module, tangent: Tensor) -> Tensor:
    """Returns a module without its biases; taken off afterwards, a large bias would leave its rounding error behind."""
    biased = [one for one in module.modules() if isinstance(one, nn.Linear) and one.bias is not None]
    biases = [one.bias for one in biased]
    try:
        for one in biased:
            one.register_parameter("bias", None)
        result: Tensor = module(tangent)
    finally:
        for one, bias in zip(biased, biases, strict=True):
            one.register_parameter("bias", bias)
    return result


def _head_norms(attention: Any, decoder: DecoderLayers) -> dict[int, Any]:
    """Returns the norms of single heads, by their place among keys, values and queries; not every family has such."""
    return {0: attention.k_norm, 2: attention.q_norm} if decoder.head_norms else {}


def _unit(norm: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    """Returns what RMSNorm makes of x before its weight, and the factor that it applies, in fp32 at least."""
    wide = _wide(x)
    factor = torch.rsqrt(wide.square().mean(-1, keepdim=True) + norm.variance_epsilon)
    return wide * factor, factor


def _wide(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _norm_tangent(norm: Any, x: Tensor, tangent: Tensor, rows: Rows) -> Tensor:
    """Computes RMSNorm's tangent: scaled, without the part along the output."""
    unit, factor = (rows.pick(one) for one in _unit(norm, x))
    wide = _wide(tangent)
    along = (unit * wide).mean(-1, keepdim=True)
    return norm.weight * torch.addcmul(wide, unit, along, value=-1).mul_(factor).to(x.dtype)


def _rotate(heads: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    return heads * cos + rotate_half(heads) * sin


def _mlp(mlp: Any, x: Tensor, tangent: Tensor, rows: Rows) -> tuple[Tensor, Tensor]:
    """Returns the gated MLP and its tangents; `silu(g)' = sigmoid(g) + silu(g) (1 - sigmoid(g))`."""
    gate, up = mlp.gate_proj(x), mlp.up_proj(x)
    sigmoid = gate.sigmoid()
    value = gate * sigmoid
    slope = torch.addcmul(sigmoid, value, 1 - sigmoid) * up
    output = mlp.down_proj(value * up)
    del gate, sigmoid, up
    found: list[Tensor] = []
    for some in rows.parts():
        own = tangent[some[0].rows.start : some[-1].rows.stop]
        of_gate, of_up = _linear_tangent(mlp.gate_proj, own), _linear_tangent(mlp.up_proj, own)
        for one in some:
            here = (one.prompt, slice(one.start, None))
            place = slice(one.rows.start - some[0].rows.start, one.rows.stop - some[0].rows.start)
            of_gate[place].mul_(slope[here]).addcmul_(value[here], of_up[place])
        found.append(_linear_tangent(mlp.down_proj, of_gate))
    return output, torch.cat(found)


def _attention(
    heads: Sequence[Tensor], of_heads: Sequence[Tensor], rows: Rows, scaling: float
) -> tuple[Tensor, Tensor]:
    """Runs causal attention and its tangents.

    With weights W = softmax(Q K') and outputs O = W V, and D = W * (dQ K' + Q dK'), the tangent of the outputs is
    D V - (row sums of D) O + W dV. A block's dK and dV begin with the block.

    Args:
        heads: Keys, values and queries, shapes (U, heads, tokens, head units), rotated.
        of_heads: Their tangents, shapes (N, heads, head units), rotated.
        rows: The tangents' layout.
        scaling: Factor of the products of queries and keys.

    Returns:
        Outputs, shape (U, tokens, all head units), and their tangents, shape (N, all head units).
    """
    keys, values, queries = heads
    of_keys, of_values, of_queries = (one.transpose(0, 1) for one in of_heads)
    prompts, shared, tokens, size = keys.shape
    # Queries that share keys and values stand one after the other: (U, key heads, queries each, tokens, head units).
    queries = queries.mul(scaling).unflatten(1, (shared, -1))
    of_queries = of_queries.mul(scaling).unflatten(0, (shared, -1))
    each = queries.shape[2]
    output = queries.new_empty(prompts, tokens, shared, each, size)
    of_output = queries.new_empty(len(rows.places), shared, each, size)
    step = min(tokens, QUERIES.get(keys.device.type, MOST_QUERIES))
    future = torch.ones(step, step, dtype=torch.bool, device=keys.device).triu_(1)
    for prompt, start in itertools.product(range(prompts), range(0, tokens, step)):
        end = min(start + step, tokens)
        k, v = keys[prompt, :, :end].transpose(1, 2), values[prompt, :, :end]
        q = queries[prompt, :, :, start:end]
        products = torch.bmm(q.flatten(1, 2), k).unflatten(1, (each, -1))
        products[..., start:].masked_fill_(future[: end - start, : end - start], -torch.inf)
        weights = products.softmax(-1)
        out = torch.bmm(weights.flatten(1, 2), v).unflatten(1, (each, -1))
        output[prompt, start:end] = out.permute(2, 0, 1, 3)
        for one in rows.segments:
            if one.prompt != prompt or one.start >= end:
                continue
            first = max(start, one.start)
            row = one.rows.start - one.start
            own, here = slice(one.rows.start, row + end), slice(row + first, row + end)
            w, o, own_q = (many[:, :, first - start :].flatten(1, 2) for many in (weights, out, q))
            change = torch.bmm(of_queries[:, :, here].flatten(1, 2), k)
            change[..., one.start :].baddbmm_(own_q, of_keys[:, own].transpose(1, 2))
            change.mul_(w)
            of_out = torch.bmm(change, v).baddbmm_(w[..., one.start :], of_values[:, own])
            of_out.addcmul_(change.sum(-1, keepdim=True), o, value=-1)
            of_output[here] = of_out.unflatten(1, (each, -1)).permute(2, 0, 1, 3)
    return output.flatten(2), of_output.flatten(1)
