"""A program: training with a real vLLM in this process, or with its server, and what it did, as JSON.

What vLLM says of the probabilities of what it samples is compared with what the trainer says: they agree only if
prompt, all images, all turns and the weights are the same on both sides.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import practised
import torch
from by_file import hand_over_by_file
from peft import LoraConfig
from sharded_on_cpu import allow
from torch import Tensor

from iapo import IAPOConfig, IAPOTrainer, to_dataset
from iapo.data.synthetic import generate
from iapo.records import Sample
from iapo.rollout.turns import Rollout
from iapo.training.shards import engine_of

FAMILIES = ("vbar", "hbar")
CUT = 26
"""Tokens that a rollout may write in the check of cut turns."""


def make(
    model: str, out: str, samples: Sequence[Sample] = (), peft_config: LoraConfig | None = None, **more: Any
) -> IAPOTrainer:
    """The trainer of the checks: 32 rollouts a step, turns of at most 24 tokens."""
    samples = samples or [one for name in FAMILIES for one in generate(name, 32, seed=0, question_types=("value",))]
    given: dict[str, Any] = {
        "reward": "grpo",
        "max_turn_tokens": 24,
        "max_completion_length": 96,
        "use_cpu": True,
        "bf16": False,
        "per_device_train_batch_size": 32,
        "num_generations": 8,
        "max_steps": 4,
        "learning_rate": 1e-4,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "use_vllm": True,
        "vllm_mode": "colocate",
        "vllm_max_model_length": 1024,
    }
    args = IAPOConfig(out, **{**given, **more})
    return IAPOTrainer(model, args=args, train_dataset=to_dataset(samples), keep_run=False, peft_config=peft_config)


def repeated(rows: Any) -> list[dict[str, Any]]:
    """The first four, eight times each."""
    return [row for row in list(rows)[:4] for _ in range(8)]


def gap(output: dict[str, Any]) -> float:
    """The largest difference between the two sides' log-probabilities of one token that the model wrote."""
    return gaps(output)["max"]


def gaps(output: dict[str, Any]) -> dict[str, float]:
    """The largest and the mean difference over all tokens that the model wrote."""
    written = (output["completion_mask"] * output["tool_mask"]).bool()
    found = (output["old_per_token_logps"] - output["sampling_per_token_logps"])[written].abs()
    return {"max": float(found.max()), "mean": float(found.mean()), "tokens": len(found)}


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


def mixture() -> list[Sample]:
    """Charts by themselves and with a second image, vertical and horizontal ones."""
    return [*practised.charts(16, first=64), *practised.pairs(practised.charts(16, first=80))]


def many(student: str, out: str, **more: Any) -> IAPOTrainer:
    """A trainer of the student that writes up to eight turns, on one image or two."""
    given = {"max_turns": practised.TURNS, "max_completion_length": 160, "max_steps": 2}
    # The step is proportional to the gradient, so that two gradients can be told from what they did.
    return make(student, out, mixture(), optim="sgd", learning_rate=0.05, max_grad_norm=0.0, **{**given, **more})


def told(rollouts: Sequence[Rollout]) -> list[dict[str, Any]]:
    """What became of rollouts: each turn's status, and the numbers of images given and shown."""
    return [
        {
            "statuses": [turn.result.status for turn in one.trace.turns],
            "given": len(one.prompt.images),
            "shown": len(one.images),
        }
        for one in rollouts
    ]


def weights(trainer: IAPOTrainer) -> Tensor:
    return torch.cat([one.detach().flatten().clone() for one in trainer.model.parameters()])


def turns(out: str, student: str) -> dict[str, Any]:
    """Two steps with vLLM, and the same two without it, on what it wrote; then turns that are cut."""
    trainer = many(student, out)
    before = weights(trainer)
    batches: list[list[Rollout]] = []
    whole = trainer._generate_and_score_completions

    def keep(rows: list[dict[str, Any]]) -> dict[str, Any]:
        output = whole(rows)
        batches.append(trainer._batch.rollouts)
        return output

    trainer._generate_and_score_completions = keep
    trainer.train()
    log = [row for row in trainer.state.log_history if "sampling/sampling_logp_difference/max" in row]
    found: dict[str, Any] = {
        "steps": [{end: row[f"sampling/sampling_logp_difference/{end}"] for end in ("max", "mean")} for row in log],
        "ratios": [row[f"sampling/importance_sampling_ratio/{end}"] for row in log for end in ("min", "max")],
        "losses": [row["loss"] for row in log],
        "rollouts": [told(some) for some in batches],
    }
    # The same without vLLM: its turns are what vLLM wrote.
    other = many(student, out, use_vllm=False)
    left = iter(batches)
    current: list[Rollout] = []
    number = 0

    def write(ids: list[list[int]], *_: Any, has_tool_images: bool = False, **__: Any) -> tuple[Any, None]:
        nonlocal current, number
        current, number = (current, number + 1) if has_tool_images else (next(left), 0)
        written = [list(one.turns[number].ids) for one in current if number < len(one.turns)]
        if not number:
            assert ids == [list(one.prompt.ids) for one in current]
        assert len(written) == len(ids)
        return written, None

    other._generate_single_turn = write
    other.train()
    update, same = weights(trainer) - before, weights(other) - before
    found["update"] = float(update.norm())
    found["apart"] = float((update - same).norm() / update.norm())
    # What a rollout may write ends in one of its later turns.
    trainer.budget = dataclasses.replace(trainer.budget, written=CUT)
    trainer.model.train()
    rows = list(trainer.train_dataset)
    found["cut"] = gaps(whole([row for row in rows[:2] + rows[-2:] for _ in range(8)]))
    lengths = [[len(turn.ids) for turn in one.turns] for one in trainer._batch.rollouts]
    found["cut_turns"] = [len(some) for some in lengths if sum(some) == CUT]
    return found


