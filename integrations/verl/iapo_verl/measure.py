"""Attribution of a batch's calls by whoever holds the student: how far it is from the teacher's."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers import PreTrainedModel, ProcessorMixin

from iapo.attribution.settings import AttributionSettings, settings_of_run
from iapo.rewards.alignment import Alignment, Measured
from iapo.rollout.load_settings import load_settings
from iapo.rollout.policy import load_policy, see_alike
from iapo.rollout.turns import encode_prompts
from iapo.teachers.references import make_reference
from iapo_verl.data import sample_of
from iapo_verl.rollouts import again, find_tools, make_encoder

DEFAULTS: Mapping[str, Any] = {
    "attribution_eps": 0.01,
    "attribution_steps": 1,
    "attribution_batch_size": 32,
    "no_call_divergence": None,
    "max_turn_tokens": 512,
    "teacher_table": None,
}
"""Settings of `iapo train` that have to have a value, by name."""


class RowMeasure:
    """Measures the rows of a batch against a teacher.

    Args:
        settings: The settings of `iapo train` that say how (`teacher` or `teacher_table`, `attribution_*`,
            `teacher_reference`, `teacher_dtype`), and `prompt` and `offered` as for the agent loop.
        processor: The student's processor.
        device: Device of the teacher.

    Raises:
        InputError: If there is no teacher, or student and teacher cannot be compared.
    """

    def __init__(self, settings: Mapping[str, Any], processor: ProcessorMixin, device: torch.device) -> None:
        self.encoder = make_encoder(processor, settings.get("prompt"))
        self.tools = find_tools(settings.get("offered"))
        chosen = attribution_settings(settings)
        teacher = None
        if settings.get("teacher") is not None and chosen.teacher_table is None:
            dtype = {"dtype": settings["teacher_dtype"]} if settings.get("teacher_dtype") else {}
            teacher = load_policy(settings["teacher"], load_settings(dtype), prompt=self.encoder.template)
            see_alike(teacher.processor, processor)
        reference = make_reference(chosen, teacher, self.encoder, self.tools, device)
        self.alignment = Alignment(reference, self.encoder, chosen, self.tools)

    def __call__(self, student: PreTrainedModel, rows: Sequence[Mapping[str, Any]], step: int) -> list[Measured]:
        """Attributes the calls of rows, as `iapo.rewards.alignment.Alignment.measure`.

        Args:
            student: The student, with all of its parameters.
            rows: The rows' `raw_prompt`, `extra_info` and extra fields.
            step: Optimiser step.
        """
        # The rollouts of a group share one sample, and so one image and one encoded prompt.
        samples = {row["extra_info"]["sample"]: sample_of(row) for row in rows}
        prompts = dict(zip(samples, encode_prompts(list(samples.values()), self.encoder, self.tools), strict=True))
        rollouts = []
        for row in rows:
            record = row["extra_info"]["sample"]
            rollouts.append(again(row, samples[record], prompts[record], self.encoder, self.tools))
        return self.alignment.measure(student, rollouts, step)


def attribution_settings(settings: Mapping[str, Any]) -> AttributionSettings:
    """Returns how calls are attributed and compared.

    Args:
        settings: Settings of `iapo train` by name; those that are not given are as there.
    """
    given = {**DEFAULTS, **settings}
    chosen = settings_of_run(given)
    return dataclasses.replace(chosen, teacher_table=given["teacher_table"])
