"""Scored rollouts of a training, handed on to who sees them and to who keeps them."""

from __future__ import annotations

from typing import Any

from iapo.rewards.presets import scored_traces
from iapo.training.batches import Batch
from iapo.training.ranks import gather_traces, share_of


def hand_on(trainer: Any, batch: Batch, step: int) -> None:
    """Hands the scored traces of a step to who sees them, and those of all processes to who keeps them.

    Args:
        trainer: An `IAPOTrainer`; all processes call it.
        batch: This process's rollouts, with the rewards of all processes.
        step: Optimiser step, from 1.
    """
    place = trainer.accelerator.process_index, trainer.accelerator.num_processes
    kept, count = 0 if trainer.keeper is None else trainer.keeper.traces_at(step), trainer.args.traces_at(step)
    if trainer.on_rollouts is None and not kept:
        return
    assert batch.rewards is not None
    names = [name.removesuffix("_reward") for name in trainer.reward_func_names]
    rewards = batch.rewards.split(len(batch.rollouts))[place[0]]
    if trainer.alignment is not None and batch.measured and count:
        own = share_of(count, *place)
        with trainer.measuring() as student:
            batch.measured = trainer.alignment.add_patches(student, batch.rollouts, batch.measured, own)
    traces = scored_traces(batch.rollouts, names, rewards, batch.measured, step)
    if trainer.keeper is not None and kept:
        trainer.keeper.keep_traces(gather_traces(traces[: share_of(kept, *place)]))
    if trainer.on_rollouts is not None:
        trainer.on_rollouts(step, traces)
