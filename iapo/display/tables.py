"""Tables of saved evaluations for the terminal."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from rich.table import Table

from iapo.estimates import mean_difference
from iapo.runs import RunFolder

MEASURES = {
    "accuracy": "accuracy",
    "call_ratio": "call ratio",
    "call_success": "call success",
    "misuse": "misuse",
    "divergence": "mean divergence",
}
"""Columns of the comparison: key in `evaluation.json` -> heading."""


def estimate_text(estimate: Mapping[str, Any]) -> str:
    """Writes an estimate as `value [low, high]`, or a dash where nothing was counted."""
    if estimate["value"] is None:
        return "-"
    return f"{estimate['value']:.3f} [{estimate['low']:.3f}, {estimate['high']:.3f}]"


def comparison_table(folders: Mapping[str, RunFolder]) -> Table:
    """Makes a table of one row for the start and one a run, 95% intervals beside the values.

    Args:
        folders: Evaluated runs by name, all from one start and on the same held-out samples.
    """
    evaluations = {name: folder.read_evaluation() for name, folder in folders.items()}
    first = next(iter(evaluations.values()))
    settings = first["settings"]
    how = "greedy" if settings["temperature"] == 0 else f"sampled at temperature {settings['temperature']:g}"
    table = Table(title=f"{first['samples']} held-out charts, {how}; 95% intervals")
    table.add_column("")
    for heading in MEASURES.values():
        table.add_column(heading)
    rows = {"before": first["before"]} | {name: evaluation["after"] for name, evaluation in evaluations.items()}
    for name, row in rows.items():
        table.add_row(name, *(estimate_text(row[key]) for key in MEASURES))
    return table


def difference_lines(folders: Mapping[str, RunFolder]) -> list[str]:
    """Writes paired changes of accuracy, a line each: of runs against the start, of the others against the first."""
    evaluations = {name: folder.read_evaluation() for name, folder in folders.items()}
    lines = []
    for name, one in evaluations.items():
        lines.append(f"{name} - before, accuracy, paired: {estimate_text(one['after_minus_before']['outcome'])}")
    (first, reference), *others = ((name, one["outcomes"]["after"]) for name, one in evaluations.items())
    for name, outcomes in others:
        change = dataclasses.asdict(mean_difference(outcomes, reference))
        lines.append(f"{name} - {first}, accuracy, paired: {estimate_text(change)}")
    return lines


def evaluation_table(evaluation: Mapping[str, Any]) -> Table:
    """Makes a table of one row a test set and the average of the accuracies; 95% intervals beside the values."""
    settings = evaluation["settings"]
    generation = settings["endpoint"] or settings["generation"]
    how = "greedy" if generation["temperature"] == 0 else f"sampled at temperature {generation['temperature']:g}"
    tools = "with tools" if settings["tools"] else "without tools"
    times = "" if settings["repeats"] == 1 else f", {settings['repeats']} times each"
    table = Table(title=f"{evaluation['model']}, {tools}, {how}{times}; 95% intervals")
    measures = list(MEASURES)[:4]
    for heading in ("", "samples", *(MEASURES[key] for key in measures)):
        table.add_column(heading)
    for name, row in evaluation["sets"].items():
        table.add_row(name, str(row["samples"]), *(estimate_text(row[key]) for key in measures))
    if len(evaluation["sets"]) > 1:
        table.add_row("average", "", estimate_text(evaluation["average"]))
    return table
