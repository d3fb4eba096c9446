"""The precision that a step computes in where none is set, and where a launcher sets another."""

from __future__ import annotations

import os
from collections.abc import Mapping

import torch

from iapo.errors import InputError


def usual_bf16(bf16: bool | None, fp16: bool, use_cpu: bool) -> bool:
    """Returns whether a step computes in bfloat16.

    TRL's own default is yes everywhere, which Transformers refuses where there is the CPU alone.

    Args:
        bf16: What is set; None leaves it to the machine: yes on accelerators, no on the CPU.
        fp16: Whether it computes in float16.
        use_cpu: Whether the CPU is to be used even where there is an accelerator.
    """
    if bf16 is not None:
        return bf16
    return not fp16 and not use_cpu and torch.accelerator.is_available()


def check_precision(bf16: bool, fp16: bool, environment: Mapping[str, str] | None = None) -> None:
    """Refuses a launcher's mixed precision that is not the training's own.

    Accelerate's would count where the training has none, whatever its configuration says; under DeepSpeed the two
    would be found to differ when all models are loaded.

    Args:
        bf16: Whether the training computes in bfloat16.
        fp16: Whether it computes in float16.
        environment: Environment variables; the process's if None.

    Raises:
        InputError: If so.
    """
    asked = (os.environ if environment is None else environment).get("ACCELERATE_MIXED_PRECISION", "no")
    own = "fp16" if fp16 else "bf16" if bf16 else "no"
    if asked not in ("no", own):
        raise InputError(
            f"accelerate's mixed_precision is {asked!r}, and the training's is {own!r} (its settings bf16 and fp16); "
            "leave accelerate's at 'no', so that the training's counts, or make them the same"
        )
