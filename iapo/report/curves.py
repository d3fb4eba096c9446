"""Curves over optimiser steps: one line a run, or the mean of the runs that differ in their seed alone, with a band."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from iapo.report.numbers import finite
from iapo.report.read import Run

CURVES = {
    "reward/outcome": ("Outcome", "share", "mean over rollouts"),
    "tools/misuse_rate": ("Misuse", "share", "of executed calls"),
    "tools/success_rate": ("Call success", "share", "executed, of the calls"),
    "tools/call_ratio": ("Call ratio", "share", "with a call, of all rollouts"),
    "attribution/divergence": ("Divergence", "nats", "from the teacher, in nats"),
    "attribution/lambda": ("Penalty weight \u03bb", "number", "of the divergence in the reward"),
}
"""Key in `metrics.jsonl` -> title, unit and subtitle of its chart."""

APART = frozenset({"seed", "data_seed", "output_dir", "logging_dir", "run_name", "threads"})
"""Settings in which runs of one group may differ."""


@dataclass(frozen=True, slots=True)
class Group:
    """Runs that are drawn as one line.

    Attributes:
        label: Its name.
        runs: The runs; several differ in their seed alone.
    """

    label: str
    runs: Sequence[Run]


def group_runs(runs: Sequence[Run]) -> list[Group]:
    """Puts trainings that differ in nothing but their seed together, in order of their first run."""
    by_config: dict[str, list[Run]] = {}
    for run in runs:
        if run.trained:
            by_config.setdefault(json.dumps(_without_seed(run.config), sort_keys=True), []).append(run)
    groups = list(by_config.values())
    methods = [group[0].method for group in groups]
    return [
        # A method that runs with two configurations is no name for either.
        Group(group[0].method if len(group) > 1 and methods.count(group[0].method) == 1 else group[0].name, group)
        for group in groups
    ]


def _without_seed(config: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _without_seed(value) if isinstance(value, dict) else value
        for key, value in config.items()
        if key not in APART
    }


def charts(groups: Sequence[Group]) -> list[dict[str, Any]]:
    """Collects the charts' data; a chart for which no run has a number is left out.

    Returns:
        For each chart `key`, `title`, `unit`, `about`, `steps` and `series`: per group `label`, `runs` (how many),
        `mean` and, of several runs, `low` and `high` (the lowest and the highest run), each a list with None where a
        run has no value.
    """
    found = []
    for key, (title, unit, about) in CURVES.items():
        steps = sorted({row["step"] for group in groups for run in group.runs for row in run.metrics if "step" in row})
        series = [line for group in groups if (line := _line(group, key, steps)) is not None]
        if series:
            chart = {"key": key, "title": title, "unit": unit, "about": about, "steps": steps, "series": series}
            found.append(chart)
    return found


def _line(group: Group, key: str, steps: Sequence[int]) -> dict[str, Any] | None:
    runs = [{row.get("step"): finite(row.get(key)) for row in run.metrics} for run in group.runs]
    # A run that has not begun would leave nothing of the others.
    columns = [[run.get(step) for step in steps] for run in runs if any(value is not None for value in run.values())]
    if not columns:
        return None
    together = [None if None in values else values for values in zip(*columns, strict=True)]
    line: dict[str, Any] = {
        "label": group.label,
        "runs": len(columns),
        "mean": [None if values is None else round(math.fsum(values) / len(values), 6) for values in together],
    }
    if len(columns) > 1:
        line["low"] = [None if values is None else round(min(values), 6) for values in together]
        line["high"] = [None if values is None else round(max(values), 6) for values in together]
    return line


def case_studies(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Collects what `case-study.json` of each run holds, in order of the steps, with the run's name."""
    return [
        {
            "run": run.name,
            "points": sorted(run.case_study.get("points", []), key=lambda point: point["step"]),
            "teacher": run.case_study.get("teacher"),
        }
        for run in runs
        if run.case_study is not None and run.case_study.get("points")
    ]
