"""Tokenizer, processor and untrained weights of the tiny models: real Transformers classes, small numbers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLImageProcessorPil,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)

from iapo.rollout.policy import ImageTextProcessor
from iapo.rollout.template import TINY, find_prompt
from iapo.tiny.names import NAME_PATTERN

SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)

# Tool names, names in quotes, numbers and single capital letters are tokens of their own; all that stands between
# them is one run, which frequent use merges into few tokens. A prompt of a thousand characters is then about 60 tokens.
_PIECES = rf"focus_on_\w+|{NAME_PATTERN}|`{{3}}(?:\w+\n)?|(?<!_)\d|\b[A-Z]\b|\btrue\b|\bfalse\b|def |QUESTION: "

# The chat format of Qwen2.5-VL and Qwen3-VL.
CHAT_TEMPLATE = r"""
{%- for message in messages -%}
{{- '<|im_start|>' + message.role + '\n' -}}
{%- if message.content is string -%}{{- message.content -}}
{%- else -%}
{%- for part in message.content -%}
{%- if part.type == 'image' -%}{{- '<|vision_start|><|image_pad|><|vision_end|>' -}}
{%- else -%}{{- part.text -}}
{%- endif -%}
{%- endfor -%}
{%- endif -%}
{{- '<|im_end|>\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\n' -}}{%- endif -%}
"""


def train_tokenizer(texts: Iterable[str], vocab_size: int = 2048, pieces: str = _PIECES) -> PreTrainedTokenizerFast:
    """Trains the byte-level BPE tokenizer of a tiny world; any text can be encoded, its own phrases in few tokens.

    Args:
        texts: The corpus.
        vocab_size: The largest vocabulary, special tokens included.
        pieces: What is never merged with its neighbours, as a regular expression.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pieces), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        special_tokens=[AddedToken(token, special=True, normalized=False) for token in SPECIAL],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        extra_special_tokens={"image_token": "<|image_pad|>", "video_token": "<|video_pad|>"},
        model_max_length=2048,
        clean_up_tokenization_spaces=False,
    )


def make_processor(tokenizer: PreTrainedTokenizerFast, least: int = 56, most: int = 448) -> ImageTextProcessor:
    """Returns the tiny models' processor: Qwen2.5-VL's, for images of 56 x 56 to 448 x 448 pixels.

    Args:
        tokenizer: The tokenizer.
        least: Side in pixels of a square to whose area smaller images are enlarged.
        most: Side in pixels of a square to whose area larger images are reduced.
    """
    size = {"shortest_edge": least * least, "longest_edge": most * most}
    return _processor(Qwen2VLImageProcessorPil(size=size), tokenizer)


def make_qwen3_processor(tokenizer: PreTrainedTokenizerFast) -> ImageTextProcessor:
    """Returns the processor of a tiny Qwen3-VL, for images of 64 x 64 to 448 x 448 pixels.

    A token is a square of 32 pixels, so that an image's sides are rounded to multiples of 32: 112 pixels become 128.
    """
    image_processor = Qwen2VLImageProcessorPil(
        patch_size=16,
        size={"shortest_edge": 64 * 64, "longest_edge": 448 * 448},
        image_mean=[0.5, 0.5, 0.5],
        image_std=[0.5, 0.5, 0.5],
    )
    return _processor(image_processor, tokenizer)


def _processor(image_processor: Qwen2VLImageProcessorPil, tokenizer: PreTrainedTokenizerFast) -> ImageTextProcessor:
    processor = ImageTextProcessor(image_processor, tokenizer, chat_template=CHAT_TEMPLATE)
    # Their one prompt, saved beside whatever is made of them.
    processor.prompt = find_prompt(TINY)
    return processor


def make_model(
    tokenizer: PreTrainedTokenizerFast,
    *,
    hidden: int,
    layers: int,
    heads: int,
    vision_hidden: int,
    vision_layers: int,
    mlp: int = 3,
) -> Qwen2_5_VLForConditionalGeneration:
    """Returns an untrained Qwen2.5-VL of the given widths; seed torch before.

    Args:
        tokenizer: Fixes the vocabulary and the special token ids.
        hidden: Width of the language model, divisible by `heads`, its quotient by 8.
        layers: Depth of the language model.
        heads: Attention heads of both towers.
        vision_hidden: Width of the vision tower, divisible by `heads`.
        vision_layers: Depth of the vision tower.
        mlp: Width of the language model's feed-forward layers, in widths of the model.
    """
    config = Qwen2_5_VLConfig(
        text_config=_text_config(tokenizer, hidden, layers, heads, mlp),
        vision_config={
            **_vision_config(hidden, heads, vision_hidden, vision_layers),
            "patch_size": 14,
            "window_size": 112,
            "fullatt_block_indexes": list(range(vision_layers)),
        },
        **_shared_config(tokenizer, hidden),
    )
    model = Qwen2_5_VLForConditionalGeneration(config).to(torch.float32)
    _set_generation(model, tokenizer)
    return model


