"""Models of which every process has all weights, whatever the training beside them shards."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from transformers.integrations import deepspeed

_EMPTY = "FSDP_CPU_RAM_EFFICIENT_LOADING"


@contextmanager
def unpartitioned() -> Iterator[None]:
    """Has Transformers know of no sharding while it is open.

    Once a training with ZeRO-3 is set up, Transformers partitions *every* model that it loads, a frozen teacher as
    well, and has every generation go in step with the other processes'. With FSDP's loading that spares memory, all
    processes but the first load no weights, since those are sent when training begins; nobody sends a teacher's.
    """
    reference, empty = getattr(deepspeed, "_hf_deepspeed_config_weak_ref", None), os.environ.get(_EMPTY)
    config = None if reference is None else reference()
    deepspeed.unset_hf_deepspeed_config()
    os.environ[_EMPTY] = "false"
    try:
        yield
    finally:
        if config is not None:
            deepspeed.set_hf_deepspeed_config(config)
        if empty is None:
            del os.environ[_EMPTY]
        else:
            os.environ[_EMPTY] = empty
