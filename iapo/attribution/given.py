"""Tensors that parts of the user's own give: dense ones of real numbers, or a sentence."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from iapo.errors import InputError


def real_tensor(what: str, found: Any, wanted: tuple[int, ...], form: str) -> Tensor:
    """Returns what a part of the user's own gave, without the graph that it may hang on.

    Args:
        what: Noun for the part with its name, as the sentence begins.
        found: What it gave.
        wanted: Shape that is wanted.
        form: Form that is wanted, as the sentence ends.

    Raises:
        InputError: If it is no tensor of that shape, its numbers are not real, or it holds none, or not all.
    """
    if not isinstance(found, Tensor):
        raise InputError(f"{what} gives a {type(found).__name__}; {form}")
    if found.is_nested or found.layout != torch.strided or found.is_meta or found.is_quantized:
        kind = "meta" if found.is_meta else "quantised" if found.is_quantized else "nested or sparse"
        raise InputError(f"{what} gives a {kind} tensor; give a plain one, which holds all its numbers")
    if tuple(found.shape) != wanted:
        raise InputError(f"{what} gives {tuple(found.shape)}; {form}")
    if found.is_complex() or found.dtype == torch.bool:
        raise InputError(f"{what} gives a tensor of {found.dtype}; give one of real numbers")
    return found.detach()
