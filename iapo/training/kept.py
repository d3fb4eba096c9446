"""What a checkpoint keeps beside the policy: the reference policy where it moves, and what rewards remember."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from iapo.errors import InputError
from iapo.kinds import plain
from iapo.rewards.columns import Column
from iapo.training.shards import is_split


def kept_state(alignment: Any, columns: Iterable[Column]) -> dict[str, Any]:
    """Returns what a process's attribution knows and its rewards remember, as plain values and tensors.

    Args:
        alignment: The trainer's; None where nothing is attributed.
        columns: Components of the reward.

    Raises:
        InputError: If a reward remembers what is no plain value.
    """
    found = {} if alignment is None else {"alignment": alignment.to_state()}
    memories = {column.name: _rows(column) for column in columns if column.memory is not None}
    return {**found, **({"memories": memories} if memories else {})}


def remembering(column: Column) -> Callable[..., list[float]]:
    """Returns a component's function, which refuses a memory that no checkpoint can keep at the first batch.

    Args:
        column: The component.
    """
    if column.memory is None:
        return column.function
    looked_at = False

    def function(*args: Any, **columns: Any) -> list[float]:
        nonlocal looked_at
        values = column.function(*args, **columns)
        if not looked_at:
            _rows(column)
            looked_at = True
        return values

    return function


def load_kept(state: Mapping[str, Any], alignment: Any, columns: Iterable[Column]) -> None:
    """Takes what `kept_state` returned; what a checkpoint of an earlier version has not stays as it is."""
    if alignment is not None:
        # Checkpoints of earlier versions have the teacher's own calls alone.
        alignment.load_state(state.get("alignment", {"own_calls": state.get("teacher", [])}))
    memories = state.get("memories", {})
    for column in columns:
        if column.memory is not None and column.name in memories:
            column.memory.clear()
            column.memory.update(memories[column.name])


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


def _rows(column: Column) -> list[tuple[Any, Any]]:
    assert column.memory is not None
    try:
        return [(_plain(key), _plain(value)) for key, value in column.memory.items()]
    except TypeError as error:
        raise InputError(
            f"the memory of component {column.name!r} holds {error}, which a checkpoint cannot keep; give it numbers, "
            "texts, lists, tuples and dicts of these"
        ) from error


def _plain(value: Any) -> Any:
    """Returns a value as a file has it that is read without running anything.

    Raises:
        TypeError: If it cannot be one; what of it, in words.
    """
    value = plain(value)
    if type(value) in (list, tuple):
        return type(value)(map(_plain, value))
    if type(value) is dict:
        return {_plain(key): _plain(inner) for key, inner in value.items()}
    if value is None or type(value) in (bool, int, float):
        return value
    if isinstance(value, str):
        return str(value)
    raise TypeError(f"a value of type {type(value).__name__}")
