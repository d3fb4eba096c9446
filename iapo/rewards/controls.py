"""The comparison of explanations, and the controls that show what either side of it is good for (docs/forms.md)."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from iapo.attribution.divergence import block_distribution, divergence, entropy
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


def controlled(
    student: Tensor, teacher: Tensor, called: Sequence[Collection[str]], settings: AttributionSettings, step: int
) -> tuple[Tensor, Tensor]:
    """Returns the shares of a batch with what a control puts in their place.

    Args:
        student: Student's shares, shape (n, m).
        teacher: Teacher's, shape (parts, n, m).
        called: Names of the tools that each of the n calls names.
        settings: Settings of the comparison.
        step: Optimiser step.

    Returns:
        Both, shapes as they were.
    """
    if settings.control == "student_shuffled":
        student = student[permutation(len(student), settings.control_seed, step)]
    elif settings.control == "student_same_tools":
        student = student[among_alike(called, settings.control_seed, step)]
    elif settings.control == "teacher_shuffled":
        teacher = teacher[:, permutation(teacher.shape[1], settings.control_seed, step)]
    return student, teacher


def named_shares(called: Sequence[Collection[str]], blocks: Sequence[str], settings: AttributionSettings) -> Tensor:
    """Returns the shares of calls that would come from the definitions of the called tools alone, in equal parts.

    Put in the student's place, they ask whether its attribution says more than which tools it called.

    Args:
        called: Names of the tools that each call names.
        blocks: Names of the m compared blocks.
        settings: Settings of the comparison; of its normalisations only `signed` counts, without a uniform part.

    Returns:
        Shares, shape (n, m); uniform (of `signed`: zero) where no called tool has a block.
    """
    places = {name: place for place, name in enumerate(blocks)}
    scores = torch.zeros(len(called), len(blocks))
    for row, names in enumerate(called):
        for name in names:
            if (place := places.get(f"tool:{name}")) is not None:
                scores[row, place] = 1.0
    return block_distribution(scores, "signed" if settings.normalization == "signed" else "magnitude", settings.eps)


def among_alike(called: Sequence[Collection[str]], seed: int, step: int) -> Tensor:
    """Draws an order as `permutation` does, in which each row is one of a call of the very same tools."""
    alike: dict[frozenset[str], list[int]] = {}
    for row, names in enumerate(called):
        alike.setdefault(frozenset(names), []).append(row)
    order, rank = torch.arange(len(called)), permutation(len(called), seed, step).tolist()
    for rows in alike.values():
        order[rows] = torch.tensor(sorted(rows, key=rank.__getitem__))
    return order


def permutation(count: int, seed: int, step: int) -> Tensor:
    """Draws an order of rows that depends on seed and step alone, and leaves all other random states as they are."""
    digest = hashlib.sha256(f"{seed} {step}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
    return torch.randperm(count, generator=generator)
