"""Trainings of several kinds with several seeds from one start, under equal budgets: run, resumed, measured alike."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iapo.bounds import COUNT, HEAT, SEED, check_number, check_repeats, check_seeds, read_seeds, split_list
from iapo.data.sources import SourceSettings
from iapo.endpoints.address import hide_credentials, holds_credentials
from iapo.errors import InputError
from iapo.experiments.orders import MEASURED, TIMES, is_measured, job_of
from iapo.experiments.processes import Job, run_jobs
from iapo.experiments.table_one import Row, read_row
from iapo.kinds import check_kinds
from iapo.locks import LOCK, hold_folder
from iapo.results import (
    EVALUATION,
    MANIFEST,
    SetsEvaluation,
    first_difference,
    read_evaluation,
    read_result,
    write_result,
)
from iapo.rollout.load_settings import placed, settings_in
from iapo.stopping import stoppable
from iapo.storage import make_folder
from iapo.training.files import layers_of
from iapo.training.settings import Changes, check, parse, typed

if TYPE_CHECKING:
    from iapo.evaluation.plan import EvaluationPlan
    from iapo.training.config import IAPOConfig

COMPARISON = "comparison.json"
"""What a folder of trials remembers of their settings."""

TAKEN = ("output_dir", "seed", "resume_from_checkpoint", "threads")
"""Settings of a training that trials set themselves."""

START, TEACHER = "start", "teacher"
"""Rows beside the trials, measured once: the policy that all runs start from, and the teacher."""

_BOUNDS = {"samples": COUNT, "repeats": COUNT, "data_seed": SEED, "temperature": HEAT}


@dataclass(frozen=True, slots=True)
class Trial:
    """One kind of training.

    Attributes:
        name: Its row's, and of the folder of its runs.
        settings: Its own settings, as `iapo train` takes them.
    """

    name: str
    settings: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Budget:
    """What all trials share.

    Attributes:
        seeds: Seeds of the trainings; each trial runs once with each.
        config: Configuration that all runs share: a YAML file, or the name of a packaged one.
        settings: More of its settings, as `iapo train` takes them, for all runs alike.
        sets: Test sets (`iapo.data.sources`).
        samples: Number of each.
        data_seed: Data seed of synthetic test images.
        temperature: Temperature of the evaluation; 0 is greedy.
        repeats: Rollouts of each test sample.
        greedy: Whether policies are also measured greedily, beside an evaluation that samples.
    """

    seeds: tuple[int, ...] = (0,)
    config: str = "compare"
    settings: Mapping[str, Any] = field(default_factory=dict)
    sets: tuple[str, ...] = ("vbar", "hbar")
    samples: int = 500
    data_seed: int = 0
    temperature: float = 1.0
    repeats: int = 1
    greedy: bool = True

    def __post_init__(self) -> None:
        check_kinds(self)
        check_seeds(self.seeds)
        refuse_taken(self.settings, TAKEN)
        refuse_credentials(self.settings)
        for name, bound in _BOUNDS.items():
            check_number(name, getattr(self, name), bound)
        check_repeats(self.repeats, self.temperature)


def once(what: str, some: Sequence[object]) -> None:
    """Refuses an empty list, and one that names something twice."""
    if not some or len(set(some)) < len(some):
        raise InputError(f"{what} are {', '.join(map(str, some)) or 'none'}; name each one once, and at least one")


def refuse_taken(settings: Mapping[str, Any], taken: Sequence[str]) -> None:
    """Refuses settings that are set otherwise."""
    for name in settings:
        if str(name).replace("-", "_") in taken:
            raise InputError(f"the setting {name} is set by the comparison itself; remove it")


def refuse_credentials(settings: Mapping[str, Any]) -> None:
    """Refuses addresses with a user or a password: the settings are written down for the runs."""
    for name, value in settings.items():
        if isinstance(value, str) and holds_credentials(value):
            raise InputError(
                f"{name} holds a user or a password, which would be written down for each run; put that setting into a "
                "YAML file of your own, and name the file with --config"
            )


def read_lists(given: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what a command line's options change: those that are not None, lists with commas between taken apart.

    Raises:
        InputError: If a part is empty, or a seed is no whole number.
    """
    changes = {name: value for name, value in given.items() if value is not None}
    for name in ("methods", "groups", "seeds", "sets"):
        if name in changes:
            changes[name] = split_list(f"--{name}", changes[name])
    if "seeds" in changes:
        changes["seeds"] = read_seeds(changes["seeds"])
    return changes