def make_qwen3_model(
    tokenizer: PreTrainedTokenizerFast,
    *,
    hidden: int,
    layers: int,
    heads: int,
    vision_hidden: int,
    vision_layers: int,
    mlp: int = 3,
) -> Qwen3VLForConditionalGeneration:
    """Returns an untrained Qwen3-VL of the given widths; seed torch before.

    The vision tower's first layers (at most 3, as in the published models, and fewer than the language model has) also
    feed the first layers of the language model.

    Args:
        tokenizer: Tokenizer as in `make_model`.
        hidden: Hidden as in `make_model`.
        layers: Layers as in `make_model`.
        heads: Heads as in `make_model`.
        vision_hidden: Width of the vision tower, divisible by `heads`, its quotient by 4.
        vision_layers: Vision layers as in `make_model`.
        mlp: Mlp as in `make_model`.
    """
    text = _text_config(tokenizer, hidden, layers, heads, mlp)
    text["rope_parameters"]["mrope_interleaved"] = True
    config = Qwen3VLConfig(
        text_config={**text, "head_dim": hidden // heads},
        vision_config={
            **_vision_config(hidden, heads, vision_hidden, vision_layers),
            "patch_size": 16,
            "num_position_embeddings": 8 * 8,
            "deepstack_visual_indexes": list(range(min(3, vision_layers, layers - 1))),
        },
        **_shared_config(tokenizer, hidden),
    )
    model = Qwen3VLForConditionalGeneration(config).to(torch.float32)
    _set_generation(model, tokenizer)
    return model


@torch.no_grad()
def start_with_lookups(model: PreTrainedModel) -> None:
    """Gives an untrained model weights from which looking something up in the prompt forms in a few hundred steps.

    Embeddings have unit variance, and the final norm starts small enough for logits of unit variance. From the second
    layer on a query is the key of the same content, so that attention starts at like tokens; in all layers the output
    projection undoes the value projection, so that what is attended to is passed on as it is (after the "mimetic
    initialization" of Trockman and Kolter, arXiv 2305.09828). Without it, look-ups took twice the steps to form, and
    names that training had not shown were hardly ever right.

    Args:
        model: Model of `make_model` or `make_qwen3_model`; changed in place. Seed torch before.
    """
    language_model = model.model.language_model
    width = language_model.embed_tokens.embedding_dim
    language_model.embed_tokens.weight.normal_(0, 1)
    language_model.norm.weight.fill_(width**-0.5)
    for number, layer in enumerate(language_model.layers):
        attention = layer.self_attn
        if number > 0:
            alike = torch.nn.init.orthogonal_(torch.empty(width, width))
            attention.q_proj.weight.copy_(alike)
            attention.k_proj.weight.copy_(alike)
        passed_on = torch.nn.init.orthogonal_(torch.empty(width, width))
        attention.v_proj.weight.copy_(passed_on)
        attention.o_proj.weight.copy_(passed_on.T)


def _text_config(tokenizer: PreTrainedTokenizerFast, hidden: int, layers: int, heads: int, mlp: int) -> dict[str, Any]:
    quarter = hidden // heads // 8
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": hidden,
        "intermediate_size": mlp * hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "max_position_embeddings": 2048,
        "tie_word_embeddings": True,
        "initializer_range": _scale(hidden),
        "bos_token_id": None,
        "eos_token_id": tokenizer.convert_tokens_to_ids("<|im_end|>"),
        "pad_token_id": tokenizer.convert_tokens_to_ids("<|endoftext|>"),
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 10000.0,
            # Time, height and width share the head's rotary pairs as 2 : 1 : 1.
            "mrope_section": [2 * quarter, quarter, quarter],
        },
    }


def _vision_config(hidden: int, heads: int, vision_hidden: int, vision_layers: int) -> dict[str, Any]:
    return {
        "depth": vision_layers,
        "hidden_size": vision_hidden,
        "intermediate_size": 3 * vision_hidden,
        "num_heads": heads,
        "out_hidden_size": hidden,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "initializer_range": _scale(vision_hidden),
    }


def _shared_config(tokenizer: PreTrainedTokenizerFast, hidden: int) -> dict[str, Any]:
    names = {
        "image_token_id": "<|image_pad|>",
        "video_token_id": "<|video_pad|>",
        "vision_start_token_id": "<|vision_start|>",
        "vision_end_token_id": "<|vision_end|>",
    }
    ids = {name: tokenizer.convert_tokens_to_ids(token) for name, token in names.items()}
    return {**ids, "tie_word_embeddings": True, "initializer_range": _scale(hidden)}


def _scale(width: int) -> float:
    """Returns the spread of initial weights.

    At widths this small Transformers' usual 0.02 leaves attention uniform for so long that copying a label from the
    question into the call does not form; with this scale it does, within the first stage of the curriculum.
    """
    return float(width**-0.5)


def _set_generation(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> None:
    model.generation_config.eos_token_id = tokenizer.convert_tokens_to_ids("<|im_end|>")
    model.generation_config.pad_token_id = tokenizer.convert_tokens_to_ids("<|endoftext|>")
