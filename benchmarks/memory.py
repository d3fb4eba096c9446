"""Peak memory of an attribution and of a training step, against group size, prompt length and image size.

    python benchmarks/memory.py attribution FOLDER [--cases 3] [--json FILE]
    python benchmarks/memory.py train FOLDER [--cases 3] [--json FILE] [--settings --beta 0.01 ...]

FOLDER is a checkpoint; with `random` in its place it is a small Qwen2.5-VL with random weights, made for the run. Every
case runs in a process of its own, on its accelerator if there is one. There the peaks are PyTorch's own count. On the
CPU they are the resident memory's high water mark, set back before each phase, less what the process had taken after
the same with the packaged student (its libraries) and what the tokenizers take. Turns are written at their greatest
length, all different, whatever the model would say: what it generates is thrown away. `planned` is what iapo says
beforehand: for an attribution the tokens of its graph by what one takes, for a step `iapo plan`. Seed 0.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from rich.console import Console
from rich.table import Table

GIB = 2**30
CALL_TOKENS = 120
ATTRIBUTIONS = [
    {"group": group, "words": words, "side": side, "tokens": tokens}
    for group, words, side, tokens in (
        (8, 500, 448, None),
        (4, 500, 448, None),
        (8, 500, 448, 1000),
        (8, 1500, 448, 1000),
        (4, 500, 896, None),
        (16, 500, 448, None),
        (8, 2000, 1344, 2000),
    )
]
STEPS = [
    {"group": group, "words": words, "side": side}
    for group, words, side in ((4, 0, 224), (8, 0, 224), (4, 500, 224), (4, 0, 448))
]


class Peak:
    """The process's memory, and its largest value since it was last set back.

    Attributes:
        base: Bytes that are not counted.
        phases: The largest value of each phase in bytes.
        seconds: The seconds of each phase, the last time.
    """

    def __init__(self) -> None:
        import torch

        self.module = torch.cuda if torch.cuda.is_available() else None
        self.reset()

    def reset(self) -> None:
        """Counts from here on."""
        gc.collect()
        if not self.module:
            # What the allocator holds without need is no library's.
            ctypes.CDLL(None).malloc_trim(0)
        self.base = 0 if self.module else self._status("VmRSS")
        self.phases: dict[str, int] = {}
        self.seconds: dict[str, float] = {}

    def now(self) -> int:
        """Bytes in use."""
        return self.module.memory_allocated() if self.module else self._status("VmRSS") - self.base

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Measures what runs inside."""
        if self.module:
            self.module.reset_peak_memory_stats()
        else:
            Path("/proc/self/clear_refs").write_text("5")
        started = time.perf_counter()
        try:
            yield
        finally:
            peak = self.module.max_memory_allocated() if self.module else self._status("VmHWM") - self.base
            self.phases[name] = max(peak, self.phases.get(name, 0))
            self.seconds[name] = time.perf_counter() - started

    @staticmethod
    def _status(name: str) -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def device() -> str:
    """The device that is measured."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def attribution(folder: str, case: dict[str, Any]) -> dict[str, Any]:
    """Measures one attribution of a group on one prompt: text of so many tokens, and a square image."""
    from PIL import Image

    from iapo.attribution.gradient import CallInput, Pictures
    from iapo.attribution.memory import SHARE, budget_of, token_cost
    from iapo.attribution.prefix import prefix_block_scores
    from iapo.planning.passes import attribution_bytes
    from iapo.planning.shapes import shape_of
    from iapo.planning.workload import Workload
    from iapo.rollout.policy import load_policy
    from iapo.rollout.prompt import PromptEncoder

    if folder != "tiny-student":
        attribution("tiny-student", {"group": 2, "words": 60, "side": 112, "tokens": None})
    peak = Peak()
    policy = load_policy(folder, device=device())
    encoder, draw = PromptEncoder(policy.processor), random.Random(0)
    image = Image.effect_noise((case["side"], case["side"]), 80).convert("RGB")
    tokens = encoder.image_token_counts([image])[0]

    def words(count: int) -> list[int]:
        return [draw.randrange(1000, 30000) % len(encoder.tokenizer) for _ in range(count)]

    sixth = case["words"] // 6
    parts = [words(sixth), [encoder.image_token_id] * tokens, *(words(sixth) for _ in range(5))]
    calls = [
        CallInput(
            prompt_ids=[token for part in parts for token in part],
            block_of=[block for block, part in enumerate(parts) for _ in part],
            blocks=len(parts),
            turn_ids=words(CALL_TOKENS),
            # All of a turn is explained, as the plan assumes.
            target=[True] * CALL_TOKENS,
            pictures=(0,),
        )
        for _ in range(case["group"])
    ]
    pixels = encoder.pixels([image])
    pictures = Pictures(pixels["pixel_values"], pixels["image_grid_thw"])
    budget = budget_of(policy.model, case["tokens"])
    before = peak.now()
    with peak.phase("attribution"):
        scores = prefix_block_scores(policy.model, calls, pictures, budget=budget)
    assert scores.isfinite().all()
    cost = token_cost(policy.model.config.get_text_config(), policy.model.dtype.itemsize)
    prompt = len(calls[0].prompt_ids)
    load = Workload(
        block_of=tuple(calls[0].block_of),
        blocks=calls[0].blocks,
        image=tokens,
        patches=tokens * encoder.merge_area,
        pixels=case["side"] ** 2,
        observation=0,
        turn=CALL_TOKENS,
        completion=CALL_TOKENS,
        rows=case["group"],
        generations=case["group"],
        micro=case["group"],
    )
    planned, _ = attribution_bytes(
        shape_of(folder),
        policy.model.dtype.itemsize,
        load,
        batch=case["group"],
        tokens=case["tokens"],
        left=budget.tokens * cost.graph / SHARE,
    )
    return {
        **case,
        "prompt": prompt,
        "weights": before,
        "attribution": peak.phases["attribution"] - before,
        "planned": planned,
        "whole sequences": cost.graph * case["group"] * (prompt + CALL_TOKENS),
    }


def train(folder: str, case: dict[str, Any], words: list[str]) -> dict[str, Any]:
    """Measures optimiser steps of `iapo train` by their phases, and compares with the plan."""
    peak = Peak()
    steps("tiny-student", {"group": 2, "words": 0, "side": 112}, [], peak)
    from iapo.rollout.policy import load_processor

    before = peak.now()
    processor = load_processor(folder)
    tokenizer = 0 if peak.module else peak.now() - before
    del processor
    peak.reset()
    # The student's and the teacher's are no memory of a GPU.
    peak.base += 2 * tokenizer
    row, changes = steps(folder, case, words, peak)
    from iapo.planning.given import read_given
    from iapo.planning.report import make_report

    with tempfile.TemporaryDirectory() as out:
        (Path(out) / "config.yaml").write_text("{}")
        given = read_given(f"{out}/config.yaml", changes)
    report = make_report(given, memory=64, size=(case["side"],) * 2, text_tokens=row.pop("text"), device=device())
    names = {"rollout": "rollout", "attribution": "attribution", "reference": "reference"}
    names |= {"update": "loss and backward", "optimizer": "optimiser step"}
    for phase, name in names.items():
        if phase in peak.phases:
            row[phase], row[f"{phase} planned"] = peak.phases[phase], report.plan.total(name)
            row[f"{phase} seconds"] = round(peak.seconds[phase], 1)
    return row


def steps(folder: str, case: dict[str, Any], words: list[str], peak: Peak) -> tuple[dict[str, Any], list[str]]:
    """Trains two steps; the second has the optimiser's states. Returns sizes, and the settings."""
    import torch
    from transformers import TrainerCallback

    from iapo.data.synthetic import generate
    from iapo.training import run as run_module
    from iapo.training import settings as settings_module
    from iapo.training.trainer import IAPOTrainer

    draw = random.Random(0)
    turns: list[dict[str, int]] = []
    images: list[int] = []

    class Phases(TrainerCallback):
        def on_pre_optimizer_step(self, *_: Any, **__: Any) -> None:
            self.inside = peak.phase("optimizer")
            self.inside.__enter__()

        def on_optimizer_step(self, *_: Any, **__: Any) -> None:
            self.inside.__exit__(None, None, None)

    class Measured(IAPOTrainer):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            kwargs["callbacks"] = [*(kwargs.get("callbacks") or ()), Phases()]
            super().__init__(*args, **kwargs)

        def train(self, *args: Any, **kwargs: Any) -> Any:
            loading.__exit__(None, None, None)
            return super().train(*args, **kwargs)

        def _generate_single_turn(self, prompt_ids: Any, *args: Any, **kwargs: Any) -> Any:
            with peak.phase("rollout"):
                _, extra = super()._generate_single_turn(prompt_ids, *args, **kwargs)
            first = not kwargs.get("has_tool_images")
            return [self._turn(row, first, len(ids)) for row, ids in enumerate(prompt_ids)], extra

        def _turn(self, row: int, first: bool, length: int) -> list[int]:
            """A turn of the greatest length: random words, and a call or an answer."""
            tokenizer, sample = self.encoder.tokenizer, self._batch.samples[row]
            text = "FINAL ANSWER: 1. TERMINATE"
            most = self.args.max_turn_tokens or self.args.max_completion_length
            if first:
                name, axis = next(iter(sample.column_boxes or sample.row_boxes)), sample.axis
                text = f'```python\ndisplay(focus_on_{axis}_with_mask(image_1, ["{name}"], {axis}_bbox))\n```'
                turns.append({"prompt": length})
                images.append(self.encoder.image_token_counts([sample.image])[0])
            ids = [*tokenizer(text)["input_ids"], tokenizer.eos_token_id]
            blank = tokenizer(" a b c d e f g h i j", add_special_tokens=False)["input_ids"]
            return [draw.choice(blank) for _ in range(most - len(ids))] + ids

        def _measure(self, *args: Any) -> Any:
            with peak.phase("attribution"):
                return super()._measure(*args)

        def _get_per_token_logps_and_entropies(self, *args: Any, **kwargs: Any) -> Any:
            if torch.is_grad_enabled():
                return super()._get_per_token_logps_and_entropies(*args, **kwargs)
            with peak.phase("reference"):
                return super()._get_per_token_logps_and_entropies(*args, **kwargs)

        def training_step(self, model: Any, inputs: Any, *args: Any) -> Any:
            self.update = None
            try:
                return super().training_step(model, inputs, *args)
            finally:
                self.update.__exit__(None, None, None)

        def _compute_loss(self, model: Any, inputs: Any) -> Any:
            self.update = peak.phase("update")
            self.update.__enter__()
            return super()._compute_loss(model, inputs)

    def samples(arguments: Any, part: str, *_: Any) -> list[Any]:
        import dataclasses

        some = generate("vbar", case["batch"], seed=0, size=arguments.picture_size)
        return [dataclasses.replace(one, question=one.question + " word" * case["words"]) for one in some]

    with tempfile.TemporaryDirectory() as out:
        given = {
            "model": folder,
            "output_dir": f"{out}/run",
            "eval_samples": "0",
            "max_steps": "2",
            "picture_size": str(case["side"]),
            "per_device_train_batch_size": str(case["group"]),
            "num_generations": str(case["group"]),
            "max_turn_tokens": str(CALL_TOKENS),
            "max_completion_length": str(2 * CALL_TOKENS),
            "teacher": folder,
            # Every token of a turn is explained, as the plan assumes.
            "attribution_target": "turn",
            "bf16": "false",
            "save_strategy": "no",
            "report_to": "none",
            "disable_tqdm": "true",
            "trace_every": "0",
        }
        given |= settings_module.read_flags(words)
        case = {**case, "batch": int(given["per_device_train_batch_size"])}
        (Path(out) / "config.yaml").write_text("{}")
        changes = [word for name, value in given.items() for word in (f"--{name}", str(value))]
        arguments, settings = settings_module.parse(f"{out}/config.yaml", changes)
        loading = peak.phase("load")
        loading.__enter__()
        # A policy is saved in the end, which is no part of the step.
        Measured.save_policy = lambda *_, **__: None  # type: ignore[method-assign]
        with mock.patch.multiple(run_module, IAPOTrainer=Measured, run_samples=samples):
            run_module.run(arguments, settings, quiet=True)
    prompt, completion = turns[0]["prompt"], int(given["max_completion_length"])
    return {**case, "prompt": prompt, "completion": completion, "text": prompt - images[0]}, changes


