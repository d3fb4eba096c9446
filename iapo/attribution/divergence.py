"""Block scores -> distributions -> divergence, and the schedule of its weight (docs/method.md, sections 3 and 4)."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from iapo.errors import InputError, NumberError

Normalization = Literal["magnitude", "softmax"]


def block_distribution(scores: Tensor, normalization: Normalization = "magnitude", eps: float = 0.01) -> Tensor:
    """Normalises block scores to a distribution, mixed with the uniform one so that divergences are finite.

    Args:
        scores: Block scores `S_j`, shape (..., m), any float type; computed in fp32.
        normalization: `magnitude` is `|S_j| / sum |S_k|` (uniform where all scores are zero), `softmax` is
            `exp(S_j) / sum exp(S_k)`.
        eps: Weight of the uniform distribution, in (0, 1).

    Returns:
        Probabilities, shape (..., m), each at least `eps / m`.

    Raises:
        InputError: If `eps` is outside (0, 1), the normalisation is unknown, or a score is not finite.
    """
    if not 0 < eps < 1:
        raise InputError(f"eps must lie between 0 and 1, got {eps}")
    scores = scores.float()
    if not torch.isfinite(scores).all():
        raise NumberError("a block score is not finite; the model's gradient overflowed (use bf16 or fp32, not fp16)")
    count = scores.shape[-1]
    if normalization == "magnitude":
        magnitude = scores.abs()
        total = magnitude.sum(-1, keepdim=True)
        p = torch.where(total > 0, magnitude / total.clamp_min(torch.finfo(torch.float32).tiny), 1.0 / count)
    elif normalization == "softmax":
        p = scores.softmax(-1)
    else:
        raise InputError(f"unknown normalization {normalization!r}; use 'magnitude' or 'softmax'")
    return (1 - eps) * p + eps / count


def worst_divergence(blocks: int) -> float:
    """Returns the divergence of a rollout without an attribution: `log m`, the bound of `kl_divergence`."""
    return math.log(blocks)


def misuse_auc(divergences: Tensor, misused: Tensor, right: Tensor) -> float:
    """Measures how well the divergence tells misuse where GRPO compares rollouts, which is within groups.

    Args:
        divergences: Divergences of rollouts, shape (groups, G).
        misused: Mask of the rollouts that called a wrong tool, same shape.
        right: Mask of those that called right ones, same shape.

    Returns:
        Of the pairs of a misused and a right call in one group the share in which the misused one has the larger
        divergence, ties counted as half: the area under the ROC curve. NaN where there is no pair.
    """
    pairs = misused[:, :, None] & right[:, None, :]
    difference = divergences[:, :, None] - divergences[:, None, :]
    return float((0.5 + 0.5 * difference.sign())[pairs].mean())


def kl_divergence(student: Tensor, teacher: Tensor) -> Tensor:
    """Computes `KL(student || teacher)` in nats, clipped to `[0, log m]`.

    Args:
        student: Probabilities, shape (..., m).
        teacher: Probabilities of the same blocks, shape (..., m), all positive.

    Returns:
        Divergences, shape (...).
    """
    if student.shape != teacher.shape:
        raise ValueError(f"the distributions cover different blocks: {tuple(student.shape)}, {tuple(teacher.shape)}")
    divergence = torch.special.xlogy(student, student / teacher).sum(-1)
    return divergence.clamp(0.0, worst_divergence(student.shape[-1]))


def penalty_weight(step: int, initial: float, decay: float) -> float:
    """Computes `lambda_k = lambda_0 exp(-decay k)`: the weight of the divergence at optimiser step `k`."""
    return initial * math.exp(-decay * step)
