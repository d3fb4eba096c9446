"""One prompt, one pass: hidden states of a batch whose rows share prompts and pictures. Tensors only.

The rows of a GRPO batch come in groups on one prompt and one picture, and many rollouts of a group are the same. Here
each distinct picture goes through the vision tower once, each distinct prompt through the language model once, into a
cache with gradients, and each distinct completion once, on its prompt's cached keys and values. One backward through
it all gives the gradient that the plain batch gives.
"""

from __future__ import annotations

import functools
import types
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPast

SUPPORTED = ("qwen2_5_vl",)
"""Model types whose backbone is laid out as expected here."""


@dataclass(frozen=True, slots=True)
class SharedBatch:
    """Where the rows of a batch repeat one another.

    Attributes:
        completion: Length C of the completions; the rest of a row is its prompt, padded on the left to a common P.
        picture_ids: Identity of each row's pictures in order, shape (B, K), padded with -1; equal numbers mean equal
            pictures.
    """

    completion: int
    picture_ids: Tensor


def add_shared_prefix(model: PreTrainedModel) -> None:
    """Lets a model compute on shared prompts: `backbone(..., shared=SharedBatch)`, `generate(..., picture_ids=...)`.

    Without these arguments both are the original ones. With `shared`, the backbone's `last_hidden_state` covers the
    last prompt position and the completion, shape (B, C + 1, H), and dropout, if any, is drawn once for rows that are
    the same. With `picture_ids`, generation reads rows that are the same once and continues each of them by itself.

    Args:
        model: A model of a `SUPPORTED` type, not wrapped (by PEFT or for distribution).

    Raises:
        ValueError: If the model is of another type.
    """
    if model.config.model_type not in SUPPORTED:
        raise ValueError(f"no shared prefix for {model.config.model_type!r}; use one of {', '.join(SUPPORTED)}")
    backbone = model.model
    original = backbone.forward

    @functools.wraps(type(backbone).forward)
    def forward(self: Any, *args: Any, shared: SharedBatch | None = None, **kwargs: Any) -> Any:
        if shared is None:
            return original(*args, **kwargs)
        return BaseModelOutputWithPast(last_hidden_state=completion_states(self, shared, **kwargs))

    backbone.forward = types.MethodType(forward, backbone)
    generate = model.generate

    @functools.wraps(type(model).generate)
    def shared_generate(self: Any, *args: Any, picture_ids: Tensor | None = None, **kwargs: Any) -> Any:
        if picture_ids is not None:
            kwargs = _prefill(self.model, picture_ids, **kwargs)
        return generate(*args, **kwargs)

    model.generate = types.MethodType(shared_generate, model)


def completion_states(
    backbone: Any,
    shared: SharedBatch,
    *,
    input_ids: Tensor,
    attention_mask: Tensor,
    pixel_values: Tensor,
    image_grid_thw: Tensor,
    mm_token_type_ids: Tensor,
    **_: Any,
) -> Tensor:
    """Hidden states of the last prompt position and the completion of each row.

    Args:
        backbone: The model without its head.
        shared: Where rows repeat.
        input_ids: Shape (B, P + C), prompts padded on the left, completions on the right.
        attention_mask: The same shape, 0 at padding.
        pixel_values: Patches of all pictures, row by row.
        image_grid_thw: Their grids, shape (pictures, 3).
        mm_token_type_ids: 1 at image tokens, shape (B, P + C).

    Returns:
        Shape (B, C + 1, H).
    """
    # The last prompt token predicts the first completion token, so it runs with the completion.
    prompt = input_ids.shape[1] - shared.completion - 1
    key = torch.cat([input_ids, attention_mask, shared.picture_ids], 1)
    rows, place = _distinct(key)
    ids, mask, types_ = input_ids[rows], attention_mask[rows], mm_token_type_ids[rows]
    pictures = shared.picture_ids[rows]
    # Of a prompt, the tokens, the padding and the pictures that stand in it.
    tokens = _tokens_of(backbone, shared.picture_ids, image_grid_thw)
    in_prompt = _pictures_in(types_[:, : prompt + 1], pictures, tokens)
    prompts, prompt_of = _distinct(torch.cat([ids[:, : prompt + 1], mask[:, : prompt + 1], in_prompt], 1))

    embeddings, grids = _embed(backbone, shared.picture_ids, rows, ids, types_, pixel_values, image_grid_thw)
    positions, _ = backbone.get_rope_index(ids, types_, image_grid_thw=grids, attention_mask=mask)
    cache = DynamicCache()
    backbone.language_model(
        inputs_embeds=embeddings[prompts, :prompt],
        attention_mask=mask[prompts, :prompt],
        position_ids=positions[:, prompts, :prompt],
        past_key_values=cache,
        use_cache=True,
    )
    _expand(cache, prompt_of)
    states: Tensor = backbone.language_model(
        inputs_embeds=embeddings[:, prompt:],
        attention_mask=mask,
        position_ids=positions[:, :, prompt:],
        past_key_values=cache,
        use_cache=True,
    ).last_hidden_state
    return states[place]


