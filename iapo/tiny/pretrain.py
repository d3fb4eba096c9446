"""Supervised pretraining of a tiny model on lessons: batches, losses, the optimiser's run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from iapo.data.synthetic import Chart
from iapo.rollout.prompt import PromptEncoder
from iapo.tiny.content import content_loss
from iapo.tiny.lessons import Habits, Lesson, LessonWriter
from iapo.tiny.names import CANONICAL, INVENTED, UNSEEN
from iapo.tiny.state import Counted, StageState

NAME_LAYER = 1
"""After this layer of the language model a definition's body has to name the tool."""

BODY_LAYER = 2
"""After this layer a tool's name, where it is called, has to say its definition's body."""

EARLY_WEIGHT = 0.5
"""Weight of each of these two losses."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of the curriculum.

    Attributes:
        name: Name for logs and the manifest.
        steps: Optimiser steps.
        rate: Learning rate; it rises for 50 steps and stays.
        falls: Whether it falls over the last 40% of the stage.
        settled: Whether calls settle on one style of tools; see `LessonWriter`.
        habits: Habits of its lessons, where they are not those of the recipe's others.
        batch: Number of each kind of lesson a step has: `names`, `questions`, `verdict`, `content`, `sight`, `call`,
            `episode`.
    """

    name: str
    steps: int
    rate: float
    batch: Mapping[str, int]
    falls: bool = False
    settled: bool = False
    habits: Habits | None = None


_Item = TypeVar("_Item")
_Taught = TypeVar("_Taught", contravariant=True)


class Taught(Protocol[_Taught]):
    """A model and the losses of its lessons, as `run_stage` trains it.

    Attributes:
        model: Trained in place.
    """

    model: PreTrainedModel

    def begin(self, stage: Stage) -> None:
        """Takes up what a stage changes in the lessons."""

    def loss(self, kind: str, items: Iterator[_Taught], count: int, rng: np.random.Generator) -> Tensor:
        """Returns the loss of one kind's share of a batch."""


