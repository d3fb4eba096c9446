"""The whole path on real shapes: stand-ins of Qwen2.5-VL-3B and -7B, charts of real size, three stages, report.

    python examples/real.py [--out runs/real] [--side 800] [--steps 2] [--lessons 40]

The checkpoints have the published tokenizer, chat format, limits and files, and random weights (`iapo tiny stand-in`);
settings are those of the packaged recipes but for batch sizes and lengths. So that the student calls tools at all, its
cold start learns a few transcripts by heart. Each stage is a command of `iapo`, printed as it runs, with its seconds.
The numbers that come out say that everything works, and nothing about the method.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console

from iapo.data.synthetic import generate
from iapo.records import save_png

CHARTS = 2
RECIPE = "qwen2.5-vl/chart"
SMALL = {
    "data": "none",
    "train_samples": CHARTS,
    "eval_samples": 0,
    "eval_split": "train",
    "bf16": "false",
    "optim": "adamw_torch",
    "dtype": "float32",
    "num_generations": 2,
    "per_device_train_batch_size": 4,
    "gradient_accumulation_steps": 1,
    "steps_per_generation": 1,
    "max_completion_length": 96,
    "max_turn_tokens": 64,
    "min_pixels": 3136,
    "save_strategy": "no",
    "trace_every": 1,
    "threads": 2,
    "disable_tqdm": "true",
}
"""What is smaller than in the recipes."""


def write_transcripts(folder: Path, side: int) -> Path:
    """Writes the charts that are trained on, each with a call of the right tool and the right answer."""
    folder.mkdir(parents=True)
    rows = []
    for family, axis in (("vbar", "columns"), ("hbar", "rows")):
        for number, chart in enumerate(generate(family, CHARTS // 2, seed=0, size=side, question_types=("value",))):
            boxes = chart.column_boxes if axis == "columns" else chart.row_boxes
            name = next(name for name in boxes if name in chart.question)
            save_png(chart.image, folder / f"{family}-{number}.png")
            call = f'display(focus_on_{axis}_with_draw(image_1, ["{name}"], {axis}_bbox))'
            rows.append(
                {
                    "id": chart.id,
                    "image": f"{family}-{number}.png",
                    "question": chart.question,
                    "answer": chart.answers[0],
                    "column_boxes": {key: list(box) for key, box in chart.column_boxes.items()},
                    "row_boxes": {key: list(box) for key, box in chart.row_boxes.items()},
                    "axis": axis,
                    "turns": [f"ACTION:\n```python\n{call}\n```", f"FINAL ANSWER: {chart.answers[0]}. TERMINATE"],
                }
            )
    path = folder / "train.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def flags(**settings: object) -> list[str]:
    """Returns settings as words of a command line."""
    return [word for name, value in settings.items() for word in (f"--{name}", str(value))]


def main() -> None:
    """Runs the stages in order; the first that fails ends it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/real"))
    parser.add_argument("--side", type=int, default=800, help="longer side of the charts in pixels")
    parser.add_argument("--steps", type=int, default=2, help="steps of each stage of reinforcement learning")
    parser.add_argument("--lessons", type=int, default=40, help="steps of the supervised cold start")
    parser.add_argument("--ranks", type=Path, help="qwen.tiktoken; the package dashscope's if not given")
    options = parser.parse_args()
    out = options.out
    if out.exists():
        raise SystemExit(f"{out} is there already; remove it or choose another --out")
    ranks = [] if options.ranks is None else ["--ranks", str(options.ranks)]
    data = write_transcripts(out / "charts", options.side)
    small = SMALL | {"data": data, "max_steps": options.steps}
    stages = {
        "student": ["tiny", "stand-in", "qwen2.5-vl-3b", "--out", str(out / "student-3b"), *ranks],
        "teacher": ["tiny", "stand-in", "qwen2.5-vl-7b", "--out", str(out / "teacher-7b"), *ranks],
        "doctor": [
            *("doctor", "--config", f"{RECIPE}/teacher,qwen2.5-vl/1x80-7b"),
            *flags(**small, model=out / "teacher-7b", output_dir=out / "doctor"),
        ],
        "1: the teacher, GRPO": [
            *("train", "--config", f"{RECIPE}/teacher,qwen2.5-vl/1x80-7b"),
            *flags(**small, model=out / "teacher-7b", output_dir=out / "teacher"),
        ],
        "2: the student's cold start": [
            *("sft", "--model", str(out / "student-3b"), "--transcripts", str(data)),
            *flags(output_dir=out / "cold-start", max_steps=options.lessons, per_device_train_batch_size=CHARTS),
            *flags(learning_rate=2e-3, lr_scheduler_type="constant", logging_steps=10, save_strategy="no", threads=2),
            *flags(gradient_checkpointing="false"),
        ],
        "3: IAPO, live teacher": [
            *("train", "--config", f"{RECIPE}/iapo-live,qwen2.5-vl/1x80-3b"),
            *flags(**small, model=out / "cold-start/policy", teacher=out / "teacher/policy", output_dir=out / "iapo"),
            *flags(temperature=0.5, teacher_dtype="float32", teacher_load_in_8bit="false"),
        ],
        "evaluation": [
            *(
                "evaluate",
                "--model",
                str(out / "iapo/policy"),
                "--sets",
                str(data),
                "--split",
                "train",
                "--samples",
                "0",
            ),
            *("--temperature", "0", "--max-turn-tokens", "64", "--out", str(out / "evaluation")),
        ],
        "attribution": ["attribute", str(out / "iapo"), "--max-turn-tokens", "64", "--out", str(out / "attribution")],
        "report": [
            *("report", str(out / "iapo"), str(out / "teacher"), str(out / "evaluation")),
            *("--out", str(out / "report.html")),
        ],
    }
    seconds = {}
    console = Console(soft_wrap=True, highlight=False, markup=False)
    for name, words in stages.items():
        console.print(f"\n== {name}\n$ iapo {shlex.join(words)}")
        started = time.perf_counter()
        done = subprocess.run([sys.executable, "-m", "iapo", *words], check=False)
        seconds[name] = time.perf_counter() - started
        if done.returncode:
            raise SystemExit(f"{name} ended with exit code {done.returncode}")
    console.print("\nSeconds: " + ", ".join(f"{name} {value:.0f}" for name, value in seconds.items()))
    console.print(f"All: {sum(seconds.values()):.0f} s. Everything lies in {out}")


if __name__ == "__main__":
    main()
