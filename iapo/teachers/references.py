"""The teacher's own calls as what students are compared with: live, or stored in a table (docs/method.md, section 4).

They depend on the sample alone, so that each is explained once.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import ProcessorMixin

from iapo.attribution.calls import CACHE_ROWS, Attributor, picture_digest
from iapo.attribution.settings import AttributionSettings
from iapo.errors import InputError
from iapo.grouping import distinct
from iapo.records import Sample
from iapo.rollout.generation import Greedy, make_generate
from iapo.rollout.policy import Policy
from iapo.rollout.prompt import Block, EncodedPrompt, PromptEncoder, build_blocks
from iapo.rollout.template import TINY, PromptTemplate, find_prompt
from iapo.rollout.turns import Rollout
from iapo.teachers.controls import random_twin
from iapo.teachers.own_turns import explained_turns
from iapo.teachers.student_call import StudentCall, read_alike
from iapo.teachers.table import TeacherRow, TeacherTable
from iapo.tools import TOOLS, ToolDefinition


class OwnCall:
    """The live teacher writes its own call to a sample, greedily and without the student, and explains it once.

    Args:
        teacher: The teacher; it is put into evaluation mode and its parameters are frozen.
        settings: Settings of the attribution, and the limit of the teacher's turn.
        tools: The offered tools.
        cache_rows: Number of samples' rows are remembered; the oldest is forgotten first.
        template: Template of the prompts, the student's; the teacher's own if None.
        student: Encoder of the student, which is taken for the teacher's where they read alike: what one has made of
            images, the other need not make again.

    Attributes:
        teacher: The teacher.
        template: Template of the prompts.
    """

    per_sample = True

    def __init__(
        self,
        teacher: Policy,
        settings: AttributionSettings,
        tools: Mapping[str, ToolDefinition] = TOOLS,
        cache_rows: int = CACHE_ROWS,
        template: PromptTemplate | None = None,
        student: PromptEncoder | None = None,
    ) -> None:
        model = teacher.model.eval().requires_grad_(False)
        self.teacher, self.settings, self.tools, self.cache_rows = teacher, settings, tools, cache_rows
        alike = (
            student is not None and template == student.template and read_alike(teacher.processor, student.processor)
        )
        self.encoder = student if student is not None and alike else PromptEncoder(teacher.processor, template)
        self._reads_alike = alike
        self.template = self.encoder.template
        self._generate = make_generate(teacher, self.encoder, max_new_tokens=settings.max_turn_tokens)
        self._greedy = Greedy.of(teacher, self.encoder, settings.max_turn_tokens)
        self._attributor = Attributor(model, self.encoder.pixels, settings, tokenizer=self.encoder.tokenizer)
        self._rows: dict[tuple[str, str], TeacherRow] = {}

    def distributions(self, rollouts: Sequence[Rollout]) -> Tensor:
        # What the student has read is the teacher's prompt, too, where they read alike.
        prompts = [one.prompt for one in rollouts] if self._reads_alike else None
        return _stack(self.explain([one.trace.sample for one in rollouts], prompts))

    def explain(self, samples: Sequence[Sample], prompts: Sequence[EncodedPrompt] | None = None) -> list[TeacherRow]:
        """Returns the teacher's own call to each sample, explained; computed where it is not known yet.

        Args:
            samples: The samples.
            prompts: Their prompts as `encoder` has them; they are encoded here if None.
        """
        keys = self.names(samples)
        known = {key: self._rows[key] for key in keys if key in self._rows}
        missing = {key: index for index, key in enumerate(keys) if key not in known}
        order = list(missing)
        for start in range(0, len(order), self.settings.batch_size):
            some = order[start : start + self.settings.batch_size]
            places = [missing[key] for key in some]
            read = None if prompts is None else [prompts[place] for place in places]
            known.update(zip(some, self._explain([samples[place] for place in places], some, read), strict=True))
        self.remember(known.values())
        return [known[key] for key in keys]

    def names(self, samples: Sequence[Sample]) -> list[tuple[str, str]]:
        """Returns each sample's name, and the digest of its prompt."""
        return [
            (sample_name(sample), digest) for sample, (_, digest) in _with_prompts(samples, self.tools, self.template)
        ]

    def remember(self, rows: Iterable[TeacherRow]) -> None:
        """Takes rows as explained."""
        self._rows.update({(row.sample, row.prompt): row for row in rows})
        while len(self._rows) > self.cache_rows:
            del self._rows[next(iter(self._rows))]

    def to_state(self) -> list[tuple[Any, ...]]:
        """Returns what is remembered, for a checkpoint.

        Explained anew, among other samples, a row may differ in its last bits, and a training that goes on would
        differ from one that was not stopped.
        """
        return [dataclasses.astuple(row) for row in self._rows.values()]

    def load_state(self, state: Iterable[Sequence[Any]]) -> None:
        """Takes what `to_state` returned."""
        self.remember(
            TeacherRow(name, tuple(names), None if shares is None else tuple(shares), call, prompt)
            for name, names, shares, call, prompt in state
        )

    def _explain(
        self, samples: Sequence[Sample], keys: Sequence[tuple[str, str]], prompts: Sequence[EncodedPrompt] | None
    ) -> list[TeacherRow]:
        turns = explained_turns(
            samples, self.encoder, self._generate, self._attributor, self.tools, self._greedy, prompts
        )
        return [
            TeacherRow(
                name,
                turn.block_names,
                turn.distribution,
                None if turn.distribution is None else turn.first.text,
                digest,
            )
            for (name, digest), turn in zip(keys, turns, strict=True)
        ]


