"""VeRL's worker of actor, rollout and reference policy, with one more method: attribution on the actor's engine."""

from __future__ import annotations

import functools
from typing import Any

import torch
from omegaconf import OmegaConf
from tensordict import TensorDict
from verl.single_controller.base.decorator import make_nd_compute_dataproto_dispatch_fn, register
from verl.utils import tensordict_utils as tu
from verl.workers.engine_workers import ActorRolloutRefWorker

from iapo.errors import InputError
from iapo.training.shards import unsharded
from iapo_verl.measure import RowMeasure


def rows_of(data: TensorDict) -> list[dict[str, Any] | None]:
    """Returns what `RowMeasure` needs of each row of a batch; None for those that VeRL fills a batch up with.

    Args:
        data: The batch, with the fields that the agent loop's worker puts into it.
    """
    names = ("raw_prompt", "extra_info", "extra_fields", "num_turns")
    columns = zip(*(list(tu.get(data, name)) for name in names), strict=True)
    return [
        {**fields, "raw_prompt": prompt, "extra_info": info} if int(turns) else None
        for prompt, info, fields, turns in columns
    ]


class IAPOWorker(ActorRolloutRefWorker):
    """VeRL's worker of actor, rollout and reference policy, which also attributes calls with the actor's weights.

    Its settings are `actor_rollout_ref.iapo`, those of `RowMeasure`.
    """

    @functools.cached_property
    def row_measure(self) -> RowMeasure:
        """The measure, made at its first use."""
        settings = self.config.get("iapo")
        if settings is None:
            raise InputError("the trainer iapo compares with a teacher; set +actor_rollout_ref.iapo.teacher")
        if self.config.actor.strategy != "fsdp2":
            raise InputError(
                f"actor.strategy is {self.config.actor.strategy!r}, which cannot hold all parameters on a process "
                "while calls are attributed; set actor_rollout_ref.actor.strategy to fsdp2"
            )
        device = next(self.actor.engine.module.parameters()).device
        return RowMeasure(OmegaConf.to_container(settings), self.actor.model_config.processor, device)

    @register(dispatch_mode=make_nd_compute_dataproto_dispatch_fn(mesh_name="actor"))
    def measure_alignment(self, data: TensorDict) -> TensorDict:
        """Measures how far the actor's attributions of its calls are from the teacher's.

        All processes of the actor enter together, since each gathers the parameters that the others hold.

        Args:
            data: This process's rows of the batch; `step` is the optimiser step, from 1.

        Returns:
            `divergence` of each row, in nats, shape (rows,); 0 of the rows that VeRL fills a batch up with.
        """
        rows = rows_of(data)
        step = max(0, int(tu.get(data, "step", default=1)) - 1)
        divergences = torch.zeros(len(rows))
        real = [place for place, row in enumerate(rows) if row is not None]
        engine = self.actor.engine
        measure = self.row_measure
        with engine.eval_mode(), unsharded(engine.module):
            if real:
                measured = measure(engine.module, [rows[place] for place in real], step)
                divergences[real] = torch.tensor([one.divergence for one in measured])
        return TensorDict({"divergence": divergences}, batch_size=len(rows))
