"""Dynamic sampling: groups whose rewards are all equal are drawn anew, with other prompts (DAPO, arXiv 2503.14476).

Such a group has no advantage. It costs a rollout and an update, and the batch is smaller than it looks. All processes
see all rewards and so agree on which groups are drawn again. In each round every process writes equally many rollouts,
of which some may be nobody's, so that none waits for another.
"""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from trl.data_utils import prepare_multimodal_messages

from iapo.training.batches import Batch, picture_ids, samples_of
from iapo.training.groups import flat_groups, total_rewards
from iapo.training.shards import generating


@dataclass(slots=True)
class _Drawn:
    """Rollouts of this process with all that is known of them.

    Attributes:
        rows: Their rows of the data set.
        batch: Their batch, with the rewards of all processes.
        extra: What reward functions logged beside, a value a rollout, by column.
    """

    rows: list[dict[str, Any]]
    batch: Batch
    extra: dict[str, list[Any]]


def draw_batch(trainer: Any, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rolls out and rewards a batch, and draws groups without spread anew, at most `args.dynamic_sampling` times.

    The trainer's batch is finished then: TRL's path takes rollouts and rewards out of it.

    Args:
        trainer: An `IAPOTrainer` in training.
        rows: Rows of this process, as TRL drew them.

    Returns:
        The rows of the rollouts that the batch has in the end.
    """
    args, group = trainer.args, trainer.num_generations
    rank, ranks = trainer.accelerator.process_index, trainer.accelerator.num_processes
    attributed = trainer._metrics["train"]["time/attribution"]
    known = len(attributed)
    kept = _draw(trainer, rows)
    size, redrawn = len(rows), 0
    numbers = _other_rows(len(trainer.train_dataset), args.seed, trainer._step)
    for _ in range(args.dynamic_sampling):
        flat = flat_groups(_judged(trainer, kept.batch.rewards), group)
        if not flat:
            break
        redrawn += len(flat)
        fresh = {one: next(numbers) for one in flat}
        # The rows of all processes lie one after the other, and a group may be shared by two processes.
        places = [
            [place for place in range(size) if (process * size + place) // group in fresh] for process in range(ranks)
        ]
        most = max(map(len, places))
        chosen = [fresh[(rank * size + place) // group] for place in places[rank]]
        chosen += [fresh[flat[0]]] * (most - len(chosen))
        read = {number: trainer.train_dataset[number] for number in dict.fromkeys(chosen)}
        drawn = _draw(trainer, [dict(read[number]) for number in chosen])
        _replace(kept, drawn, places, rank)
    if len(attributed) > known:
        attributed[known:] = [sum(attributed[known:])]
    trainer._metrics["train"]["groups/redrawn"].append(redrawn * group / (size * ranks))
    kept.batch.picture_ids = picture_ids([one.images for one in kept.batch.rollouts]).to(trainer.accelerator.device)
    trainer._batch = kept.batch
    trainer.watch.traces = [one.trace for one in kept.batch.rollouts]
    trainer._pending_extra_logs.update(kept.extra)
    return kept.rows


def _draw(trainer: Any, rows: Sequence[dict[str, Any]]) -> _Drawn:
    start = time.perf_counter()
    batch = trainer._batch = Batch(samples_of(list(rows)))
    prompts = [prepare_multimodal_messages(row["prompt"], images=[row["image"]]) for row in rows]
    with generating(trainer):
        ids, images, fields = trainer._tokenize_prompts(prompts)
        first, log_probs = trainer._generate_single_turn(ids, images, fields, trainer.num_generations)
        _, chats, written, *_ = trainer._tool_call_loop(prompts, ids, first, [], log_probs, images, fields)
    batch.seconds = time.perf_counter() - start
    trainer._calculate_rewards(list(rows), prompts, chats, written)
    extra = {name: list(values) for name, values in trainer._pending_extra_logs.items()}
    trainer._pending_extra_logs.clear()
    return _Drawn(list(rows), batch, extra)


def _replace(kept: _Drawn, drawn: _Drawn, places: Sequence[Sequence[int]], rank: int) -> None:
    """Puts what was drawn in the places of what it takes the place of.

    Args:
        kept: Rollouts of the batch.
        drawn: Rollouts of a round, equally many in each process.
        places: Places in the batch of each process's rollouts of the round.
        rank: Number of this process.
    """
    old, new = kept.batch, drawn.batch
    for source, place in enumerate(places[rank]):
        kept.rows[place] = drawn.rows[source]
        for name in ("samples", "prompts", "rollouts", "measured", "log_probs"):
            if values := getattr(new, name):
                getattr(old, name)[place] = values[source]
    for name in kept.extra.keys() | drawn.extra.keys():
        mine = kept.extra.setdefault(name, [None] * len(kept.rows))
        others = drawn.extra.get(name, [None] * len(drawn.rows))
        for source, place in enumerate(places[rank]):
            mine[place] = others[source]
    old.seconds += new.seconds
    assert old.rewards is not None
    assert new.rewards is not None
    for process, some in enumerate(places):
        at = torch.tensor(some, dtype=torch.long) + process * len(kept.rows)
        begin = process * len(drawn.rows)
        old.rewards[at.to(old.rewards.device)] = new.rewards[begin : begin + len(some)]


def _judged(trainer: Any, rewards: Tensor | None) -> Tensor:
    """Returns the reward of each rollout by which a group is judged: all of it, or without the preset's components."""
    assert rewards is not None
    weights = trainer.reward_weights
    if trainer.args.dynamic_sampling_by == "outcome":
        outcome = torch.tensor([name not in trainer._columns for name in trainer.reward_func_names])
        rewards, weights = rewards[:, outcome.to(rewards.device)], weights[outcome.to(weights.device)]
    return total_rewards(rewards, weights)


def _other_rows(count: int, seed: int, step: int) -> Iterator[int]:
    """Yields numbers of rows, each once before one comes again.

    They follow from seed and step alone: the same in all processes, and in a run that was stopped and goes on.
    """
    order = list(range(count))
    random.Random(f"{seed} {step}").shuffle(order)
    return itertools.cycle(order)
