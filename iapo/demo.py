"""`iapo demo`: the same tiny student trained with GRPO and with IAPO, side by side, and compared."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from iapo.figures import plot_attribution, plot_training
from iapo.runs import RunFolder
from iapo.tables import comparison_table, difference_lines

METHODS = {"GRPO": "grpo", "IAPO": "iapo"}
"""The demo's runs: name in the table -> run folder; `demo-<folder>` is its packaged configuration."""

STEPS = 80
"""Optimiser steps of each run, as in the packaged configurations."""


def run_demo(out: Path | None, *, steps: int | None, seed: int) -> None:
    """Trains both runs, one process each, and prints the comparison.

    Args:
        out: Parent of the run folders; the first free of `runs/demo`, `runs/demo-2`, ... if None.
        steps: Optimiser steps of each run; the demo's own number if None.
        seed: Of data order, sampling and evaluation.

    Raises:
        ValueError: If `out` already holds runs, or `steps` is not positive.
        RuntimeError: If a run fails; the message ends with the last lines of its log.
    """
    if steps is not None and steps < 1:
        raise ValueError(f"steps is {steps}; give at least 1")
    parent = _parent(out)
    console = Console()
    console.print(f"Tiny student, tiny teacher, bar charts. Run folders: {parent}/{{{','.join(METHODS.values())}}}")
    started = time.perf_counter()
    folders = {name: RunFolder(parent / folder) for name, folder in METHODS.items()}
    _train(folders, STEPS if steps is None else steps, seed, custom=steps is not None)
    console.print(comparison_table(folders))
    for line in difference_lines(folders):
        console.print(line)
    for path in (
        plot_training(folders, parent / "training.png"),
        plot_attribution(folders, parent / "attribution.png"),
    ):
        console.print(f"Plot: {path}")
    console.print(f"Runs: {parent}  ({(time.perf_counter() - started) / 60:.1f} minutes)")


def _parent(out: Path | None) -> Path:
    if out is None:
        candidates = (Path("runs/demo" if number == 1 else f"runs/demo-{number}") for number in itertools.count(1))
        return next(path for path in candidates if not path.exists())
    taken = [out / folder for folder in METHODS.values() if (out / folder).exists()]
    if taken:
        raise ValueError(f"{taken[0]} already exists; choose another --out or remove it")
    return out


def _train(folders: dict[str, RunFolder], steps: int, seed: int, *, custom: bool) -> None:
    cores = os.cpu_count() or 1
    together = min(len(folders), cores)
    threads = max(1, cores // together)
    with Progress(
        TextColumn("{task.description:32s}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    ) as progress:
        tasks = {name: progress.add_task(f"{name}: waiting", total=steps) for name in folders}
        waiting = list(folders)
        running: dict[str, tuple[subprocess.Popen[bytes], IO[bytes]]] = {}
        try:
            while waiting or running:
                while waiting and len(running) < together:
                    name = waiting.pop(0)
                    running[name] = _start(folders[name].path, METHODS[name], steps if custom else None, seed, threads)
                for name, (process, log) in list(running.items()):
                    done = _steps_done(folders[name].path)
                    phase = "evaluating the start" if done == 0 else "training" if done < steps else "evaluating"
                    progress.update(tasks[name], completed=done, description=f"{name}: {phase}")
                    if process.poll() is not None:
                        log.close()
                        del running[name]
                        _check(name, process.returncode, folders[name].path / "log.txt")
                        progress.update(tasks[name], description=f"{name}: done")
                time.sleep(0.5)
        finally:
            for process, log in running.values():
                process.terminate()
                log.close()


def _start(
    folder: Path, method: str, steps: int | None, seed: int, threads: int
) -> tuple[subprocess.Popen[bytes], IO[bytes]]:
    command = [sys.executable, "-m", "iapo", "train", "--config", f"demo-{method}", "--output_dir", str(folder)]
    command += ["--threads", str(threads), "--seed", str(seed), "--eval_seed", str(seed)]
    command += ["--disable_tqdm", "true"]
    if steps is not None:
        command += ["--max_steps", str(steps)]
    # Thread pools that are sized for the whole machine slow each other down tenfold.
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false"}
    log = (folder / "log.txt").open("wb")
    return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment), log


def _steps_done(folder: Path) -> int:
    metrics = folder / "metrics.jsonl"
    return len(metrics.read_text().splitlines()) if metrics.exists() else 0


def _check(name: str, code: int, log: Path) -> None:
    if code != 0:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        raise RuntimeError(f"the {name} run ended with exit code {code}; the end of {log}:\n{tail}")
