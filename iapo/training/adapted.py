"""Adapters of the embeddings and the output layer, which trainers and vLLM multiply with past the adapter."""

from __future__ import annotations

import os
from typing import Any

from transformers import PreTrainedModel

from iapo.errors import InputError
from iapo.models import bare_model
from iapo.rollout.configuration import read_config
from iapo.rollout.load_settings import is_hub_id
from iapo.rollout.loading import adapter_base
from iapo.rollout.names import resolve


def check_head(model: PreTrainedModel) -> None:
    """Refuses a training of an adapter on the output layer: log-probabilities are computed with that layer's weight
    alone, so that the adapter would have no part in them.

    Args:
        model: The student, its adapter in it.

    Raises:
        InputError: If it has one.
    """
    if _is_adapted(bare_model(model).get_output_embeddings()):
        raise InputError(
            "the student has an adapter on its output layer (lm_head), which training would compute without it; "
            "`iapo export` adds it to the weights, so that a new adapter of inner layers can be trained"
        )


def check_shared(model: PreTrainedModel) -> None:
    """Refuses vLLM where an adapter changes embeddings that are the output layer as well: it keeps the two as one.

    Args:
        model: The student, its adapter in it.

    Raises:
        InputError: If so.
    """
    bare = bare_model(model)
    layers = (bare.get_input_embeddings(), bare.get_output_embeddings())
    if _is_tied(bare.config) and any(_is_adapted(one) or hasattr(one, "modules_to_save") for one in layers):
        raise InputError(
            "an adapter changes the embeddings, which are the output layer as well (tie_word_embeddings), and vLLM "
            "keeps the two as one; leave use_vllm out, or train inner layers alone"
        )


def check_apart(model: PreTrainedModel) -> None:
    """Refuses vLLM for a student whose adapter took its output layer apart from the embeddings that are both in its
    base: vLLM is made of the base, and would pass over that layer.

    Args:
        model: The student, as it was loaded.

    Raises:
        InputError: If so.
    """
    name = resolve(model.name_or_path) if model.name_or_path else ""
    if _is_tied(model.config) or not (os.path.isdir(name) or is_hub_id(name)):
        return
    base, revision = adapter_base(name) or (name, None)
    if _is_tied(read_config(resolve(base), revision)):
        raise InputError(
            f"the student's adapter changes the output layer that its base {base} shares with the embeddings, and vLLM "
            "would load the base; write a whole checkpoint by `iapo export`, and give that as model"
        )


def _is_adapted(layer: Any) -> bool:
    # So PEFT's layers are told without importing it.
    return hasattr(layer, "get_base_layer")


def _is_tied(config: Any) -> bool:
    return bool(getattr(config, "tie_word_embeddings", False))
