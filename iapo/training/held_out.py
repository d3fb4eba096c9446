"""`HeldOut`: a training's policy on held-out samples, before and after, always in the same way."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from accelerate import Accelerator

from iapo.attribution.settings import AttributionSettings, alignment_settings
from iapo.evaluation.local import EvaluationSettings, evaluate, same_randomness
from iapo.evaluation.measures import (
    MEASURES,
    mean_attribution,
    paired_differences,
    share,
    summarize,
)
from iapo.records import Sample, Trace
from iapo.results import TrainingEvaluation
from iapo.rewards.alignment import Alignment
from iapo.rollout.load_settings import settings_in
from iapo.rollout.policy import Policy
from iapo.rollout.prompt import PromptEncoder
from iapo.runs import RunFolder
from iapo.teachers.references import Reference, StoredCalls, make_reference
from iapo.tools import TOOLS, ToolDefinition
from iapo.training.config import IAPOConfig
from iapo.training.loaded import load_teacher
from iapo.training.ranks import evaluate_shares

Measurement = tuple[Sequence[Trace], Sequence[Trace]]
"""A policy's traces as the settings say, and its greedy ones; the latter empty where none are asked for."""


class EvaluationArguments(Protocol):
    """The part of `iapo.training.run.RunArguments` that says how a training is evaluated."""

    eval_seed: int
    eval_temperature: float
    eval_greedy: bool
    eval_batch_size: int
    eval_traces: int
    eval_teacher: str | None


class HeldOut:
    """Evaluates a policy on the held-out samples; what a training draws at random stays as it is.

    Args:
        arguments: Settings of the evaluation.
        settings: The training's settings.
        policy: The policy; evaluated where its model is, as it is then.
        teacher: The training's teacher, if one is loaded.
        reference: Reference of the training, which the evaluation compares with as well unless `arguments.eval_teacher`
            names another teacher.
        samples: The held-out samples.
        tools: The offered tools.

    Attributes:
        teacher: The teacher that the divergence is measured to; None where it is a table, or there is none.
        greedy: Whether the policy is rolled out greedily, too.
    """

    def __init__(
        self,
        arguments: EvaluationArguments,
        settings: IAPOConfig,
        policy: Policy,
        teacher: Policy | None,
        reference: Reference | None,
        samples: Sequence[Sample],
        tools: Mapping[str, ToolDefinition] = TOOLS,
    ) -> None:
        self.policy, self.samples, self.tools = policy, samples, tools
        self.settings = evaluation_settings(arguments, settings)
        self.kept = arguments.eval_traces
        self.greedy = arguments.eval_greedy and arguments.eval_temperature > 0
        self.teacher = teacher
        compared = alignment_settings(settings)
        # Where nothing is evaluated, no teacher is loaded for it.
        if arguments.eval_teacher is not None and samples:
            compared = dataclasses.replace(compared, teacher_table=None)
            if teacher is None or arguments.eval_teacher != settings.teacher:
                asked = settings_in(arguments)
                self.teacher = load_teacher(arguments.eval_teacher, settings, policy.processor, asked)
                reference = make_reference(compared, self.teacher, PromptEncoder(policy.processor), tools)
        self.alignment = self._alignment(reference, compared)

    def _alignment(self, reference: Reference | None, compared: AttributionSettings) -> Alignment | None:
        # A table of the training samples alone measures no evaluation.
        if reference is None or (isinstance(reference, StoredCalls) and not reference.covers(self.samples)):
            return None
        return Alignment(reference, PromptEncoder(self.policy.processor), compared, self.tools)

    def traces(self, accelerator: Accelerator, progress: Callable[[int], None] = lambda done: None) -> list[Trace]:
        """Rolls the policy out once on each sample; every process takes its share and gets the traces of all.

        Greedily the shares do not change what is measured. Where it samples, each process draws from a seed of its own.

        Args:
            accelerator: The training's accelerator. Each process must have the policy's whole parameters.
            progress: Callback, called with the number of new samples done, of this process.
        """
        settings = dataclasses.replace(self.settings, seed=self.settings.seed + accelerator.process_index)
        return self._traces(accelerator, settings, self.alignment, self.kept, progress)

    def greedy_traces(self, accelerator: Accelerator) -> list[Trace]:
        """Rolls the policy out once more, greedily and without attributions; shared out as `traces` is."""
        return self._traces(accelerator, dataclasses.replace(self.settings, temperature=0.0))

    def _traces(
        self,
        accelerator: Accelerator,
        settings: EvaluationSettings,
        alignment: Alignment | None = None,
        kept: int = 0,
        progress: Callable[[int], None] = lambda done: None,
    ) -> list[Trace]:
        def evaluate_some(samples: Sequence[Sample], patches: int) -> list[Trace]:
            return evaluate(
                self.policy,
                samples,
                settings,
                alignment=alignment,
                tools=self.tools,
                progress=progress,
                patches=patches,
            )

        with same_randomness():
            return evaluate_shares(self.samples, kept, accelerator, evaluate_some)

    def write(self, folder: RunFolder, before: Measurement, after: Measurement, steps: int) -> TrainingEvaluation:
        """Writes `held-out.jsonl` and `evaluation.json`.

        Args:
            folder: The run folder.
            before: Measurement before training.
            after: The same after it.
            steps: Optimiser steps between them.

        Returns:
            What `evaluation.json` holds.
        """
        (start, first), (end, last) = before, after
        kept = [(0, start[: self.kept]), (steps, end[: self.kept])]
        folder.write_held_out(dataclasses.replace(one, step=step) for step, some in kept for one in some)
        evaluation = {
            "settings": dataclasses.asdict(self.settings),
            "samples": len(self.samples),
            "before": {name: dataclasses.asdict(value) for name, value in summarize(start).items()},
            "after": {name: dataclasses.asdict(value) for name, value in summarize(end).items()},
            "after_minus_before": _differences(end, start),
            "attribution": {"before": mean_attribution(start), "after": mean_attribution(end)},
            "outcomes": {
                "before": [trace.scores["outcome"].value for trace in start],
                "after": [trace.scores["outcome"].value for trace in end],
            },
        }
        if self.greedy:
            evaluation["greedy"] = {
                when: {name: dataclasses.asdict(share(name, traces)) for name in MEASURES}
                for when, traces in (("before", first), ("after", last))
            }
            evaluation["greedy_after_minus_before"] = _differences(last, first)
        folder.write_evaluation(evaluation)
        return TrainingEvaluation.of(evaluation)


def _differences(after: Sequence[Trace], before: Sequence[Trace]) -> dict[str, Any]:
    """Returns the paired difference of each measure, ready for JSON; of the accuracy as `outcome`."""
    found = paired_differences(after, before)
    return {"outcome" if name == "accuracy" else name: dataclasses.asdict(value) for name, value in found.items()}


def evaluation_settings(arguments: EvaluationArguments, settings: IAPOConfig) -> EvaluationSettings:
    """Returns how a training's policy is evaluated."""
    return EvaluationSettings(
        max_turn_tokens=settings.max_turn_tokens or settings.max_completion_length,
        temperature=arguments.eval_temperature,
        top_p=settings.top_p,
        seed=arguments.eval_seed,
        batch_size=arguments.eval_batch_size,
        max_sequence_length=settings.max_sequence_length,
        max_turns=settings.max_turns,
    )
