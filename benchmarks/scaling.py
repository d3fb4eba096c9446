"""How a training step grows: time and peak memory against group size, prompt, image, distinct calls, ranks and teacher.

    python benchmarks/scaling.py [--quick] [--axes group,prompt] [--json FILE]

Student and teacher are Qwen2.5-VL of four layers of 128 units with random weights. Turns are written at their greatest
length whatever the model would say: what it generates is thrown away. One thing is changed at a time. One thread a
process; figures are of the second step and of rank 0: CPU seconds of its parts, and the peak of resident memory above
what the process held before the case's first step. `growth` is the exponent b of a fit of a x^b to the last three
points or fewer: 1 is linear. Seed 0.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

BASE = {"group": 8, "words": 100, "side": 112, "calls": 4, "layers": 4, "ranks": 1}
AXES: dict[str, tuple[str, tuple[int, ...]]] = {
    "group size": ("group", (8, 16, 32)),
    "prompt tokens": ("words", (100, 300, 900)),
    "image tokens": ("side", (112, 224, 448)),
    "distinct calls": ("calls", (2, 4, 8)),
    "teacher's layers": ("layers", (4, 8, 16)),
    "ranks": ("ranks", (1, 2)),
}
"""Title: what is changed, and to what. With --quick the first two."""

PARTS = ("rollout", "attribution", "update", "step")
CALL_TOKENS = 40
UNITS = 128


def policy(layers: int) -> Any:
    """A model of random weights, with the packaged student's processor and prompt."""
    import torch
    from transformers import AutoConfig, AutoModelForImageTextToText

    from iapo.rollout.names import resolve
    from iapo.rollout.policy import Policy, load_processor

    torch.manual_seed(layers)
    config = AutoConfig.from_pretrained(resolve("tiny-student"))
    config.text_config.update({"hidden_size": UNITS, "intermediate_size": 4 * UNITS, "num_hidden_layers": layers})
    config.text_config.layer_types = ["full_attention"] * layers
    # Heads keep the units that the rotary sections need.
    config.text_config.num_attention_heads = UNITS // (2 * sum(config.text_config.rope_parameters["mrope_section"]))
    config.text_config.num_key_value_heads = config.text_config.num_attention_heads
    config.text_config.max_position_embeddings = 8192
    config.vision_config.out_hidden_size = UNITS
    return Policy(AutoModelForImageTextToText.from_config(config).eval(), load_processor("tiny-student"))


def child(case: dict[str, int]) -> None:
    """Takes two steps of a case, and prints a line of JSON in rank 0."""
    import dataclasses

    import torch

    # A script that another program runs does not find its neighbours by itself.
    sys.path.insert(0, str(Path(__file__).parent))
    from meter import Peak

    from iapo import IAPOConfig, IAPOTrainer, to_dataset
    from iapo.data.synthetic import generate

    torch.set_num_threads(1)
    spent: dict[str, list[float]] = {name: [] for name in PARTS}
    sizes: dict[str, int] = {}
    peak = Peak()

    @contextmanager
    def timed(name: str) -> Iterator[None]:
        start = time.process_time()
        yield
        spent[name].append(time.process_time() - start)

    class Measured(IAPOTrainer):
        def training_step(self, *args: Any, **kwargs: Any) -> Any:
            self.scored = 0.0
            start = time.process_time()
            with peak.phase("step"):
                loss = super().training_step(*args, **kwargs)
            spent["step"].append(time.process_time() - start)
            spent["update"].append(spent["step"][-1] - self.scored)
            return loss

        def _generate_and_score_completions(self, *args: Any) -> Any:
            start = time.process_time()
            output = super()._generate_and_score_completions(*args)
            self.scored = time.process_time() - start
            return output

        def _generate(self, *args: Any) -> Any:
            with timed("rollout"):
                return super()._generate(*args)

        def _measure(self, *args: Any) -> Any:
            with timed("attribution"):
                return super()._measure(*args)

        def _generate_single_turn(self, prompt_ids: Any, *args: Any, **kwargs: Any) -> Any:
            super()._generate_single_turn(prompt_ids, *args, **kwargs)
            if not kwargs.get("has_tool_images"):
                sizes["prompt"] = len(prompt_ids[0])
                sizes["image"] = self.encoder.image_token_counts([self._batch.samples[0].image])[0]
                first = self.accelerator.process_index * len(prompt_ids)
                return [self._call((first + row) % case["calls"], row) for row in range(len(prompt_ids))], None
            answer = self.encoder.tokenizer("FINAL ANSWER: 1. TERMINATE")["input_ids"]
            return [[*answer, self.encoder.tokenizer.eos_token_id] for _ in prompt_ids], None

        def _call(self, number: int, row: int) -> list[int]:
            """The call of this number: a program, and words before it that are its own."""
            tokenizer, sample = self.encoder.tokenizer, self._batch.samples[row]
            name, axis = next(iter(sample.column_boxes or sample.row_boxes)), sample.axis
            text = f'```python\ndisplay(focus_on_{axis}_with_mask(image_1, ["{name}"], {axis}_bbox))\n```'
            ids = [*tokenizer(text)["input_ids"], tokenizer.eos_token_id]
            letters = tokenizer(" a b c d e f g h i j k l m n o p", add_special_tokens=False)["input_ids"]
            return [letters[number % len(letters)]] * (CALL_TOKENS - len(ids)) + ids

    ranks = int(os.environ.get("WORLD_SIZE", "1"))
    samples = [
        dataclasses.replace(one, question=one.question + " a" * case["words"])
        for one in generate("vbar", 4, seed=0, size=case["side"], question_types=("value",))
    ]
    student, teacher = policy(BASE["layers"]), policy(case["layers"])
    with tempfile.TemporaryDirectory() as out:
        trainer = Measured(
            student.model,
            args=IAPOConfig(
                out,
                max_steps=2,
                per_device_train_batch_size=case["group"] // ranks,
                num_generations=case["group"],
                max_completion_length=2 * CALL_TOKENS,
                max_turn_tokens=CALL_TOKENS,
                penalty_weight=0.1,
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
                logging_strategy="no",
                use_cpu=True,
                bf16=False,
                gradient_checkpointing=False,
                seed=0,
            ),
            train_dataset=to_dataset(samples),
            processing_class=student.processor,
            teacher=teacher,
            keep_run=False,
        )
        peak.reset()
        trainer.train()
    if trainer.is_world_process_zero():
        told = {name: values[-1] for name, values in spent.items()}
        print(json.dumps({**case, **sizes, **told, "peak": peak.phases["step"] / 2**20}))
    trainer.accelerator.wait_for_everyone()


