"""A frozen teacher kept in shards: between two attributions each process holds a part of it, within one the whole."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, cast

import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from transformers import PreTrainedModel, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from iapo.errors import InputError
from iapo.rewards.alignment import Alignment
from iapo.teachers.references import OwnCall
from iapo.teachers.student_call import StudentCall
from iapo.training.shards import unsharded


class TeacherShards(TrainerCallback):
    """Shards a teacher (FSDP2) when a training begins, and gathers it for good when it ends.

    Attributions go past the wrapper that would gather parameters layer by layer, as those of the student do, and take
    other numbers of passes on other processes; so all processes gather all of it, measure, and give it back.

    Args:
        model: The teacher, frozen, on the device of the training.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        self._whole = ExitStack()
        self._sharded = False

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Takes up the trainer's call before the first step: what is measured before has the teacher whole."""
        self._whole.close()
        if not isinstance(self.model, FSDPModule):
            mesh = init_device_mesh(self.model.device.type, (dist.get_world_size(),))
            # As one piece, since it is gathered as one.
            fully_shard(self.model, mesh=mesh, reshard_after_forward=False)
        self._sharded = True

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Takes up the trainer's call after the last step: what is measured afterwards has the teacher whole."""
        self._whole.enter_context(self.whole())
        self._sharded = False

    @contextmanager
    def whole(self) -> Iterator[None]:
        """Has each process hold the whole teacher while it is open; all enter and leave it together."""
        if not self._sharded:
            yield
            return
        with unsharded(cast(FSDPModule, self.model)):
            yield


def teacher_shards(args: Any, alignment: Alignment | None) -> TeacherShards | None:
    """Returns what keeps the teacher in shards, where the settings ask for it and there are several processes.

    Args:
        args: The training's settings; of a supervised run, which has no teacher, they do not speak of it.
        alignment: What measures against the teacher.

    Raises:
        InputError: If a reference of the user's own has no teacher that could be sharded.
    """
    if not getattr(args, "teacher_shards", False) or args.world_size == 1:
        return None
    parts = () if alignment is None else alignment.parts
    policy = next((one.teacher for one in parts if isinstance(one, OwnCall | StudentCall)), None)
    if policy is None:
        raise InputError("teacher_shards is true, but no live teacher is loaded; set teacher, or leave it out")
    return TeacherShards(policy.model)
