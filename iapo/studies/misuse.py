"""What `iapo study misuse` does: the case study of finished or running trainings from their checkpoints."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from transformers import ProcessorMixin

from iapo.checkpoint_names import numbered
from iapo.display.quiet import quiet_libraries
from iapo.display.tables import estimate_text
from iapo.errors import InputError
from iapo.estimates import Estimate
from iapo.kinds import checks_kinds
from iapo.records import Sample
from iapo.rollout.load_settings import LoadSettings, load_settings, placed
from iapo.rollout.policy import load_policy, load_processor, see_alike
from iapo.rollout.template import find_prompt
from iapo.runs import step_of
from iapo.storage import make_folder, read_records
from iapo.studies.case_study import FILE, MEASURES, CaseStudyFile, CaseStudyPlan, observe, summarize_case
from iapo.studies.folders import Run, common_folder, find_runs, run_prompt
from iapo.studies.misuse_figure import plot_misuse

ENDS = ("value", "low", "high", "count")


@checks_kinds
def study_misuse(
    words: Sequence[str],
    out: Path | None,
    changes: Mapping[str, Any],
    *,
    device: str | None,
    loading: Mapping[str, Any] | None = None,
) -> dict[str, dict[str, Any]]:
    """Runs `run_misuse` for the terminal: prints a table and where things lie.

    Args:
        words: Run folders (`iapo.studies.folders.find_runs`).
        out: Folder of `misuse.csv`, `.svg` and `.png`; the run's folder, or the runs' common one, if None.
        changes: Fields of `CaseStudyPlan` that replace the runs' own, unless None; `temperature` is its generation's,
            `prompt` a name or a file.
        device: Device of the policies; the CPU if None.
        loading: Loading settings by name that replace the runs' own, the teacher's with the prefix `teacher_`.

    Returns:
        As `run_misuse`.
    """
    runs = find_runs(words)
    out = common_folder(runs, out)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = Console()
    # One bar a policy is enough.
    with quiet_libraries(), Progress(*columns, console=Console(stderr=True), transient=True) as bar:

        def begin(what: str, total: int) -> Callable[[int], None]:
            task = bar.add_task(what, total=total)
            return lambda done: bar.advance(task, done)

        found = run_misuse(runs, changes, begin=begin, device=device, loading=loading)
    console.print(misuse_table(found))
    for path in write_misuse(found, out):
        console.print(str(path), soft_wrap=True)
    return found


@checks_kinds
def run_misuse(
    runs: Sequence[Run],
    changes: Mapping[str, Any],
    *,
    begin: Callable[[str, int], Callable[[int], None]] = lambda what, total: lambda done: None,
    device: str | None = None,
    loading: Mapping[str, Any] | None = None,
) -> dict[str, dict[str, Any]]:
    """Measures each run's start, checkpoints and final policy, where that is not done yet.

    Args:
        runs: The runs.
        changes: Changes as in `study_misuse`.
        begin: Callback, called with what is measured and the number of samples; what it returns is called with each
            number done.
        device: Device of the policies.
        loading: Loading settings as in `study_misuse`.

    Returns:
        What each run's `case-study.json` holds, by the run's label.

    Raises:
        InputError: If a run's images cannot be had, or its case study was made with other settings.
    """
    found: dict[str, dict[str, Any]] = {}
    levels: dict[str, Any] = {}
    for run in runs:
        plan = plan_of(run, changes)
        samples = plan.read_samples()
        settings = plan.to_json(samples)
        file = CaseStudyFile(run.path / FILE, settings)

        student, teacher = (placed(one, device) for one in run_loading(run, loading or {}))

        def measure(
            what: str,
            checkpoint: str,
            how: LoadSettings,
            view: ProcessorMixin | None = None,
            plan: CaseStudyPlan = plan,
            some: Sequence[Sample] = samples,
        ) -> Any:
            policy = load_policy(checkpoint, how)
            if view is not None:
                see_alike(policy.processor, view, how)
            return observe(policy, some, plan, progress=begin(what, len(some)))

        if file.data["teacher"] is None and plan.teacher is not None:
            # Runs on the same images share their teacher's level.
            key = json.dumps(settings)
            if key not in levels:
                view = load_processor(run_arguments(run)["model"], student)
                levels[key] = summarize_case(measure(f"teacher {plan.teacher}", plan.teacher, teacher, view))
            file.set_teacher(levels[key])
        for step, checkpoint in policies(run).items():
            if step not in file.steps:
                # The start alone may be on the hub.
                how = student if step == 0 else dataclasses.replace(student, model_revision=None)
                file.add(step, measure(f"{run.label}, step {step}", checkpoint, how))
        found[run.label] = file.data
    return found


def plan_of(run: Run, changes: Mapping[str, Any]) -> CaseStudyPlan:
    """Returns the run's own plan with changes; `data` and `families` exclude each other."""
    given = {name: value for name, value in changes.items() if value is not None}
    if "data" in given and "families" in given:
        raise InputError("data and families are both given; take one of them")
    if "prompt" in given:
        given["prompt"] = find_prompt(given["prompt"])
    plan = CaseStudyPlan.of_run(run_arguments(run), run.manifest.config["training"], run_prompt(run.path))
    if "temperature" in given:
        generation = dataclasses.replace(plan.generation, temperature=given.pop("temperature"))
        plan = dataclasses.replace(plan, generation=generation)
    if "data_damage" in given:
        given["leave_out_damage"] = given.pop("data_damage") == "quarantine"
    if "families" in given and plan.data is not None:
        given = {"split": "test", **given, "data": None}
    return dataclasses.replace(plan, **given)