def measure(cases: list[dict[str, int]]) -> list[dict[str, Any]]:
    """Runs cases of equally many ranks in processes of their own, and returns what they printed."""
    ranks = cases[0]["ranks"]
    start = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(ranks)] if ranks > 1 else []
    # Freed memory goes back at once, so that the high water mark is that of what is in use.
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "MALLOC_MMAP_THRESHOLD_": "262144",
    }
    command = [sys.executable, *start, __file__, "--child", json.dumps(cases)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise SystemExit(f"{cases} failed:\n{done.stderr[-3000:]}")
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{") and '"peak"' in line]


def growth(points: list[tuple[float, float]]) -> float:
    """Returns the exponent b of a x^b through the last three points or fewer."""
    logs = [(math.log(x), math.log(y)) for x, y in points[-3:] if x > 0 and y > 0]
    if len(logs) < 2:
        return math.nan
    slope: float = statistics.linear_regression(*zip(*logs, strict=True)).slope
    return slope


def main() -> None:
    """Measures all axes and prints a table for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two points an axis")
    parser.add_argument("--axes", default="", help="only those whose titles begin so, with commas between")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        import torch

        for case in options.child:
            child(case)
            gc.collect()
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            torch.distributed.destroy_process_group()
        return
    wanted = {
        title: [{**BASE, name: value} for value in (values[:2] if options.quick else values)]
        for title, (name, values) in AXES.items()
        if not options.axes or any(title.startswith(begin) for begin in options.axes.split(","))
    }
    every = {json.dumps(case): case for cases in wanted.values() for case in cases}
    known: dict[str, dict[str, Any]] = {}
    for ranks in sorted({case["ranks"] for case in every.values()}):
        keys = [key for key, case in every.items() if case["ranks"] == ranks]
        known.update(zip(keys, measure([every[key] for key in keys]), strict=True))
    console, told = Console(), {}
    for title, cases in wanted.items():
        name, rows = AXES[title][0], [known[json.dumps(case)] for case in cases]
        # The axis as it is felt: tokens, not words and pixels.
        felt = {"words": "prompt", "side": "image"}.get(name, name)
        told[title] = rows
        table = Table(title=f"{title} (of one step: CPU seconds; MiB)")
        for column in (title, *PARTS, "peak MiB"):
            table.add_column(column, justify="right")
        for row in rows:
            table.add_row(str(row[felt]), *(f"{row[part]:.2f}" for part in PARTS), f"{row['peak']:.0f}")
        fits = [growth([(row[felt], row[part]) for row in rows]) for part in (*PARTS, "peak")]
        table.add_row("growth", *(f"{fit:.2f}" for fit in fits), style="bold")
        console.print(table)
        if options.json:
            options.json.write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
