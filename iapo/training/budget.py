"""Length limits in training: the trainer's budget, its data set's fit, and rollouts that are left out."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import torch
from accelerate import Accelerator
from datasets import Dataset
from PIL import Image
from torch import Tensor
from transformers.utils import logging

from iapo.images import open_image
from iapo.records import Sample
from iapo.rollout.budget import Budget, check_lengths, context_length, longest_sequence
from iapo.rollout.prompt import PromptEncoder
from iapo.rollout.turns import Rollout
from iapo.tools import TOOLS, ToolDefinition
from iapo.training.config import IAPOConfig

logger = logging.get_logger(__name__)


def training_budget(args: IAPOConfig, config: Any) -> Budget:
    """Returns the limits of a training's rollouts.

    Args:
        args: Settings of the training.
        config: Configuration of the student's model.

    Raises:
        InputError: If the longest sequence is longer than what the model, or vLLM as it is set up, takes.
    """
    longest = longest_sequence(args.max_sequence_length, training_context(args, config))
    return Budget(args.max_turn_tokens, args.max_completion_length, longest, args.max_turns)


def training_context(args: IAPOConfig, config: Any) -> int:
    """Returns how many tokens the student takes, where vLLM generates also there."""
    context = context_length(config)
    limit = args.vllm_max_model_length if args.use_vllm else None
    return context if limit is None else min(context, limit)


def check_samples(
    samples: Sequence[Sample],
    args: IAPOConfig,
    encoder: PromptEncoder,
    config: Any,
    tools: Mapping[str, ToolDefinition],
) -> None:
    """Refuses samples on which a training's rollout may not fit; their images' sizes are read, not their pixels.

    Raises:
        InputError: As `training_budget`, or if one does not fit.
    """
    check_lengths(samples, encoder, training_budget(args, config), training_context(args, config), tools)


def check_datasets(
    some: Sequence[Dataset | None],
    args: IAPOConfig,
    encoder: PromptEncoder,
    config: Any,
    tools: Mapping[str, ToolDefinition] = TOOLS,
) -> Budget:
    """Refuses data sets with samples on which a rollout may not fit, as `check_samples` does.

    Args:
        some: Data sets as `iapo.training.batches.to_dataset` makes them.
        args: Settings of the training.
        encoder: The student's encoder.
        config: Configuration of the student's model.
        tools: The offered tools.

    Returns:
        The limits of the training's rollouts.
    """
    for dataset in some:
        if dataset is not None:
            check_samples(dataset_samples(dataset), args, encoder, config, tools)
    return training_budget(args, config)


def dataset_samples(dataset: Dataset) -> list[Sample]:
    """Reads a data set's samples without decoding their images."""
    several = "more_images" in dataset.column_names
    rows = dataset.select_columns(["sample", "image", *(["more_images"] if several else [])])
    if isinstance(rows.features["image"], datasets.Image):
        rows = rows.cast_column("image", datasets.Image(decode=False))
    if several:
        rows = rows.cast_column("more_images", datasets.List(datasets.Image(decode=False)))
    return [
        Sample.from_json(
            json.loads(row["sample"]),
            image=_opened(row["image"]),
            more_images=[*map(_opened, row.get("more_images") or ())],
        )
        for row in rows
    ]


def _opened(image: Any) -> Image.Image:
    if isinstance(image, Image.Image):
        return image
    return open_image(Path(image["path"]) if image["bytes"] is None else io.BytesIO(image["bytes"]))


def leave_out(rewards: Tensor, rollouts: Sequence[Rollout], accelerator: Accelerator) -> Tensor:
    """Returns rewards without those of rollouts whose observation did not fit.

    TRL counts a row of NaN in no mean or deviation of its group, and gives it the advantage 0.

    Args:
        rewards: Rewards over all processes, shape (rollouts of all, columns).
        rollouts: Those of this process.
        accelerator: The trainer's accelerator.
    """
    cut = torch.tensor([one.trace.observation_cut for one in rollouts], device=rewards.device)
    if bool(cut.any()):
        first = next(one for one in rollouts if one.trace.observation_cut)
        logger.warning_once(
            f"What a tool gave for sample {first.trace.sample.id!r} did not fit into a sequence after "
            f"{len(first.prompt.ids)} tokens of prompt and {len(first.completion_ids)} behind it; it is left out of "
            "the loss. The share of such rollouts is logged as tools/observation_cut; see max_sequence_length."
        )
    return rewards.masked_fill(accelerator.gather(cut)[:, None], torch.nan)
