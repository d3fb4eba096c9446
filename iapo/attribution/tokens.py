"""Attribution of single tokens, and where in the image they lie: what a heat map shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from iapo.attribution.divergence import summed
from iapo.attribution.gradient import CallInput, Pictures, block_scores
from iapo.attribution.memory import Budget
from iapo.attribution.prefix import prefix_block_scores
from iapo.attribution.vision import image_places

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def token_scores(model: PreTrainedModel, call: CallInput, pictures: Pictures | None = None, steps: int = 1) -> Tensor:
    """Scores every prompt token of a call: `a_i = <ds/de_i, e_i>`, which summed over a block is that block's score.

    Args:
        model: A Qwen2.5-VL or Qwen3-VL model, unwrapped; its mode and its parameters' `.grad` are left alone.
        call: Call to explain.
        pictures: The images that `CallInput.pictures` refers to.
        steps: Number of points of the integrated path, as in `block_scores`; 1 is gradient x embedding.

    Returns:
        Scores, shape (P,), fp32, on the model's device.

    Raises:
        ValueError: If `steps` is below 1.
    """
    return block_scores(model, _by_token([call]), pictures, steps)[0]


def all_token_scores(
    model: PreTrainedModel,
    calls: Sequence[CallInput],
    pictures: Pictures | None = None,
    steps: int = 1,
    budget: Budget | None = None,
) -> list[Tensor]:
    """Scores every prompt token of many calls; prompts that calls share run once where `steps` is 1.

    Args:
        model: A Qwen2.5-VL or Qwen3-VL model, unwrapped; its mode and its parameters are left as they are.
        calls: Calls to explain.
        pictures: The images that `CallInput.pictures` refers to.
        steps: Number of points of the integrated path; 1 is gradient x embedding.
        budget: Tokens in one graph; None does not limit them.

    Returns:
        One tensor a call, shape (P,) of its own prompt, fp32, on the model's device.

    Raises:
        ValueError: If there is no call, or `steps` is below 1.
    """
    split = _by_token(calls)
    if steps == 1:
        scores = prefix_block_scores(model, split, pictures, budget=budget)
    else:
        scores = block_scores(model, split, pictures, steps, budget)
    return [row[: len(call.prompt_ids)] for row, call in zip(scores, calls, strict=True)]


def _by_token(calls: Sequence[CallInput]) -> list[CallInput]:
    """Makes each prompt token a block of its own; calls of a batch must have the same number of blocks."""
    most = max((len(call.prompt_ids) for call in calls), default=0)
    return [replace(call, block_of=range(len(call.prompt_ids)), blocks=most) for call in calls]


def picture_shares(
    scores: Tensor,
    prompt_ids: Sequence[int],
    image_token: int,
    grid_thw: Tensor | Sequence[int],
    merge: int,
    image: int = -1,
) -> NDArray[np.float32]:
    """Computes signed shares of one image's tokens: `a_i / sum_k |a_k|` over all prompt tokens, so that models
    compare.

    Args:
        scores: The score of each prompt token, shape (P,).
        prompt_ids: The prompt's token ids, as in `patch_map`.
        image_token: Image token, the same.
        grid_thw: Grid thw, the same.
        merge: Merge, the same.
        image: Image, the same.

    Returns:
        Shape (height / merge, width / merge), as in `patch_map`; their absolute values sum to the image's part.

    Raises:
        ValueError: As in `patch_map`.
    """
    scores, total = summed(scores)
    return patch_map(
        scores / total.clamp_min(torch.finfo(torch.float32).tiny), prompt_ids, image_token, grid_thw, merge, image
    )


def patch_map(
    scores: Tensor | Sequence[float],
    prompt_ids: Sequence[int],
    image_token: int,
    grid_thw: Tensor | Sequence[int],
    merge: int,
    image: int = -1,
) -> NDArray[np.float32]:
    """Lays the scores of one image's tokens out as the image lies.

    Args:
        scores: The score of each prompt token, length P.
        prompt_ids: The prompt's token ids, length P, with an image in it, or several.
        image_token: The id of an image token.
        grid_thw: Time (1 for an image), height and width of that image in patches.
        merge: Patches along each side of one token's square.
        image: Place of the image among the prompt's, from 0; the last one by default.

    Returns:
        The scores of the image's tokens, shape (height / merge, width / merge), the image's top row first.

    Raises:
        ValueError: If the image's tokens in the prompt are not as many as it has.
    """
    time, height, width = (int(side) for side in grid_thw)
    rows, columns = height // merge, width // merge
    values = scores.tolist() if isinstance(scores, Tensor) else scores
    places = image_places(prompt_ids, image_token)
    found = [values[place] for place in places[image]] if places else []
    if len(found) != time * rows * columns or time != 1:
        raise ValueError(f"{len(found)} image tokens in the prompt, but a picture of {time} x {rows} x {columns}")
    return np.array(found, dtype=np.float32).reshape(rows, columns)