def random_model(folder: Path) -> str:
    """Writes the packaged student's folder with another, larger model of random weights in it."""
    from transformers import AutoConfig, AutoModelForImageTextToText

    from iapo.rollout.policy import load_processor, resolve

    config = AutoConfig.from_pretrained(resolve("tiny-student"))
    config.text_config.update({"hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 8})
    config.text_config.layer_types = ["full_attention"] * 8
    # Heads keep the units that the rotary sections need.
    config.text_config.num_attention_heads = 512 // (2 * sum(config.text_config.rope_parameters["mrope_section"]))
    config.vision_config.out_hidden_size = 512
    AutoModelForImageTextToText.from_config(config).save_pretrained(folder)
    load_processor("tiny-student").save_pretrained(folder)
    return str(folder)


def measure(kind: str, folder: str, case: dict[str, Any], words: list[str]) -> dict[str, Any]:
    """Runs a case in a process of its own, and returns what it printed."""
    command = [sys.executable, __file__, kind, folder, "--child", json.dumps(case), "--settings", *words]
    # Freed memory goes back at once, so that the high water mark is that of what is in use.
    environment = {**os.environ, "TOKENIZERS_PARALLELISM": "false", "MALLOC_MMAP_THRESHOLD_": "262144"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise SystemExit(f"{case} failed:\n{done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Measures all cases and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=("attribution", "train"))
    parser.add_argument("folder")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--cases", type=int, help="only so many, the first ones")
    parser.add_argument("--case", type=json.loads, help="one case in place of the standing ones, as JSON")
    parser.add_argument("--child", type=json.loads, help=argparse.SUPPRESS)
    parser.add_argument("--settings", nargs=argparse.REMAINDER, default=[], help="further settings of the training")
    options = parser.parse_args()
    if options.child:
        run = attribution if options.kind == "attribution" else train
        more = () if options.kind == "attribution" else (options.settings,)
        print(json.dumps(run(options.folder, options.child, *more)))
        return
    rows = []
    with tempfile.TemporaryDirectory() as made:
        folder = random_model(Path(made)) if options.folder == "random" else options.folder
        standing = (ATTRIBUTIONS if options.kind == "attribution" else STEPS)[: options.cases]
        for case in [options.case] if options.case else standing:
            rows.append(measure(options.kind, folder, case, options.settings))
            print(json.dumps(rows[-1]), file=sys.stderr)
            if options.json:
                options.json.write_text(json.dumps(rows, indent=1) + "\n")
    table = Table(title="peak memory in GiB")
    names = [name for name in rows[0] if name not in ("settings",)]
    for name in names:
        table.add_column(name.replace("_", " "), justify="right")
    for row in rows:
        table.add_row(*(f"{row[name] / GIB:.2f}" if is_bytes(row[name]) else str(row[name] or "-") for name in names))
    Console().print(table)


def is_bytes(value: Any) -> bool:
    """Whether a number is large enough to count bytes."""
    return isinstance(value, int) and value > 10**6


if __name__ == "__main__":
    main()
