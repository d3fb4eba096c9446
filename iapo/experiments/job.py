"""One process of a comparison: trains as `job.json` says, goes on where it was stopped, and measures the policy."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from iapo.data.sources import SourceSettings
from iapo.endpoints.chat import EndpointSettings
from iapo.evaluation.local import EvaluationSettings
from iapo.evaluation.plan import EvaluationPlan
from iapo.evaluation.run import run_evaluation
from iapo.experiments.endings import ending
from iapo.experiments.orders import GREEDY, JOB, MEASURED, TIMES
from iapo.experiments.parent import GRACE, end_with_parent
from iapo.experiments.processes import count_lines
from iapo.locks import hold_folder
from iapo.results import read_result, write_result
from iapo.rollout.load_settings import LoadSettings
from iapo.stopping import stoppable
from iapo.training.aside import remove_checkpoints
from iapo.training.checkpoints import last_whole
from iapo.training.ends import is_finished, trained_step
from iapo.training.run import run
from iapo.training.settings import parse

TRAINED = "trained"
"""A mark in a job's folder that training ended, as earlier versions wrote it."""

LINGERS = 2 * GRACE
"""Seconds that a process which an earlier comparison left behind has to end."""


def run_job(folder: Path) -> None:
    """Trains where training is asked for and not done, then evaluates; one that was stopped goes on.

    Args:
        folder: Holds `job.json` with `threads`, `plan` (an `EvaluationPlan` as a dict) and, to train, `config` and
            `settings` of `iapo train`; with `greedy`, the policy is measured a second time, greedily. The trained
            policy is in `policy/`, the evaluations are in `evaluation/` and `evaluation-greedy/`.
    """
    with stoppable(), hold_folder(folder, wait=LINGERS):
        _run(folder)


def _run(folder: Path) -> None:
    job = read_result(folder / JOB, "job")
    torch.set_num_threads(job["threads"])
    times: dict[str, float] = {}
    if job["config"] is not None and not (is_finished(folder) or (folder / TRAINED).exists()):
        whole, trained = last_whole(folder), trained_step(folder)
        started = time.perf_counter()
        run(*parse(job["config"], job["settings"]))
        steps = count_lines(folder / "metrics.jsonl") - (whole[1] if whole else 0)
        if trained is None:
            times |= {"training": time.perf_counter() - started, "steps": steps}
    if job["config"] is not None:
        remove_checkpoints(folder)
    started = time.perf_counter()
    plan = plan_from_json(job["plan"])
    run_evaluation(plan, folder / MEASURED)
    if job.get("greedy"):
        generation = dataclasses.replace(plan.generation, temperature=0.0)
        run_evaluation(dataclasses.replace(plan, generation=generation, repeats=1), folder / GREEDY)
    times["evaluation"] = time.perf_counter() - started
    write_result(folder / TIMES, "times", times)


def plan_from_json(data: Mapping[str, Any]) -> EvaluationPlan:
    """Returns the plan that `dataclasses.asdict` made a dict of."""
    return EvaluationPlan(
        **{
            **data,
            "sets": tuple(data["sets"]),
            "source": SourceSettings(**{**data["source"], "question_types": tuple(data["source"]["question_types"])}),
            "generation": EvaluationSettings(**data["generation"]),
            "loading": LoadSettings(**data["loading"]),
            "endpoint": None if data["endpoint"] is None else EndpointSettings(**data["endpoint"]),
        }
    )


if __name__ == "__main__":
    end_with_parent()
    with ending():
        run_job(Path(sys.argv[1]))
