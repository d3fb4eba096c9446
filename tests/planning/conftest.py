"""Folders that hold the configuration of a published model, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

IDS = {
    "image_token_id": 151655,
    "video_token_id": 151656,
    "vision_start_token_id": 151652,
    "vision_end_token_id": 151653,
}


def qwen(folder: Path, *, hidden: int, inner: int, heads: int, shared: int, layers: int, rows: int, tied: bool) -> Path:
    """Writes `config.json` of a Qwen2.5-VL, laid out as published, with these sizes."""
    text: dict[str, Any] = {
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_attention_heads": heads,
        "num_key_value_heads": shared,
        "num_hidden_layers": layers,
        "vocab_size": rows,
        "tie_word_embeddings": tied,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1e6,
        "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]},
        "max_position_embeddings": 128000,
        "torch_dtype": "bfloat16",
    }
    vision = {
        "depth": 32,
        "hidden_size": 1280,
        "intermediate_size": 3420,
        "num_heads": 16,
        "in_chans": 3,
        "out_hidden_size": hidden,
        "patch_size": 14,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "window_size": 112,
        "fullatt_block_indexes": [7, 15, 23, 31],
    }
    kind = {"architectures": ["Qwen2_5_VLForConditionalGeneration"], "model_type": "qwen2_5_vl"}
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({**kind, **text, "vision_config": vision, **IDS}))
    return folder


@pytest.fixture(scope="session")
def three(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Qwen2.5-VL-3B."""
    folder = tmp_path_factory.mktemp("shapes") / "3b"
    return str(qwen(folder, hidden=2048, inner=11008, heads=16, shared=2, layers=36, rows=151936, tied=True))


@pytest.fixture(scope="session")
def seven(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Qwen2.5-VL-7B."""
    folder = tmp_path_factory.mktemp("shapes") / "7b"
    return str(qwen(folder, hidden=3584, inner=18944, heads=28, shared=4, layers=28, rows=152064, tied=False))
