"""Samples and rollouts in the forms that TRL takes: data sets, chat messages, padded tensors."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import datasets
import torch
from datasets import Dataset
from PIL import Image
from torch import Tensor

from iapo.data.pictures import encode_picture, reopen
from iapo.grouping import distinct
from iapo.records import Sample, image_digest, images_digest
from iapo.rewards.alignment import Measured
from iapo.rollout.prompt import EncodedPrompt
from iapo.rollout.turns import Rollout
from iapo.runs import data_hash, records_hash
from iapo.samples import sample_list


@dataclass(slots=True)
class Batch:
    """What is known of the generation batch in hand; TRL asks for its parts one after the other.

    Attributes:
        samples: One a rollout; the rollouts of a group share one object.
        prompts: Their encoded prompts.
        rollouts: The finished rollouts; empty until all turns are written.
        measured: The rollouts' attributions; empty where none are measured.
        rewards: Values of the reward's columns over all processes, shape (rollouts of all, columns); None until then.
        picture_ids: Numbers of each rollout's images, equal ones alike, shape (rollouts, most images), padded with -1.
        log_probs: Log-probabilities with which each rollout's completion was sampled; None where they are not known.
        seconds: What rollouts took before TRL's path asks for them.
    """

    samples: list[Sample]
    prompts: list[EncodedPrompt] = field(default_factory=list)
    rollouts: list[Rollout] = field(default_factory=list)
    measured: list[Measured] = field(default_factory=list)
    rewards: Tensor | None = None
    picture_ids: Tensor | None = None
    log_probs: list[list[float]] | None = None
    seconds: float = 0.0


def to_dataset(samples: Iterable[Sample]) -> Dataset:
    """Lays samples out as `IAPOTrainer` reads them.

    Args:
        samples: The samples; a generator is read as a whole first.

    Returns:
        Columns `prompt` (the question as a chat message, for logs), `image`, `image_digest` (what tells images apart
        without their pixels, `iapo.records.images_digest`), `sample` (the rest, as JSON), and `more_images` where a
        sample has several.

    Raises:
        InputError: If they are no samples.
    """
    samples = sample_list(samples)
    several = any(sample.more_images for sample in samples)
    more = {"more_images": [[_encoded(image) for image in sample.more_images] for sample in samples]}
    rows = Dataset.from_dict(
        {
            "prompt": [[{"role": "user", "content": sample.question}] for sample in samples],
            # Encoded here, since the library would compress a JPEG once more, and the pixels would be others.
            "image": [_encoded(sample.image) for sample in samples],
            # Of the image opened anew, so that looking at all pixels does not keep them.
            "image_digest": [images_digest([*map(reopen, sample.images)]) for sample in samples],
            "sample": [json.dumps(sample.to_json(image_path="")) for sample in samples],
            **(more if several else {}),
        }
    )
    rows = rows.cast_column("image", datasets.Image())
    return rows.cast_column("more_images", datasets.List(datasets.Image())) if several else rows


def _encoded(image: Image.Image) -> dict[str, Any]:
    return {"bytes": encode_picture(image), "path": None}


def samples_of(rows: list[dict[str, Any]]) -> list[Sample]:
    """Reads the samples of rows; equal rows (a group) share one object, and so one encoded prompt and image.

    Args:
        rows: Rows of `to_dataset`. TRL repeats each row of a group, its image decoded anew, so that neither the object
            nor the JSON tells rows apart. Rows without `image_digest` have their images compared.
    """
    parsed: dict[tuple[str, str], Sample] = {}
    samples = []
    for row in rows:
        more = row.get("more_images") or []
        key = row["sample"], row.get("image_digest") or images_digest([row["image"], *more])
        if key not in parsed:
            parsed[key] = Sample.from_json(json.loads(row["sample"]), image=row["image"], more_images=more)
        samples.append(parsed[key])
    return samples


def dataset_hash(dataset: Dataset) -> str:
    """Returns `iapo.runs.data_hash` of the samples of a data set that `to_dataset` made, without reading an image
    twice.
    """
    if "image_digest" not in dataset.column_names:
        return data_hash(samples_of([row])[0] for row in dataset)
    rows = dataset.select_columns(["sample", "image_digest"])
    return records_hash((json.loads(row["sample"]), row["image_digest"]) for row in rows)


def messages(one: Rollout) -> list[dict[str, Any]]:
    """Returns the completion as chat messages, for reward functions and logs."""
    turns: list[dict[str, Any]] = [{"role": "assistant", "content": one.trace.turn_1}]
    for seen, turn in zip(one.observations, one.turns[1:], strict=True):
        pictured = seen.shown.image is not None and seen.shown.said is None
        observation = "edited picture" if pictured else (seen.shown.said or seen.shown.text or "")
        turns += [
            {"role": "user", "content": f"OBSERVATION: {observation}"},
            {"role": "assistant", "content": turn.text},
        ]
    return turns


def finished(batch: Batch) -> tuple[Any, ...]:
    """Returns a batch's finished rollouts as TRL's `_tool_call_loop` does: what the loss counts of each completion,
    chats, completions and their log-probabilities, how many calls there were, how many of them failed, edited images.

    The loss counts what the model wrote, of a rollout that could be finished. One whose observation did not fit has no
    answer, which is no fault of the model's.
    """
    rollouts = batch.rollouts
    results = [result for one in rollouts for result in one.trace.results]
    return (
        [[int(written and not one.trace.observation_cut) for written in one.model_written] for one in rollouts],
        [messages(one) for one in rollouts],
        [one.completion_ids for one in rollouts],
        batch.log_probs,
        len(results),
        sum(not result.executed for result in results),
        [one.edits for one in rollouts],
    )


def join_logprobs(rollouts: Sequence[Rollout], rounds: Sequence[Sequence[list[float]]]) -> list[list[float]]:
    """Returns the sampling log-probabilities of whole completions; 0 at observations, which the loss leaves out.

    Args:
        rollouts: The rollouts.
        rounds: For the first turns, the second ones and so on, those of each rollout that has such a turn, in order.
    """
    left = [iter(some) for some in rounds]
    joined = []
    for one in rollouts:
        values: list[float] = []
        for number, turn in enumerate(one.turns):
            if number:
                values += [0.0] * len(one.observations[number - 1].ids)
            values += next(left[number])[: len(turn.ids)]
        joined.append(values)
    return joined


def picture_ids(pictures: Sequence[Sequence[Image.Image]]) -> Tensor:
    """Numbers each row's images, equal ones alike; shape (rows, most images), padded with -1."""
    # The rollouts of a group share the image object, which then is hashed once.
    different, places = distinct(image for row in pictures for image in row)
    numbers: dict[str, int] = {}
    number = [numbers.setdefault(image_digest(image), len(numbers)) for image in different]
    most = max(len(row) for row in pictures)
    rest = iter(places)
    rows = [[number[next(rest)] for _ in row] for row in pictures]
    return torch.tensor([row + [-1] * (most - len(row)) for row in rows])
