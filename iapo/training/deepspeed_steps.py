"""DeepSpeed takes its step inside of the backward pass, before any callback: asked about where it drops one itself.

Its optimisers look for gradients that are not finite, and leave such a step out with its gradients cleared. What is
decided here is handed to that, so that nothing of the optimiser or of the parameters is touched.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from iapo.errors import InputError


def ask_before_steps(optimizer: Any, leaves_out: Callable[[bool], bool], *, fp16: bool) -> None:
    """Has an optimiser of DeepSpeed ask before each step whether it is left out.

    Args:
        optimizer: The optimiser, as DeepSpeed made it.
        leaves_out: Told whether the gradient is not finite; says whether the step is left out. What it raises is
            raised before the step. All processes call it.
        fp16: Whether gradients are scaled: such a scale is found by trying, and one too high is no fault.

    Raises:
        InputError: If it is one that cannot leave out a step.
    """
    told = getattr(optimizer, "_update_scale", None)
    if told is None:
        raise InputError(
            f"DeepSpeed steps with its {type(optimizer).__name__}, which cannot leave out a step whose numbers are not "
            "finite; set the stage of zero_optimization to 2 or 3, or train without deepspeed"
        )

    def ask(has_overflow: bool = False) -> None:
        # Called once a step, behind the search for what is not finite and before anything is done about it.
        told(has_overflow)
        if leaves_out(has_overflow and not fp16):
            optimizer.overflow = True

    optimizer._update_scale = ask
    # In float32 the second stage looks only where gradients are clipped.
    optimizer.check_grad_overflow = True
