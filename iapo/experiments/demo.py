"""`iapo demo`: the same tiny student trained with GRPO and with IAPO, side by side, and compared."""

from __future__ import annotations

import itertools
import os
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from iapo.display.figures import plot_attribution
from iapo.display.tables import comparison_table, difference_lines
from iapo.errors import InputError
from iapo.experiments.processes import Job, count_lines, run_jobs
from iapo.kinds import checks_kinds
from iapo.report.command import describe, write_report
from iapo.results import EVALUATION
from iapo.runs import RunFolder
from iapo.storage import read_json
from iapo.studies.curves import plot_curves

METHODS = {"GRPO": "grpo", "IAPO": "iapo"}
"""The demo's runs: name in the table -> run folder; `demo-<folder>` is its packaged configuration."""


@dataclass(frozen=True, slots=True)
class Control:
    """A further run, which shows what of IAPO's does the work: `demo-iapo` with other settings.

    Attributes:
        folder: Its run folder.
        settings: The settings.
    """

    folder: str
    settings: Mapping[str, str]


CONTROLS = {
    "distill": Control("distill", {"reward": "distill"}),
    "IAPO, student shuffled": Control("iapo-shuffled", {"alignment_control": "student_shuffled"}),
    "softmax": Control("softmax", {"attribution_form": "softmax"}),
    "softmax, student shuffled": Control(
        "softmax-shuffled", {"attribution_form": "softmax", "alignment_control": "student_shuffled"}
    ),
}
"""The runs that `--controls` adds: name in the table -> run."""

STEPS = 80
"""Optimiser steps of each run, as in the packaged configurations."""


@checks_kinds
def run_demo(
    out: Path | None, *, steps: int | None, seed: int, samples: int | None = None, controls: bool = False
) -> dict[str, Any]:
    """Trains the runs, one process each, and prints the comparison.

    Args:
        out: Parent of the run folders; the first free of `runs/demo`, `runs/demo-2`, ... if None.
        steps: Optimiser steps of each run; the demo's own number if None.
        seed: Seed of data order, sampling and evaluation.
        samples: Number of held-out charts; the demo's own number if None.
        controls: Whether the `CONTROLS` are trained, too.

    Returns:
        By run what its `evaluation.json` holds.

    Raises:
        InputError: If `out` already holds runs, or `steps` is not positive.
        iapo.experiments.processes.JobError: If a run fails; the message ends with the last lines of its log.
    """
    if steps is not None and steps < 1:
        raise InputError(f"steps is {steps}; give at least 1")
    chosen = METHODS | ({name: one.folder for name, one in CONTROLS.items()} if controls else {})
    parent = _parent(out, chosen.values())
    console = Console()
    console.print(f"Tiny student, tiny teacher, bar charts. Run folders: {parent}/{{{','.join(chosen.values())}}}")
    started = time.perf_counter()
    folders = {name: RunFolder(parent / folder) for name, folder in chosen.items()}
    count = STEPS if steps is None else steps
    changes = {
        "max_steps": steps,
        "eval_samples": samples,
        "seed": seed,
        "eval_seed": seed,
    }
    jobs = [_job(name, folder, count, changes) for name, folder in folders.items()]
    run_jobs(jobs, min(2, os.cpu_count() or 1))
    console.print(comparison_table(folders))
    for line in difference_lines(folders):
        console.print(line)
    for path in (
        *plot_curves({name: [folder] for name, folder in folders.items()}, parent / "training", svg=False),
        plot_attribution(folders, parent / "attribution"),
    ):
        console.print(f"Plot: {path}")
    for line in describe(write_report([parent])):
        console.print(line, soft_wrap=True)
    console.print(f"Runs: {parent}  ({(time.perf_counter() - started) / 60:.1f} minutes)", soft_wrap=True)
    console.print(f"Next: iapo report {parent} --open", soft_wrap=True)
    return {name: read_json(folder.path / EVALUATION) for name, folder in folders.items()}


def _parent(out: Path | None, chosen: Iterable[str]) -> Path:
    if out is None:
        candidates = (Path("runs/demo" if number == 1 else f"runs/demo-{number}") for number in itertools.count(1))
        return next(path for path in candidates if not path.exists())
    if out.is_file():
        raise InputError(f"{out} is a file; choose another --out")
    taken = [out / folder for folder in chosen if (out / folder).exists()]
    if taken:
        raise InputError(f"{taken[0]} already exists; choose another --out or remove it")
    return out


def _job(name: str, folder: RunFolder, steps: int, changes: Mapping[str, int | None]) -> Job:
    def command(threads: int) -> list[str]:
        words = [sys.executable, "-m", "iapo", "train", "--config", f"demo-{METHODS.get(name, 'iapo')}"]
        words += ["--output_dir", str(folder.path), "--threads", str(threads), "--disable_tqdm", "true"]
        settings = {**changes, **(CONTROLS[name].settings if name in CONTROLS else {})}
        given = [(f"--{setting}", str(value)) for setting, value in settings.items() if value is not None]
        return [*words, *itertools.chain.from_iterable(given)]

    return Job(
        name,
        command,
        log=folder.path / "log.txt",
        steps=steps,
        done=lambda: count_lines(folder.path / "metrics.jsonl"),
        phase=lambda done: "evaluating the start" if not done else "training" if done < steps else "evaluating",
    )
