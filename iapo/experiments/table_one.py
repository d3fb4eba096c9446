"""Tables of accuracy over seeds with intervals, and paired differences to a reference, as Table 1; text, CSV, LaTeX."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from iapo.errors import InputError, one_line
from iapo.experiments.calls_table import (
    STARRED,
    CallTallies,
    Outcomes,
    add_rows,
    call_estimates,
    calls_csv,
    calls_text,
    estimate_outcomes,
    percent,
    read_calls,
)
from iapo.experiments.paper import on_paper_sets, paper_average
from iapo.kinds import checks_kinds
from iapo.results import EVALUATION, SetsEvaluation, read_evaluation, write_result
from iapo.storage import write_text

AVERAGE = "average"
"""Name of the column with the unweighted mean of the test sets."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row's measurements.

    Attributes:
        name: Its name.
        runs: The outcomes of each run, by training seed; what is not trained here has the one seed None. None of what
            was measured greedily alone, beside rows that were sampled.
        data: SHA-256 of each test set.
        group: Title over its rows; empty in a table without groups.
        calls: Calls of each run, by its seed: the tallies of the other table (`iapo.experiments.calls_table`).
        notes: Sentences on how it was measured otherwise than the others, without their end.
    """

    name: str
    runs: Mapping[int | None, Outcomes]
    data: Mapping[str, str]
    group: str = ""
    calls: Mapping[int | None, CallTallies] = field(default_factory=dict)
    notes: Sequence[str] = ()


@checks_kinds
def read_row(name: str, folders: Sequence[Path], seeds: Sequence[int | None] = (None,), *, greedy: bool = True) -> Row:
    """Reads the evaluations of a row's runs.

    Args:
        name: Name of the row.
        folders: Folders of `iapo evaluate`, one a seed.
        seeds: The training seeds.
        greedy: Whether the greedy ones are read, too, that a comparison has beside them (`FOLDER-greedy`).

    Raises:
        InputError: If there are not as many folders as seeds, an evaluation is missing, or one is not on the same test
            sets as the first, or what is in the place of a greedy one is not on them or was sampled.
    """
    if not folders or len(folders) != len(seeds):
        raise InputError(f"row {name!r} has {len(folders)} folders for {len(seeds)} seeds; give one folder a seed")
    runs: dict[int | None, Outcomes] = {}
    calls: dict[int | None, CallTallies] = {}
    data: dict[str, str] = {}
    for folder, seed in zip(folders, seeds, strict=True):
        sets = read_sets_evaluation(folder).sets
        hashes = {key: one.data for key, one in sets.items()}
        if data and hashes != data:
            raise InputError(f"{folder} was evaluated on other samples than the runs before it")
        data = hashes
        runs[seed] = {key: np.asarray(one.outcomes, dtype=np.float64).mean(0) for key, one in sets.items()}
        beside, other = folder.with_name(f"{folder.name}-greedy"), None
        if greedy and (beside / EVALUATION).exists():
            other = read_sets_evaluation(beside)
            if {key: one.data for key, one in other.sets.items()} != hashes or other.temperature:
                raise InputError(
                    f"{beside} is not the greedy measurement of {folder}, as its name says: it has other samples, or "
                    "was sampled; move it elsewhere"
                )
        calls[seed] = read_calls(sets, None if other is None else other.sets)
    return Row(name, runs, data, calls=calls)


def read_sets_evaluation(folder: Path) -> SetsEvaluation:
    """Reads what an `iapo evaluate` wrote.

    Raises:
        InputError: If the folder holds no finished evaluation, or one of a training.
    """
    path = folder / EVALUATION
    if not path.exists():
        raise InputError(f"{folder} holds no finished evaluation; run iapo evaluate --out {folder} to its end")
    evaluation = read_evaluation(path)
    if not isinstance(evaluation, SetsEvaluation):
        raise InputError(f"{path} was not written by iapo evaluate; give one of its folders")
    return evaluation


@checks_kinds
def table_one(rows: Sequence[Row], reference: str, group: str = "") -> dict[str, Any]:
    """Returns the table as data.

    With two seeds or more an interval is over seeds and samples (`iapo.estimates.over_seeds_and_samples`): it says
    where the mean of many such trainings on many such samples may lie. With one run, or where the seeds do not differ
    at all, it is a bootstrap over samples, and says nothing about how trainings differ. `over` tells which.

    Args:
        rows: The rows, in order.
        reference: Name of the row that differences are taken to, seed by seed on the same samples.
        group: The group that this row is in.

    Returns:
        `sets`, `reference`, and `rows`, each with `group`, `name`, `seeds` (how many; 0 where nothing is trained),
        `accuracy` (None of a row that was measured greedily alone) and `difference` (None where there is no common
        seed, or the runs are the reference's own), both by test set and `average`, `paper` (the paper's average; None
        where it has no such row, or the test sets are not its six), `calls` and `calls_difference`
        (`iapo.experiments.calls_table`), and `notes` on rows that were measured otherwise.

    Raises:
        InputError: If the rows are not on the same samples, or the reference is none of them, or two.
    """
    if [(row.group, row.name) for row in rows].count((group, reference)) > 1:
        raise InputError(f"two rows are named {reference!r}, and differences are to that one; give one another name")
    for row in rows[1:]:
        if row.data != rows[0].data:
            raise InputError(f"row {row.name!r} has other test samples than {rows[0].name!r}; evaluate it on the same")
    base = next((row for row in rows if (row.name, row.group) == (reference, group)), None)
    if base is None:
        names = ", ".join(row.name for row in rows) or "none"
        raise InputError(f"the reference {reference!r} is none of the rows ({names}); name one of them")
    written = []
    paper = on_paper_sets(rows[0].data)
    for row in rows:
        seeds = sum(seed is not None for seed in row.runs)
        own = row.runs is base.runs
        common = [seed for seed in row.runs if seed in base.runs and seed is not None and not own]
        differences = [{key: row.runs[seed][key] - base.runs[seed][key] for key in row.data} for seed in common]
        written.append(
            {
                "group": row.group,
                "name": row.name,
                "seeds": seeds,
                "accuracy": _columns(list(row.runs.values())) if row.runs else None,
                "difference": _columns(differences, shares=False) if differences else None,
                "paper": paper_average(row.name) if paper else None,
                "calls": call_estimates(list(row.calls.values())),
                "calls_difference": call_estimates(*([one.calls[seed] for seed in common] for one in (row, base)))
                if common and all(seed in one.calls for one in (row, base) for seed in common)
                else None,
                "notes": list(row.notes),
            }
        )
    return {"sets": list(rows[0].data), "reference": reference, "rows": written}


def _columns(runs: Sequence[Outcomes], *, shares: bool = True) -> dict[str, dict[str, Any]]:
    columns = {key: estimate_outcomes([{key: run[key]} for run in runs], shares=shares) for key in runs[0]}
    return columns | {AVERAGE: estimate_outcomes(runs, shares=shares)}


def text_table(found: Mapping[str, Any]) -> Table:
    """Returns the table for a terminal, in percent."""
    title = f"Accuracy in percent, 95% intervals; differences to {found['reference']}, paired by seed"
    table = Table(title=title)
    headings = ["", "seeds", *_headings(found), f"average - {found['reference']}"]
    paper = on_paper_sets(found["sets"])
    for heading in [*headings, "average in the paper"] if paper else headings:
        table.add_column(Text(heading), overflow="fold")

    def cells(row: Mapping[str, Any]) -> list[str]:
        accuracies = ["-" if row["accuracy"] is None else percent(row["accuracy"][key]) for key in _headings(found)]
        difference = "" if row["difference"] is None else percent(row["difference"][AVERAGE], "+")
        theirs = row.get("paper")
        beside = ["-" if theirs is None else f"{100 * theirs:.1f}"] if paper else []
        return [str(row["seeds"] or "-"), *accuracies, difference, *beside]

    add_rows(table, found, cells)
    starred = [STARRED] if any(_over_samples(row) for row in found["rows"]) else []
    if lines := [*starred, *_notes(found)]:
        table.caption = Text("\n".join(lines))
    return table


def latex_table(found: Mapping[str, Any]) -> str:
    """Returns the table as a LaTeX `tabular`, which needs no package."""
    headings = _headings(found)
    paper = on_paper_sets(found["sets"])
    last = [f"$-$ {_escape(found['reference'])}", *(["paper"] if paper else [])]
    lines = [
        r"% Accuracy in percent with 95% intervals, and the paired difference to the reference.",
        *(f"% {note}." for note in _notes(found)),
        r"\begin{tabular}{lr" + "l" * (len(headings) + len(last)) + "}",
        r"\hline",
        " & ".join(["", "seeds", *map(_escape, headings), *last]) + r" \\",
        r"\hline",
    ]
    group = ""
    for row in found["rows"]:
        if row["group"] != group:
            group = row["group"]
            lines += [
                r"\hline",
                rf"\multicolumn{{{len(headings) + 2 + len(last)}}}{{l}}{{\emph{{{_escape(group)}}}}} \\",
            ]
        cells = [_escape(row["name"]), str(row["seeds"] or "--")]
        cells += ["--" if row["accuracy"] is None else _latex(row["accuracy"][key]) for key in headings]
        cells.append("" if row["difference"] is None else _latex(row["difference"][AVERAGE], "+"))
        if paper:
            cells.append("--" if row["paper"] is None else f"${100 * row['paper']:.1f}$")
        lines.append(" & ".join(cells) + r" \\")
    return "\n".join([*lines, r"\hline", r"\end{tabular}", ""])


def csv_table(found: Mapping[str, Any]) -> str:
    """Returns the table as CSV, one line a row and column; shares, not percent."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    ends = ("value", "low", "high", "over")
    grouped = any(row["group"] for row in found["rows"])
    heads = ["group", "row"] if grouped else ["row"]
    paper = on_paper_sets(found["sets"])
    writer.writerow(
        [
            *heads,
            "seeds",
            "set",
            *(f"{what}_{end}" for what in ("accuracy", "difference") for end in ends),
            *(["paper"] if paper else []),
        ]
    )
    for row in found["rows"]:
        for key in _headings(found):
            cells = ["" if row["accuracy"] is None else row["accuracy"][key][end] for end in ends]
            cells += ["" if row["difference"] is None else row["difference"][key][end] for end in ends]
            if paper:
                cells.append("" if key != AVERAGE or row["paper"] is None else row["paper"])
            writer.writerow(
                [*(row[head] for head in (["group", "name"] if grouped else ["name"])), row["seeds"], key, *cells]
            )
    return file.getvalue()


