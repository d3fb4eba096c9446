"""The paper's case study (Fig. 3): on clearly divisible images, misused calls and where the calls come from.

A policy writes first turns alone; their programs are carried out and their calls attributed. See docs/studies.md.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Self

import numpy as np
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments, set_seed

from iapo.attribution.calls import Attributor
from iapo.attribution.settings import AttributionSettings, settings_of_run
from iapo.data.intake import take_in_divisible
from iapo.data.sources import SourceSettings, source_names
from iapo.data.synthetic import generate
from iapo.data.synthetic.families import find_family
from iapo.errors import InputError
from iapo.estimates import Estimate, mean, proportion
from iapo.evaluation.local import EvaluationSettings, make_generator, same_randomness
from iapo.kinds import check_kinds
from iapo.records import Axis, Sample, ToolResult
from iapo.results import read_result, stamp, write_result
from iapo.rollout.policy import Policy
from iapo.rollout.template import TINY, PromptTemplate, find_prompt
from iapo.runs import CASE_STUDY, CASE_STUDY_KIND, data_hash
from iapo.teachers.own_turns import explained_turns
from iapo.tools import offered_tools

FILE, KIND = CASE_STUDY, CASE_STUDY_KIND
"""Where a run folder keeps its case study, and the kind of that file."""

MEASURES = ("misuse", "right_tools", "wrong_tools")
"""What is measured of a policy."""


@dataclass(frozen=True, slots=True)
class CaseStudyPlan:
    """Which images, and how policies are measured on them.

    Attributes:
        samples: Number of samples, the first clearly divisible ones.
        families: Synthetic families; those without a right axis are left out.
        question_types: Question types; empty: all.
        size: Their longer side in pixels.
        seed: Seed of the synthetic images.
        data: Sources instead of `families` (`iapo.data.sources`), with commas between.
        split: Split of the data or the synthetic images.
        leave_out_damage: Whether damaged rows of the data are left out; else they are refused.
        generation: Settings of the generation.
        attribution: Settings of the attribution; target, normalisation, eps, steps and batch size count.
        teacher: Checkpoint of the teacher; None where there is none to load.
        tools: The offered tools (`iapo.tools.offered_tools`); None offers the six.
        prompt: Prompt template of all policies; None: each one's own.
        tool_timeout: Longest call of a tool in seconds; None: no limit.
    """

    samples: int = 256
    families: tuple[str, ...] = ()
    question_types: tuple[str, ...] = ()
    size: int = 112
    seed: int = 0
    data: str | None = None
    split: str = "test"
    leave_out_damage: bool = False
    generation: EvaluationSettings = field(default_factory=EvaluationSettings)
    attribution: AttributionSettings = field(default_factory=AttributionSettings)
    teacher: str | None = None
    tools: str | None = None
    prompt: PromptTemplate | None = None
    tool_timeout: float | None = None

    def __post_init__(self) -> None:
        check_kinds(self)
        if self.samples < 1:
            raise InputError(f"a case study of {self.samples} samples shows nothing; give at least 1")

    @classmethod
    def of_run(cls, run: Mapping[str, Any], training: Mapping[str, Any], prompt: PromptTemplate | None = None) -> Self:
        """Returns the plan that a run's configuration gives: its held-out images, its way of sampling, its
        attribution.

        Scores become shares by `magnitude`, also where the training takes a softmax.

        Args:
            run: `iapo.training.run.RunArguments` as a dict, as in the manifest.
            training: `IAPOConfig.to_dict()`, as in the manifest.
            prompt: Prompt template of the run.
        """
        data = run["eval_data"] or run["data"]
        return cls(
            samples=run.get("case_study_samples", 256),
            families=tuple(run["families"]),
            question_types=tuple(run["question_types"]),
            size=run["picture_size"],
            seed=run["eval_seed"],
            data=data,
            split="test" if data is None else run["eval_split"],
            leave_out_damage=run["data_damage"] == "quarantine",
            generation=EvaluationSettings(
                training["max_turn_tokens"] or training["max_completion_length"],
                run["eval_temperature"],
                training["top_p"],
                run["eval_seed"],
                # Runs of earlier versions do not name it.
                run.get("eval_batch_size", EvaluationSettings().batch_size),
                training.get("max_sequence_length"),
            ),
            attribution=dataclasses.replace(
                settings_of_run(training),
                # Shares of the whole prompt, whatever the training compares: a softmax of small scores is flat.
                normalization="magnitude",
                blocks="all",
            ),
            teacher=run["eval_teacher"] or training["teacher"],
            tools=run.get("tools"),
            prompt=prompt,
            tool_timeout=run.get("tool_timeout"),
        )

    def read_samples(self) -> list[Sample]:
        """Returns the first samples that have one right axis, families in turn.

        Raises:
            InputError: If there is none, or the data cannot be loaded.
        """
        if self.data is None:
            return list(islice(self._pictures(), self.samples))
        settings = SourceSettings(self.samples, self.seed, self.split, self.size, self.question_types)
        damage = "quarantine" if self.leave_out_damage else "strict"
        found = take_in_divisible(source_names(self.data), settings, damage)
        if not found:
            raise InputError(
                f"{self.data} has no picture of the split {self.split!r} with one right axis, so that no misuse can be "
                "measured on it; name other data, or train with case_study_steps 0"
            )
        return found

    def _pictures(self) -> Iterator[Sample]:
        families = [name for name in self.families if find_family(name).axis is not None]
        if not families:
            given = ", ".join(self.families) or "none"
            raise InputError(f"the families ({given}) have no right axis; take some of vbar, hbar and charxiv")
        streams = [
            generate(
                name,
                self.samples,
                seed=self.seed,
                size=self.size,
                question_types=self.question_types or None,
                split=self.split,
            )
            for name in families
        ]
        return (sample for group in zip(*streams, strict=True) for sample in group)

    def to_json(self, samples: Sequence[Sample]) -> dict[str, Any]:
        """Returns what a result depends on, as JSON gives it back; with the hash of the samples."""
        names = ["target", "normalization", "eps", "steps"]
        # A method that only follows from the steps is not written, as before methods had names.
        names += [] if self.attribution.method is None else ["method"]
        names += [] if self.attribution.score == "log_prob" else ["score"]
        attribution = {name: getattr(self.attribution, name) for name in names}
        written = {**dataclasses.asdict(self), "attribution": attribution, "data_hash": data_hash(samples)}
        found: dict[str, Any] = json.loads(json.dumps(written))
        # First turns alone are written, of however many.
        del found["generation"]["max_turns"]
        if self.prompt in (None, find_prompt(TINY)):
            # As before there were others.
            del found["prompt"]
        else:
            assert self.prompt is not None
            found["prompt"] = self.prompt.to_json()
        return found


@dataclass(frozen=True, slots=True)
class Observed:
    """One first turn.

    Attributes:
        axis: The image's right axis.
        result: Result of the turn's program.
        right_tools: Mean share of the call's attribution on a block of the right axis' tools; None without a call.
        wrong_tools: Wrong tools, the same of the other axis' tools.
    """

    axis: Axis
    result: ToolResult
    right_tools: float | None
    wrong_tools: float | None


def observe(
    policy: Policy,
    samples: Sequence[Sample],
    plan: CaseStudyPlan,
    *,
    progress: Callable[[int], None] = lambda done: None,
) -> list[Observed]:
    """Has a policy write a first turn to each sample; torch's, numpy's and Python's random states stay as they are.

    Args:
        policy: The policy, as it is now.
        samples: Samples that have one right axis.
        plan: Plan of generation, attribution and the offered tools.
        progress: Callback, called with the number of new samples done.
    """
    found: list[Observed] = []
    size, tools = plan.generation.batch_size, offered_tools(plan.tools, plan.tool_timeout)
    with same_randomness():
        set_seed(plan.generation.seed)
        encoder, generate = make_generator(policy, plan.generation, plan.prompt)
        attributor = Attributor(policy.model, encoder.pixels, plan.attribution, tokenizer=encoder.tokenizer)
        for start in range(0, len(samples), size):
            some = samples[start : start + size]
            for sample, turn in zip(some, explained_turns(some, encoder, generate, attributor, tools), strict=True):
                assert sample.axis is not None
                shares = dict(zip(turn.block_names, turn.distribution or (), strict=False))
                on: dict[bool, list[float]] = {True: [], False: []}
                for tool in tools.values():
                    # One without an axis is neither right nor wrong.
                    if tool.axis is not None and f"tool:{tool.name}" in shares:
                        on[tool.axis == sample.axis].append(shares[f"tool:{tool.name}"])
                right, wrong = (float(np.mean(on[is_right])) if on[is_right] else None for is_right in (True, False))
                found.append(Observed(sample.axis, turn.first.result, right, wrong))
            progress(len(some))
    return found


def summarize_case(observed: Sequence[Observed]) -> dict[str, Any]:
    """Returns the share of misused calls, and the mean attribution of right and wrong tools.

    Returns:
        By name in `MEASURES`: `value`, `low`, `high`, `count`, or None where nothing was counted. Misuse is counted
        among the programs that executed and has a Wilson interval; the others are means over the calls that have an
        attribution, with bootstrap intervals.
    """
    shares = {
        name: [value for one in observed if (value := getattr(one, name)) is not None]
        for name in ("right_tools", "wrong_tools")
    }
    misuse = proportion([verdict for one in observed if (verdict := one.result.misuse(one.axis)) is not None])
    return {"misuse": _interval(misuse), **{name: _interval(mean(values)) for name, values in shares.items()}}


def _interval(estimate: Estimate) -> dict[str, Any] | None:
    return dataclasses.asdict(estimate) if estimate.count else None


class CaseStudyFile:
    """A run's `case-study.json`: written whole after each point, so that a stopped study goes on where it was.

    Args:
        path: The file; it need not exist yet.
        settings: Settings that the points depend on (`CaseStudyPlan.to_json`).

    Raises:
        InputError: If the file holds a study with other settings.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        self.path = path
        self._data = stamp(KIND, {"points": [], "teacher": None, "settings": dict(settings)})
        if path.exists():
            found = read_result(path, KIND)
            for name, value in settings.items():
                if found["settings"].get(name) != value:
                    there = found["settings"].get(name)
                    raise InputError(f"{path} was made with {name} {there}, not {value}; remove it or set the same")
            self._data = stamp(KIND, found)

    @property
    def steps(self) -> list[int]:
        """The steps that are measured."""
        return [point["step"] for point in self._data["points"]]

    @property
    def data(self) -> dict[str, Any]:
        """What the file holds."""
        return self._data

    def add(self, step: int, observed: Sequence[Observed]) -> None:
        """Adds the policy after a step."""
        point = {"step": step, "samples": len(observed), **summarize_case(observed)}
        points = [one for one in self._data["points"] if one["step"] != step]
        self._data["points"] = sorted([*points, point], key=lambda one: int(one["step"]))
        self._write()

    def set_teacher(self, level: Mapping[str, Any]) -> None:
        """Sets the teacher's level, as `summarize_case` gives it."""
        self._data["teacher"] = dict(level)
        self._write()

    def drop_after(self, step: int) -> None:
        """Drops what was measured after a step from which a training goes on, and what the file no longer holds: it was
        of another course.
        """
        held = read_result(self.path, KIND)["points"] if self.path.exists() else []
        kept = [one for one in held if one["step"] <= step]
        if kept != self._data["points"]:
            self._data["points"] = kept
            self._write()

    def _write(self) -> None:
        write_result(self.path, KIND, self._data)


