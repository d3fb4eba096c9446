"""One process of VeRL's FSDP2 engine on a CPU: measures rows with the actor's weights, and writes what it found.

Arguments: a folder with `rows.pickle` (what `RowMeasure` needs of each row), in which `rank-N.json` is written.
"""

from __future__ import annotations

import json
import os
import pickle
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from iapo_verl.measure import RowMeasure
from torch.distributed.tensor import DTensor
from verl.plugin.platform.platform_cuda import PlatformCUDA
from verl.plugin.platform.platform_manager import set_platform

from iapo.rollout.names import resolve
from iapo.rollout.policy import load_processor
from iapo.training.shards import unsharded


class OnCpu(PlatformCUDA):
    """VeRL has no platform for CPUs alone, and asks for its name as its modules are imported."""

    device_name, device_module = "cpu", torch.cpu

    def current_device(self) -> torch.device:
        return torch.device("cpu")

    def communication_backend_name(self) -> str:
        return "gloo"


def main(folder: Path) -> None:
    """Builds the engine, takes a step with it, and measures before and after."""
    set_platform(OnCpu())
    from verl.trainer.config import CheckpointConfig
    from verl.workers.config import FSDPEngineConfig, FSDPOptimizerConfig, HFModelConfig
    from verl.workers.engine.fsdp import transformer_impl

    # VeRL's patches of Qwen2.5-VL import names that Transformers has no longer; they concern its own loss.
    transformer_impl.apply_monkey_patch = lambda **_: None
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    # By its class: VeRL registers engines for accelerators alone.
    engine = transformer_impl.FSDPEngineWithLMHead(
        model_config=HFModelConfig(
            path=resolve("tiny-student"),
            use_remove_padding=False,
            enable_gradient_checkpointing=False,
            override_config={"attn_implementation": "sdpa"},
        ),
        engine_config=FSDPEngineConfig(
            strategy="fsdp2",
            use_torch_compile=False,
            mixed_precision={"param_dtype": "fp32", "reduce_dtype": "fp32"},
            use_remove_padding=False,
        ),
        optimizer_config=FSDPOptimizerConfig(lr=0.05, optimizer="SGD", weight_decay=0.0, total_training_steps=10),
        checkpoint_config=CheckpointConfig(),
    )
    engine.initialize()
    sharded = sum(isinstance(one, DTensor) for one in engine.module.parameters())
    rows = pickle.loads((folder / "rows.pickle").read_bytes())
    settings = {"teacher": "tiny-teacher", "attribution_normalization": "softmax"}
    measure = RowMeasure(settings, load_processor("tiny-student"), torch.device("cpu"))
    found = []
    for _ in range(2):
        with engine.eval_mode(), unsharded(engine.module):
            whole = not any(isinstance(one, DTensor) for one in engine.module.parameters())
            # Other numbers of calls on each process, which must not wait for each other.
            own = rows[:3] if rank == 0 else rows[3:]
            found.append([one.divergence for one in measure(engine.module, own, 0)])
        # A step of the engine's own optimiser, with gradients that all processes make alike.
        engine.optimizer_zero_grad()
        sum(one.float().square().sum() for one in engine.module.parameters()).backward()
        engine.optimizer_step()
    state = sum(isinstance(one, DTensor) for one in engine.module.parameters())
    result = {"sharded": sharded, "whole": whole, "after": state, "divergences": found}
    (folder / f"rank-{rank}.json").write_text(json.dumps(result))
    dist.destroy_process_group()


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    main(Path(sys.argv[1]))
