"""A training step at real size in one call: GRPO and IAPO with a stored and a live teacher, all weights and LoRA.

    python benchmarks/gpu.py [--size full] [--group 8] [--side 800] [--turn 128] [--vllm] [--fsdp2 N] [--json FILE]

Student and teacher are stand-ins of Qwen2.5-VL-3B and -7B with random weights (`iapo tiny stand-in`), made for the
run: of the published shape (`full`) where there is a GPU, else `tiny`. Each variant is two steps of `iapo train`, one
variant after the other; the second step is counted. Turns have their greatest length, the first ends in a call, all
are different. `--vllm` has vLLM write them in the training's process; `--fsdp2 N` keeps the student's parameters under
FSDP2 in N processes, each with a group of rollouts (on the CPU 2 or more). The stored teacher is a table that is
looked up at no cost. Seconds are of the wall clock, peaks those of the allocator of a GPU, or of the process on the
CPU; both are the first process's. `/ grpo` is the step to that of GRPO with the same weights. Seed 0.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

from long_steps import steps
from meter import GIB, Peak
from rich.console import Console
from rich.table import Table

TRAINED = {"all weights": [], "LoRA": ["--use_peft", "true", "--lora_r", "16"]}
METHODS = ("grpo", "iapo, stored", "iapo, live")
PHASES = ("rollout", "attribution", "reference", "update", "optimizer")


def child(trained: str, method: str, student: str, teacher: str, options: argparse.Namespace) -> dict[str, Any]:
    """Trains two steps of a variant."""
    import torch

    from iapo.training import run as run_module

    class Stored:
        """A teacher's distributions as a table gives them: the same for every call."""

        per_sample = True

        def distributions(self, rollouts: Any) -> torch.Tensor:
            blocks = len(rollouts[0].prompt.block_names)
            return torch.full((len(rollouts), blocks), 1 / blocks)

    cuda = torch.cuda.is_available()
    words = []
    if options.fsdp2 and not cuda:
        # Accelerate shards on accelerators alone, by the device's type.
        sharding().allow()
        words = ["--use_cpu", "true"]
    words += ["--teacher", "none" if method == "grpo" else teacher, "--reward", method.partition(",")[0]]
    words += ["--dtype", "bfloat16" if cuda else "float32", "--teacher_dtype", "bfloat16" if cuda else "float32"]
    words += ["--max_turn_tokens", str(options.turn), "--max_completion_length", str(2 * options.turn)]
    words += ["--beta", "0.01", "--prompt", "tools", *TRAINED[trained]]
    words += [] if method != "grpo" else ["--penalty_weight", "0"]
    if options.vllm:
        # The turns that count are not those that it wrote, whose probabilities it knows.
        words += ["--use_vllm", "true", "--vllm_mode", "colocate", "--vllm_importance_sampling_correction", "false"]
        words += ["--vllm_gpu_memory_utilization", str(options.vllm_memory)]
    peak = Peak()
    given = mock.patch.object(run_module, "make_teacher", return_value=(None, Stored()))
    with given if method == "iapo, stored" else mock.MagicMock():
        row, _ = steps(student, {"group": options.group, "words": 0, "side": options.side}, words, peak, every=True)
    seconds = {name: peak.seconds.get(name, 0.0) for name in PHASES}
    tokens = max(options.fsdp2, 1) * options.group * (row["prompt"] + row["completion"])
    return {
        "trained": trained,
        "method": method,
        "device": torch.cuda.get_device_name() if cuda else "CPU",
        "engine": f"{row['engine']}{', vLLM' if options.vllm else ''}",
        "prompt": row["prompt"],
        **seconds,
        "step": sum(seconds.values()),
        "tokens a second": tokens / sum(seconds.values()),
        "peak": max(peak.phases.values()),
    }


