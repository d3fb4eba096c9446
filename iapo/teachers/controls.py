"""A teacher that knows nothing, as a control of what the real one is good for."""

from __future__ import annotations

import dataclasses

import torch

from iapo.errors import InputError
from iapo.models import bare_model
from iapo.rollout.policy import Policy


def random_twin(teacher: Policy, seed: int) -> Policy:
    """Makes a teacher of the same architecture with freshly drawn weights; no other random number depends on it.

    Args:
        teacher: The teacher.
        seed: Seed of the weights.

    Raises:
        InputError: If the teacher is quantised, so that its weights cannot be drawn.
    """
    model = bare_model(teacher.model)
    if getattr(model, "is_quantized", False):
        raise InputError("alignment_control teacher_random draws weights, but the teacher is quantised; load it whole")
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        twin = type(model)(model.config)
    return dataclasses.replace(teacher, model=twin.to(device=model.device, dtype=model.dtype))
