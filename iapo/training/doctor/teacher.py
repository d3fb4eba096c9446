"""The teacher of a training, without its weights: its table, its tokenizer, its view of the prompts."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import ProcessorMixin

from iapo.attribution.settings import alignment_settings
from iapo.errors import InputError
from iapo.records import Sample
from iapo.rollout.budget import Budget, context_length, exact, lengths
from iapo.rollout.configuration import read_config
from iapo.rollout.load_settings import LoadSettings, settings_in
from iapo.rollout.loading import adapter_base
from iapo.rollout.names import resolve
from iapo.rollout.policy import load_processor, prompt_of, see_alike
from iapo.rollout.prompt import PromptEncoder, build_blocks
from iapo.teachers.references import StoredCalls
from iapo.teachers.table import TeacherTable
from iapo.tools import ToolDefinition
from iapo.training.config import IAPOConfig
from iapo.training.doctor.findings import Findings, share, some

CHECK = "teacher"


def opened(name: str, settings: LoadSettings, prompt: str | None = None) -> tuple[ProcessorMixin, Any]:
    """Returns a checkpoint's processor and configuration, its base's where it is an adapter; no weights are read.

    Args:
        name: A packaged checkpoint, a local folder or a hub id.
        settings: Settings of the loading.
        prompt: Prompt template, if not its own.

    Raises:
        InputError: As `iapo.rollout.policy.load_processor`.
    """
    path, revision = resolve(name), settings.model_revision
    if (base := adapter_base(path, revision)) is not None:
        path, revision = resolve(base[0]), base[1]
        settings = dataclasses.replace(settings, model_revision=revision)
    processor = load_processor(path, settings, prompt=prompt_of(name, prompt))
    return processor, read_config(path, revision)


def check_table(
    samples: Sequence[Sample],
    args: IAPOConfig,
    encoder: PromptEncoder,
    tools: Mapping[str, ToolDefinition],
    findings: Findings,
) -> None:
    """Looks every sample up in the stored teacher's table.

    Args:
        samples: The training samples.
        args: Settings of the training, with a table.
        encoder: The student's encoder.
        tools: The offered tools.
        findings: Where it is said.
    """
    assert args.teacher_table is not None
    with findings.refusals(CHECK):
        stored = StoredCalls(
            TeacherTable.read(Path(args.teacher_table)), alignment_settings(args), tools, encoder.template
        )
        missing, silent, reason = [], 0, ""
        for sample in samples:
            try:
                (row,) = stored.find([sample])
            except InputError as error:
                missing.append(sample)
                reason = reason or str(error)
            else:
                silent += row.distribution is None
        findings.numbers[CHECK] = {"samples": len(samples), "missing": len(missing), "without_call": silent}
        if missing:
            findings.error(
                CHECK,
                f"the stored teacher has nothing to compare with for {share(len(missing), len(samples))} samples "
                f"({some(missing)}); first: {reason}",
            )
        if silent and silent > len(samples) // 2:
            findings.warn(
                CHECK,
                f"the stored teacher made no call on {share(silent, len(samples))} samples, where the penalty teaches "
                "nothing",
            )


def check_teacher(
    name: str,
    samples: Sequence[Sample],
    args: IAPOConfig,
    student: PromptEncoder,
    tools: Mapping[str, ToolDefinition],
    findings: Findings,
) -> None:
    """Has a live teacher's processor encode the prompts, and compares it with the student's.

    Args:
        name: The teacher's checkpoint.
        samples: Training samples whose prompts the student can encode.
        args: Settings of the training.
        student: The student's encoder.
        tools: The offered tools.
        findings: Where it is said.
    """
    with findings.refusals(CHECK):
        processor, config = opened(name, settings_in(args, "teacher"))
        # As in the training, which compares the two on one view of an image.
        see_alike(processor, student.processor, None)
        encoder, context = PromptEncoder(processor, student.template), context_length(config)
        same = student.tokenizer.get_vocab() == encoder.tokenizer.get_vocab()
        findings.numbers[CHECK] = {"name": name, "context": context, "same_tokenizer": same}
        if not same:
            findings.warn(
                CHECK,
                f"the teacher {name} has another tokenizer than the student: it reads the student's calls in tokens of "
                "its own, and sees each block of the prompt in them",
            )
        other = _other_blocks(samples, student, encoder, tools)
        if other:
            findings.error(CHECK, f"the teacher {name} does not see the blocks of the student's prompts: {other}")
            return
        found = lengths(samples, encoder, tools, args.max_turns)
        if not found:
            return
        longest = exact(max(found, key=lambda one: one.prompt), encoder, tools)
        limit = Budget(args.max_turn_tokens, args.max_completion_length).first or 0
        if args.max_turns > 2:
            # The last turn that may call stands behind all the others.
            before = Budget(args.max_turn_tokens, args.max_completion_length, turns=args.max_turns - 1).all or 0
            limit = before + sum(longest.more)
        if longest.prompt + limit > context:
            findings.error(
                CHECK,
                f"the teacher {name} takes {context} tokens, but the prompt of sample {longest.sample.id!r} with the "
                f"turns that call may have {longest.prompt + limit}; set a smaller max_pixels, or leave the sample out",
            )


def _other_blocks(
    samples: Sequence[Sample], student: PromptEncoder, teacher: PromptEncoder, tools: Mapping[str, ToolDefinition]
) -> str:
    """Says of the first prompt whose blocks differ how they do; empty where none does."""
    for sample in samples:
        own = student.encode(build_blocks(sample, tools, student.template)).block_names
        try:
            seen = teacher.encode(build_blocks(sample, tools, teacher.template)).block_names
        except InputError as error:
            return f"sample {sample.id!r}: {error}"
        if own != seen:
            return f"sample {sample.id!r} has {', '.join(own)} for the student and {', '.join(seen)} for the teacher"
    return ""
