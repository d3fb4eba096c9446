"""Samples and rollouts in the forms that TRL takes: data sets, chat messages, padded tensors."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import datasets
import torch
from datasets import Dataset
from PIL import Image
from torch import Tensor

from iapo.data.pictures import encode_picture
from iapo.errors import InputError
from iapo.records import Sample, image_digest
from iapo.rollout.turns import Rollout


def to_dataset(samples: Sequence[Sample]) -> Dataset:
    """Lays samples out as `IAPOTrainer` reads them.

    Args:
        samples: The samples.

    Returns:
        Columns `prompt` (the question as a chat message, for logs), `image`, and `sample` (the rest, as JSON).
    """
    rows = Dataset.from_dict(
        {
            "prompt": [[{"role": "user", "content": sample.question}] for sample in samples],
            # Encoded here, since the library would compress a JPEG once more, and the pixels would be others.
            "image": [{"bytes": encode_picture(sample.image), "path": None} for sample in samples],
            "sample": [json.dumps(sample.to_json(image_path="")) for sample in samples],
        }
    )
    return rows.cast_column("image", datasets.Image())


def check_enough(samples: int, prompts: int) -> None:
    """Refuses a data set that does not fill a single batch: the sampler drops what is left over, so nothing is trained.

    Args:
        samples: How many samples there are.
        prompts: Different prompts of one batch, over all processes.

    Raises:
        InputError: If there are fewer samples than prompts.
    """
    if samples < prompts:
        raise InputError(
            f"the training data have {samples} sample(s), one batch has {prompts} prompts, so that nothing would be "
            "trained; give more data, or lower per_device_train_batch_size or gradient_accumulation_steps"
        )


def samples_of(rows: list[dict[str, Any]]) -> list[Sample]:
    """The rows' samples; the rows of a group share one object, and so one encoded prompt and picture."""
    parsed: dict[str, Sample] = {}
    for row in rows:
        if row["sample"] not in parsed:
            parsed[row["sample"]] = Sample.from_json(json.loads(row["sample"]), image=row["image"])
    return [parsed[row["sample"]] for row in rows]


def messages(one: Rollout) -> list[dict[str, Any]]:
    """The completion as chat messages, for reward functions and logs."""
    turns: list[dict[str, Any]] = [{"role": "assistant", "content": one.trace.turn_1}]
    if one.trace.turn_2 is not None:
        observation = "edited picture" if one.edits else (one.trace.result.error or "")
        turns += [
            {"role": "user", "content": f"OBSERVATION: {observation}"},
            {"role": "assistant", "content": one.trace.turn_2},
        ]
    return turns


def join_logprobs(
    rollouts: Sequence[Rollout], first: Sequence[list[float]], second: Sequence[list[float]]
) -> list[list[float]]:
    """Sampling log-probabilities of whole completions; 0 at the observation, which the loss leaves out."""
    rest = iter(second)
    joined = []
    for one, turn_1 in zip(rollouts, first, strict=True):
        values = list(turn_1)
        if one.trace.turn_2 is not None:
            observed = one.model_written.count(False)
            values += [0.0] * observed
            values += next(rest)[: len(one.completion_ids) - len(values)]
        joined.append(values)
    return joined


def picture_ids(pictures: Sequence[Sequence[Image.Image]]) -> Tensor:
    """Numbers each row's pictures, equal ones alike; shape (rows, most pictures), padded with -1."""
    # The rollouts of a group share the picture object, which then is hashed once.
    digests = {id(image): image for row in pictures for image in row}
    numbers: dict[str, int] = {}
    number = {key: numbers.setdefault(image_digest(image), len(numbers)) for key, image in digests.items()}
    most = max(len(row) for row in pictures)
    rows = [[number[id(image)] for image in row] for row in pictures]
    return torch.tensor([row + [-1] * (most - len(row)) for row in rows])
