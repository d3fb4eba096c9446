"""Attribution of single tokens, and where in the picture they lie: what a heat map shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from iapo.attribution.gradient import CallInput, Pictures, block_scores

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def token_scores(model: PreTrainedModel, call: CallInput, pictures: Pictures | None = None, steps: int = 1) -> Tensor:
    """Scores every prompt token of a call: `a_i = <ds/de_i, e_i>`, which summed over a block is that block's score.

    Args:
        model: A Qwen2.5-VL or Qwen3-VL model, unwrapped; its mode and its parameters' `.grad` are left alone.
        call: What to explain.
        pictures: The pictures that `CallInput.picture` refers to.
        steps: As in `block_scores`: 1 is gradient x embedding, more are points of the integrated path.

    Returns:
        Scores, shape (P,), fp32, on the model's device.

    Raises:
        ValueError: If `steps` is below 1.
    """
    # Each token as a block of its own.
    length = len(call.prompt_ids)
    return block_scores(model, [replace(call, block_of=range(length), blocks=length)], pictures, steps)[0]


def patch_map(
    scores: Tensor | Sequence[float],
    prompt_ids: Sequence[int],
    image_token: int,
    grid_thw: Tensor | Sequence[int],
    merge: int,
) -> NDArray[np.float32]:
    """Lays the scores of a picture's tokens out as the picture lies.

    Args:
        scores: The score of each prompt token, length P.
        prompt_ids: The prompt's token ids, length P, with one picture in it.
        image_token: The id of an image token.
        grid_thw: Time (1 for a picture), height and width of the picture in patches.
        merge: Patches along each side of one token's square.

    Returns:
        The scores of the picture's tokens, shape (height / merge, width / merge), the picture's top row first.

    Raises:
        ValueError: If the prompt's image tokens are not as many as the picture has.
    """
    time, height, width = (int(side) for side in grid_thw)
    rows, columns = height // merge, width // merge
    values = scores.tolist() if isinstance(scores, Tensor) else scores
    found = [score for score, token in zip(values, prompt_ids, strict=True) if token == image_token]
    if len(found) != time * rows * columns or time != 1:
        raise ValueError(f"{len(found)} image tokens in the prompt, but a picture of {time} x {rows} x {columns}")
    return np.array(found, dtype=np.float32).reshape(rows, columns)
