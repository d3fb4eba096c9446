"""Stands for the processes of a comparison."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from iapo.experiments.processes import Job, JobError


class Pretended:
    """Stands for the processes: writes an evaluation, and keeps what each was told.

    Args:
        hashes: Hashes of the test sets; their names stand for those that are not there.
        fail_at: Number of jobs after which one fails.
    """

    def __init__(self, hashes: Mapping[str, str] | None = None, fail_at: int | None = None) -> None:
        self.hashes = hashes or {}
        self.orders: dict[str, dict[str, Any]] = {}
        self.fail_at = fail_at

    def __call__(self, jobs: Sequence[Job], together: int) -> None:
        for job in jobs:
            if len(self.orders) == self.fail_at:
                raise JobError("stopped")
            job.command(1)
            folder = job.log.parent
            order = json.loads((folder / "job.json").read_text())
            self.orders[job.name] = order
            good = "iapo" in str(folder.parent.name)
            one = {"outcomes": [[1.0, float(good)]], "verdicts": {"misuse": [[not good, None]]}}
            sets = {name: {"data": self.hashes.get(name, name)} | one for name in order["plan"]["sets"]}
            for name in ["evaluation", "evaluation-greedy"] if order["greedy"] else ["evaluation"]:
                (folder / name).mkdir(parents=True)
                (folder / name / "evaluation.json").write_text(json.dumps({"sets": sets}))
            (folder / "times.json").write_text(json.dumps({"training": 6.0, "steps": 3, "evaluation": 1.0}))
