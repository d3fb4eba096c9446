"""The families of models: one record says all that the package must know of each (docs/your-own.md)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers.models.qwen2_5_vl import modeling_qwen2_5_vl as qwen2_5
from transformers.models.qwen3_vl import modeling_qwen3_vl as qwen3

from iapo.errors import InputError
from iapo.kinds import checks_kinds

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True, slots=True)
class DecoderLayers:
    """The types of a language model and of what its layers consist of, whose tangents are those of Qwen's decoders:
    RMSNorm before attention and before a gated MLP with SiLU, rotary positions, and RMSNorm of single heads or none.

    Attributes:
        model: Model of the language model.
        layer: Layer of its layers.
        norm: Norm of their norms, those of single heads included.
        attention: Attention of their attention.
        mlp: Mlp of their MLP.
        head_norms: Whether keys and queries are normalised head by head (`k_norm`, `q_norm`).
    """

    model: type[nn.Module]
    layer: type[nn.Module]
    norm: type[nn.Module]
    attention: type[nn.Module]
    mlp: type[nn.Module]
    head_norms: bool = False


@dataclass(frozen=True, slots=True)
class ModelFamily:
    """One family of vision-language models.

    All have `model.language_model`, `model.get_image_features` and `model.get_rope_index` as Qwen's have, take the text
    and images of `iapo.rollout.policy.ImageTextProcessor`, and may hand deepstack features to their first layers.

    Attributes:
        model_type: Model type as in a checkpoint's `config.json`.
        title: Name in messages.
        shares_prefix: Whether its backbone and attention can run packed rows (`iapo.training.shared_prefix`).
        decoder: Its language model, for attribution by tangents; None computes products alone, with the same result.
    """

    model_type: str
    title: str
    shares_prefix: bool = False
    decoder: DecoderLayers | None = None


MODEL_FAMILIES: dict[str, ModelFamily] = {
    family.model_type: family
    for family in (
        ModelFamily(
            "qwen2_5_vl",
            "Qwen2.5-VL",
            shares_prefix=True,
            decoder=DecoderLayers(
                qwen2_5.Qwen2_5_VLTextModel,
                qwen2_5.Qwen2_5_VLDecoderLayer,
                qwen2_5.Qwen2_5_VLRMSNorm,
                qwen2_5.Qwen2_5_VLAttention,
                qwen2_5.Qwen2MLP,
            ),
        ),
        ModelFamily(
            "qwen3_vl",
            "dense Qwen3-VL",
            shares_prefix=True,
            decoder=DecoderLayers(
                qwen3.Qwen3VLTextModel,
                qwen3.Qwen3VLTextDecoderLayer,
                qwen3.Qwen3VLTextRMSNorm,
                qwen3.Qwen3VLTextAttention,
                qwen3.Qwen3VLTextMLP,
                head_norms=True,
            ),
        ),
    )
}
"""By model type."""


@checks_kinds
def add_family(family: ModelFamily) -> None:
    """Makes a family known in this process, before its checkpoints are loaded.

    Raises:
        InputError: If another family of that model type is known.
    """
    if MODEL_FAMILIES.setdefault(family.model_type, family) != family:
        raise InputError(f"the model type {family.model_type!r} is known already")


def decoder_of(text: nn.Module) -> DecoderLayers | None:
    """Returns what is known of a language model's layers; None if nothing is."""
    decoders = (family.decoder for family in MODEL_FAMILIES.values())
    return next((one for one in decoders if one is not None and type(text) is one.model), None)


def bare_model(model: Any) -> PreTrainedModel:
    """Returns a model without PEFT's wrapper, its adapters in its layers as they are; another model as it is."""
    found: PreTrainedModel = model.get_base_model() if hasattr(model, "get_base_model") else model
    return found


def dtype_of(config: Any) -> torch.dtype | None:
    """Returns the type of a checkpoint's weights as its configuration has it; None where it does not tell.

    Some have it for the language model alone, as published Qwen3-VL checkpoints do.
    """
    found: torch.dtype | None = getattr(config, "dtype", None) or getattr(config.get_text_config(), "dtype", None)
    return found


def features_of_images(backbone: Any, pixel_values: Tensor, grid_thw: Tensor) -> list[list[Tensor]]:
    """Returns what a model's vision tower makes of images, in one form for all releases of Transformers.

    Args:
        backbone: The model's `model`.
        pixel_values: Patches of the images, shape (patches, features).
        grid_thw: Time, height and width of each image in patches, shape (images, 3).

    Returns:
        A list for the embeddings and one for each deepstack layer: tensors of shape (tokens, hidden units), one an
        image, in order.
    """
    seen = backbone.get_image_features(pixel_values, grid_thw, return_dict=True)
    levels = [seen.pooler_output, *(getattr(seen, "deepstack_features", None) or ())]
    sizes = (grid_thw.prod(-1) // backbone.config.vision_config.spatial_merge_size**2).tolist()
    # Up to Transformers 5.17 a deepstack layer's features are one tensor.
    return [list(one.split(sizes) if isinstance(one, Tensor) else one) for one in levels]


@contextmanager
def put_in_place(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Puts a value in the place of an object's attribute or method while it is open.

    Args:
        owner: The object, such as a module of a model.
        name: Name of the attribute; one of its own, or of its class, which shows again afterwards.
        value: The value.
    """
    own, mine = vars(owner).get(name), name in vars(owner)
    setattr(owner, name, value)
    try:
        yield
    finally:
        delattr(owner, name)
        if mine:
            setattr(owner, name, own)
