"""What `iapo compare` does: methods x seeds from one start under equal budgets, and Table 1 of the results."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from iapo.display.terminal import say
from iapo.errors import InputError
from iapo.experiments.calls_table import calls_text
from iapo.experiments.further_rows import check_names, read_further_rows, split_rows
from iapo.experiments.processes import Job, run_jobs
from iapo.experiments.shortfalls import shortfalls
from iapo.experiments.table_one import table_one, text_table, write_table
from iapo.experiments.trials import (
    START,
    TAKEN,
    TEACHER,
    Budget,
    Trial,
    check_free,
    losses,
    once,
    read_lists,
    refuse_credentials,
    refuse_taken,
    run_trials,
    seconds_per_step,
)
from iapo.kinds import checks_kinds
from iapo.locks import hold_folder
from iapo.stopping import stoppable
from iapo.training.settings import Changes, check, check_reward, compared_rewards, reward_label, typed


@dataclass(frozen=True, slots=True)
class Comparison(Budget):
    """What is compared, beside what all runs share.

    Attributes:
        methods: Rewards, by name or reference (`iapo.rewards.presets.find_reward`).
        reference: The method that the others are compared with.
    """

    methods: tuple[str, ...] = field(default_factory=compared_rewards)
    reference: str = "grpo"

    def __post_init__(self) -> None:
        Budget.__post_init__(self)
        once("methods", [trial.name for trial in self.trials])
        for method in self.methods:
            check_reward(method, "method")
        if reward_label(self.reference) not in (names := [trial.name for trial in self.trials]):
            raise InputError(f"the reference {self.reference!r} is none of the methods {', '.join(names)}")
        refuse_taken(self.settings, (*TAKEN, "reward"))
        refuse_credentials(self.settings)

    @property
    def trials(self) -> list[Trial]:
        """The trainings: one a method."""
        return [Trial(reward_label(method), {"reward": method}) for method in self.methods]


COMPARISONS = {
    "smoke": Comparison(seeds=(0, 1), settings={"max_steps": 3}, samples=32),
    "full": Comparison(seeds=(0, 1, 2, 3, 4)),
}
"""By name: does every method run at all, and the comparison in the tiny world that says something."""


def describe(
    preset: str, given: Mapping[str, Any], settings: Changes, rows: Sequence[str]
) -> tuple[Comparison, dict[str, Path]]:
    """Returns the comparison that the command line's options describe, and its further rows.

    Args:
        preset: One of `COMPARISONS`.
        given: Fields of `Comparison` that replace the preset's, unless None; lists have commas between.
        settings: Settings for all runs, which win over the preset's own.
        rows: `NAME=FOLDER`.

    Raises:
        InputError: If an option cannot be.
    """
    if preset not in COMPARISONS:
        raise InputError(f"no comparison {preset!r}; use one of {', '.join(COMPARISONS)}")
    changes = read_lists(given)
    base = COMPARISONS[preset]
    more = split_rows(rows)
    comparison = dataclasses.replace(base, **changes, settings={**base.settings, **typed(settings)})
    check(comparison.config, comparison.settings)
    check_names(more, _own_names(comparison))
    for folder in more.values():
        if not (folder / "evaluation.json").exists():
            raise InputError(f"{folder} holds no finished iapo evaluate; give one as --row NAME=FOLDER")
    return comparison, more


def _own_names(comparison: Comparison) -> list[str]:
    """Returns the names of the rows that a comparison measures itself."""
    _, settings = check(comparison.config, comparison.settings)
    own = [START] if settings.get("teacher") is None else [START, TEACHER]
    return [*own, *(trial.name for trial in comparison.trials)]


@checks_kinds
def run_comparison(
    comparison: Comparison,
    out: Path,
    *,
    together: int = 2,
    more_rows: Mapping[str, Path] | None = None,
    run: Callable[[Sequence[Job], int], None] = run_jobs,
) -> dict[str, Any]:
    """Runs what is not there yet (`iapo.experiments.trials.run_trials`), and writes `table1.txt`, `.csv`, `.tex` and
    `.json`.

    Args:
        comparison: Comparison to run.
        out: Holds the comparison; one folder a run, `METHOD/seed-SEED`.
        together: Number of runs at a time, two at most.
        more_rows: Finished `iapo evaluate` folders on the same test sets by the name of their row
            (`iapo.experiments.further_rows`).
        run: Runs the jobs.

    Returns:
        What `table1.json` holds.

    Raises:
        InputError: If the folder holds a comparison with other settings, or a further row has other test sets, another
            temperature, or the name of another row.
        iapo.experiments.processes.JobError: If a run fails; the finished ones are kept.
    """
    check_free(out)
    check_names(more_rows or {}, _own_names(comparison))
    more = read_further_rows(more_rows or {}, comparison)
    with stoppable(), hold_folder(out):
        measured = run_trials(comparison.trials, comparison, out, together=together, run=run)
        rows = [measured[name] for name in (START, TEACHER) if name in measured]
        rows += more
        rows += [measured[trial.name] for trial in comparison.trials]
        found = table_one(rows, reward_label(comparison.reference))
        write_table(found, out)
    return found


@checks_kinds
def compare(comparison: Comparison, out: Path, *, together: int, more_rows: Mapping[str, Path]) -> dict[str, Any]:
    """Runs `run_comparison` for the terminal: prints the table, where things lie, and what to type next."""
    console = Console()
    found = run_comparison(comparison, out, together=together, more_rows=more_rows)
    console.print(text_table(found))
    console.print(calls_text(found))
    for line in (*losses(out), *shortfalls(out)):
        say(line)
    if steps := seconds_per_step(comparison.trials, comparison, out):
        console.print(
            "Seconds a step, loading included: " + ", ".join(f"{name} {value:.2f}" for name, value in steps.items())
        )
    console.print(f"Table: {out}/table1.txt, .csv, .tex, .json", soft_wrap=True)
    console.print(f"Next: iapo report {out} --open", soft_wrap=True)
    return found