class Teaching:
    """The losses of one model.

    Args:
        model: Trained in place.
        encoder: Its encoder.
        writer: Writes its lessons.
    """

    def __init__(self, model: PreTrainedModel, encoder: PromptEncoder, writer: LessonWriter) -> None:
        self.model, self.encoder, self.writer = model, encoder, writer
        tokenizer = encoder.tokenizer
        self._def_id: int = tokenizer("def ", add_special_tokens=False)["input_ids"][0]
        self._held_out = torch.tensor(name_ids(encoder, UNSEEN))
        self._fixed = torch.tensor(name_ids(encoder, (*CANONICAL, *INVENTED, *UNSEEN)))

    def fix_names(self) -> None:
        """Keeps the embeddings of tool names as they were drawn.

        Then names differ in nothing but chance, those that lessons hold and those that they do not, and whatever
        copies the former copies the latter.
        """
        weight = self.model.get_input_embeddings().weight
        weight.register_hook(lambda gradient: gradient.index_fill(0, self._fixed, 0.0))

    def begin(self, stage: Stage) -> None:
        """Takes up what a stage changes in the lessons."""
        self.writer.settled, self.writer.habits = stage.settled, stage.habits or self.writer.habits

    def loss(self, kind: str, items: Iterator[Chart], count: int, rng: np.random.Generator) -> Tensor:
        """Returns the loss of one kind's share of a batch.

        Args:
            kind: Kind as in `Stage.batch`.
            items: Source of the images.
            count: Number of lessons.
            rng: Draws the lessons.
        """
        if kind == "content":
            return content_loss(self.model, self.encoder, [next(items) for _ in range(count)], rng)
        texts = {"names": self.writer.names, "questions": self.writer.questions, "verdict": self.writer.verdict}
        if kind in texts:
            return self._lesson_loss([texts[kind](rng) for _ in range(count)])
        write = {"sight": self.writer.sight, "call": self.writer.call, "episode": self.writer.episode}[kind]
        return self._lesson_loss([write(next(items), rng) for _ in range(count)])

    def _lesson_loss(self, lessons: Sequence[Lesson]) -> Tensor:
        """Returns the mean negative log-likelihood of the learnt tokens, and, weighted, of what early layers have to
        say.

        Names that only measurements use take no part in any softmax.
        """
        inputs, labels = collate(self.encoder, lessons)
        found = self.model.model(**inputs, use_cache=False, output_hidden_states=True)
        loss = self._likelihood(found.last_hidden_state[:, :-1], labels[:, 1:])
        for layer, words in zip((NAME_LAYER, BODY_LAYER), self._definitions(inputs["input_ids"]), strict=True):
            if (words != -100).any():
                early = self.model.model.language_model.norm(found.hidden_states[layer])
                loss = loss + EARLY_WEIGHT * self._likelihood(early, words)
        return loss

    def _definitions(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Returns what definitions say: the name at each first token of a body, the body's at each later token of a
        name.

        Args:
            ids: Shape (N, L).

        Returns:
            Two tensors of shape (N, L), -100 elsewhere. A name that is asked for as `def name` is none that defines.
        """
        names, bodies = torch.full_like(ids, -100), torch.full_like(ids, -100)
        rows, places = (ids[:, :-2] == self._def_id).nonzero(as_tuple=True)
        for row, place in zip(rows.tolist(), places.tolist(), strict=True):
            name, body = ids[row, place + 1], ids[row, place + 2]
            if bodies[row, place + 1] != -100:
                continue
            names[row, place + 2] = name
            later = ids[row] == name
            later[: place + 2] = False
            bodies[row, later] = body
        return names, bodies

    def _likelihood(self, hidden: Tensor, labels: Tensor) -> Tensor:
        learnt = labels != -100
        logits = self.model.lm_head(hidden[learnt]).float()
        return cross_entropy(logits.index_fill(1, self._held_out, float("-inf")), labels[learnt])


def name_ids(encoder: PromptEncoder, names: Sequence[str]) -> list[int]:
    """Returns the token of each tool name, as it is where a bracket follows."""
    return [encoder.tokenizer(f"{name}(image_1", add_special_tokens=False)["input_ids"][0] for name in names]


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
    inputs = {"input_ids": ids, "attention_mask": mask}
    if images := [image for lesson in lessons for image in lesson.images]:
        inputs |= {"mm_token_type_ids": (ids == encoder.image_token_id).long(), **encoder.pixels(images)}
    return inputs, labels


def run_stage(
    teaching: Taught[_Item],
    items: Iterator[_Item],
    stage: Stage,
    rng: np.random.Generator,
    log: Callable[[dict[str, float | int | str]], None],
    every: int = 50,
    state: StageState | None = None,
) -> None:
    """Trains for one stage.

    Args:
        teaching: The model and its losses.
        items: An endless stream of what its lessons are about: images, families mixed.
        stage: The settings.
        rng: Draws the lessons.
        log: Callback, called every `every` steps with `stage, step, seconds` and the mean loss of each kind of lesson.
        every: Steps between log lines.
        state: Keeps where the stage is, and says where it goes on.

    Raises:
        iapo.stopping.Stopped: If the process was asked to stop, and there is a state to keep.
    """
    model, items = teaching.model, Counted(items)
    teaching.begin(stage)
    head = model.lm_head.weight
    decayed = [one for one in model.parameters() if one.ndim > 1 and one is not head]
    others = [head, *(one for one in model.parameters() if one.ndim < 2)]
    groups: list[dict[str, Any]] = [{"params": decayed, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=stage.rate, betas=(0.9, 0.98))

    def factor(step: int) -> float:
        fall = max(0.02, (stage.steps - step) / (0.4 * stage.steps)) if stage.falls else 1.0
        return min(1.0, (step + 1) / 50, fall)

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    model.train()
    start = time.perf_counter()
    losses: dict[str, list[float]] = {kind: [] for kind in stage.batch}
    done = 0
    if state is not None:
        done, begun = state.load(model, optimizer, schedule, rng, items)
        losses = begun or losses
    for step in range(done + 1, stage.steps + 1):
        optimizer.zero_grad(set_to_none=True)
        for kind, count in stage.batch.items():
            loss = teaching.loss(kind, items, count, rng)
            loss.backward()
            losses[kind].append(loss.item())
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % every == 0 or step == stage.steps:
            means = {kind: round(sum(values) / len(values), 4) for kind, values in losses.items() if values}
            log({"stage": stage.name, "step": step, **means, "seconds": round(time.perf_counter() - start, 1)})
            losses = {kind: [] for kind in stage.batch}
        if state is not None:
            state.after_step(step, model, optimizer, schedule, rng, items, losses)
    model.eval()
