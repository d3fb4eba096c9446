"""Transcripts -> token sequences that are exactly what a rollout with these turns would be, and batches of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from PIL import Image
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from iapo.errors import InputError
from iapo.grading.outcome import grade_sample
from iapo.records import Sample
from iapo.rollout.budget import Budget
from iapo.rollout.prompt import PromptEncoder
from iapo.rollout.template import check_wording
from iapo.rollout.turns import Rollout, encode_prompts, finish
from iapo.tools import ToolDefinition
from iapo.training.batches import samples_of

Keep = Literal["correct", "all"]
"""Which transcripts are trained on: those whose final answer is graded right, or all."""

IGNORED = -100
"""Label of the tokens that are not learnt: the prompt, the observation, padding."""


class TranscriptError(InputError):
    """Turns that the protocol cannot have; the message is the reason, one sentence."""


@dataclass(frozen=True, slots=True)
class Example:
    """One token sequence to learn.

    Attributes:
        ids: Prompt, turn 1, observation, turn 2, and so on.
        labels: The same ids where the model writes, end-of-turn tokens included; elsewhere `IGNORED`.
        images: The sample's image and, behind each call, the edited one.
    """

    ids: list[int]
    labels: list[int]
    images: list[Image.Image]


class ExampleMaker:
    """Lays transcripts out as the policy's rollouts are: the same code executes, encodes and observes.

    Args:
        encoder: The policy's encoder.
        tools: The offered tools.
        turns: Most turns of a rollout; with more than two, observations say that another program may follow.

    Raises:
        InputError: If there cannot be that many, or the encoder's template is worded for fewer.
    """

    def __init__(self, encoder: PromptEncoder, tools: Mapping[str, ToolDefinition], turns: int = 2) -> None:
        self.encoder, self.tools, self.budget = encoder, tools, Budget(turns=turns)
        check_wording(encoder.template, turns)

    def rollout(self, sample: Sample, turns: Sequence[str]) -> Rollout:
        """Rolls out given turns.

        Args:
            sample: The sample.
            turns: Turns with a program, if any, and the turn with the answer.

        Raises:
            TranscriptError: If a program is refused or fails, no answer follows a program, a turn follows one without a
                program, or there are too many.
        """
        if len(turns) > self.budget.turns:
            raise TranscriptError(f"there are {len(turns)} turns, and max_turns is {self.budget.turns}")
        first, *rest = [self._ids(text) for text in turns]
        left = iter(rest)
        (one,) = finish(
            [sample],
            encode_prompts([sample], self.encoder, self.tools),
            [first],
            self.encoder,
            lambda rows, images: [next(left, [])],
            tools=self.tools,
            budget=self.budget,
        )
        for result in one.trace.results:
            if not result.executed:
                raise TranscriptError(f"the program is not carried out: {result.error}")
        ordinals = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth")
        if len(one.turns) > len(turns):
            last, missing = ordinals[len(turns) - 1], ordinals[len(turns)]
            raise TranscriptError(f"the {last} turn has a program, and no {missing} turn follows it")
        if len(one.turns) < len(turns):
            count = "two" if len(turns) == 2 else len(turns)
            raise TranscriptError(f"there are {count} turns, and the {ordinals[len(one.turns) - 1]} has no program")
        return one

    def example(self, sample: Sample, turns: Sequence[str]) -> Example:
        """Lays a transcript out as tokens and labels; raises as `rollout`."""
        one = self.rollout(sample, turns)
        written = zip(one.completion_ids, one.model_written, strict=True)
        labels = [IGNORED] * len(one.prompt.ids) + [token if own else IGNORED for token, own in written]
        return Example(one.prompt.ids + one.completion_ids, labels, one.images)

    def _ids(self, text: str) -> list[int]:
        tokenizer = self.encoder.tokenizer
        if control := self.encoder.control.find(text):
            raise TranscriptError(f"a turn holds the control token {control}")
        ids: list[int] = tokenizer(text.strip(), add_special_tokens=False)["input_ids"]
        return [*ids, tokenizer.eos_token_id]


def is_right(sample: Sample, turns: Sequence[str]) -> bool:
    """Tells whether the last turn's final answer is graded right, by the rules alone (docs/grading.md)."""
    return grade_sample(turns[-1], sample).value == 1.0


class Collator:
    """Makes a batch of rows: padded tokens, and the patches of all their images.

    Args:
        maker: Lays the rows' transcripts out.
    """

    def __init__(self, maker: ExampleMaker) -> None:
        self.maker = maker

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """Lays rows out.

        Args:
            rows: Rows of `iapo.training.batches.to_dataset` with `turns`.

        Returns:
            `input_ids`, `labels`, `attention_mask` and `mm_token_type_ids` of shape (rows, longest), padded on the
            right; `pixel_values` of shape (patches, features) and `image_grid_thw` of shape (images, 3).
        """
        encoder = self.maker.encoder
        samples = samples_of([dict(row) for row in rows])
        examples = [self.maker.example(sample, row["turns"]) for sample, row in zip(samples, rows, strict=True)]
        ids = _padded([one.ids for one in examples], encoder.tokenizer.pad_token_id)
        return {
            "input_ids": ids,
            "labels": _padded([one.labels for one in examples], IGNORED),
            "attention_mask": _padded([[1] * len(one.ids) for one in examples], 0),
            "mm_token_type_ids": (ids == encoder.image_token_id).long(),
            **encoder.pixels([image for one in examples for image in one.images]),
        }


def _padded(rows: Sequence[list[int]], value: int) -> Tensor:
    return pad_sequence([torch.tensor(row) for row in rows], batch_first=True, padding_value=value)
