"""What a checkpoint keeps beside the policy: the reference policy where it moves, and what rewards remember."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from iapo.errors import InputError
from iapo.rewards.columns import Column
from iapo.training import memories
from iapo.training.shards import is_split


def kept_state(alignment: Any, columns: Iterable[Column]) -> dict[str, Any]:
    """Returns what a process's attribution knows and its rewards remember, as plain values and tensors.

    Args:
        alignment: The trainer's; None where nothing is attributed.
        columns: Components of the reward.

    Raises:
        InputError: If a reward remembers what no file can keep.
    """
    found = {} if alignment is None else {"alignment": alignment.to_state()}
    remembered = memories.keep(columns)
    return {**found, **({"remembered": remembered} if remembered else {})}


def load_kept(state: Mapping[str, Any], alignment: Any, columns: Iterable[Column]) -> None:
    """Takes what `kept_state` returned; what a checkpoint of an earlier version has not stays as it is."""
    if alignment is not None:
        # Checkpoints of earlier versions have the teacher's own calls alone.
        alignment.load_state(state.get("alignment", {"own_calls": state.get("teacher", [])}))
    memories.load(state.get("remembered", {}), columns)


def save_reference(trainer: Any, folder: Path) -> None:
    """Writes the reference policy where it follows the policy (`sync_ref_model`): each process the part that it holds.

    Args:
        trainer: The trainer.
        folder: The checkpoint.
    """
    if not _moves(trainer):
        return
    if is_split(trainer) or trainer.args.should_save:
        parts = [_part(one).detach() for one in trainer.ref_model.parameters()]
        torch.save(parts, folder / _file(trainer))


def load_reference(trainer: Any, folder: Path) -> None:
    """Takes what `save_reference` wrote.

    Raises:
        InputError: If the checkpoint has none.
    """
    if not _moves(trainer):
        return
    path = folder / _file(trainer)
    if not path.is_file():
        raise InputError(
            f"{folder} has no {path.name}, the reference policy that sync_ref_model has moved: it is of an earlier "
            "version; begin anew in another output_dir with the checkpoint as model"
        )
    parts = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    with torch.no_grad():
        for parameter, part in zip(trainer.ref_model.parameters(), parts, strict=True):
            if hasattr(parameter, "ds_tensor") and parameter.data.numel():
                # A small one, which ZeRO-3 has in one piece beside its part, and gathers anew.
                parameter.partition([parameter])
            _part(parameter).copy_(part)


def _moves(trainer: Any) -> bool:
    return bool(getattr(trainer.args, "sync_ref_model", False)) and trainer.ref_model is not None


def _file(trainer: Any) -> str:
    return f"reference_{trainer.args.process_index}.pt" if is_split(trainer) else "reference.pt"


def _part(parameter: Any) -> Tensor:
    """Returns what of a parameter this process holds."""
    if isinstance(parameter, DTensor):
        return parameter.to_local()
    found: Tensor = parameter.ds_tensor if hasattr(parameter, "ds_tensor") else parameter.data
    return found
