"""Cost of one forward and backward pass over a group of 8 rollouts, TRL's rows against packed rows.

    python benchmarks/update.py plain|packed [--calls 2] [--checkpointing] [--other-prompts] [--repeats 3]

Qwen2.5-VL with random weights, hidden size 512, four layers; prompts of 600 tokens, completions of 348, of them 250 an
edited picture's and 20 an answer's; all answers differ. Prints one JSON line: the median of user CPU seconds of one
thread, the peak memory, and the gradient's norm, which is the same for both. Seed 0.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
from typing import Any

import torch
from torch import Tensor
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration
from trl.trainer.utils import add_fused_lm_head

from iapo.training.packing import pack
from iapo.training.shared_prefix import add_shared_prefix

GROUP, PICTURE, VOCABULARY, HIDDEN, IMAGE = 8, 250, 2048, 512, 5


def make_model(checkpointing: bool) -> Any:
    """An untrained model with TRL's head and ours."""
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": VOCABULARY,
            "hidden_size": HIDDEN,
            "intermediate_size": 4 * HIDDEN,
            "num_hidden_layers": 4,
            "num_attention_heads": 8,
            "num_key_value_heads": 4,
            "max_position_embeddings": 4096,
            "bos_token_id": None,
            "eos_token_id": 2,
            "pad_token_id": 0,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [16, 8, 8]},
        },
        vision_config={
            "depth": 2,
            "hidden_size": 128,
            "intermediate_size": 256,
            "num_heads": 4,
            "out_hidden_size": HIDDEN,
            "fullatt_block_indexes": [0, 1],
        },
        image_token_id=IMAGE,
        video_token_id=6,
        vision_start_token_id=3,
        vision_end_token_id=4,
        tie_word_embeddings=True,
    )
    model = Qwen2_5_VLForConditionalGeneration(config).train()
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    add_fused_lm_head(model, outputs=("log_probs", "entropy"))
    add_shared_prefix(model)
    return model


def make_batch(calls: int, other_prompts: bool) -> tuple[dict[str, Tensor], Tensor, int]:
    """The group's inputs, the identity of its pictures, and the length of its completions."""

    def text(tokens: int) -> Tensor:
        return torch.randint(10, VOCABULARY, (tokens,))

    picture = torch.tensor([3, *[IMAGE] * PICTURE, 4])
    prompt = torch.cat([text(40), picture, text(308)])
    turns, observation = [text(58) for _ in range(calls)], torch.cat([text(8), picture, text(10)])
    rows = [torch.cat([prompt, turns[one % calls], observation, text(20)]) for one in range(GROUP)]
    if other_prompts:
        rows = [torch.cat([text(30), row[30:]]) for row in rows]
    ids = torch.stack(rows)
    numbers = torch.tensor([[0, 1 + one % calls] for one in range(GROUP)])
    patches = [torch.randn(4 * PICTURE, 3 * 2 * 14 * 14) for _ in range(calls + 1)]
    inputs = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "pixel_values": torch.cat([patches[number] for number in numbers.flatten().tolist()]),
        "image_grid_thw": torch.tensor([[1, 20, 50]] * (2 * GROUP)),
        "mm_token_type_ids": (ids == IMAGE).long(),
    }
    return inputs, numbers, ids.shape[1] - len(prompt)


def main() -> None:
    """Measures one variant."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("variant", choices=("plain", "packed"))
    parser.add_argument("--calls", type=int, default=2)
    parser.add_argument("--checkpointing", action="store_true")
    parser.add_argument("--other-prompts", action="store_true")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = make_model(options.checkpointing)
    batch, numbers, length = make_batch(options.calls, options.other_prompts)
    labels = batch["input_ids"].clone()
    labels[:, :-length] = -100
    written = batch["mm_token_type_ids"][:, -length:] == 0
    seconds = []
    # The first is not counted.
    for _ in range(options.repeats + 1):
        model.zero_grad()
        start = resource.getrusage(resource.RUSAGE_SELF).ru_utime
        if options.variant == "plain":
            log_probs = model(**batch, labels=labels, fused_lm_head=True).log_probs[:, -length:]
        else:
            packed = pack(model.model, **batch, picture_ids=numbers, completion=length)
            log_probs = packed.spread(model(**packed.inputs, fused_lm_head=True).log_probs)
        log_probs[written].sum().backward()
        seconds.append(resource.getrusage(resource.RUSAGE_SELF).ru_utime - start)
    norm = sum(float(parameter.grad.norm() ** 2) for parameter in model.parameters()) ** 0.5
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(json.dumps({"seconds": statistics.median(seconds[1:]), "peak_mib": peak, "gradient": norm}))


if __name__ == "__main__":
    main()
