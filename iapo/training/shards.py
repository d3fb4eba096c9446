"""Whole parameters for what a sharded forward pass cannot do: rollouts of unequal lengths, and attribution.

Both go past the wrapper that gathers parameters layer by layer, and take other numbers of passes on other processes. So
they run while each process holds all parameters, which are given back afterwards; the loss never does. All processes
enter and leave together, and inside none waits for another.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

from torch import nn
from torch.distributed.fsdp import FSDPModule
from trl.models import unwrap_model_for_generation

from iapo.errors import InputError
from iapo.rollout.unpartitioned import unpartitioned

_GATHER = "stage3_gather_16bit_weights_on_model_save"


@contextmanager
def whole_parameters(trainer: Any) -> Iterator[Any]:
    """Has each process hold all parameters of what a trainer trains, while it is open, and gives the unwrapped model.

    Where nothing is sharded (one process, DDP, ZeRO up to stage 2) it does nothing.

    Args:
        trainer: A Transformers trainer, prepared for training or not yet.
    """
    with ExitStack() as stack:
        if isinstance(trainer.model_wrapped, FSDPModule):
            stack.enter_context(unsharded(trainer.model_wrapped))
        if is_zero3(trainer) and hasattr(trainer.model_wrapped, "zero_optimization_stage"):
            stack.enter_context(_gathered(trainer))
        yield trainer.accelerator.unwrap_model(trainer.model)


def generating(trainer: Any) -> AbstractContextManager[Any]:
    """Has each process of an `IAPOTrainer` hold all parameters while it writes turns.

    Not where it gathers them layer by layer, nor with vLLM, which has weights of its own: TRL gathers them to hand them
    over.
    """
    return nullcontext() if trainer._generates_in_step or trainer.use_vllm else whole_parameters(trainer)


@contextmanager
def whole_checkpoints(trainer: Any) -> Iterator[None]:
    """Has a trainer save its policy in one piece while it is open, also where its checkpoints are kept in shards.

    Else a policy of FSDP with SHARDED_STATE_DICT, which `accelerate config` proposes, would be saved without weights.
    """
    plugin = getattr(trainer.accelerator.state, "fsdp_plugin", None)
    if plugin is None:
        yield
        return
    kind = plugin.state_dict_type
    plugin.set_state_dict_type("FULL_STATE_DICT")
    try:
        yield
    finally:
        plugin.set_state_dict_type(kind)


def prepare_shards(trainer: Any) -> bool:
    """Refuses a way of sharding that cannot be trained with, and has ZeRO-3 save policies that can be opened.

    Returns:
        Whether one rank's generation is every rank's, so that none may ask for fewer rows than another.

    Raises:
        InputError: If parameters are sharded by the first version of FSDP.
    """
    state = trainer.accelerator.state
    if trainer.is_fsdp_enabled and state.fsdp_plugin.fsdp_version != 2:
        raise InputError(
            f"FSDP is set up in version {state.fsdp_plugin.fsdp_version}, which cannot gather parameters for an "
            "attribution; set fsdp_version to 2 (configs/accelerate/fsdp2.yaml)"
        )
    if is_zero3(trainer):
        state.deepspeed_plugin.deepspeed_config["zero_optimization"][_GATHER] = True
    layerwise = is_zero3(trainer) and not trainer.args.ds3_gather_for_generation
    # With vLLM the engine itself sees to equal rows (`iapo.training.vllm_rollouts`).
    return trainer.accelerator.num_processes > 1 and layerwise and not trainer.use_vllm


def engine_of(trainer: Any) -> str:
    """Names what splits a trainer's state over its processes: `nothing`, `FSDP2` with the form of its checkpoints, or
    `DeepSpeed ZeRO-N`.
    """
    state = trainer.accelerator.state
    if trainer.is_deepspeed_enabled:
        return f"DeepSpeed ZeRO-{state.deepspeed_plugin.zero_stage}"
    if trainer.is_fsdp_enabled:
        kind = state.fsdp_plugin.state_dict_type
        return f"FSDP{state.fsdp_plugin.fsdp_version}, {getattr(kind, 'name', kind)}"
    return "nothing split"


def is_zero3(trainer: Any) -> bool:
    """Tells whether DeepSpeed partitions a trainer's parameters."""
    plugin = trainer.accelerator.state.deepspeed_plugin
    return plugin is not None and plugin.zero_stage == 3


def is_split(trainer: Any) -> bool:
    """Tells whether each process holds a part of a trainer's parameters."""
    return is_zero3(trainer) or bool(trainer.is_fsdp_enabled)


def give_back(model: nn.Module) -> None:
    """Gives back what FSDP2 has gathered, of which the root's own part stays after a pass without a backward one."""
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


@contextmanager
def unsharded(model: FSDPModule) -> Iterator[None]:
    """Gathers FSDP2's parameters while it is open, and takes its hooks off, which would give them back after a layer's
    first pass.

    Args:
        model: The root module; all processes that hold a part of it enter and leave together.
    """
    assert isinstance(model, nn.Module)
    shards = [module for module in model.modules() if isinstance(module, FSDPModule)]
    # The root must be known before an inner module is asked, which else would take itself for one.
    model._get_fsdp_state()._lazy_init()
    with ExitStack() as stack:
        for module in shards:
            module.unshard()
            stack.callback(module.reshard)
        for module in shards:
            state = module._get_fsdp_state()
            for handle in (state._pre_forward_hook_handle, state._post_forward_hook_handle):
                # Modules that are sharded together have a handle that holds those of each.
                stack.enter_context(_without(getattr(handle, "handles", [handle])))
        yield


@contextmanager
def _without(handles: Sequence[Any]) -> Iterator[None]:
    """Takes hooks off by their handles while it is open."""
    tables = {id(table): table for handle in handles if (table := handle.hooks_dict_ref()) is not None}
    before = [(table, OrderedDict(table)) for table in tables.values()]
    for handle in handles:
        for table, _ in before:
            table.pop(handle.id, None)
    try:
        yield
    finally:
        # As they were, since their order counts.
        for table, hooks in before:
            table.clear()
            table.update(hooks)


@contextmanager
def _gathered(trainer: Any) -> Iterator[None]:
    """Gathers ZeRO-3's parameters; TRL's generation inside neither gathers them again nor steps in time."""
    args = trainer.args
    asked = args.ds3_gather_for_generation
    more = {"gradient_checkpointing_kwargs": args.gradient_checkpointing_kwargs}
    engine = trainer.model_wrapped
    # TRL takes all hooks off but one, which has the processes compare at each pass what they have done.
    compare = _without([engine.optimizer.parameter_offload.fwd_pre_hook])
    with unwrap_model_for_generation(engine, trainer.accelerator, **more), compare, unpartitioned():
        args.ds3_gather_for_generation = False
        try:
            yield
        finally:
            args.ds3_gather_for_generation = asked
