"""What `iapo compare` does: methods x seeds from one start under equal budgets, and Table 1 of the results."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from iapo.compare_job import JOB, TIMES
from iapo.evaluate import EvaluationPlan, split_list
from iapo.evaluation import EvaluationSettings
from iapo.jobs import Job, count_lines, run_jobs
from iapo.rewards.presets import PRESETS as REWARDS
from iapo.table_one import Row, read_row, table_one, text_table, write_table
from iapo.tasks.sources import SourceSettings
from iapo.training import find_config, parse

TAKEN = ("--output_dir", "--seed", "--reward", "--resume_from_checkpoint", "--threads")
"""Settings of a training that a comparison sets itself."""

START, TEACHER = "start", "teacher"
"""Rows beside the methods, measured once: the policy that all runs start from, and the teacher."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """What is compared.

    Attributes:
        methods: Rewards by name (`iapo.rewards.presets.PRESETS`).
        seeds: Of the trainings; each method runs once with each.
        config: Configuration that all runs share: a YAML file, or the name of a packaged one.
        flags: More of its settings, as `iapo train` takes them, for all runs alike.
        sets: Test sets (`iapo.tasks.sources`).
        samples: How many of each.
        data_seed: Of synthetic test pictures.
        temperature: Of the evaluation; 0 is greedy.
        repeats: Rollouts of each test sample.
        reference: The method that the others are compared with.
    """

    methods: tuple[str, ...] = tuple(REWARDS)
    seeds: tuple[int, ...] = (0,)
    config: str = "compare"
    flags: tuple[str, ...] = ()
    sets: tuple[str, ...] = ("vbar", "hbar")
    samples: int = 500
    data_seed: int = 0
    temperature: float = 1.0
    repeats: int = 1
    reference: str = "grpo"

    def __post_init__(self) -> None:
        for what, some in (("methods", self.methods), ("seeds", self.seeds)):
            if not some or len(set(some)) < len(some):
                given = ", ".join(map(str, some)) or "none"
                raise ValueError(f"{what} are {given}; name each one once, and at least one")
        for method in self.methods:
            if method not in REWARDS:
                raise ValueError(f"no method {method!r}; use some of {', '.join(REWARDS)}")
        if self.reference not in self.methods:
            raise ValueError(f"the reference {self.reference!r} is none of the methods {', '.join(self.methods)}")
        for flag in self.flags:
            if flag.partition("=")[0] in TAKEN:
                raise ValueError(f"{flag} is set by the comparison itself; remove it")


COMPARISONS = {
    "smoke": Comparison(seeds=(0, 1), flags=("--max_steps", "3"), samples=32),
    "full": Comparison(seeds=(0, 1, 2, 3, 4)),
}
"""By name: does every method run at all, and the comparison in the tiny world that says something."""


def describe(
    preset: str, given: Mapping[str, Any], flags: Sequence[str], rows: Sequence[str]
) -> tuple[Comparison, dict[str, Path]]:
    """The comparison that the command line's options describe, and its further rows.

    Args:
        preset: One of `COMPARISONS`.
        given: Fields of `Comparison` that replace the preset's, unless None; lists have commas between.
        flags: Settings for all runs, after the preset's own.
        rows: `NAME=FOLDER`.

    Raises:
        ValueError: If an option cannot be.
    """
    if preset not in COMPARISONS:
        raise ValueError(f"no comparison {preset!r}; use one of {', '.join(COMPARISONS)}")
    changes = {name: value for name, value in given.items() if value is not None}
    for name in ("methods", "seeds", "sets"):
        if name in changes:
            changes[name] = split_list(changes[name])
    if "seeds" in changes:
        if not all(seed.isdigit() for seed in changes["seeds"]):
            raise ValueError(f"seeds are {', '.join(changes['seeds'])}; give whole numbers from 0")
        changes["seeds"] = tuple(map(int, changes["seeds"]))
    base = COMPARISONS[preset]
    more = dict(row.partition("=")[::2] for row in rows)
    if not all(more.values()):
        raise ValueError(f"a row is NAME=FOLDER, not {next(row for row in rows if not row.partition('=')[2])!r}")
    comparison = dataclasses.replace(base, **changes, flags=(*base.flags, *flags))
    return comparison, {name: Path(folder) for name, folder in more.items()}


def run_comparison(
    comparison: Comparison,
    out: Path,
    *,
    together: int = 2,
    more_rows: Mapping[str, Path] | None = None,
    run: Callable[[Sequence[Job], int], None] = run_jobs,
) -> dict[str, Any]:
    """Runs what is not there yet, and writes `table1.txt`, `.csv`, `.tex` and `.json`.

    A run is kept once it is evaluated; one that was stopped goes on from its last checkpoint, or starts again. Methods
    and seeds may be added to a comparison later; other settings need another folder.

    Args:
        comparison: What is compared.
        out: Holds the comparison; one folder a run, `METHOD/seed-SEED`.
        together: How many runs at a time, two at most, on one thread each where there are two cores.
        more_rows: Finished `iapo evaluate` folders on the same test sets by the name of their row.
        run: Runs the jobs.

    Returns:
        What `table1.json` holds.

    Raises:
        ValueError: If the folder holds a comparison with other settings, or a further row has other test sets.
        iapo.jobs.JobError: If a run fails; the finished ones are kept.
    """
    if together not in (1, 2):
        raise ValueError(f"together is {together}; run one or two at a time")
    arguments, settings = parse(comparison.config, comparison.flags)
    plan = EvaluationPlan(
        model=arguments.model,
        sets=comparison.sets,
        source=SourceSettings(
            comparison.samples,
            comparison.data_seed,
            size=arguments.picture_size,
            question_types=tuple(arguments.question_types),
        ),
        repeats=comparison.repeats,
        generation=EvaluationSettings(
            settings.max_turn_tokens or settings.max_completion_length,
            temperature=comparison.temperature,
            top_p=settings.top_p,
        ),
    )
    _remember(comparison, plan, out)
    jobs = [_job(START, out / START, plan, None, (), 0)]
    if settings.teacher is not None:
        teacher = dataclasses.replace(plan, model=settings.teacher)
        jobs.append(_job(TEACHER, out / TEACHER, teacher, None, (), 0))
    # Seed by seed, so that an unfinished comparison has whole seeds.
    for seed in comparison.seeds:
        for method in comparison.methods:
            folder = out / method / f"seed-{seed}"
            flags = (*comparison.flags, "--reward", method, "--seed", str(seed), "--output_dir", str(folder))
            trained = dataclasses.replace(plan, model=str(folder / "policy"))
            name = f"{method}, seed {seed}"
            jobs.append(_job(name, folder, trained, comparison.config, flags, settings.max_steps))
    run([job for job in jobs if not _finished(job.log.parent)], min(together, os.cpu_count() or 1))
    rows = [read_row(START, [out / START / "evaluation"])]
    if settings.teacher is not None:
        rows.append(read_row(TEACHER, [out / TEACHER / "evaluation"]))
    rows += [read_row(name, [folder]) for name, folder in (more_rows or {}).items()]
    for method in comparison.methods:
        folders = [out / method / f"seed-{seed}" / "evaluation" for seed in comparison.seeds]
        rows.append(read_row(method, folders, comparison.seeds))
    return _write(rows, comparison, out)


def seconds_per_step(comparison: Comparison, out: Path) -> dict[str, float]:
    """Each method's mean time of an optimiser step in seconds, loading of models and data included."""
    found: dict[str, float] = {}
    for method in comparison.methods:
        times = [
            json.loads(path.read_text())
            for seed in comparison.seeds
            if (path := out / method / f"seed-{seed}" / TIMES).exists()
        ]
        steps = sum(one.get("steps", 0) for one in times)
        if steps:
            found[method] = sum(one.get("training", 0) for one in times) / steps
    return found


