"""Teachers of the user's own: what gives distributions in a teacher's place, looked at as a stored table's rows are."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from iapo.attribution.given import real_tensor
from iapo.attribution.settings import AttributionSettings
from iapo.errors import InputError
from iapo.plugins import users_code
from iapo.rollout.turns import Rollout
from iapo.teachers.references import Both, OwnCall, Reference, StoredCalls, sample_name
from iapo.teachers.student_call import StudentCall
from iapo.teachers.table import is_distribution

_ROUNDING = 0.02
"""How far from 1 shares may sum up that are given in half precision."""
_OURS = (Both, OwnCall, StoredCalls, StudentCall)


def check_reference(teacher: Any) -> None:
    """Refuses what gives no distributions in a teacher's place.

    Raises:
        InputError: If it is no `iapo.teachers.references.Reference`.
    """
    if isinstance(teacher, _OURS):
        return
    whole = not inspect.isclass(teacher) and callable(getattr(teacher, "distributions", None))
    if not whole or not isinstance(getattr(teacher, "per_sample", None), bool):
        shown = repr(teacher) if isinstance(teacher, str) else f"a {type(teacher).__name__}"
        raise InputError(
            f"teacher is {shown}; give a loaded policy (iapo.load_policy), or a reference with `per_sample` and "
            "`distributions` (iapo.teachers.references); a checkpoint's name is the setting `teacher` of IAPOConfig"
        )


def looked_at(teacher: Reference, settings: AttributionSettings) -> Reference:
    """Returns a reference whose distributions are looked at, where it is the user's own.

    Args:
        teacher: The reference.
        settings: Settings that say which blocks are compared, and how shares are normalised.

    Raises:
        InputError: As `check_reference`.
    """
    check_reference(teacher)
    return teacher if isinstance(teacher, _OURS) else OwnReference(teacher, settings)


class OwnReference:
    """A reference of the user's own.

    Args:
        given: The reference.
        settings: Settings as in `looked_at`.

    Attributes:
        per_sample: Whether it depends on the sample alone, as it says itself.
    """

    def __init__(self, given: Reference, settings: AttributionSettings) -> None:
        self.given, self.settings, self.per_sample = given, settings, given.per_sample
        # It need not have one.
        if (template := getattr(given, "template", None)) is not None:
            self.template = template

    def distributions(self, rollouts: Sequence[Rollout]) -> Tensor:
        """Returns its distributions of rollouts whose prompts have the same blocks, shape (n, m), fp32, on the CPU.

        Raises:
            InputError: If it raises anything, or they are none: of another shape, or a row that is neither a
                distribution nor NaN throughout.
        """
        what = f"the teacher {type(self.given).__name__}"
        with users_code(what, self.given.distributions):
            found: Any = self.given.distributions(rollouts)
        names = self.settings.compared(rollouts[0].prompt.block_names)
        wanted = (len(rollouts), len(names))
        form = f"give a tensor of shape {wanted}, a row a rollout, over the blocks {', '.join(names)}"
        rows = real_tensor(what, found, wanted, form).float().cpu()
        if found.dtype in (torch.bfloat16, torch.float16):
            # Rounded to so few digits, shares sum to 1 within some hundredths.
            sums = rows.abs().sum(-1, keepdim=True)
            rows = torch.where((sums - 1).abs() < _ROUNDING, rows / sums, rows)
        signed = self.settings.normalization == "signed"
        for row, none, rollout in zip(rows.tolist(), rows.isnan().all(-1).tolist(), rollouts, strict=True):
            if not none and not is_distribution(row, signed=signed):
                raise InputError(
                    f"{what} gives {', '.join(f'{value:.4g}' for value in row)} for sample "
                    f"{sample_name(rollout.trace.sample)}, which is no distribution; give "
                    f"{'shares whose magnitudes sum to 1' if signed else 'numbers above 0 that sum to 1'}, or NaN "
                    "throughout where it has none"
                )
        return rows
