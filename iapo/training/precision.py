"""The precision that a step computes in where none is set."""

from __future__ import annotations

import torch


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
