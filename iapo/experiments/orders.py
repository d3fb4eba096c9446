"""What a run of some trials is told to do, and where it leaves what came of it."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iapo.experiments.processes import Job, count_lines
from iapo.results import EVALUATION, write_result
from iapo.storage import make_folder

if TYPE_CHECKING:
    from iapo.evaluation.plan import EvaluationPlan

JOB, TIMES = "job.json", "times.json"
"""What a run's folder holds: its orders, and how long its last process took."""

MEASURED, GREEDY = "evaluation", "evaluation-greedy"
"""The folders with a policy's evaluations, as the comparison asks for and greedy."""


def job_of(
    name: str,
    folder: Path,
    plan: EvaluationPlan,
    config: str | None,
    settings: Mapping[str, Any],
    steps: int,
    greedy: bool,
) -> Job:
    """Returns a process that trains, where there is a configuration, and evaluates.

    Args:
        name: Name in what is shown.
        folder: Folder of the run.
        plan: Plan of its evaluation.
        config: Configuration of its training; None where nothing is trained.
        settings: Settings of its training.
        steps: Number of steps of its training.
        greedy: Whether it is evaluated greedily, too.
    """
    rollouts = len(plan.sets) * plan.source.count * (plan.repeats + greedy)

    def command(threads: int) -> list[str]:
        order = {
            "threads": threads,
            "config": config,
            "settings": {**settings, "threads": threads},
            "plan": dataclasses.asdict(plan),
            "greedy": greedy,
        }
        make_folder(folder)
        write_result(folder / JOB, "job", order)
        return [sys.executable, "-m", "iapo.experiments.job", str(folder)]

    def done() -> int:
        logs = [folder / "metrics.jsonl", *(folder / name / "traces.jsonl" for name in (MEASURED, GREEDY))]
        return sum(map(count_lines, logs))

    return Job(
        name,
        command,
        log=folder / "log.txt",
        steps=steps + rollouts,
        done=done,
        phase=lambda count: "training" if count < steps else "evaluating",
    )


def is_measured(folder: Path, greedy: bool = False) -> bool:
    """Tells whether a run is done: evaluated as the comparison asks for, and greedily where that is asked for."""
    return all((folder / name / EVALUATION).exists() for name in ([MEASURED, GREEDY] if greedy else [MEASURED]))
