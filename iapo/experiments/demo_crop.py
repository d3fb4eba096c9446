"""`iapo demo --world crop`: a student that reads what it crops, but crops the wrong panel, trained with GRPO."""

from __future__ import annotations

import itertools
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from iapo.data.formats.parquet import write_rows
from iapo.display.tables import training_table
from iapo.errors import InputError
from iapo.experiments.processes import Job, count_lines, run_jobs
from iapo.kinds import checks_kinds
from iapo.locks import hold_folder
from iapo.report.command import describe, write_report
from iapo.results import EVALUATION, create_result, read_result
from iapo.runs import RunFolder
from iapo.stopping import stoppable
from iapo.storage import make_folder, read_json, read_records
from iapo.studies.curves import plot_curves
from iapo.tiny.crop.pages import draw
from iapo.training.aside import remove_checkpoints
from iapo.training.ends import is_finished

STEPS = 80
"""Optimiser steps, as in the packaged configuration `demo-crop`."""

TRAINED_PAGES, HELD_OUT_PAGES = 512, 500
"""Pages that are written; of the latter as many as are asked for, if it is another number."""

DEMO = "demo.json"
"""In the demo's folder: what it was begun with."""


@checks_kinds
def run_crop_demo(
    out: Path | None, *, steps: int | None, seed: int, samples: int | None = None, scale: float = 1.0
) -> dict[str, Any]:
    """Draws the pages, makes the start, trains it, and prints what changed; goes on where an earlier call was stopped.

    Args:
        out: The folder; the first of `runs/demo-crop`, `runs/demo-crop-2`, ... whose run is not finished if None.
        steps: Optimiser steps; the demo's own number if None.
        seed: Seed of pages, weights, lessons, data order, sampling and evaluation.
        samples: Number of held-out pages; the demo's own number if None.
        scale: Factor on the steps of the start's lessons; below 1 for a quick trial.

    Returns:
        What the run's `evaluation.json` holds.

    Raises:
        InputError: If `out` already holds a finished run, or was begun with other settings.
        iapo.experiments.processes.JobError: If a process fails; the message ends with the last lines of its log.
        iapo.stopping.Stopped: If the process was asked to stop; the same call goes on.
    """
    pages = samples or HELD_OUT_PAGES
    chosen: dict[str, Any] = {"steps": steps or STEPS, "seed": seed, "samples": pages, "scale": scale}
    parent = _parent(out)
    console = Console()
    started = time.perf_counter()
    with stoppable(), hold_folder(parent):
        _begin(parent, chosen)
        folder = RunFolder(parent / "grpo")
        console.print(f"Tiny student, pages to crop. Start: {parent / 'start'}, run: {folder.path}", soft_wrap=True)
        _write_pages(parent / "data", pages, seed)
        run_jobs([_start_job(parent / "start", seed, scale)], 1)
        run_jobs([_training_job(parent, folder.path, chosen)], 1)
        remove_checkpoints(folder.path)
        evaluation = folder.read_evaluation()
        console.print(training_table(evaluation))
        for path in plot_curves({"GRPO": [folder]}, parent / "training", svg=False):
            console.print(f"Plot: {path}", soft_wrap=True)
        for line in describe(write_report([parent])):
            console.print(line, soft_wrap=True)
    console.print(f"Run: {folder.path}  ({(time.perf_counter() - started) / 60:.1f} minutes)", soft_wrap=True)
    console.print(f"Next: iapo report {parent} --open", soft_wrap=True)
    return read_json(folder.path / EVALUATION)


def _parent(out: Path | None) -> Path:
    if out is None:
        candidates = (
            Path("runs/demo-crop" if number == 1 else f"runs/demo-crop-{number}") for number in itertools.count(1)
        )
        return next(path for path in candidates if not is_finished(path / "grpo"))
    if out.is_file():
        raise InputError(f"{out} is a file; choose another --out")
    if is_finished(out / "grpo"):
        raise InputError(f"{out / 'grpo'} already holds a finished run; choose another --out or remove it")
    return out


def _begin(parent: Path, chosen: Mapping[str, Any]) -> None:
    """Writes down what the demo is begun with.

    Raises:
        InputError: If it was begun with something else, or the folder holds another demo's runs.
    """
    path = parent / DEMO
    if path.exists():
        found = read_result(path, "demo")
        if other := next((name for name in chosen if found.get(name) != chosen[name]), None):
            raise InputError(
                f"{parent} was begun with {other} {found.get(other)!r}, not {chosen[other]!r}; give the same or choose "
                "another --out"
            )
        return
    taken = [parent / name for name in ("data", "start", "grpo") if (parent / name).exists()]
    if taken:
        raise InputError(f"{taken[0]} already exists; choose another --out or remove it")
    create_result(path, "demo", {"world": "crop", **chosen})


def _write_pages(folder: Path, samples: int, seed: int) -> None:
    make_folder(folder)
    for split, count in (("train", TRAINED_PAGES), ("test", samples)):
        path = folder / f"{split}.parquet"
        if not path.exists():
            write_rows((page.sample for page in draw(count, seed=seed, split=split)), path)


def _start_job(folder: Path, seed: int, scale: float) -> Job:
    # Imported when all that can be refused is: it loads torch.
    from iapo.tiny.crop import start

    def command(threads: int) -> list[str]:
        given = json.dumps({"seed": seed, "scale": scale, "threads": threads})
        return [sys.executable, "-m", start.__name__, str(folder), given]

    def done() -> int:
        rows = list(read_records(folder / start.PROGRESS)) if (folder / start.PROGRESS).exists() else []
        return int(rows[-1]["done"]) if rows else 0

    log = folder.parent / "start.log"
    return Job("start", command, log=log, steps=start.steps(scale), done=done, phase=lambda _: "lessons")


def _training_job(parent: Path, folder: Path, chosen: Mapping[str, Any]) -> Job:
    steps = chosen["steps"]

    def command(threads: int) -> list[str]:
        words = [sys.executable, "-m", "iapo", "train", "--config", "demo-crop", "--model", str(parent / "start")]
        words += ["--data", str(parent / "data"), "--output_dir", str(folder), "--threads", str(threads)]
        words += ["--max_steps", str(steps), "--eval_samples", str(chosen["samples"]), "--seed", str(chosen["seed"])]
        return [*words, "--eval_seed", str(chosen["seed"]), "--disable_tqdm", "true"]

    return Job(
        "GRPO",
        command,
        log=folder / "log.txt",
        steps=steps,
        done=lambda: count_lines(folder / "metrics.jsonl"),
        phase=lambda done: "evaluating the start" if not done else "training" if done < steps else "evaluating",
    )
