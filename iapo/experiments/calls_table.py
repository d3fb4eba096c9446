"""The table beside Table 1: what each policy does with its tools, sampled and greedy; and how a row's number is made of
those of its runs.
"""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.table import Table
from rich.text import Text

from iapo.estimates import Tally, average, over_seeds_and_samples
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

STARRED = "*: one run, or equal runs; the interval is over samples and tells nothing about seeds"
"""What the star behind an interval means."""

Outcomes = Mapping[str, npt.NDArray[np.float64]]
"""One run's outcomes by test set; for each sample the mean over its repeats."""

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


def estimate_outcomes(runs: Sequence[Outcomes], *, shares: bool = True) -> dict[str, Any]:
    """Returns the mean over runs of the unweighted mean over test sets, with its interval.

    Args:
        runs: The outcomes of each run, or their paired differences.
        shares: Whether they are outcomes, and not differences.

    Returns:
        `value`, `low`, `high`, `count`, and `over`: `seeds and samples`, or `samples` where there is one run, or runs
        that do not differ.
    """
    tallies = [[Tally(one, np.ones(len(one))) for one in run.values()] for run in runs]
    if _differ(tallies):
        # A difference has tallies of its own: what it counts is already subtracted.
        found = over_seeds_and_samples(tallies, least=0.0 if shares else -1.0, most=1.0)
        assert found is not None
        return {**dataclasses.asdict(found), "over": "seeds and samples"}
    over_samples = average([[run[key].tolist() for run in runs] for key in runs[0]], shares=shares)
    return {**dataclasses.asdict(over_samples), "over": "samples"}


def _differ(runs: Sequence[Sequence[Tally]], bases: Sequence[Sequence[Tally]] | None = None) -> bool:
    """Tells whether the numbers of runs, or their differences, are not all the same; sets without trials have none."""
    sides = [runs] if bases is None else [runs, bases]
    places = [place for place in range(len(runs[0])) if all(one[place].counted.any() for side in sides for one in side)]
    if not places:
        return False
    means = np.array([[np.mean([one[place].share for place in places]) for one in side] for side in sides])
    # Differences of equal runs may be apart by what floats round off.
    return bool(np.ptp(means[0] if bases is None else means[0] - means[1]) > 1e-12)


def _outcomes(run: Mapping[str, Tally], base: Mapping[str, Tally] | None = None) -> Outcomes | None:
    """Returns the share of each sample, or its difference to a base's; None where some are not tried as often as
    others.
    """
    sides = [run] if base is None else [run, base]
    if any(not one.counted.all() or np.ptp(one.counted) for side in sides for one in side.values()):
        return None
    mine, *others = ({key: one.successes / one.counted for key, one in side.items()} for side in sides)
    return {key: one - others[0][key] for key, one in mine.items()} if others else mine


def call_estimates(runs: Sequence[CallTallies], bases: Sequence[CallTallies] | None = None) -> dict[str, Any]:
    """Returns each measure's mean over runs of its unweighted mean over test sets, or the mean paired difference.

    What all samples tell is estimated as Table 1 is; a measure that is about some of them, such as misuse, by the delta
    method also where it is over samples alone.

    Args:
        runs: The tallies of each run.
        bases: Bases of the differences, if those are asked for: the tallies of the same seeds.

    Returns:
        As `estimate_outcomes`, by measure; a measure that some run does not tell is not there.
    """
    found = {}
    for name in COLUMNS:
        sides = [runs] if bases is None else [runs, bases]
        if not runs or not all(name in one for side in sides for one in side):
            continue
        keys = list(runs[0][name])
        tallies = [[[one[name][key] for key in keys] for one in side] for side in sides]
        differ = _differ(*tallies)
        if not differ:
            pairs = [_outcomes(*(one[name] for one in both)) for both in zip(*sides, strict=True)]
            outcomes = [one for one in pairs if one is not None]
            if len(outcomes) == len(pairs):
                found[name] = estimate_outcomes(outcomes, shares=bases is None)
                continue
        estimate = over_seeds_and_samples(*tallies, least=0.0 if bases is None else -1.0, most=1.0)
        if estimate is not None:
            found[name] = {**dataclasses.asdict(estimate), "over": "seeds and samples" if differ else "samples"}
    return found


def calls_text(found: Mapping[str, Any]) -> Table:
    """Returns the table for a terminal, in percent."""
    table = Table(title=f"Calls in percent, 95% intervals; differences to {found['reference']}, paired by seed")
    for heading in ["", *COLUMNS.values(), f"misuse - {found['reference']}"]:
        table.add_column(heading, overflow="fold")

    def cells(row: Mapping[str, Any]) -> list[str]:
        values = [row["calls"].get(name) for name in COLUMNS]
        change = (row["calls_difference"] or {}).get("misuse")
        return ["-" if one is None else percent(one) for one in values] + [
            "" if change is None else percent(change, "+")
        ]

    add_rows(table, found, cells)
    shown = [
        one for row in found["rows"] for one in (*row["calls"].values(), (row["calls_difference"] or {}).get("misuse"))
    ]
    if any(one is not None and one["over"] == "samples" for one in shown):
        table.caption = STARRED
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
        # A name may have brackets.
        table.add_row(Text(row["name"]), *cells(row))


def percent(one: Mapping[str, Any], sign: str = "") -> str:
    """Writes an estimate in percent as `value [low, high]`, with a star where it is over samples alone; `+` as the sign
    has positive numbers show theirs.
    """
    value, low, high = (f"{100 * one[end]:{sign}.1f}" for end in ("value", "low", "high"))
    return f"{value} [{low}, {high}]" + ("*" if one["over"] == "samples" else "")


def calls_csv(found: Mapping[str, Any]) -> str:
    """Returns the table as CSV, one line a row and measure; shares, not percent."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    ends = ("value", "low", "high", "over")
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
