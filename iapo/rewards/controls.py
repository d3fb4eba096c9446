"""The comparison of explanations, and the controls that show what either side of it is good for (docs/forms.md)."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

from iapo.attribution.divergence import divergence, entropy
from iapo.attribution.settings import AttributionSettings


def compared(student: Tensor, teacher: Tensor, settings: AttributionSettings) -> Tensor:
    """Compares the shares of a batch.

    Args:
        student: The student's, shape (n, m).
        teacher: The teacher's explanations of one call each or of two, shape (parts, n, m).
        settings: Settings of the comparison.

    Returns:
        Divergences, means over the parts, shape (n,); under the control `entropy` those of the teacher alone.
    """
    if settings.control == "entropy":
        return torch.stack([entropy(part) for part in teacher]).mean(0)
    return torch.stack([divergence(student, part, settings.normalization) for part in teacher]).mean(0)


def controlled(student: Tensor, teacher: Tensor, settings: AttributionSettings, step: int) -> tuple[Tensor, Tensor]:
    """Returns the shares of a batch with what a control puts in their place; shapes as in `compared`."""
    if settings.control == "student_shuffled":
        student = student[permutation(len(student), settings.control_seed, step)]
    elif settings.control == "teacher_shuffled":
        teacher = teacher[:, permutation(teacher.shape[1], settings.control_seed, step)]
    return student, teacher


def permutation(count: int, seed: int, step: int) -> Tensor:
    """Draws an order of rows that depends on seed and step alone, and leaves all other random states as they are."""
    digest = hashlib.sha256(f"{seed} {step}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
    return torch.randperm(count, generator=generator)
