"""Rows that begin alike, run once: the batch as a tree of token runs, packed into one sequence. Tensors only.

The rows of a GRPO batch come in groups on one prompt and one image; rollouts of a group make the same call and then
read the same edited image; many are the same altogether. Here the rows are cut where they part, each run of tokens
stands once in one packed sequence without padding, and attention sees of it what precedes a token in its own rows. All
else in a transformer looks at one token at a time, so the model's own layers do the rest, with gradient checkpointing,
adapters and hooks as they are. One backward gives the gradient that the plain batch gives.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import transformers
from torch import Tensor
from torch.nn import functional
from transformers import AttentionInterface, DynamicCache, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.utils import logging

from iapo.models import MODEL_FAMILIES, put_in_place
from iapo.training.packing import SharedBatch, pack

_ATTENTION = "iapo_shared_prefix"

logger = logging.get_logger(__name__)


def cannot_share(config: Any) -> str | None:
    """Says why a model with this configuration cannot run packed rows; None if it can."""
    family = MODEL_FAMILIES.get(config.model_type)
    if family is None or not family.shares_prefix:
        return f"the model is a {config.model_type!r}"
    if "sliding_attention" in (getattr(config.get_text_config(), "layer_types", None) or ()):
        return "the model has sliding-window attention"
    return None


def share_prefixes(*models: PreTrainedModel) -> bool:
    """Lets a student and its reference policy run packed rows, or says in one log line why each row runs by itself.

    Args:
        models: The models, of one kind, as for `add_shared_prefix`.
    """
    if (reason := cannot_share(models[0].config)) is not None:
        logger.info("Each row runs its own prompt in the loss: %s.", reason)
        return False
    for model in models:
        add_shared_prefix(model)
    return True


def add_shared_prefix(model: PreTrainedModel) -> None:
    """Lets a model run packed rows: `backbone(..., shared=SharedBatch)`, `generate(..., picture_ids=...)`.

    Without these arguments both are the original ones. With `shared`, the backbone takes what `pack` returns, its
    `last_hidden_state` covers the scored places, shape (1, N, H), attention is PyTorch's `sdpa` whatever the model was
    loaded with, and dropout, if any, is drawn once for rows that are the same. With `picture_ids`, generation reads
    what rows share once and continues each of them by itself. Adding it twice changes nothing.

    Args:
        model: A model whose family shares prefixes (`iapo.models`), not wrapped (by PEFT or for distribution).

    Raises:
        ValueError: If the model is of another type, or has sliding-window attention.
    """
    if (reason := cannot_share(model.config)) is not None:
        able = ", ".join(name for name, family in MODEL_FAMILIES.items() if family.shares_prefix)
        raise ValueError(f"no shared prefix: {reason}; use full attention and one of {able}")
    backbone = model.model
    if getattr(backbone, "shares_prefix", False):
        return
    backbone.shares_prefix = True
    for layer in backbone.language_model.layers:
        _share_attention(layer.self_attn)
    original = _of_owner(backbone.forward, backbone)

    @functools.wraps(type(backbone).forward)
    def forward(self: Any, *args: Any, shared: SharedBatch | None = None, **kwargs: Any) -> Any:
        if shared is None:
            return original(self, *args, **kwargs)
        return _run(self, original, shared, **kwargs)

    backbone.forward = types.MethodType(forward, backbone)
    generate = _of_owner(model.generate, model)

    @functools.wraps(type(model).generate)
    def shared_generate(self: Any, *args: Any, picture_ids: Tensor | None = None, **kwargs: Any) -> Any:
        if picture_ids is not None:
            kwargs = _prefill(self.model, picture_ids, **kwargs)
        return generate(self, *args, **kwargs)

    model.generate = types.MethodType(shared_generate, model)


def _of_owner(method: Callable[..., Any], owner: Any) -> Callable[..., Any]:
    """Returns a method as a function of its owner, so that a copy of the owner runs its own weights."""
    if getattr(method, "__self__", None) is owner:
        return method.__func__  # type: ignore[attr-defined]
    # What another library put in the method's place knows its owner by itself.
    return lambda _, *args, **kwargs: method(*args, **kwargs)


def _run(
    backbone: Any,
    original: Callable[..., Any],
    shared: SharedBatch,
    *,
    pixel_values: Tensor,
    image_grid_thw: Tensor,
    attention_mask: None = None,
    **kwargs: Any,
) -> Any:
    """Returns the backbone's own forward pass over packed rows, each image seen once; PEFT names a mask of None."""
    if attention_mask is not None:
        raise ValueError("packed rows have the masks of their levels; give no attention_mask")
    seen = backbone.get_image_features(pixel_values, image_grid_thw, return_dict=True)
    seen.pooler_output = [torch.cat(list(seen.pooler_output))[shared.features]]
    if (deep := getattr(seen, "deepstack_features", None)) is not None:
        # One tensor of all images up to Transformers 5.17, one an image since.
        seen.deepstack_features = [
            level[shared.features] if isinstance(level, Tensor) else [torch.cat(list(level))[shared.features]]
            for level in deep
        ]
    # A mask of four dimensions is taken as it is; the levels have their own.
    mask = torch.ones(1, 1, 1, 1, dtype=torch.bool, device=pixel_values.device)
    with _given_features(backbone, seen):
        output = original(
            backbone,
            attention_mask=mask,
            pixel_values=pixel_values,
            image_grid_thw=image_grid_thw,
            shared=shared,
            **kwargs,
        )
    output.last_hidden_state = output.last_hidden_state[:, shared.scored]
    return output


