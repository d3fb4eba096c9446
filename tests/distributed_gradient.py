"""Run by `test_distributed.py` in several processes: one backward through DDP, with and without shared prefixes."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from transformers import Qwen2_5_VLForConditionalGeneration
from trl.trainer.utils import add_fused_lm_head

from iapo.shared_prefix import SharedBatch, add_shared_prefix


def main(folder: Path) -> None:
    """Writes this process's synchronised gradients, plain and shared."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    batch = torch.load(folder / f"batch-{rank}.pt", weights_only=True)
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder / "model")
    add_fused_lm_head(model)
    add_shared_prefix(model)
    wrapped = DistributedDataParallel(model)
    length = batch.pop("length")
    numbers = batch.pop("picture_ids")
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    gradients = {}
    for name in ("plain", "shared"):
        wrapped.zero_grad()
        if name == "plain":
            targets = labels.clone()
            targets[:, :-length] = -100
            log_probs = wrapped(**batch, labels=targets, fused_lm_head=True).log_probs[:, -length:]
        else:
            shared = SharedBatch(length, numbers)
            log_probs = wrapped(**batch, labels=labels[:, -length - 1 :], fused_lm_head=True, shared=shared).log_probs
        # Other weights on each process, so that the mean over processes is not each one's own gradient.
        (log_probs.sum() * (rank + 1)).backward()
        gradients[name] = torch.cat([parameter.grad.flatten() for parameter in model.parameters()])
    torch.save(gradients, folder / f"gradients-{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
