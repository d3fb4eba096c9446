"""Block scores -> distributions -> divergence, and the schedule of its weight (docs/method.md, sections 3 and 4)."""

from __future__ import annotations

import math
from typing import get_args

import torch
from torch import Tensor

from iapo.attribution.forms import Normalization
from iapo.errors import InputError, NumberError


def block_distribution(
    scores: Tensor,
    normalization: Normalization = "magnitude",
    eps: float = 0.01,
    temperature: float = 1.0,
    floor: float = 0.5,
) -> Tensor:
    """Normalises block scores to shares; to a distribution, mixed with the uniform one so that divergences are finite.

    Args:
        scores: Block scores `S_j`, shape (..., m), any float type; computed in fp32.
        normalization: `magnitude` is `|S_j| / sum |S_k|` (uniform where all scores are zero), `floored` is the same of
            `|S_j| + floor`, `softmax` is `exp(S_j / temperature) / sum exp(S_k / temperature)`, and `signed` is
            `S_j / sum |S_k|` (zero where all scores are), which is no distribution and has no uniform part.
        eps: Weight of the uniform distribution, in (0, 1).
        temperature: Divisor of the scores under `softmax`, above 0.
        floor: Addend of each magnitude under `floored`, 0 or above.

    Returns:
        Shares, shape (..., m): probabilities, each at least `eps / m`; of `signed` from -1 to 1, their magnitudes
        summing up to 1.

    Raises:
        InputError: If `eps` is outside (0, 1), the normalisation is unknown, or a score is not finite.
    """
    if not 0 < eps < 1:
        raise InputError(f"eps must lie between 0 and 1, got {eps}")
    scores = scores.float()
    if not torch.isfinite(scores).all():
        raise NumberError("a block score is not finite; the model's gradient overflowed (use bf16 or fp32, not fp16)")
    count = scores.shape[-1]
    if normalization in ("magnitude", "floored"):
        magnitude, total = summed(scores if normalization == "magnitude" else scores.abs() + floor)
        p = torch.where(total > 0, magnitude.abs() / total.clamp_min(torch.finfo(torch.float32).tiny), 1.0 / count)
    elif normalization == "softmax":
        scaled = scores / temperature
        if not torch.isfinite(scaled).all():
            # Differences to the largest score make the same shares, and minus infinity is none.
            scaled = (scores - scores.amax(-1, keepdim=True)) / temperature
        p = scaled.softmax(-1)
    elif normalization == "signed":
        scores, total = summed(scores)
        return scores / total.clamp_min(torch.finfo(torch.float32).tiny)
    else:
        raise InputError(f"unknown normalization {normalization!r}; use one of {', '.join(get_args(Normalization))}")
    return (1 - eps) * p + eps / count


def summed(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Sums the magnitudes of scores up, those that together are more than float32 holds in units of the largest.

    Args:
        scores: Finite scores, shape (..., m).

    Returns:
        The scores, in the unit of the sum, and the sum, shape (..., 1).
    """
    total = scores.abs().sum(-1, keepdim=True)
    if bool(torch.isfinite(total).all()):
        return scores, total
    scores = torch.where(torch.isfinite(total), scores, scores / scores.abs().amax(-1, keepdim=True))
    return scores, scores.abs().sum(-1, keepdim=True)


def worst_divergence(blocks: int, normalization: Normalization = "magnitude") -> float:
    """Returns the divergence of a rollout without an attribution, which bounds all others: `log m`, 1 of `signed`."""
    return 1.0 if normalization == "signed" else math.log(blocks)


def divergence(student: Tensor, teacher: Tensor, normalization: Normalization = "magnitude") -> Tensor:
    """Compares shares: distributions by `kl_divergence`, signed ones by half their L1 distance, which is at most 1.

    Args:
        student: Shares, shape (..., m).
        teacher: Shares of the same blocks, shape (..., m).
        normalization: Rule by which both were made.

    Returns:
        Divergences, shape (...), from 0 to `worst_divergence`.
    """
    if normalization != "signed":
        return kl_divergence(student, teacher)
    if student.shape != teacher.shape:
        raise ValueError(f"the shares cover different blocks: {tuple(student.shape)}, {tuple(teacher.shape)}")
    return (0.5 * (student - teacher).abs().sum(-1)).clamp(0.0, 1.0)


def entropy(shares: Tensor) -> Tensor:
    """Computes the entropy of shares in nats, of signed ones that of their magnitudes, shape (..., m) -> (...)."""
    return torch.special.entr(shares.abs()).sum(-1)


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
