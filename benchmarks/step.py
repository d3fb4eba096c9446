"""Cost of a whole training step: TRL's own passes, ours, and IAPO with a live and with a stored teacher.

    python benchmarks/step.py [--steps 6] [--repeats 3] [--size 112] [--json FILE]

`trl` is our trainer with `share_prefix: false`: the same two-turn rollouts, but generation, log-probabilities and loss
are TRL's, row by row. `grpo` shares prefixes. `iapo-live` and `iapo-stored` add the penalty in its default form, with
the teacher's own calls, and `softmax-live` the form `softmax`, in which it explains the student's. Every variant runs
in a process of its own, one thread, variants interleaved; figures are medians over steps and repeats of CPU seconds,
without the first step, and the largest peak memory.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

VARIANTS = ("trl", "grpo", "iapo-live", "softmax-live", "iapo-stored")


def child(variant: str, steps: int, size: int, table: str) -> None:
    """Trains a few steps and prints one JSON line: CPU seconds of each step's parts, and the peak memory."""
    import torch

    from iapo import IAPOConfig, IAPOTrainer, load_policy, to_dataset
    from iapo.data.synthetic import generate

    torch.set_num_threads(1)
    parts: dict[str, list[float]] = {"step": [], "rollout": [], "update": []}

    class Timed(IAPOTrainer):
        def training_step(self, *args: Any, **kwargs: Any) -> Any:
            self.scored = 0.0
            start = time.process_time()
            loss = super().training_step(*args, **kwargs)
            parts["step"].append(time.process_time() - start)
            parts["update"].append(parts["step"][-1] - self.scored)
            return loss

        def _generate(self, *args: Any) -> Any:
            start = time.process_time()
            output = super()._generate(*args)
            parts["rollout"].append(time.process_time() - start)
            return output

        def _generate_and_score_completions(self, *args: Any) -> Any:
            start = time.process_time()
            output = super()._generate_and_score_completions(*args)
            self.scored = time.process_time() - start
            return output

    samples = [
        sample
        for family in ("vbar", "hbar")
        for sample in generate(family, 64, seed=0, size=size, question_types=("value",))
    ]
    penalty: dict[str, Any] = {"penalty_weight": 0.0}
    if variant.endswith("-live"):
        penalty = {"penalty_weight": 0.1, "teacher": "tiny-teacher"}
    if variant == "softmax-live":
        penalty["attribution_form"] = "softmax"
    if variant == "iapo-stored":
        penalty = {"penalty_weight": 0.1, "teacher_table": table}
    policy = load_policy("tiny-student")
    with tempfile.TemporaryDirectory() as out:
        trainer = Timed(
            policy.model,
            args=IAPOConfig(
                out,
                max_steps=steps + 1,
                per_device_train_batch_size=64,
                num_generations=8,
                max_completion_length=256,
                max_turn_tokens=24,
                learning_rate=1e-5,
                beta=0.01,
                share_prefix=variant != "trl",
                attribution_batch_size=64,
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
                logging_strategy="no",
                use_cpu=True,
                bf16=False,
                gradient_checkpointing=False,
                seed=0,
                **penalty,
            ),
            train_dataset=to_dataset(samples),
            processing_class=policy.processor,
        )
        trainer.train()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({**{name: values[1:] for name, values in parts.items()}, "peak_mib": peak}))


def main() -> None:
    """Runs the variants interleaved and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--size", type=int, default=112)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", choices=VARIANTS, help=argparse.SUPPRESS)
    parser.add_argument("--table", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.child, options.steps, options.size, options.table)
        return
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    found: dict[str, list[dict[str, Any]]] = {variant: [] for variant in VARIANTS}
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "teacher.parquet"
        attribute_teacher(table, options.size, environment)
        for _ in range(options.repeats):
            for variant in VARIANTS:
                command = [sys.executable, __file__, "--child", variant, "--steps", str(options.steps)]
                command += ["--size", str(options.size), "--table", str(table)]
                done = subprocess.run(command, capture_output=True, text=True, env=environment)
                if done.returncode:
                    raise SystemExit(f"{variant} failed:\n{done.stderr[-3000:]}")
                found[variant].append(json.loads(done.stdout.splitlines()[-1]))
    report(found, options.json)


def attribute_teacher(table: Path, size: int, environment: dict[str, str]) -> None:
    """Writes the stored teacher's table for the benchmark's charts."""
    command = [sys.executable, "-m", "iapo", "teacher", "attribute", "--config", "demo-iapo", "--out", str(table)]
    command += ["--train_samples", "128", "--charts_seed", "0", "--picture_size", str(size)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise SystemExit(f"iapo teacher attribute failed:\n{done.stderr[-3000:]}")


def report(found: dict[str, list[dict[str, Any]]], path: Path | None) -> None:
    """Prints medians and ratios, and writes them as JSON."""
    rows = []
    for variant, runs in found.items():
        row: dict[str, Any] = {"variant": variant}
        for part in ("rollout", "update", "step"):
            row[part] = statistics.median(value for run in runs for value in run[part])
        row["peak_mib"] = max(run["peak_mib"] for run in runs)
        rows.append(row)
    base = {row["variant"]: row for row in rows}
    table = Table(title="64 rollouts a step, groups of 8, one thread; CPU seconds")
    for heading in ("variant", "rollout", "update", "step", "step / trl", "step / grpo", "update / trl", "peak MiB"):
        table.add_column(heading)
    for row in rows:
        row["step_over_trl"] = row["step"] / base["trl"]["step"]
        row["step_over_grpo"] = row["step"] / base["grpo"]["step"]
        row["update_over_trl"] = row["update"] / base["trl"]["update"]
        numbers = ("rollout", "update", "step", "step_over_trl", "step_over_grpo", "update_over_trl")
        table.add_row(row["variant"], *(f"{row[name]:.2f}" for name in numbers), f"{row['peak_mib']:.0f}")
    Console().print(table)
    if path is not None:
        path.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