class CaseStudyCallback(TrainerCallback):
    """Measures the policy within its training: before it, after every n-th step, and at its end.

    It draws no random number of the training's. One process measures; where parameters are sharded, all gather them.

    Args:
        folder: The run folder.
        every: Measure after every so many optimiser steps.
        plan: Images, and how.
        policy: The policy that is trained.
        teacher: The teacher, if there is one in memory.

    Attributes:
        whole: Has this process hold all of the policy's parameters while it is open; all processes enter it.

    Raises:
        InputError: If there are no such images, or the folder holds a case study with other settings.
    """

    def __init__(
        self,
        folder: Path,
        every: int,
        plan: CaseStudyPlan,
        policy: Policy,
        teacher: Policy | None = None,
    ) -> None:
        if every < 1:
            raise InputError(f"a case study every {every} steps cannot be; give at least 1, or 0 for none")
        self.every, self.plan, self.policy, self.teacher = every, plan, policy, teacher
        self.whole: Callable[[], AbstractContextManager[Any]] = nullcontext
        self._samples = plan.read_samples()
        self._file = CaseStudyFile(folder / FILE, plan.to_json(self._samples))

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Takes up the trainer's call before the first step, also where a training goes on."""
        if state.is_world_process_zero:
            self._file.drop_after(state.global_step)
            if self._file.data["teacher"] is None and self.teacher is not None:
                self._file.set_teacher(summarize_case(observe(self.teacher, self._samples, self.plan)))
        # A training that goes on was measured at its steps, and where it was stopped is none of them.
        if state.global_step % self.every == 0:
            self._measure(state)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Takes up the trainer's call after each optimiser step."""
        if state.global_step % self.every == 0:
            self._measure(state)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Takes up the trainer's call after the last step, and where a training is stopped."""
        if state.global_step >= state.max_steps:
            self._measure(state)

    def _measure(self, state: TrainerState) -> None:
        with self.whole():
            if state.is_world_process_zero and state.global_step not in self._file.steps:
                self._file.add(state.global_step, observe(self.policy, self._samples, self.plan))
