"""What `iapo study ablate` does: variants of one training with several seeds under equal budgets, in one table."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from iapo.display.terminal import say
from iapo.experiments.ablations import Ablation, check_variants, read_ablation
from iapo.experiments.calls_table import calls_text
from iapo.experiments.processes import Job, run_jobs
from iapo.experiments.shortfalls import shortfalls
from iapo.experiments.table_one import table_one, text_table, write_table
from iapo.experiments.trials import START, TEACHER, check_free, losses, read_lists, run_trials
from iapo.kinds import checks_kinds
from iapo.training.settings import Changes


@checks_kinds
def ablate(name: str, given: Mapping[str, Any], settings: Changes, out: Path, *, together: int) -> dict[str, Any]:
    """Runs `run_ablation` for the terminal: prints the table, where things lie, and what to type next.

    Args:
        name: A YAML file, or the name of a packaged one.
        given: Fields of `iapo.experiments.trials.Budget` and `groups` that replace the file's, unless None; lists have
            commas between.
        settings: Settings for all variants, which win over the file's own.
        out: Holds all runs.
        together: Number of runs at a time.

    Returns:
        As `run_ablation`.
    """
    changes = read_lists(given)
    groups = changes.pop("groups", None)
    ablation = read_ablation(name, changes, settings, groups)
    check_free(out)
    console = Console()
    found = run_ablation(ablation, out, together=together)
    console.print(text_table(found))
    console.print(calls_text(found))
    for line in (*losses(out), *shortfalls(out)):
        say(line)
    console.print(f"Table: {out}/ablation.txt, .csv, .tex, .json", soft_wrap=True)
    console.print(f"Next: iapo report {out} --open", soft_wrap=True)
    return found


@checks_kinds
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
        ablation: Ablation to run.
        out: Holds all; one folder a run, `GROUP/VARIANT/seed-SEED`.
        together: Number of runs at a time, two at most.
        run: Runs the jobs.

    Returns:
        What `ablation.json` holds: as `iapo.experiments.table_one.table_one`; a row that has the training of another
        row has its numbers.

    Raises:
        ValueError: If a variant cannot be, before anything runs, or the folder holds runs with other settings.
        iapo.experiments.processes.JobError: If a run fails; the finished ones are kept.
    """
    trials = check_variants(ablation)
    distinct = list({trial.name: trial for trial in trials.values()}.values())
    measured = run_trials(distinct, ablation.budget, out, together=together, run=run)
    rows = [measured[name] for name in (START, TEACHER) if name in measured]
    for variant in ablation.variants:
        row = measured[trials[variant.key].name]
        rows.append(dataclasses.replace(row, name=variant.name, group=ablation.titles[variant.group]))
    reference = next(one for one in ablation.variants if one.key == ablation.reference)
    found = table_one(rows, reference.name, ablation.titles[reference.group])
    write_table(found, out, "ablation")
    return found