@contextmanager
def _given_features(backbone: Any, seen: Any) -> Iterator[None]:
    """Has the backbone take these features for the images' in one forward pass.

    Its argument `mm_encoder_outputs` says the same, but older releases do not have it and pass over it in silence.

    Raises:
        RuntimeError: If the pass did not ask for features, so that it has seen no image.
    """
    asked = []

    def give(*_: Any, **__: Any) -> Any:
        asked.append(True)
        return seen

    with put_in_place(backbone, "get_image_features", give):
        yield
    if not asked:
        raise RuntimeError(
            f"packed rows saw no image: {type(backbone).__name__} of transformers {transformers.__version__} does not "
            "call get_image_features; install a release that pyproject.toml allows, or set share_prefix to false"
        )


def _prefill(
    backbone: Any, picture_ids: Tensor, *, input_ids: Tensor, attention_mask: Tensor, **inputs: Any
) -> dict[str, Any]:
    """Reads what rows share once, but for each row's last token; returns what `generate` goes on with."""
    fields = {name: inputs.pop(name) for name in ("pixel_values", "image_grid_thw", "mm_token_type_ids")}
    packed = pack(
        backbone,
        input_ids=input_ids,
        attention_mask=attention_mask,
        picture_ids=picture_ids,
        completion=0,
        **fields,
    )
    packed.inputs.pop("shift_labels")
    shared = packed.inputs.pop("shared")
    # Generation pads on the left.
    start = attention_mask.argmax(1, keepdim=True)
    column = (torch.arange(input_ids.shape[1] - 1, device=input_ids.device) - start).clamp(min=0)
    cache = DynamicCache()
    shared = dataclasses.replace(shared, rows=shared.rows.gather(1, column), cache=cache)
    with torch.no_grad():
        backbone(**packed.inputs, shared=shared, use_cache=False)
    # From here on the model counts positions from the text's and this difference.
    backbone.rope_deltas = packed.deltas
    return {"input_ids": input_ids, "attention_mask": attention_mask, "past_key_values": cache, **inputs}


def _share_attention(module: Any) -> None:
    """Has an attention module take `shared`, and attend by levels with it."""
    original = _of_owner(module.forward, module)
    config = copy.copy(module.config)
    config._attn_implementation = _ATTENTION

    @functools.wraps(type(module).forward)
    def forward(self: Any, *args: Any, shared: SharedBatch | None = None, **kwargs: Any) -> Any:
        if shared is None:
            return original(self, *args, **kwargs)
        # Set for this call alone, which recomputation in the backward pass repeats.
        own, self.config = self.config, config
        try:
            return original(self, *args, shared=shared, **kwargs)
        finally:
            self.config = own

    # Attribution, which computes layers by itself, may rely on the class's forward pass where `shared` is not given.
    vars(forward)["only_adds_arguments"] = True
    module.forward = types.MethodType(forward, module)


def _attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    shared: SharedBatch,
    dropout: float = 0.0,
    scaling: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Computes the attention of packed tokens, shape (1, heads, T, D) each, level by level; returns shape (1, T,
    heads, D).
    """

    def at(packed: Tensor, places: Tensor) -> Tensor:
        # A look-up of whole rows, whose backward pass is a fast sum.
        found = functional.embedding(places, packed[0].transpose(0, 1).flatten(1))
        return found.unflatten(-1, (-1, packed.shape[-1])).transpose(1, 2)

    outputs = []
    for level in shared.levels:
        output, _weights = sdpa_attention_forward(
            module,
            at(query, level.queries),
            at(key, level.keys),
            at(value, level.keys),
            level.mask,
            dropout=dropout,
            scaling=scaling,
        )
        outputs.append(output.flatten(0, 1)[level.real])
    if shared.cache is not None:
        shared.cache.update(at(key, shared.rows), at(value, shared.rows), module.layer_idx)
    return torch.cat(outputs)[None], None


AttentionInterface.register(_ATTENTION, _attend)
