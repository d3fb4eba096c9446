"""Peak memory of an attribution and of a training step, against group size, prompt length and image size.

    python benchmarks/memory.py sweep FOLDER [--cases 3] [--most 20] [--json FILE]
    python benchmarks/memory.py train FOLDER [--cases 3] [--json FILE] [--settings --beta 0.01 ...]
    python benchmarks/memory.py attribution FOLDER [--cases 3] [--json FILE]

FOLDER is a checkpoint; with `random` in its place it is a small Qwen2.5-VL with random weights, made for the run. Every
case runs in a process of its own, on its accelerator if there is one. There the peaks are PyTorch's own count. On the
CPU they are the resident memory's high water mark, set back before each phase, less what the process had taken after
the same with the packaged student (its libraries) and what the tokenizers take. Turns are written at their greatest
length, all different, whatever the model would say: what it generates is thrown away. With `--tensors` they are what
PyTorch's profiler counts of tensors on the CPU, as its allocator does on an accelerator. `planned` is what iapo says
beforehand: for an attribution the tokens of its graph by what one takes, for a step `iapo plan`. `sweep` trains all
weights and LoRA, by IAPO with a live teacher of the student's own weights and by GRPO, and leaves out what is planned
above `--most` GiB; what FILE has of it already is not measured again. Seed 0.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from long_steps import CALL_TOKENS, NAMES, changes_of, planned, steps
from meter import GIB, Peak, TensorPeak
from rich.console import Console
from rich.table import Table

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
    for group, words, side in (
        (4, 0, 224),
        (2, 0, 224),
        (8, 0, 224),
        (4, 500, 224),
        (4, 1500, 224),
        (4, 0, 448),
        (4, 0, 896),
    )
]
ABOUT = 80
"""Tokens of a short prompt beside its image."""
SHORT = ["--prompt", "tiny", "--max_turn_tokens", "48", "--max_completion_length", "96", "--beta", "0"]
GRPO = ["--reward", "grpo", "--penalty_weight", "0", "--teacher", "none"]
LORA = ["--use_peft", "true"]
HIDDEN = ("phases", "text", "size")
SWEEP = {
    "all weights, IAPO": SHORT,
    "LoRA, IAPO": [*SHORT, *LORA],
    "all weights, GRPO": [*SHORT, *GRPO],
    "LoRA, GRPO": [*SHORT, *LORA, *GRPO],
}


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
    from iapo.planning.attributing import attribution_bytes
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
        turns=2,
        completion=CALL_TOKENS,
        rows=case["group"],
        generations=case["group"],
        micro=case["group"],
    )
    says, _ = attribution_bytes(
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
        "planned": says,
        "whole sequences": cost.graph * case["group"] * (prompt + CALL_TOKENS),
    }


def train(folder: str, case: dict[str, Any], words: list[str], tensors: bool) -> dict[str, Any]:
    """Measures an optimiser step of `iapo train` by its phases, and compares with the plan."""
    if tensors:
        peak: Peak = TensorPeak()
        return against_plan(*steps(folder, case, words, peak), peak)
    peak = Peak()
    # With the same settings, so that an adapter's library is there as well.
    steps("tiny-student", {"group": 2, "words": 0, "side": 112}, words, peak)
    from iapo.rollout.policy import load_processor

    before = peak.now()
    processor = load_processor(folder)
    tokenizer = 0 if peak.module else peak.now() - before
    del processor
    peak.reset()
    # The student's and the teacher's are no memory of a GPU.
    peak.base += 2 * tokenizer
    return against_plan(*steps(folder, case, words, peak), peak)


def against_plan(row: dict[str, Any], changes: list[str], peak: Peak) -> dict[str, Any]:
    """Sets each phase beside what is planned for it."""
    says = planned(row["size"], row["text"], changes, device())
    for phase in NAMES:
        if phase in peak.phases:
            row[phase], row[f"{phase} planned"] = peak.phases[phase], says[phase]
            row[f"{phase} seconds"] = round(peak.seconds[phase], 1)
    return row


def random_model(folder: Path, hidden: int = 256, layers: int = 4) -> str:
    """Writes the packaged student's folder with another, larger model of random weights in it."""
    from transformers import AutoConfig, AutoModelForImageTextToText

    from iapo.rollout.names import resolve
    from iapo.rollout.policy import load_processor

    config = AutoConfig.from_pretrained(resolve("tiny-student"))
    config.text_config.update({"hidden_size": hidden, "intermediate_size": 4 * hidden, "num_hidden_layers": layers})
    config.text_config.layer_types = ["full_attention"] * layers
    # Heads keep the units that the rotary sections need.
    config.text_config.num_attention_heads = hidden // (2 * sum(config.text_config.rope_parameters["mrope_section"]))
    config.vision_config.out_hidden_size = hidden
    AutoModelForImageTextToText.from_config(config).save_pretrained(folder)
    load_processor("tiny-student").save_pretrained(folder)
    return str(folder)


