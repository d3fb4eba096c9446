"""Lets Accelerate shard on the CPU, which it refuses by the device's type; all else is as on GPUs.

As a script it is `iapo` under torch.distributed.run: `sharded_on_cpu.py train --config ...`. The engine is that of
Accelerate's own environment variables, `ACCELERATE_USE_FSDP` or `ACCELERATE_USE_DEEPSPEED`, or of the settings.
"""

from __future__ import annotations

import os
from typing import Any

import torch
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType

from iapo.experiments.parent import end_with_parent

FSDP2 = {
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "2",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    "FSDP_RESHARD_AFTER_FORWARD": "true",
    "FSDP_STATE_DICT_TYPE": "SHARDED_STATE_DICT",
}
"""Accelerate's environment variables of that engine."""


def allow() -> None:
    """Has FSDP's settings take effect on the CPU, and DeepSpeed talk through gloo."""
    torch.set_num_threads(1)
    # The launcher puts each process into a session of its own, where who kills the launcher misses it.
    end_with_parent(os.getppid())
    start: Any = AcceleratorState.__init__

    def start_sharded(self: Any, *args: Any, fsdp_plugin: Any = None, **kwargs: Any) -> None:
        start(self, *args, fsdp_plugin=fsdp_plugin, **kwargs)
        if fsdp_plugin is not None and self.distributed_type == DistributedType.MULTI_CPU:
            self.fsdp_plugin, self.distributed_type = fsdp_plugin, DistributedType.FSDP
            PartialState._shared_state["distributed_type"] = DistributedType.FSDP

    AcceleratorState.__init__ = start_sharded  # type: ignore[method-assign]
    if os.environ.get("ACCELERATE_USE_DEEPSPEED") == "true":
        PartialState._prepare_backend = lambda *_, **__: ("gloo", DistributedType.NO)  # type: ignore[method-assign]


if __name__ == "__main__":
    from iapo.__main__ import start

    allow()
    start()