class StoredCalls:
    """The teacher's own calls from a table; no teacher is loaded.

    Args:
        table: The table.
        settings: The run's attribution settings.
        tools: The offered tools.
        template: Template of the run's prompts; that of the packaged tiny models if None.
        processor: The student's processor, which must see images as the teacher did; None compares nothing.

    Attributes:
        template: Template of the prompts.

    Raises:
        InputError: If the table was made with other attribution settings, or with another prompt.
    """

    per_sample = True

    def __init__(
        self,
        table: TeacherTable,
        settings: AttributionSettings,
        tools: Mapping[str, ToolDefinition] = TOOLS,
        template: PromptTemplate | None = None,
        processor: ProcessorMixin | None = None,
    ) -> None:
        self.template = find_prompt(TINY) if template is None else template
        table.check_settings(settings)
        table.check_prompt(self.template.name, self.template.digest)
        self.table, self.settings, self.tools, self.processor = table, settings, tools, processor

    def distributions(self, rollouts: Sequence[Rollout]) -> Tensor:
        return _stack(self.find([one.trace.sample for one in rollouts]))

    def find(self, samples: Sequence[Sample]) -> list[TeacherRow]:
        """Returns the rows of samples; before a training, this also says whether the table fits it.

        Raises:
            InputError: If a sample has no row, its row is of another prompt, or its image was seen otherwise.
        """
        if self.processor is not None:
            self.table.check_view(self.processor, (image.size for one in samples for image in one.images))
        return [
            self.table.find(sample_name(sample), self.settings.compared(names), digest)
            for sample, (names, digest) in _with_prompts(samples, self.tools, self.template)
        ]

    def covers(self, samples: Sequence[Sample]) -> bool:
        """Tells whether every sample has a row, of whatever prompt."""
        return all(sample_name(sample) in self.table.rows for sample in samples)


