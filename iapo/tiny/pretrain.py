"""Supervised pretraining of a tiny model on lessons: batches, loss, a one-cycle optimiser run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from iapo.prompt import PromptEncoder
from iapo.tiny.lessons import Lesson


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of the curriculum.

    Attributes:
        name: For logs and the manifest.
        steps: Optimiser steps.
        batch: Lessons a step.
        rate: Peak learning rate of the one-cycle schedule.
        mix: How many of a batch's lessons are of which kind, as weights.
        misuse: Share of calls that use a tool of the wrong axis, by family.
        wrong: Share of marked pictures, in sight lessons, that are marked along the wrong axis.
        unmarked: Share of sight lessons whose picture is not marked.
    """

    name: str
    steps: int
    batch: int
    rate: float
    mix: dict[str, float]
    misuse: dict[str, float]
    wrong: float = 0.0
    unmarked: float = 0.0


def collate(encoder: PromptEncoder, lessons: Sequence[Lesson]) -> tuple[dict[str, Tensor], Tensor]:
    """Pads lessons on the right into model inputs.

    Returns:
        The model's inputs, ids of shape (N, L), and labels of shape (N, L): -100 where nothing is learnt.
    """
    length = max(len(lesson.ids) for lesson in lessons)
    ids = torch.full((len(lessons), length), encoder.tokenizer.pad_token_id)
    mask = torch.zeros(len(lessons), length, dtype=torch.long)
    labels = torch.full((len(lessons), length), -100)
    for row, lesson in enumerate(lessons):
        used = len(lesson.ids)
        ids[row, :used] = torch.tensor(lesson.ids)
        mask[row, :used] = 1
        labels[row, :used] = torch.where(torch.tensor(lesson.learn), ids[row, :used], -100)
    inputs = {
        "input_ids": ids,
        "attention_mask": mask,
        "mm_token_type_ids": (ids == encoder.image_token_id).long(),
        **encoder.pixels([image for lesson in lessons for image in lesson.images]),
    }
    return inputs, labels


def lesson_loss(model: PreTrainedModel, inputs: dict[str, Tensor], labels: Tensor) -> Tensor:
    """Mean negative log-likelihood of the learnt tokens; logits are computed at their positions only."""
    hidden = model.model(**inputs, use_cache=False).last_hidden_state
    learnt = labels[:, 1:] != -100
    logits = model.lm_head(hidden[:, :-1][learnt])
    return cross_entropy(logits.float(), labels[:, 1:][learnt])


def run_stage(
    model: PreTrainedModel,
    encoder: PromptEncoder,
    lessons: Iterator[Lesson],
    stage: Stage,
    log: Callable[[dict[str, float | int | str]], None],
    every: int = 50,
) -> None:
    """Trains for one stage.

    Args:
        model: Trained in place.
        encoder: Its encoder.
        lessons: An endless stream, already mixed.
        stage: The settings.
        log: Called every `every` steps with `stage, step, loss, seconds`.
        every: Steps between log lines.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=stage.rate, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, stage.rate, total_steps=stage.steps, pct_start=0.15)
    model.train()
    start, losses = time.perf_counter(), []
    for step in range(1, stage.steps + 1):
        inputs, labels = collate(encoder, [next(lessons) for _ in range(stage.batch)])
        loss = lesson_loss(model, inputs, labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        if step % every == 0 or step == stage.steps:
            seconds = round(time.perf_counter() - start, 1)
            log({"stage": stage.name, "step": step, "loss": round(sum(losses) / len(losses), 4), "seconds": seconds})
            losses = []
    model.eval()
