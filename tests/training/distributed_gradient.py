"""Run by `test_distributed.py` in several processes: a backward, plain and packed, under DDP and under FSDP2."""

from __future__ import annotations

import gc
import os
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel
from transformers import Qwen2_5_VLForConditionalGeneration
from trl.trainer.utils import add_fused_lm_head

from iapo.experiments.parent import end_with_parent
from iapo.training.packing import pack
from iapo.training.shared_prefix import add_shared_prefix


def wrap(model: Any, how: str) -> Any:
    """Replicates or shards the model over all processes."""
    if how == "ddp":
        return DistributedDataParallel(model)
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    for block in (*model.model.language_model.layers, *model.model.visual.blocks):
        fully_shard(block, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def whole(gradient: Any) -> torch.Tensor:
    full: torch.Tensor = gradient.full_tensor() if isinstance(gradient, DTensor) else gradient
    return full.flatten()


def gradients_of(how: str, memory: str, folder: Path, rank: int) -> dict[str, torch.Tensor]:
    """This process's synchronised gradients, plain and packed."""
    batch = torch.load(folder / f"batch-{rank}.pt", weights_only=True)
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder / "model").train()
    if memory == "checkpointing":
        model.gradient_checkpointing_enable({"use_reentrant": False})
    add_fused_lm_head(model)
    add_shared_prefix(model)
    wrapped = wrap(model, how)
    length = batch.pop("length")
    numbers = batch.pop("picture_ids")
    gradients = {}
    for name in ("plain", "shared"):
        wrapped.zero_grad()
        if name == "plain":
            targets = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
            targets[:, :-length] = -100
            log_probs = wrapped(**batch, labels=targets, fused_lm_head=True).log_probs[:, -length:]
        else:
            packed = pack(model.model, **batch, picture_ids=numbers, completion=length)
            log_probs = packed.spread(wrapped(**packed.inputs, fused_lm_head=True).log_probs)
        written = batch["mm_token_type_ids"][:, -length:] == 0
        # Other weights on each process, so that the mean over processes is not each one's own gradient.
        (log_probs[written].sum() * (rank + 1)).backward()
        gradients[name] = torch.cat([whole(parameter.grad) for parameter in model.parameters()])
    return gradients


def main(folder: Path, cases: list[str]) -> None:
    """Writes this process's gradients for each case `HOW-MEMORY`."""
    torch.set_num_threads(1)
    # The launcher puts each process into a session of its own, where who kills the launcher misses it.
    end_with_parent(os.getppid())
    dist.init_process_group("gloo", timeout=timedelta(seconds=400))
    rank = dist.get_rank()
    for case in cases:
        torch.save(gradients_of(*case.split("-"), folder, rank), folder / f"gradients-{case}-{rank}.pt")
    # DDP's reducer must be gone before the group is. As the group's last holder it would end gloo's threads while this
    # thread has the GIL, and wait for ever if one of them wants it just then, to free what a reduction kept of Python.
    gc.collect()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