def run_arguments(run: Run) -> dict[str, Any]:
    """Returns what a run of `iapo train` was trained and evaluated on.

    Raises:
        InputError: If it was trained from Python, which writes no such thing.
    """
    config = run.manifest.config
    if "run" not in config:
        raise InputError(f"{run.path} was trained from Python, so that its start and held-out samples are unknown")
    found: dict[str, Any] = config["run"]
    return found


def run_loading(run: Run, changes: Mapping[str, Any]) -> tuple[LoadSettings, LoadSettings]:
    """Returns how a run's student and its teacher are loaded: as its training did, but for changes.

    Args:
        run: The run.
        changes: Loading settings by name, the teacher's with the prefix `teacher_`.

    Raises:
        InputError: If they cannot be.
    """
    config = run.manifest.config
    student = load_settings({**run_arguments(run), **changes})
    asked = LoadSettings(min_pixels=student.min_pixels, max_pixels=student.max_pixels)
    return student, load_settings({**config["training"], **changes}, "teacher", asked)


def policies(run: Run) -> dict[int, str]:
    """Returns the run's policies by step: the start, whole checkpoints, and the final one where training has ended."""
    found = {0: str(run_arguments(run)["model"])}
    # The trainer writes its state last.
    found |= {step: str(path) for step, path in numbered(run.path).items() if (path / "trainer_state.json").exists()}
    if any((run.path / "policy" / name).exists() for name in ("config.json", "adapter_config.json")):
        path = run.path / "metrics.jsonl"
        logged = max((step_of(path, index, row) for index, row in enumerate(read_records(path))), default=0)
        found.setdefault(max(logged, *found), str(run.path / "policy"))
    return dict(sorted(found.items()))


def write_misuse(found: Mapping[str, Mapping[str, Any]], out: Path) -> list[Path]:
    """Writes `misuse.csv`, `misuse.svg` and `misuse.png`.

    Args:
        found: Case studies by label.
        out: The folder; created where it does not exist.
    """
    make_folder(out)
    return plot_misuse(found, out / "misuse", {out / "misuse.csv": misuse_csv(found)})


def misuse_csv(found: Mapping[str, Mapping[str, Any]]) -> str:
    """Returns one line a run, point and measure; the teacher's lines have no step."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["run", "policy", "step", "samples", "measure", *ENDS])
    for label, study in found.items():
        rows = [("student", point["step"], point["samples"], point) for point in study["points"]]
        if study["teacher"] is not None and study["points"]:
            rows.append(("teacher", "", study["points"][0]["samples"], study["teacher"]))
        for who, step, samples, values in rows:
            for name in MEASURES:
                one = values.get(name)
                writer.writerow([label, who, step, samples, name, *(("",) * 4 if one is None else map(one.get, ENDS))])
    return file.getvalue()


def misuse_table(found: Mapping[str, Mapping[str, Any]]) -> Table:
    """Returns one line a point for the terminal, with 95% intervals."""
    table = Table(title="Case study on clearly divisible pictures; 95% intervals")
    for heading in ("", "step", "samples", "misuse", "right tools", "wrong tools"):
        table.add_column(heading)
    for label, study in found.items():
        table.add_section()
        for point in study["points"]:
            values = (_text(point[name]) for name in MEASURES)
            table.add_row(label, str(point["step"]), str(point["samples"]), *values)
    levels: dict[str, str] = {}
    for label, study in found.items():
        if study["teacher"]:
            levels.setdefault(json.dumps(study["teacher"]), label)
    table.add_section()
    for level, label in levels.items():
        # Runs on the same images have the same level.
        values = (_text(json.loads(level)[name]) for name in MEASURES)
        table.add_row("teacher" if len(levels) == 1 else f"teacher of {label}", "", "", *values)
    return table


def _text(estimate: Mapping[str, Any] | None) -> str:
    return estimate_text(None if estimate is None else Estimate.from_json(estimate))