def compare(comparison: Comparison, out: Path, *, together: int, more_rows: Mapping[str, Path]) -> None:
    """`run_comparison` for the terminal: prints the table and where things lie."""
    console = Console()
    found = run_comparison(comparison, out, together=together, more_rows=more_rows)
    console.print(text_table(found))
    if steps := seconds_per_step(comparison, out):
        console.print(
            "Seconds a step, loading included: " + ", ".join(f"{name} {value:.2f}" for name, value in steps.items())
        )
    console.print(f"Table: {out}/table1.txt, .csv, .tex, .json")


def _remember(comparison: Comparison, plan: EvaluationPlan, out: Path) -> None:
    text = find_config(comparison.config).read_text()
    now = {
        "flags": list(comparison.flags),
        "config": comparison.config,
        "config_sha256": hashlib.sha256(text.encode()).hexdigest(),
        "plan": json.loads(json.dumps(dataclasses.asdict(plan))),
    }
    path = out / "comparison.json"
    if path.exists():
        found = json.loads(path.read_text())
        differing = [name for name in now if found.get(name) != now[name]]
        if differing:
            raise ValueError(f"{out} holds a comparison with another {differing[0]}; choose another --out")
    elif out.exists() and any(out.iterdir()):
        raise ValueError(f"{out} is not empty and holds no comparison; choose another --out")
    else:
        out.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(now, indent=2) + "\n")


def _job(name: str, folder: Path, plan: EvaluationPlan, config: str | None, flags: Sequence[str], steps: int) -> Job:
    rollouts = len(plan.sets) * plan.source.count * plan.repeats

    def command(threads: int) -> list[str]:
        order = {
            "threads": threads,
            "config": config,
            "flags": [*flags, "--threads", str(threads)],
            "plan": dataclasses.asdict(plan),
        }
        folder.mkdir(parents=True, exist_ok=True)
        (folder / JOB).write_text(json.dumps(order, indent=2) + "\n")
        return [sys.executable, "-m", "iapo.compare_job", str(folder)]

    def done() -> int:
        return count_lines(folder / "metrics.jsonl") + count_lines(folder / "evaluation" / "traces.jsonl")

    return Job(
        name,
        command,
        log=folder / "log.txt",
        steps=steps + rollouts,
        done=done,
        phase=lambda count: "training" if count < steps else "evaluating",
    )


def _finished(folder: Path) -> bool:
    return (folder / "evaluation" / "evaluation.json").exists()


def _write(rows: Sequence[Row], comparison: Comparison, out: Path) -> dict[str, Any]:
    found = table_one(rows, comparison.reference)
    write_table(found, out)
    return found