def run_trials(
    trials: Sequence[Trial],
    budget: Budget,
    out: Path,
    *,
    together: int = 2,
    run: Callable[[Sequence[Job], int], None] = run_jobs,
) -> dict[str, Row]:
    """Runs what is not there yet.

    A run is kept once it is evaluated; one that was stopped goes on from its last checkpoint, or starts again. Trials
    and seeds may be added later; other settings need another folder.

    Args:
        trials: Trials to run.
        budget: Budget that they share.
        out: Holds all; one folder a run, `TRIAL/seed-SEED`.
        together: Number of runs at a time, two at most, on one thread each where there are two cores.
        run: Runs the jobs.

    Returns:
        The measurements by name: `start`, `teacher` where the shared configuration has one, and each trial.

    Raises:
        InputError: If the folder holds trials with other settings, or is in use.
        iapo.stopping.Stopped: If the process was asked to stop; the same call goes on.
        iapo.experiments.processes.JobError: If a run fails; the finished ones are kept.
    """
    if together not in (1, 2):
        raise InputError(f"together is {together}; run one or two at a time")
    check_free(out)
    for trial in trials:
        refuse_credentials({**budget.settings, **trial.settings})
        check(budget.config, {**budget.settings, **trial.settings})
    with stoppable(), hold_folder(out):
        return _run_trials(trials, budget, out, together, run)


def _run_trials(
    trials: Sequence[Trial], budget: Budget, out: Path, together: int, run: Callable[[Sequence[Job], int], None]
) -> dict[str, Row]:
    plan, settings, device = shared(budget)
    greedy = budget.greedy and budget.temperature > 0
    from iapo.experiments.contents import check_alike

    _remember(trials, budget, plan, out, _contents(trials, budget))
    folders = {trial.name: [out / trial.name / f"seed-{seed}" for seed in budget.seeds] for trial in trials}
    # Of what is there before hours of training, and then of all.
    check_alike(folders)
    jobs = [job_of(START, out / START, plan, None, {}, 0, greedy)]
    if settings.teacher is not None:
        loading = placed(settings_in(settings, "teacher"), device)
        teacher = dataclasses.replace(plan, model=settings.teacher, loading=loading)
        jobs.append(job_of(TEACHER, out / TEACHER, teacher, None, {}, 0, greedy))
    # Seed by seed, so that unfinished trials have whole seeds.
    for seed in budget.seeds:
        for trial in trials:
            folder = out / trial.name / f"seed-{seed}"
            own = {**budget.settings, **trial.settings, "seed": seed, "output_dir": str(folder)}
            arguments, training = parse(budget.config, own)
            # A policy is measured with the tools and the prompt that it was trained with, loaded as it was trained.
            loading = placed(dataclasses.replace(arguments.loading, model_revision=None), device)
            trained = dataclasses.replace(
                plan,
                model=str(folder / "policy"),
                tools=arguments.tools,
                tool_timeout=arguments.tool_timeout,
                prompt=arguments.prompt,
                loading=loading,
            )
            name, steps = f"{trial.name}, seed {seed}", training.max_steps
            jobs.append(job_of(name, folder, trained, budget.config, own, steps, greedy))
    run([job for job in jobs if not is_measured(job.log.parent, greedy)], min(together, os.cpu_count() or 1))
    rows = {name: read_row(name, [out / name / MEASURED]) for name in (START, TEACHER) if is_measured(out / name)}
    check_alike(folders)
    for name, some in folders.items():
        rows[name] = read_row(name, [folder / MEASURED for folder in some], budget.seeds)
    return rows


def _contents(trials: Sequence[Trial], budget: Budget) -> dict[str, Any]:
    """Returns what the files are that the trainings' settings name (`iapo.experiments.contents`)."""
    from iapo.experiments.contents import contents_of

    found: dict[str, Any] = {}
    for trial in trials:
        found |= contents_of(*parse(budget.config, {**budget.settings, **trial.settings}))
    return found


def shared(budget: Budget) -> tuple[EvaluationPlan, IAPOConfig, str | None]:
    """Returns how the start is measured, the settings that all trainings share, and where models run."""
    # With torch and TRL, which what is checked before does without.
    from iapo.evaluation.local import EvaluationSettings
    from iapo.evaluation.plan import EvaluationPlan

    arguments, settings = parse(budget.config, budget.settings)
    # Where training runs; the CPU needs no name.
    device = None if settings.device.type == "cpu" else str(settings.device)
    plan = EvaluationPlan(
        model=arguments.model,
        sets=budget.sets,
        source=SourceSettings(
            budget.samples,
            budget.data_seed,
            size=arguments.picture_size,
            question_types=tuple(arguments.question_types),
        ),
        tools=arguments.tools,
        tool_timeout=arguments.tool_timeout,
        prompt=arguments.prompt,
        repeats=budget.repeats,
        generation=EvaluationSettings(
            settings.max_turn_tokens or settings.max_completion_length,
            temperature=budget.temperature,
            top_p=settings.top_p,
            max_sequence_length=settings.max_sequence_length,
            max_turns=settings.max_turns,
        ),
        data_damage=arguments.data_damage,
        loading=placed(arguments.loading, device),
    )
    return plan, settings, device


