"""What a model's attributions depend on, as one number."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from transformers import PreTrainedModel, ProcessorMixin

_NO_NUMBERS = frozenset(
    (
        *("architectures", "dtype", "torch_dtype", "transformers_version", "use_cache", "return_dict"),
        *("output_attentions", "output_hidden_states", "id2label", "label2id", "problem_type"),
        *("chunk_size_feed_forward", "is_encoder_decoder"),
    )
)
"""What a configuration says of other things than the numbers of a pass."""


def fingerprint(model: PreTrainedModel, processor: ProcessorMixin) -> str:
    """Returns SHA-256 of what a model's attributions depend on: its weights as they are in memory, its configuration,
    and its processor.
    """
    told = [_numbers(model.config.to_dict()), getattr(model.generation_config, "eos_token_id", None)]
    digest = hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    digest.update(reading_of(processor).encode())
    return digest.hexdigest()


def _numbers(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what of a configuration the numbers of a pass depend on, beside the weights."""
    return {
        name: _numbers(value) if isinstance(value, dict) else value
        for name, value in config.items()
        if name not in _NO_NUMBERS and not name.startswith("_")
    }


def reading_of(processor: ProcessorMixin) -> str:
    """Returns what decides which tokens and patches a processor makes of texts, chats and images, as one text."""
    tokenizer = json.loads(processor.tokenizer.backend_tokenizer.to_str())
    # The last use of a tokenizer leaves its padding and truncation behind.
    rules = {name: rule for name, rule in tokenizer.items() if name not in ("padding", "truncation")}
    seen = f"{processor.chat_template}\n{processor.image_processor.to_json_string()}"
    return json.dumps(rules, sort_keys=True) + seen