def write_table(found: Mapping[str, Any], folder: Path, name: str = "table1") -> None:
    """Writes `NAME.txt` (both tables), `NAME.csv`, `NAME-calls.csv`, `NAME.tex` and `NAME.json`."""
    console = Console(file=io.StringIO(), width=60 + 30 * (len(found["sets"]) + 2))
    console.print(text_table(found))
    console.print(calls_text(found))
    assert isinstance(console.file, io.StringIO)
    write_text(folder / f"{name}.txt", console.file.getvalue())
    write_text(folder / f"{name}.csv", csv_table(found))
    write_text(folder / f"{name}-calls.csv", calls_csv(found))
    write_text(folder / f"{name}.tex", latex_table(found))
    write_result(folder / f"{name}.json", "table", found)


def _headings(found: Mapping[str, Any]) -> list[str]:
    return [*found["sets"], AVERAGE]


def _over_samples(row: Mapping[str, Any]) -> bool:
    return any(one["over"] == "samples" for one in (row["accuracy"] or {}).values())


def _notes(found: Mapping[str, Any]) -> list[str]:
    return [one_line(note) for row in found["rows"] for note in row["notes"]]


def _latex(one: Mapping[str, Any], sign: str = "") -> str:
    value, _, interval = percent(one, sign).partition(" ")
    return f"${value}$ {{\\scriptsize {interval}}}"


def _escape(text: str) -> str:
    # A bracket behind the end of a line would be its argument.
    return "".join(f"\\{one}" if one in "_&%#${}" else "{[}" if one == "[" else one for one in text)