def _prefill(
    backbone: Any,
    picture_ids: Tensor,
    *,
    input_ids: Tensor,
    attention_mask: Tensor,
    pixel_values: Tensor,
    image_grid_thw: Tensor,
    mm_token_type_ids: Tensor,
    **rest: Any,
) -> dict[str, Any]:
    """Reads each distinct row but for its last token; returns what `generate` goes on with."""
    rows, place = _distinct(torch.cat([input_ids, attention_mask, picture_ids], 1))
    ids, mask, types_ = input_ids[rows], attention_mask[rows], mm_token_type_ids[rows]
    cache = DynamicCache()
    with torch.no_grad():
        embeddings, grids = _embed(backbone, picture_ids, rows, ids, types_, pixel_values, image_grid_thw)
        positions, deltas = backbone.get_rope_index(ids, types_, image_grid_thw=grids, attention_mask=mask)
        backbone.language_model(
            inputs_embeds=embeddings[:, :-1],
            attention_mask=mask[:, :-1],
            position_ids=positions[:, :, :-1],
            past_key_values=cache,
            use_cache=True,
        )
    _expand(cache, place)
    # From here on the model counts positions from the text's and this difference.
    backbone.rope_deltas = deltas[place]
    return {"input_ids": input_ids, "attention_mask": attention_mask, "past_key_values": cache, **rest}


def _expand(cache: DynamicCache, place: Tensor) -> None:
    """Copies cached rows to the rows that continue them."""
    for layer in cache.layers:
        layer.keys, layer.values = layer.keys[place], layer.values[place]


def _embed(
    backbone: Any,
    picture_ids: Tensor,
    rows: Tensor,
    ids: Tensor,
    types_: Tensor,
    pixel_values: Tensor,
    grid_thw: Tensor,
) -> tuple[Tensor, Tensor]:
    """Merged embeddings of the distinct rows, each distinct picture seen once; and the rows' grids, in order."""
    all_ids = picture_ids[picture_ids >= 0]
    first, _ = _distinct(all_ids[:, None])
    patches = pixel_values.split(grid_thw.prod(-1).tolist())
    seen = backbone.get_image_features(
        torch.cat([patches[index] for index in first.tolist()]), grid_thw[first], return_dict=True
    ).pooler_output
    feature = {all_ids[index].item(): seen[number] for number, index in enumerate(first.tolist())}
    grid = {all_ids[index].item(): grid_thw[index] for index in first.tolist()}
    used = picture_ids[rows]
    order = used[used >= 0].tolist()
    embeddings = backbone.get_input_embeddings()(ids)
    merged = torch.cat([feature[number] for number in order]).to(embeddings.dtype)
    embeddings = embeddings.masked_scatter((types_ == 1)[..., None], merged)
    return embeddings, torch.stack([grid[number] for number in order])


def _tokens_of(backbone: Any, picture_ids: Tensor, grid_thw: Tensor) -> dict[int, int]:
    """Number of tokens of each distinct picture."""
    counts = (grid_thw.prod(-1) // backbone.config.vision_config.spatial_merge_size**2).tolist()
    return dict(zip(picture_ids[picture_ids >= 0].tolist(), counts, strict=True))


def _pictures_in(types_: Tensor, pictures: Tensor, tokens: dict[int, int]) -> Tensor:
    """Identity of the pictures that stand in the given tokens, the others replaced by -1."""
    kept = []
    for count, row in zip(types_.eq(1).sum(1).tolist(), pictures.tolist(), strict=True):
        inside = []
        for number in row:
            count -= tokens.get(number, 0)
            inside.append(number if number >= 0 and count >= 0 else -1)
        kept.append(inside)
    return pictures.new_tensor(kept)


def _distinct(keys: Tensor) -> tuple[Tensor, Tensor]:
    """Index of the first row of each distinct key, shape (U,), and each row's place among them, shape (B,)."""
    _, inverse = torch.unique(keys, dim=0, return_inverse=True)
    count = int(inverse.max()) + 1
    rows = torch.arange(len(keys), device=keys.device)
    first = rows.new_full((count,), len(keys)).scatter_reduce_(0, inverse, rows, "amin")
    return first, inverse