def losses(out: Path) -> list[str]:
    """Returns a line for each test set of the trials that is not measured as a whole."""
    from iapo.evaluation.sets import loss_lines

    path = out / START / MEASURED / EVALUATION
    # All are measured on the same sets.
    found = read_evaluation(path) if path.exists() else None
    return list(loss_lines(found)) if isinstance(found, SetsEvaluation) else []


def seconds_per_step(trials: Sequence[Trial], budget: Budget, out: Path) -> dict[str, float]:
    """Returns each trial's mean time of an optimiser step in seconds, loading of models and data included."""
    found: dict[str, float] = {}
    for trial in trials:
        times = [
            read_result(path, "times")
            for seed in budget.seeds
            if (path := out / trial.name / f"seed-{seed}" / TIMES).exists()
        ]
        steps = sum(one.get("steps", 0) for one in times)
        if steps:
            found[trial.name] = sum(one.get("training", 0) for one in times) / steps
    return found


def _remember(
    trials: Sequence[Trial], budget: Budget, plan: EvaluationPlan, out: Path, contents: Mapping[str, Any]
) -> None:
    layers = layers_of(budget.config)
    text = "".join(path.read_text() for path, _ in layers)
    merged = {name: value for _, some in layers for name, value in some.items()}
    written = json.loads(json.dumps(hide_credentials(typed(merged))))
    now: dict[str, Any] = {
        "settings": dict(budget.settings),
        "config": budget.config,
        "config_sha256": hashlib.sha256(text.encode()).hexdigest(),
        "plan": json.loads(json.dumps(dataclasses.asdict(plan))),
    }
    own = {trial.name: dict(trial.settings) for trial in trials}
    path = out / COMPARISON
    if path.exists():
        found = _read_comparison(path)
        now["settings"], own = typed(now["settings"]), {name: typed(some) for name, some in own.items()}
        if difference := _difference(found, now, written):
            raise InputError(f"{out} holds a comparison with other settings ({difference}); choose another --out")
        known = found.get("trials", {})
        for name, some in own.items():
            if difference := first_difference(known.get(name, some), some):
                raise InputError(
                    f"{out} holds {name!r} with other settings ({difference}); choose another --out or name"
                )
        own = known | own
        # Without a run there is nothing that could be mixed.
        if any(out.rglob(MANIFEST)):
            from iapo.experiments.contents import check_contents

            before = found.get("contents") or {}
            check_contents(out, before, contents)
            contents = {**before, **contents}
    make_folder(out)
    write_result(path, "comparison", {**now, "written": written, "trials": own, "contents": contents})


def _difference(found: Mapping[str, Any], now: Mapping[str, Any], written: Mapping[str, Any]) -> str | None:
    """Names the first setting in which a comparison differs from the one that a folder holds, with both values."""
    # Of the text of the configuration's files only a digest is compared; earlier versions do not say what it was.
    inner = first_difference(found.get("written", written), written)
    if found.get("config_sha256") != now["config_sha256"] and found.get("config") == now["config"] and inner:
        return inner
    given, asked = found.get("settings") or {}, now["settings"]
    # What only one of them gives, the other has of the configuration.
    before, after = ({name: one.get(name, written.get(name)) for name in {**asked, **given}} for one in (given, asked))
    if inner := first_difference(before, after):
        return inner
    for name, value in now.items():
        if name != "settings" and (difference := first_difference(found.get(name), value, name)):
            return f"the text of {now['config']} has changed" if name == "config_sha256" else difference
    return None


def check_free(out: Path) -> None:
    """Refuses a folder that holds something else than a comparison."""
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; choose another --out")
    # A process that was killed may have left its lock, and a file half written.
    there = [one for one in out.iterdir() if one.name != LOCK and one.suffix != ".part"] if out.exists() else []
    if there and not (out / COMPARISON).exists():
        raise InputError(f"{out} is not empty and holds no comparison; choose another --out")


def _read_comparison(path: Path) -> dict[str, Any]:
    """Reads what a folder remembers, settings by type.

    The first files have no format, and settings as the words of a command line, under `flags`.
    """
    found = read_result(path, "comparison")
    settings: Changes = found["settings"] if "settings" in found else found.pop("flags", ())
    trials = {name: typed(some) for name, some in found.get("trials", {}).items()}
    # Earlier versions had no setting of the prompt, nor of damage, nor of the number of turns.
    plan: dict[str, Any] = {}
    if "plan" in found:
        generation = {"max_turns": 2, **found["plan"]["generation"]}
        plan = {"plan": {"prompt": None, "data_damage": "strict", **found["plan"], "generation": generation}}
    return {**found, **plan, "settings": typed(settings or {}), "trials": trials}