def sharding() -> Any:
    """Returns the module of the tests that has FSDP2's settings, and lets Accelerate shard on a CPU."""
    sys.path.append(str(Path(__file__).parents[1] / "tests/training"))
    return importlib.import_module("sharded_on_cpu")


def make(folder: Path, size: str, ranks: Path | None) -> tuple[str, str]:
    """Writes student and teacher."""
    from iapo.standins.folder import make_stand_in

    for name in ("qwen2.5-vl-3b", "qwen2.5-vl-7b"):
        make_stand_in(name, folder / name, size=size, ranks=ranks)  # type: ignore[arg-type]
    return str(folder / "qwen2.5-vl-3b"), str(folder / "qwen2.5-vl-7b")


def main() -> None:
    """Runs all variants, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=("tiny", "wide", "full"), help="full on a GPU, else tiny")
    parser.add_argument("--group", type=int, default=8, help="rollouts of the one prompt of a step")
    parser.add_argument("--side", type=int, default=800, help="side of the square image in pixels")
    parser.add_argument("--turn", type=int, default=128, help="tokens of a turn")
    parser.add_argument("--vllm", action="store_true", help="turns are written by vLLM, in the same process")
    parser.add_argument("--vllm-memory", type=float, default=0.3, help="vLLM's share of a GPU's memory")
    parser.add_argument("--fsdp2", type=int, default=0, metavar="N", help="parameters in N processes' shards")
    parser.add_argument("--ranks", type=Path, help="qwen.tiktoken; the package dashscope's if not given")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        row = child(*options.child, options)
        if os.environ.get("RANK", "0") == "0":
            print(json.dumps(row), flush=True)
        return
    import torch

    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as made:
        folders = make(Path(made), options.size or ("full" if torch.cuda.is_available() else "tiny"), options.ranks)
        for trained in TRAINED:
            for method in METHODS:
                given = ("group", "side", "turn", "vllm_memory", "fsdp2")
                words = [f"--{name.replace('_', '-')}={vars(options)[name]}" for name in given]
                words += ["--vllm"] if options.vllm else []
                launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(options.fsdp2)]
                program = [__file__, *words, "--child", trained, method, *folders]
                command = [sys.executable, *(launch if options.fsdp2 else []), *program]
                more = sharding().FSDP2 if options.fsdp2 else {}
                done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **more})
                if done.returncode:
                    # What does not fit into a device is a result, too.
                    lines = done.stderr.strip().splitlines()
                    # A launcher's own lines come after those that say why.
                    why = next((line for line in lines if "Error: " in line), lines[-1])
                    print(f"{trained}, {method} failed: {why}", file=sys.stderr)
                    continue
                rows.append(json.loads(done.stdout.splitlines()[-1]))
                print(json.dumps(rows[-1]), file=sys.stderr)
                if options.json:
                    options.json.write_text(json.dumps(rows, indent=1) + "\n")
    report(rows, options)


def report(rows: list[dict[str, Any]], options: argparse.Namespace) -> None:
    """Prints the table."""
    if not rows:
        raise SystemExit("no variant ran")
    where = f"{rows[0]['device']} ({rows[0]['engine']})"
    title = f"{where}: {options.group} rollouts, prompt of {rows[0]['prompt']} tokens; seconds of a step"
    table = Table(title=title)
    for name in ("trained", "method", *PHASES, "step", "/ grpo", "tokens / s", "peak GiB"):
        table.add_column(name)
    grpo = {row["trained"]: row["step"] for row in rows if row["method"] == "grpo"}
    for row in rows:
        ratio = f"{row['step'] / grpo[row['trained']]:.2f}" if row["trained"] in grpo else "-"
        cells = [f"{row[name]:.1f}" for name in (*PHASES, "step")]
        table.add_row(
            row["trained"], row["method"], *cells, ratio, f"{row['tokens a second']:.0f}", f"{row['peak'] / GIB:.1f}"
        )
    Console().print(table)


if __name__ == "__main__":
    main()