def make_reference(
    settings: AttributionSettings,
    teacher: Policy | None,
    encoder: PromptEncoder,
    tools: Mapping[str, ToolDefinition] = TOOLS,
    device: torch.device | None = None,
) -> Reference:
    """Makes what `iapo.rewards.alignment.Alignment` measures against, as the settings say.

    Args:
        settings: With `teacher_table`, the table is read and no teacher is needed.
        teacher: The loaded teacher; not used with a table.
        encoder: The student's encoder; the teacher is asked with its prompt template.
        tools: The offered tools.
        device: Device that the teacher is moved to; it stays where it is if None.

    Returns:
        A `StudentCall`, `OwnCall`, `StoredCalls` or `Both`. Making a live one hashes the teacher's weights,
        so that it should be made once.

    Raises:
        InputError: If there is neither a teacher nor a table, or the table cannot be used with these settings.
    """
    if settings.teacher_table is not None:
        table = TeacherTable.read(Path(settings.teacher_table))
        return StoredCalls(table, settings, tools, encoder.template, encoder.processor)
    if teacher is None:
        raise InputError("there is no teacher to compare with; set `teacher` or `teacher_table`")
    # A model that Accelerate placed, or that is quantised, stays where it is.
    stays = hasattr(teacher.model, "hf_device_map") or getattr(teacher.model, "is_quantized", False)
    if device is not None and not stays:
        teacher.model.to(device)
    if settings.control == "teacher_random":
        teacher = random_twin(teacher, settings.control_seed)
    if settings.teacher_reference == "student_call":
        return StudentCall(teacher, encoder, settings, tools)
    own = OwnCall(teacher, settings, tools, template=encoder.template, student=encoder)
    return Both(own, StudentCall(teacher, encoder, settings, tools)) if settings.teacher_reference == "both" else own


def sample_name(sample: Sample) -> str:
    """Returns the source and id, which together tell a sample apart."""
    return f"{sample.source}/{sample.id}"


def prompt_digest(blocks: Sequence[Block]) -> str:
    """Returns SHA-256 of a prompt's blocks: their types, names, texts and images."""
    parts = [
        (block.type, block.name, block.text, None if block.image is None else picture_digest(block.image))
        for block in blocks
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _with_prompts(
    samples: Sequence[Sample], tools: Mapping[str, ToolDefinition], template: PromptTemplate
) -> list[tuple[Sample, tuple[tuple[str, ...], str]]]:
    """Returns each sample with the block names and the digest of its prompt; the rollouts of a group share one
    sample.
    """
    different, places = distinct(samples)
    prompts = [build_blocks(sample, tools, template) for sample in different]
    known = [(tuple(block.name for block in blocks), prompt_digest(blocks)) for blocks in prompts]
    return [(sample, known[place]) for sample, place in zip(samples, places, strict=True)]


def _stack(rows: Sequence[TeacherRow]) -> Tensor:
    """Returns distributions, shape (n, m); NaN where the teacher made no call."""
    return torch.tensor([row.distribution or (math.nan,) * len(row.block_names) for row in rows])


class Reference(Protocol):
    """Where the teacher's distributions come from.

    Attributes:
        per_sample: Whether they depend on the sample alone. If so they are asked for rollouts without a call as well,
            and the teacher may have none for a sample.
    """

    per_sample: bool

    def distributions(self, rollouts: Sequence[Rollout]) -> Tensor:
        """Returns the teacher's distributions over the compared blocks, shape (n, m), fp32, on the CPU.

        Rows are numbers above 0 that sum to 1, those of the normalisation `signed` shares whose magnitudes do, and rows
        of NaN where it has none; anything else of the user's own is refused (`iapo.teachers.own`).
        """


class Both:
    """A live teacher that explains its own call and the student's; the divergence is the mean of the two.

    Args:
        own: The reference of the teacher's own calls.
        student: The reference of the student's.

    Attributes:
        parts: Both.
        template: Template of the prompts.
    """

    per_sample = True

    def __init__(self, own: OwnCall, student: StudentCall) -> None:
        self.parts: tuple[Reference, ...] = (own, student)
        self.template = student.template

    def distributions(self, rollouts: Sequence[Rollout]) -> Tensor:
        """Returns the mean of the two distributions, which records show; all rollouts must have a call."""
        return torch.stack([part.distributions(rollouts) for part in self.parts]).mean(0)
