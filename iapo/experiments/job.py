"""One process of a comparison: trains as `job.json` says, goes on where it was stopped, and measures the policy."""

from __future__ import annotations

import dataclasses
import shutil
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
from iapo.experiments.parent import end_with_parent
from iapo.experiments.processes import count_lines
from iapo.experiments.trials import GREEDY, JOB, MEASURED, TIMES
from iapo.results import read_result, write_result
from iapo.rollout.load_settings import LoadSettings
from iapo.storage import parse_record, read_lines, write_lines
from iapo.training.run import run
from iapo.training.settings import parse

TRAINED = "trained"
"""A mark in a job's folder that training ended."""


def run_job(folder: Path) -> None:
    """Trains where training is asked for and not done, then evaluates.

    Args:
        folder: Holds `job.json` with `threads`, `plan` (an `EvaluationPlan` as a dict) and, to train, `config` and
            `settings` of `iapo train`; with `greedy`, the policy is measured a second time, greedily. The trained
            policy is in `policy/`, the evaluations are in `evaluation/` and `evaluation-greedy/`.
    """
    job = read_result(folder / JOB, "job")
    torch.set_num_threads(job["threads"])
    times: dict[str, float] = {}
    if job["config"] is not None and not (folder / TRAINED).exists():
        checkpoint = last_checkpoint(folder)
        before = checkpoint[1] if checkpoint else 0
        rewind(folder, before)
        resumed = {"resume_from_checkpoint": str(checkpoint[0])} if checkpoint else {}
        started = time.perf_counter()
        run(*parse(job["config"], {**job["settings"], **resumed}))
        steps = count_lines(folder / "metrics.jsonl") - before
        times |= {"training": time.perf_counter() - started, "steps": steps}
        (folder / TRAINED).touch()
        for old in folder.glob("checkpoint-*"):
            shutil.rmtree(old)
    started = time.perf_counter()
    plan = plan_from_json(job["plan"])
    run_evaluation(plan, folder / MEASURED)
    if job.get("greedy"):
        generation = dataclasses.replace(plan.generation, temperature=0.0)
        run_evaluation(dataclasses.replace(plan, generation=generation, repeats=1), folder / GREEDY)
    times["evaluation"] = time.perf_counter() - started
    write_result(folder / TIMES, "times", times)


def last_checkpoint(folder: Path) -> tuple[Path, int] | None:
    """Returns the latest whole checkpoint of a run and its step; None where there is none."""
    found = {int(path.name.rpartition("-")[2]): path for path in folder.glob("checkpoint-*")}
    # The trainer writes its state last.
    whole = [step for step, path in found.items() if (path / "trainer_state.json").exists()]
    return (found[max(whole)], max(whole)) if whole else None


def rewind(folder: Path, step: int) -> None:
    """Drops what a run logged after a step, so that going on from there logs nothing twice."""
    for name in ("metrics.jsonl", "traces.jsonl"):
        path = folder / name
        if not path.exists():
            continue
        lines, _ = read_lines(path)
        kept = [line for index, line in enumerate(lines) if parse_record(path, index, line)["step"] <= step]
        if kept:
            write_lines(path, kept)
        else:
            path.unlink()


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
    run_job(Path(sys.argv[1]))
