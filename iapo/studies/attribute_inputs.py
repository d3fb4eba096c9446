"""What `iapo attribute` explains: a sample, a first turn, and how a run's reward attributed."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from iapo.attribution.methods import find_method
from iapo.attribution.settings import AttributionSettings, settings_of_run
from iapo.bounds import CHART, TURNS, check_number
from iapo.data.sources import read_sources, sources_of
from iapo.data.synthetic import generate
from iapo.errors import InputError
from iapo.kinds import check_kinds, checks_kinds
from iapo.records import Sample
from iapo.rollout.load_settings import LoadSettings, load_settings
from iapo.rollout.template import PromptTemplate, find_prompt
from iapo.studies.folders import Run, find_runs, run_prompt
from iapo.studies.misuse import policies, run_arguments, run_loading


@dataclass(frozen=True, slots=True)
class AttributePlan:
    """Whose call is explained, and how.

    Attributes:
        model: The student's checkpoint.
        teacher: The teacher's checkpoint; None explains by the student alone.
        settings: Settings of attribution and comparison, and the limit of a turn.
        tools: The offered tools (`iapo.tools.offered_tools`).
        prompt: Prompt template of both; the student's own if None.
        loading: How the student is loaded.
        teacher_loading: How the teacher is loaded.
        turn: Number of the turn whose call is explained, from 1.
        max_turns: Most turns of the rollout.
        tool_timeout: Longest call of a tool in seconds; None: no limit.

    Raises:
        InputError: If there can be no such turn with a call, or the teacher explains its own calls, which are those of
            first turns.
    """

    model: str = "tiny-student"
    teacher: str | None = None
    settings: AttributionSettings = dataclasses.field(default_factory=AttributionSettings)
    tools: str | None = None
    prompt: PromptTemplate | None = None
    loading: LoadSettings = dataclasses.field(default_factory=LoadSettings)
    teacher_loading: LoadSettings = dataclasses.field(default_factory=LoadSettings)
    turn: int = 1
    max_turns: int = 2
    tool_timeout: float | None = None

    def __post_init__(self) -> None:
        check_number("max_turns", self.max_turns, TURNS)
        check_kinds(self)
        if not 1 <= self.turn < self.max_turns:
            raise InputError(
                f"turn is {self.turn}, but of {self.max_turns} turns those from 1 to {self.max_turns - 1} may call a "
                "tool; give one of them, or a larger max_turns"
            )
        if self.turn > 1 and self.teacher is not None and self.settings.teacher_reference != "student_call":
            raise InputError(
                f"the teacher explains its own call (teacher_reference {self.settings.teacher_reference}), which is "
                "that of a first turn; explain turn 1"
            )


@checks_kinds
def plan_of(run: Path | None, changes: Mapping[str, Any], loading: Mapping[str, Any] | None = None) -> AttributePlan:
    """Makes the plan that the command line describes.

    Args:
        run: The run folder whose policy, teacher, tools and settings are taken: its last policy, and what its reward
            compared with; None takes the packaged student and the defaults.
        changes: Changes to that, unless None: `model`, `teacher`, `tools`, `prompt` (its name or file), `method`,
            `steps` (where the method has a path), `max_turn_tokens`, `turn` and `max_turns`.
        loading: Loading settings by name that replace the run's, the teacher's with the prefix `teacher_`.

    Raises:
        InputError: If there is no such run, it compared with a stored table and no teacher is named, or steps are given
            to a method without a path.
    """
    given = {name: value for name, value in changes.items() if value is not None}
    if "prompt" in given:
        given["prompt"] = find_prompt(given["prompt"])
    how = loading or {}
    if run is None:
        student = load_settings(how)
        asked = LoadSettings(min_pixels=student.min_pixels, max_pixels=student.max_pixels)
        plan = AttributePlan(loading=student, teacher_loading=load_settings(how, "teacher", asked))
    else:
        plan = _of_run(run, given.get("teacher"), how)
    own: dict[str, Any] = {name: given.pop(name) for name in ("method", "max_turn_tokens") if name in given}
    steps = given.pop("steps", None)
    if steps is not None and steps < 1:
        raise InputError(f"steps is {steps}; give at least 1")
    method = own.get("method", plan.settings.method_name)
    if find_method(method).takes_steps:
        own["steps"] = steps or (32 if "method" in own else plan.settings.steps)
    elif steps is not None:
        raise InputError(f"steps is {steps}, but the method {method} has no path; leave it out or take integrated")
    elif "method" in own:
        own["steps"] = 1
    return dataclasses.replace(plan, settings=dataclasses.replace(plan.settings, **own), **given)


def _of_run(folder: Path, teacher: str | None, loading: Mapping[str, Any]) -> AttributePlan:
    run = _find(folder)
    arguments, training = run_arguments(run), run.manifest.config["training"]
    settings = settings_of_run(training)
    compared = teacher or training["teacher"] or arguments["eval_teacher"]
    if compared is None and training["teacher_table"] is not None:
        raise InputError(f"{folder} compared with {training['teacher_table']}; give --teacher, the model that made it")
    student, how = run_loading(run, loading)
    step, policy = list(policies(run).items())[-1]
    if step:
        student = dataclasses.replace(student, model_revision=loading.get("model_revision"))
    return AttributePlan(
        policy,
        compared,
        settings,
        arguments.get("tools"),
        run_prompt(run.path),
        student,
        how,
        max_turns=training.get("max_turns", 2),
        tool_timeout=arguments.get("tool_timeout"),
    )


def _find(folder: Path) -> Run:
    runs = find_runs([str(folder)])
    if len(runs) > 1:
        raise InputError(f"{folder} holds {len(runs)} runs; give one of them, such as {runs[0].path}")
    return runs[0]


@checks_kinds
def held_out_sample(folder: Path, index: int) -> Sample:
    """Reads one of the samples that a run is evaluated on.

    Args:
        folder: The run folder.
        index: One, from 0.

    Raises:
        InputError: If there is no such run or sample, or the run's data cannot be read.
    """
    if index < 0:
        raise InputError(f"index is {index}; it must not be negative")
    arguments = run_arguments(_find(folder))
    names, settings = sources_of(arguments, "test")
    # A run that evaluates nothing has held-out samples all the same.
    settings = dataclasses.replace(settings, count=settings.count or index + 1)
    samples = read_sources(names, settings, None if arguments["data_damage"] == "strict" else lambda damage: None)
    if index >= len(samples):
        raise InputError(f"{folder} has {len(samples)} held-out samples; give an --index below that")
    return samples[index]


@checks_kinds
def chart_sample(family: str, index: int, *, seed: int, size: int) -> Sample:
    """Returns one synthetic image of the test split, with a question that the packaged models know.

    Args:
        family: One of `iapo.data.synthetic.FAMILIES`; the packaged models know `vbar` and `hbar`.
        index: One, from 0.
        seed: Seed of the charts.
        size: The image's side in pixels.

    Raises:
        InputError: If an argument is outside what `iapo.data.synthetic.generate` takes, or the index is beyond 100,000.
    """
    check_number("index", index, CHART)
    charts = generate(family, index + 1, seed=seed, size=size, question_types=("value",), split="test")
    return next(itertools.islice(charts, index, None))
