"""The table beside Table 1: what each policy does with its tools, sampled and greedy, over seeds and samples."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from rich.table import Table
from rich.text import Text

from iapo.estimates import Tally, over_seeds_and_samples
from iapo.results import SetMeasures

COLUMNS = {
    "accuracy": "accuracy",
    "accuracy_greedy": "accuracy, greedy",
    "call_ratio": "call ratio",
    "call_success": "call success",
    "misuse": "misuse",
    "misuse_greedy": "misuse, greedy",
}
"""Measures by their name in files, with their headings. Those without `greedy` are at the comparison's temperature."""

CallTallies = Mapping[str, Mapping[str, Tally]]
"""One run's tallies by measure, then by test set."""


def read_calls(sets: Mapping[str, SetMeasures], greedy: Mapping[str, SetMeasures] | None) -> CallTallies:
    """Returns the tallies of one run.

    Args:
        sets: The run's evaluation, by test set.
        greedy: The same policy's greedy evaluation on the same samples, where there is one.

    Returns:
        By measure, of `COLUMNS`; those that the evaluations do not tell are not there.
    """
    return _of(sets, ("accuracy", "call_ratio", "call_success", "misuse")) | {
        f"{name}_greedy": tallies for name, tallies in _of(greedy or {}, ("accuracy", "misuse")).items()
    }


def _of(sets: Mapping[str, SetMeasures], names: Sequence[str]) -> dict[str, Mapping[str, Tally]]:
    found: dict[str, Mapping[str, Tally]] = {}
    for name in names:
        known = {key: one.outcomes if name == "accuracy" else one.verdicts.get(name) for key, one in sets.items()}
        tallies = {key: _tally(values) for key, values in known.items() if values is not None}
        if tallies and len(tallies) == len(sets):
            found[name] = tallies
    return found


def _tally(values: Sequence[Sequence[float | bool | None]]) -> Tally:
    array = np.array([[np.nan if value is None else float(value) for value in one] for one in values])
    return Tally(np.nansum(array, 0), (~np.isnan(array)).sum(0).astype(np.float64))


def call_estimates(runs: Sequence[CallTallies], bases: Sequence[CallTallies] | None = None) -> dict[str, Any]:
    """Returns each measure's mean over runs of its unweighted mean over test sets, or the mean paired difference.

    Args:
        runs: The tallies of each run.
        bases: Bases of the differences, if those are asked for: the tallies of the same seeds.

    Returns:
        `value`, `low`, `high` and `count` by measure; a measure that some run does not tell is not there.
    """
    found = {}
    for name in COLUMNS:
        sides = [runs] if bases is None else [runs, bases]
        if not runs or not all(name in one for side in sides for one in side):
            continue
        keys = list(runs[0][name])
        tallies = [[[one[name][key] for key in keys] for one in side] for side in sides]
        estimate = over_seeds_and_samples(
            tallies[0], None if bases is None else tallies[1], least=0.0 if bases is None else -1.0, most=1.0
        )
        if estimate is not None:
            found[name] = dataclasses.asdict(estimate)
    return found


def calls_text(found: Mapping[str, Any]) -> Table:
    """Returns the table for a terminal, in percent."""
    table = Table(title=f"Calls in percent, 95% intervals over seeds and samples; differences to {found['reference']}")
    for heading in ["", *COLUMNS.values(), f"misuse - {found['reference']}"]:
        table.add_column(heading, overflow="fold")

    def cells(row: Mapping[str, Any]) -> list[str]:
        values = [row["calls"].get(name) for name in COLUMNS]
        change = (row["calls_difference"] or {}).get("misuse")
        return ["-" if one is None else percent(one) for one in values] + [
            "" if change is None else percent(change, "+")
        ]

    add_rows(table, found, cells)
    return table


def add_rows(table: Table, found: Mapping[str, Any], cells: Callable[[Mapping[str, Any]], Sequence[str]]) -> None:
    """Adds a line for each row, its name first, and a title over the rows of each group.

    Args:
        table: The table.
        found: What it shows, as `iapo.experiments.table_one.table_one`.
        cells: Gives a row's cells behind its name.
    """
    group = ""
    for row in found["rows"]:
        if row["group"] != group:
            group = row["group"]
            table.add_section()
            table.add_row(Text(group, style="italic"))
        table.add_row(row["name"], *cells(row))


def percent(one: Mapping[str, Any], sign: str = "") -> str:
    """Writes an estimate in percent as `value [low, high]`; `+` as the sign has positive numbers show theirs."""
    value, low, high = (f"{100 * one[end]:{sign}.1f}" for end in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


def calls_csv(found: Mapping[str, Any]) -> str:
    """Returns the table as CSV, one line a row and measure; shares, not percent."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    ends = ("value", "low", "high")
    writer.writerow(
        ["group", "row", "seeds", "measure", *(f"{what}{end}" for what in ("", "difference_") for end in ends)]
    )
    for row in found["rows"]:
        for name in COLUMNS:
            if (one := row["calls"].get(name)) is not None:
                other = (row["calls_difference"] or {}).get(name)
                cells = ["" if some is None else some[end] for some in (one, other) for end in ends]
                writer.writerow([row["group"], row["name"], row["seeds"], name, *cells])
    return file.getvalue()
