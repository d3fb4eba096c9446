"""Samples before a training: damage, boxes, names, gold answers, and whether they fill a batch."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence

from iapo.data.damage import Damage
from iapo.data.sources import Part
from iapo.errors import InputError
from iapo.grading.outcome import grade_sample
from iapo.records import AXES, Sample
from iapo.rollout.prompt import PromptEncoder, build_blocks
from iapo.tools import ToolDefinition
from iapo.training.arguments import RunArguments
from iapo.training.checks import check_enough
from iapo.training.config import IAPOConfig
from iapo.training.doctor.findings import Findings, boxes_of, share, some
from iapo.training.run import run_samples, shared_pictures

CHECK = "data"


def read(arguments: RunArguments, part: Part, findings: Findings) -> list[Sample]:
    """Reads the samples of a training's part, damaged rows left out and said.

    Args:
        arguments: Arguments of the run.
        part: `train` or `test`.
        findings: Where it is said.

    Returns:
        The samples; none where they cannot be read at all.
    """
    damages: list[Damage] = []
    samples: list[Sample] = []
    strict = arguments.data_damage == "strict"
    tolerant = dataclasses.replace(arguments, data_damage="quarantine")
    with findings.refusals(CHECK):
        samples = run_samples(tolerant, part, damages.append)
    if damages:
        text = f"{len(damages)} row(s) of the {part} data are damaged, the first: {damages[0]}"
        if strict:
            findings.error(CHECK, f"{text}; mend them, or set data_damage to quarantine")
        else:
            findings.warn(CHECK, f"{text}; they are left out")
    return samples


def check_data(
    train: Sequence[Sample],
    test: Sequence[Sample],
    arguments: RunArguments,
    args: IAPOConfig,
    tools: Mapping[str, ToolDefinition],
    findings: Findings,
) -> None:
    """Looks at samples alone: numbers of them, boxes, names, answers.

    Args:
        train: The training samples.
        test: The held-out ones.
        arguments: Arguments of the run.
        args: Settings of the training.
        tools: The offered tools.
        findings: Where it is said.
    """
    findings.numbers[CHECK] = {
        "train": len(train),
        "test": len(test),
        "kinds": Counter(sample.kind for sample in train),
        "axes": Counter(sample.axis or "either" for sample in train),
    }
    if not train:
        return
    with findings.refusals(CHECK):
        check_enough(train, args)
    if arguments.data is not None and test:
        with findings.refusals(CHECK):
            shared = shared_pictures(train, test)
            if any(shared.values()):
                same = f"{shared['exact']} exactly, {shared['near']} nearly"
                findings.warn(CHECK, f"images of {sum(shared.values())} test samples are trained on as well ({same})")
    for what, samples in (("training", train), ("test", test)):
        if samples:
            _check_boxes(samples, what, tools, findings)
            _check_texts(samples, what, findings)


def _check_boxes(samples: Sequence[Sample], what: str, tools: Mapping[str, ToolDefinition], findings: Findings) -> None:
    offered = [axis for axis in AXES if any(tool.axis == axis for tool in tools.values())]
    # A free tool works without boxes, or says by its call that it does not.
    focusing = all(tool.free is None for tool in tools.values())
    without = [sample for sample in samples if not any(boxes_of(sample, axis) for axis in offered)]
    if without and focusing:
        axes = " or ".join(offered)
        report = findings.error if len(without) == len(samples) else findings.warn
        report(
            CHECK,
            f"{share(len(without), len(samples))} {what} samples have no boxes of {axes}, which all offered tools need "
            f"({some(without)}): every call on them fails; find boxes (docs/boxes.md), or leave them out",
        )
    for axis in offered:
        if not any(boxes_of(sample, axis) for sample in samples) and len(without) < len(samples):
            names = ", ".join(name for name, tool in tools.items() if tool.axis == axis and tool.free is None)
            if not names:
                continue
            findings.error(
                CHECK,
                f"no {what} sample has boxes of {axis}, but tools for them are offered ({names}): every call of one "
                "fails; find such boxes (docs/boxes.md), or offer the other tools alone (`tools`)",
            )


def _check_texts(samples: Sequence[Sample], what: str, findings: Findings) -> None:
    empty = [sample for sample in samples if _is_empty(sample)]
    if empty:
        findings.error(
            CHECK,
            f"{share(len(empty), len(samples))} {what} samples have an empty gold answer ({some(empty)}): every "
            "rollout on them is graded 0; leave them out",
        )
    unmet = [sample for sample in samples if not _is_empty(sample) and not _can_be_met(sample)]
    if unmet:
        findings.warn(
            CHECK,
            f"{share(len(unmet), len(samples))} {what} samples have a gold answer that is graded wrong when it is "
            f"repeated ({some(unmet)}, whose gold is {' || '.join(unmet[0].answers)!r}): no rollout on them can be "
            "right; write the answer otherwise (docs/grading.md)",
        )
    silent = [sample for sample in samples if not sample.question.strip()]
    if silent:
        findings.error(CHECK, f"{share(len(silent), len(samples))} {what} samples ask nothing ({some(silent)})")
    odd = [
        (sample, name) for sample in samples for name in _names(sample) if name != " ".join(name.split()) or not name
    ]
    if odd:
        findings.warn(
            CHECK,
            f"{len(odd)} names of boxes of the {what} samples are empty or have white space that nobody can read off "
            f"the image, for example {odd[0][1]!r} of sample {odd[0][0].id!r}: a call must repeat it to the letter",
        )


def check_controls(
    samples: Sequence[Sample], encoder: PromptEncoder, tools: Mapping[str, ToolDefinition], findings: Findings
) -> list[Sample]:
    """Reports samples whose prompts cannot be encoded, such as those with control tokens in the question.

    Args:
        samples: The samples, each of which is encoded.
        encoder: The student's encoder.
        tools: The offered tools.
        findings: Where it is said.

    Returns:
        The samples that can.
    """
    fine, failed, first = [], [], ""
    for sample in samples:
        try:
            encoder.encode(build_blocks(sample, tools, encoder.template))
        except InputError as error:
            failed.append(sample)
            first = first or str(error)
        else:
            fine.append(sample)
    if failed:
        text = f"prompts of {share(len(failed), len(samples))} samples cannot be made ({some(failed)}): {first}"
        findings.error(CHECK, f"{text}; the run would end where one is drawn")
    return fine


def _is_empty(sample: Sample) -> bool:
    return not any(answer.strip() for answer in sample.answers)


def _names(sample: Sample) -> tuple[str, ...]:
    return (*sample.column_boxes, *sample.row_boxes)


def _can_be_met(sample: Sample) -> bool:
    return grade_sample(f"FINAL ANSWER: {' || '.join(sample.answers)}. TERMINATE", sample).value == 1
