"""What the published configurations of Qwen2.5-VL and Qwen3-VL say, and smaller ones of their make; no torch here."""

from __future__ import annotations

from typing import Any, Literal

Size = Literal["tiny", "wide", "full"]
"""`full` is the published shape, `wide` has two text layers and four vision layers of it, `tiny` narrow ones."""

SIZES: tuple[Size, ...] = ("tiny", "wide", "full")

_NAMES = (
    "hidden_size",
    "intermediate_size",
    "num_attention_heads",
    "num_key_value_heads",
    "num_hidden_layers",
    "vocab_size",
    "tie_word_embeddings",
)
_TEXT: dict[str, tuple[Any, ...]] = {
    "qwen2.5-vl-3b": (2048, 11008, 16, 2, 36, 151936, True),
    "qwen2.5-vl-7b": (3584, 18944, 28, 4, 28, 152064, False),
    "qwen3-vl-4b": (2560, 9728, 32, 8, 36, 151936, True),
    "qwen3-vl-8b": (4096, 12288, 32, 8, 36, 151936, False),
}
STAND_INS = tuple(_TEXT)
"""The checkpoints that there are stand-ins of."""

PUBLISHED = {
    "Qwen/Qwen2.5-VL-3B-Instruct": "qwen2.5-vl-3b",
    "Qwen/Qwen2.5-VL-7B-Instruct": "qwen2.5-vl-7b",
    "Qwen/Qwen3-VL-4B-Instruct": "qwen3-vl-4b",
    "Qwen/Qwen3-VL-8B-Instruct": "qwen3-vl-8b",
}
"""Hub ids, and the stand-ins of their shape."""

_IDS = {"image_token_id": 151655, "video_token_id": 151656, "vision_start_token_id": 151652}
_IDS |= {"vision_end_token_id": 151653}

_NARROW_TEXT = {"hidden_size": 256, "intermediate_size": 512, "num_attention_heads": 2, "num_key_value_heads": 1}


def is_qwen3(name: str) -> bool:
    """Tells whether a stand-in is of Qwen3-VL; the others are of Qwen2.5-VL."""
    return name.startswith("qwen3")


def config_of(name: str, size: Size) -> dict[str, Any]:
    """Returns what `config.json` holds.

    Args:
        name: One of `STAND_INS`.
        size: Its size; heads keep their 128 units in all sizes, which the rotary sections need.
    """
    text = dict(zip(_NAMES, _TEXT[name], strict=True))
    if size == "tiny":
        text |= _NARROW_TEXT
    if size != "full":
        text["num_hidden_layers"] = 4 if is_qwen3(name) else 2
    return _qwen3(name, size, text) if is_qwen3(name) else _qwen2_5(name, size, text)


def _qwen2_5(name: str, size: Size, text: dict[str, Any]) -> dict[str, Any]:
    vision: dict[str, Any] = {
        "depth": 32,
        "hidden_act": "silu",
        "hidden_size": 1280,
        "intermediate_size": 3420,
        "num_heads": 16,
        "in_chans": 3,
        "out_hidden_size": text["hidden_size"],
        "patch_size": 14,
        "spatial_merge_size": 2,
        "spatial_patch_size": 14,
        "window_size": 112,
        "fullatt_block_indexes": [7, 15, 23, 31],
        "tokens_per_second": 2,
        "temporal_patch_size": 2,
    }
    if size != "full":
        vision |= {"depth": 4, "fullatt_block_indexes": [1, 3]}
    if size == "tiny":
        vision |= {"hidden_size": 160, "num_heads": 2, "intermediate_size": 428}
    return {
        "architectures": ["Qwen2_5_VLForConditionalGeneration"],
        "model_type": "qwen2_5_vl",
        "attention_dropout": 0.0,
        "bos_token_id": 151643,
        "eos_token_id": 151645,
        "vision_token_id": 151654,
        "hidden_act": "silu",
        "initializer_range": 0.02,
        "max_position_embeddings": 128000,
        "max_window_layers": 70 if name.endswith("3b") else 28,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1000000.0,
        "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]},
        "sliding_window": 32768,
        "use_sliding_window": False,
        "use_cache": True,
        "torch_dtype": "bfloat16",
        "vision_config": vision,
        **text,
        **_IDS,
    }


def _qwen3(name: str, size: Size, text: dict[str, Any]) -> dict[str, Any]:
    large = name.endswith("8b")
    vision: dict[str, Any] = {
        "model_type": "qwen3_vl",
        "depth": 27 if large else 24,
        "deepstack_visual_indexes": [8, 16, 24] if large else [5, 11, 17],
        "hidden_act": "gelu_pytorch_tanh",
        "hidden_size": 1152 if large else 1024,
        "intermediate_size": 4304 if large else 4096,
        "in_channels": 3,
        "initializer_range": 0.02,
        "num_heads": 16,
        "num_position_embeddings": 2304,
        "out_hidden_size": text["hidden_size"],
        "patch_size": 16,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
    }
    if size != "full":
        vision |= {"depth": 4, "deepstack_visual_indexes": [0, 1, 2]}
    if size == "tiny":
        vision |= {"hidden_size": 128, "num_heads": 2, "intermediate_size": 256}
    text |= {
        "model_type": "qwen3_vl_text",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": 151643,
        "eos_token_id": 151645,
        "dtype": "bfloat16",
        "head_dim": 128,
        "hidden_act": "silu",
        "initializer_range": 0.02,
        "max_position_embeddings": 262144,
        "rms_norm_eps": 1e-6,
        "rope_theta": 5000000,
        "rope_scaling": {"mrope_interleaved": True, "mrope_section": [24, 20, 20], "rope_type": "default"},
        "use_cache": True,
    }
    return {
        "architectures": ["Qwen3VLForConditionalGeneration"],
        "model_type": "qwen3_vl",
        "text_config": text,
        "tie_word_embeddings": text["tie_word_embeddings"],
        "vision_config": vision,
        **_IDS,
    }