def order(out: str, model: str, turns: str) -> dict[str, Any]:
    """A batch of rollouts on two images, and one of which vLLM is shown the images in the wrong order."""
    trainer = make(model, out, mixture(), max_turns=int(turns))
    trainer.model.train()
    # They have one size, so that it cannot tell.
    same = [row for row in trainer.train_dataset if [one.size for one in row["more_images"]] == [row["image"].size]]
    rows = [row for row in same[:4] for _ in range(8)]
    found: dict[str, Any] = {"given": gaps(trainer._generate_and_score_completions(rows))}
    found["rollouts"] = told(trainer._batch.rollouts)
    generate = trainer.vllm_generation.generate

    def swapped(images: list[list[Any]], **rest: Any) -> Any:
        return generate(images=[row[::-1] for row in images], **rest)

    trainer.vllm_generation.generate = swapped
    found["swapped"] = gap(trainer._generate_and_score_completions(rows))
    return found


def served(student: str, out: str, port: str, **more: Any) -> IAPOTrainer:
    """A trainer whose rollouts a server writes."""
    hand_over_by_file()
    url = f"http://127.0.0.1:{port}"
    return many(student, out, vllm_mode="server", vllm_server_base_url=url, vllm_server_timeout=600.0, **more)


def server(out: str, student: str, port: str) -> dict[str, Any]:
    """Two steps on a server's rollouts; then weights that it is not told of, and is."""
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    trainer = served(student, out, port, per_device_train_batch_size=32 // processes)
    whole = trainer._generate_and_score_completions
    found: dict[str, Any] = {"steps": [], "rollouts": [], "samples": []}

    def look(rows: list[dict[str, Any]]) -> dict[str, Any]:
        output = whole(rows)
        found["steps"].append(gaps(output))
        found["rollouts"].append(told(trainer._batch.rollouts))
        found["samples"].append([one.trace.sample.id for one in trainer._batch.rollouts])
        return output

    trainer._generate_and_score_completions = look
    before = weights(trainer)
    trainer.train()
    found["update"] = float((weights(trainer) - before).norm())
    trainer.model.train()
    rows = list(trainer.train_dataset)
    own = [row for row in (rows[:2] + rows[-2:])[trainer.accelerator.process_index :: processes] for _ in range(8)]
    # The trainer hands weights over where the number of the step has changed.
    trainer._last_loaded_step = trainer.state.global_step
    with torch.no_grad():
        for weight in trainer.model.model.visual.parameters():
            weight.mul_(1.2)
    found["unsynced"] = gaps(whole(own))
    trainer.vllm_generation.sync_weights()
    found["synced"] = gaps(whole(own))
    return found


def shards(out: str, student: str, kind: str, lora: str) -> dict[str, Any]:
    """Two steps of which each process keeps a part; then weights that vLLM has not got yet, and has."""
    processes = int(os.environ["WORLD_SIZE"])
    zero = {"stage": 3, "stage3_param_persistence_threshold": 1000}
    settings = {"train_micro_batch_size_per_gpu": "auto", "gradient_accumulation_steps": "auto"}
    of_engine: dict[str, dict[str, Any]] = {
        "fsdp2": {"fsdp": True, "fsdp_config": {"version": 2}},
        "zero3": {"use_cpu": False, "deepspeed": {**settings, "zero_optimization": zero}},
    }
    rate = 0.05 if lora else 0.01
    more = {"optim": "adamw_torch", "learning_rate": rate, "per_device_train_batch_size": 32 // processes}
    # An adapter's dropout acts in training alone, and would be seen in the probabilities.
    adapter = LoraConfig(r=4, target_modules=["q_proj"], lora_dropout=0.0) if lora == "lora" else None
    samples = [one for name in FAMILIES for one in generate(name, 32, seed=0, question_types=("value",))]
    given: dict[str, Any] = {**more, **of_engine[kind], "max_steps": 2, "dynamic_sampling": 2}
    trainer = make(student, out, samples, adapter, **given)
    trainer.train()
    log = [row for row in trainer.state.log_history if "sampling/sampling_logp_difference/max" in row]
    found: dict[str, Any] = {
        "steps": [{end: row[f"sampling/sampling_logp_difference/{end}"] for end in ("max", "mean")} for row in log],
        "engine": engine_of(trainer),
    }
    trainer.model.train()
    size, rank = 32 // processes, trainer.accelerator.process_index
    rows = repeated(trainer.train_dataset)[rank * size : (rank + 1) * size]
    for name, loaded in (("unsynced", trainer.state.global_step), ("synced", -1)):
        # Weights are handed over where the number of the step has changed.
        trainer._last_loaded_step = loaded
        found[name] = gaps(trainer._generate_and_score_completions(rows))
    return found


if __name__ == "__main__":
    what, out, where, *rest = sys.argv[1:]
    known = {"train": train, "adapter": adapter, "turns": turns, "order": order, "server": server, "shards": shards}
    if what == "shards":
        allow()
    # Before TRL sets one for vLLM in this process.
    rank = os.environ.get("RANK", "")
    result = known[what](out, *rest)
    Path(where + rank).write_text(json.dumps(result))
