"""Writes a stand-in's folder: the published files, their names, and random weights under the published keys."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import save_torch_state_dict
from tokenizers import Tokenizer
from transformers import AutoConfig, AutoModelForImageTextToText

from iapo.bounds import SEED
from iapo.errors import InputError
from iapo.rollout.writing import folder_at, whole_folder
from iapo.standins.shapes import SIZES, STAND_INS, Size, config_of, is_qwen3
from iapo.standins.tokenizer import SPECIAL, find_ranks, make_tokenizer
from iapo.storage import write_text

_SHARD = "5GB"

# The published chat format: a system message where none is given, images between their marks, the turn's end.
CHAT_TEMPLATE = (
    "{%- if messages[0].role != 'system' %}{{ '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}"
    "{%- endif %}"
    "{%- for message in messages %}{{ '<|im_start|>' + message.role + '\\n' }}"
    "{%- if message.content is string %}{{ message.content }}"
    "{%- else %}{%- for part in message.content %}"
    "{%- if part.type == 'image' or 'image' in part %}{{ '<|vision_start|><|image_pad|><|vision_end|>' }}"
    "{%- elif part.type == 'video' or 'video' in part %}{{ '<|vision_start|><|video_pad|><|vision_end|>' }}"
    "{%- elif 'text' in part %}{{ part.text }}{%- endif %}{%- endfor %}{%- endif %}"
    "{{ '<|im_end|>\\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{%- endif %}"
)


def make_stand_in(
    name: str,
    out: str | os.PathLike[str],
    *,
    size: Size = "tiny",
    ranks: str | os.PathLike[str] | None = None,
    seed: int = 0,
) -> int:
    """Writes a checkpoint folder that is the published one's in all but the weights.

    Args:
        name: One of `iapo.standins.shapes.STAND_INS`.
        out: The folder; new or empty.
        size: Size of the model; `full` takes two bytes a parameter on disk and in memory.
        ranks: File of the tokenizer's ranks (`iapo.standins.tokenizer.find_ranks`).
        seed: Seed of the weights.

    Returns:
        The number of parameters.

    Raises:
        InputError: If there is no such stand-in or size, the ranks are missing, the seed cannot be, or the folder holds
            something or cannot be.
        PlaceError: If the disk took no more; then nothing is left.
    """
    if name not in STAND_INS:
        raise InputError(f"no stand-in {name!r}; use one of {', '.join(STAND_INS)}")
    if size not in SIZES:
        raise InputError(f"size is {size!r}; use one of {', '.join(SIZES)}")
    if not SEED.allows(seed):
        raise InputError(f"seed is {seed!r}; give a whole number from 0")
    out = folder_at(out, "out")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} is not empty; choose another folder or remove it")
    tokenizer = make_tokenizer(find_ranks(None if ranks is None else Path(ranks)), qwen3=is_qwen3(name))
    with whole_folder(out) as part:
        return _write(part, name, size, tokenizer, seed)


def _write(out: Path, name: str, size: Size, tokenizer: Tokenizer, seed: int) -> int:
    """Writes all files, and returns the number of parameters."""
    tokenizer.save(str(out / "tokenizer.json"))
    added = {
        str(number): {
            "content": token.content,
            "lstrip": False,
            "normalized": False,
            "rstrip": False,
            "single_word": False,
            "special": token.special,
        }
        for number, token in sorted(tokenizer.get_added_tokens_decoder().items())
    }
    for file, content in {"config.json": config_of(name, size), **_files(is_qwen3(name), added)}.items():
        write_text(out / file, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    torch.manual_seed(seed)
    model = AutoModelForImageTextToText.from_config(AutoConfig.from_pretrained(out), dtype=torch.bfloat16)
    save_torch_state_dict(_published(model, is_qwen3(name)), str(out), max_shard_size=_SHARD)
    return int(model.num_parameters())


def _published(model: Any, qwen3: bool) -> dict[str, torch.Tensor]:
    """Returns the weights under the keys of the published files; Qwen3-VL's are those of the model in memory."""
    tied = model.config.tie_word_embeddings
    state = {key: value for key, value in model.state_dict().items() if not (tied and key == "lm_head.weight")}
    if qwen3:
        return state
    places = {"visual": "visual.", "language_model": "model."}
    return {re.sub(r"^model\.(visual|language_model)\.", lambda at: places[at[1]], k): v for k, v in state.items()}


def _files(qwen3: bool, added: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    sampling: dict[str, Any] = {"repetition_penalty": 1.05, "temperature": 1e-6}
    images: dict[str, Any] = {
        "image_processor_type": "Qwen2VLImageProcessor",
        "processor_class": "Qwen2_5_VLProcessor",
        "min_pixels": 3136,
        "max_pixels": 12845056,
        "patch_size": 14,
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
    }
    if qwen3:
        sampling = {"repetition_penalty": 1.0, "temperature": 0.7, "top_k": 20, "top_p": 0.8}
        images = {
            "image_processor_type": "Qwen2VLImageProcessorFast",
            "processor_class": "Qwen3VLProcessor",
            "size": {"shortest_edge": 65536, "longest_edge": 16777216},
            "patch_size": 16,
            "image_mean": [0.5] * 3,
            "image_std": [0.5] * 3,
        }
    return {
        "tokenizer_config.json": {
            "tokenizer_class": "Qwen2Tokenizer",
            "add_bos_token": False,
            "add_prefix_space": False,
            "added_tokens_decoder": added,
            "additional_special_tokens": list(SPECIAL[1:]),
            "bos_token": None,
            "chat_template": CHAT_TEMPLATE,
            "clean_up_tokenization_spaces": False,
            "eos_token": "<|im_end|>",
            "errors": "replace",
            "model_max_length": 262144 if qwen3 else 131072,
            "pad_token": "<|endoftext|>",
            "split_special_tokens": False,
            "unk_token": None,
        },
        "chat_template.json": {"chat_template": CHAT_TEMPLATE},
        "generation_config.json": {
            "bos_token_id": 151643,
            "pad_token_id": 151643,
            "eos_token_id": [151645, 151643],
            "do_sample": True,
            **sampling,
        },
        "preprocessor_config.json": {"temporal_patch_size": 2, "merge_size": 2, **images},
    }