def measure(kind: str, folder: str, case: dict[str, Any], words: list[str], tensors: bool) -> dict[str, Any]:
    """Runs a case in a process of its own, and returns what it printed."""
    command = [sys.executable, __file__, kind, folder, "--child", json.dumps(case)]
    command += [*(["--tensors"] if tensors else []), "--settings", *words]
    # Freed memory goes back at once, so that the high water mark is that of what is in use.
    environment = {**os.environ, "TOKENIZERS_PARALLELISM": "false", "MALLOC_MMAP_THRESHOLD_": "262144"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise SystemExit(f"{case} failed:\n{done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def sweep(folder: str, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Measures all cases of all trainings, and yields the largest phase of each beside what is planned for it."""
    known = json.loads(options.json.read_text()) if options.json and options.json.exists() else []
    for name, words in SWEEP.items():
        for case in [options.case] if options.case else STEPS[: options.cases]:
            settings = [*words, *options.settings]
            changes = changes_of(folder, case, settings)
            most = max(planned((case["side"],) * 2, ABOUT + case["words"], changes, device()).values())
            if most > options.most * GIB:
                print(f"{name} {case} is planned with {most / GIB:.1f} GiB and left out", file=sys.stderr)
                continue
            same = {"training": name, **case}
            found = next((one for one in known if same.items() <= one.items()), None)
            if found is None:
                row = measure("train", folder, case, settings, options.tensors)
                sizes = {key: row[key] for key in ("prompt", "text", "size")}
                found = {**same, **sizes, "phases": {phase: row[phase] for phase in NAMES if phase in row}}
            yield compared(found, planned(found["size"], found["text"], changes, device()))


def compared(found: dict[str, Any], says: dict[str, int]) -> dict[str, Any]:
    """Sets what was measured against what is planned, the largest phase of each."""
    phases = found["phases"]
    worst = max(phases, key=lambda phase: phases[phase])
    whole = max(says[phase] for phase in phases)
    ratios = {f"/ {NAMES[phase]}": round(says[phase] / size, 2) for phase, size in phases.items()}
    return {**found, "phase": NAMES[worst], "peak": phases[worst], "planned": whole, **ratios}


def main() -> None:
    """Measures all cases and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=("attribution", "train", "sweep"))
    parser.add_argument("folder")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--most", type=float, default=20.0, help="GiB that a case of the sweep may be planned with")
    parser.add_argument("--tensors", action="store_true", help="count the bytes of a training's tensors on the CPU")
    parser.add_argument("--cases", type=int, help="only so many, the first ones")
    parser.add_argument("--case", type=json.loads, help="one case in place of the standing ones, as JSON")
    parser.add_argument("--child", type=json.loads, help=argparse.SUPPRESS)
    parser.add_argument("--settings", nargs=argparse.REMAINDER, default=[], help="further settings of the training")
    options = parser.parse_args()
    if options.child:
        run = attribution if options.kind == "attribution" else train
        more = () if options.kind == "attribution" else (options.settings, options.tensors)
        print(json.dumps(run(options.folder, options.child, *more)))
        return
    rows = []
    with tempfile.TemporaryDirectory() as made:
        folder = random_model(Path(made)) if options.folder == "random" else options.folder
        standing = (ATTRIBUTIONS if options.kind == "attribution" else STEPS)[: options.cases]
        cases = [options.case] if options.case else standing
        alone = (measure(options.kind, folder, case, options.settings, options.tensors) for case in cases)
        for row in sweep(folder, options) if options.kind == "sweep" else alone:
            rows.append(row)
            print(json.dumps(row), file=sys.stderr)
            if options.json:
                options.json.write_text(json.dumps(rows, indent=1) + "\n")
    table = Table(title="peak memory in GiB")
    names = [name for name in dict.fromkeys(name for row in rows for name in row) if name not in HIDDEN]
    for name in names:
        table.add_column(name.replace("_", " "), justify="right")
    for row in rows:
        values = [row.get(name) for name in names]
        table.add_row(*(f"{one / GIB:.2f}" if is_bytes(one) else "-" if one is None else str(one) for one in values))
    Console().print(table)


def is_bytes(value: Any) -> bool:
    """Whether a number is large enough to count bytes."""
    return isinstance(value, int) and value > 10**6


if __name__ == "__main__":
    main()
