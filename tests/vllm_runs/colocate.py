"""A program: two-turn training with a real vLLM in this process, and what it did, as JSON.

What vLLM says of the probabilities of what it samples is compared with what the trainer says: they agree only if
prompt, both images, both turns and the weights are the same on both sides.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig

from iapo import IAPOConfig, IAPOTrainer, to_dataset
from iapo.data.synthetic import generate

FAMILIES = ("vbar", "hbar")


def make(model: str, out: str, **more: Any) -> IAPOTrainer:
    """The trainer of the checks: 32 rollouts a step, both turns of at most 24 tokens."""
    charts = [one for family in FAMILIES for one in generate(family, 32, seed=0, question_types=("value",))]
    settings = IAPOConfig(
        out,
        reward="grpo",
        max_turn_tokens=24,
        max_completion_length=96,
        use_cpu=True,
        bf16=False,
        per_device_train_batch_size=32,
        num_generations=8,
        max_steps=4,
        learning_rate=float(more.pop("learning_rate", 1e-4)),
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        use_vllm=True,
        vllm_mode="colocate",
        vllm_max_model_length=1024,
    )
    return IAPOTrainer(model, args=settings, train_dataset=to_dataset(charts), keep_run=False, **more)


def repeated(rows: Any) -> list[dict[str, Any]]:
    """The first four, eight times each."""
    return [row for row in list(rows)[:4] for _ in range(8)]


def gap(output: dict[str, Any]) -> float:
    """The largest difference between the two sides' log-probabilities of one token that the model wrote."""
    written = output["completion_mask"] * output["tool_mask"]
    return float(((output["old_per_token_logps"] - output["sampling_per_token_logps"]) * written).abs().max())


def train(out: str) -> dict[str, Any]:
    trainer = make("tiny-student", out)
    llm, engine = trainer.vllm_generation.llm, trainer.vllm_generation
    trainer.train()
    log = [row for row in trainer.state.log_history if "sampling/sampling_logp_difference/max" in row]
    found: dict[str, Any] = {
        "differences": [row["sampling/sampling_logp_difference/max"] for row in log],
        "ratios": [row[f"sampling/importance_sampling_ratio/{end}"] for row in log for end in ("min", "max")],
        "rewards": [row["rewards/outcome_reward/mean"] for row in log],
        "called": [row["tools/call_ratio"] for row in log],
    }
    small = repeated(trainer.train_dataset)

    def roll_out(rows: list[dict[str, Any]] = small) -> dict[str, Any]:
        trainer.model.train()
        return trainer._generate_and_score_completions(rows)

    # Prompts of some length: only whole blocks of tokens are kept.
    found["cached"] = []
    original = llm.generate

    def generate_and_count(*args: Any, **kwargs: Any) -> Any:
        outputs = original(*args, **kwargs)
        found["cached"].append([sum(one.num_cached_tokens for one in outputs), len(outputs)])
        return outputs

    llm.generate = generate_and_count
    large = to_dataset(list(generate("vbar", 4, seed=0, size=448, question_types=("value",))))
    found["large"] = gap(roll_out(repeated(large)))
    llm.generate = original

    # The same images under another vision tower: what vLLM kept of them is wrong now.
    found["before"] = gap(roll_out())
    with torch.no_grad():
        for weight in trainer.model.model.visual.parameters():
            weight.mul_(1.2)
    found["unsynced"] = gap(roll_out())
    engine.sync_weights()
    found["synced"] = gap(roll_out())
    llm.llm_engine.reset_encoder_cache = lambda: None
    with torch.no_grad():
        for weight in trainer.model.model.visual.parameters():
            weight.mul_(1 / 1.2)
    engine.sync_weights()
    found["without_reset"] = gap(roll_out())
    del llm.llm_engine.reset_encoder_cache
    # A model that would write image tokens.
    image = trainer.encoder.image_token_id
    with torch.no_grad():
        head = trainer.model.lm_head.weight
        head[image] = 3 * head[trainer.encoder.tokenizer.eos_token_id]
    engine.sync_weights()
    output = roll_out()
    prompts = [list(one.prompt.ids) for one in trainer._batch.rollouts]
    images = [list(one.prompt.images) for one in trainer._batch.rollouts]
    written = (output["completion_mask"] * output["tool_mask"]).bool()
    found["image_tokens"] = int((output["completion_ids"][written] == image).sum())
    del engine.generation_kwargs["logit_bias"]
    _, free, _, _ = engine.generate(prompts, images, 1)
    found["image_tokens_without_bias"] = sum(row.count(image) for row in map(list, free))
    return found


def adapter(out: str) -> dict[str, Any]:
    trainer = make("tiny-student", out, learning_rate=1e-2, peft_config=LoraConfig(r=4, target_modules=["q_proj"]))
    trainer.train()
    log = [row for row in trainer.state.log_history if "sampling/sampling_logp_difference/max" in row]
    return {"differences": [row["sampling/sampling_logp_difference/max"] for row in log]}


if __name__ == "__main__":
    result = {"train": train, "adapter": adapter}[sys.argv[1]](sys.argv[2])
    Path(sys.argv[3]).write_text(json.dumps(result))
