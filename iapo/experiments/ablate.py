"""What `iapo study ablate` does: variants of one training with several seeds under equal budgets, in one table."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from iapo.experiments.ablations import Ablation, check_variants, read_ablation
from iapo.experiments.processes import Job, run_jobs
from iapo.experiments.table_one import table_one, text_table, write_table
from iapo.experiments.trials import START, TEACHER, read_lists, run_trials


def ablate(name: str, given: Mapping[str, Any], flags: Sequence[str], out: Path, *, together: int) -> None:
    """`run_ablation` for the terminal: prints the table and where things lie.

    Args:
        name: A YAML file, or the name of a packaged one.
        given: Fields of `iapo.experiments.trials.Budget` and `groups` that replace the file's, unless None; lists have
            commas between.
        flags: Settings for all variants, after the file's own.
        out: Holds all runs.
        together: How many runs at a time.
    """
    changes = read_lists(given)
    groups = changes.pop("groups", None)
    ablation = read_ablation(name, changes, flags, groups)
    console = Console()
    console.print(text_table(run_ablation(ablation, out, together=together)))
    console.print(f"Table: {out}/ablation.txt, .csv, .tex, .json", soft_wrap=True)


def run_ablation(
    ablation: Ablation,
    out: Path,
    *,
    together: int = 2,
    run: Callable[[Sequence[Job], int], None] = run_jobs,
) -> dict[str, Any]:
    """Runs what is not there yet (`iapo.experiments.trials.run_trials`), and writes `ablation.txt`, `.csv`, `.tex` and
    `.json`.

    Args:
        ablation: What is ablated.
        out: Holds all; one folder a run, `GROUP/VARIANT/seed-SEED`.
        together: How many runs at a time, two at most.
        run: Runs the jobs.

    Returns:
        What `ablation.json` holds: as `iapo.experiments.table_one.table_one`; a row that has the training of another
        row has its numbers.

    Raises:
        ValueError: If a variant cannot be, before anything runs, or the folder holds runs with other settings.
        iapo.experiments.processes.JobError: If a run fails; the finished ones are kept.
    """
    trials = check_variants(ablation)
    distinct = list(dict.fromkeys(trials.values()))
    measured = run_trials(distinct, ablation.budget, out, together=together, run=run)
    rows = [measured[name] for name in (START, TEACHER) if name in measured]
    for variant in ablation.variants:
        row = measured[trials[variant.key].name]
        rows.append(dataclasses.replace(row, name=variant.name, group=ablation.titles[variant.group]))
    reference = next(one for one in ablation.variants if one.key == ablation.reference)
    found = table_one(rows, reference.name, ablation.titles[reference.group])
    write_table(found, out, "ablation")
    return found
