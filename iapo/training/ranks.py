"""What the processes of one training (its *ranks*) do together: rows in step, shares of a test set, traces of all."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from accelerate import Accelerator
from accelerate.utils import gather_object
from PIL import Image

from iapo.errors import InputError
from iapo.records import Sample, Trace
from iapo.rollout.turns import Generate
from iapo.tools.failing import Failing
from iapo.training.resume import Start


def check_world(settings: Any) -> None:
    """Refuses a process that a launcher started as one of several, and that would train alone beside the others.

    Args:
        settings: The training's settings, by which the processes have found each other.

    Raises:
        InputError: If so.
    """
    told = int(os.environ.get("WORLD_SIZE", "1"))
    if told > 1 and settings.world_size == 1:
        raise InputError(
            f"the launcher started {told} processes (WORLD_SIZE), but each would train alone: there is no GPU that "
            "PyTorch can use; set use_cpu to true to train on the CPU, or start one process"
        )


def agree(start: Start, settings: Any) -> Start:
    """Has all ranks find the same place to begin at, before one of them writes there.

    Args:
        start: What this rank found.
        settings: The training's settings, by which the processes have found each other.

    Raises:
        InputError: If they did not, on each rank.
    """
    if settings.world_size > 1:
        found: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(found, (start.step, start.trained))
        if others := [rank for rank, one in enumerate(found) if one != found[0]]:
            raise InputError(
                f"{settings.output_dir} does not hold the same in all processes: the first would go on from "
                f"{_place(*found[0])}, process {others[0]} from {_place(*found[others[0]])}; give an output_dir that "
                "all of them see, or where each machine has its own (save_on_each_node), the checkpoint as "
                "resume_from_checkpoint"
            )
    return start


def _place(step: int, trained: int | None) -> str:
    return f"step {step}" if trained is None else f"the policy of step {trained}"


class EqualRows:
    """A `generate` that all ranks call together with equally many rows, some of which may be nobody's.

    Where ranks generate in step (ZeRO-3 without gathered parameters has every pass on all ranks), one that asks for
    fewer rows, or for none, leaves the others waiting.

    Args:
        generate: What continues the rows; called by all ranks, or by none where no rank has a row.
        accelerator: The accelerator.
        spare: A row of token ids and its images, repeated where this rank has fewer rows than another.
        in_step: Whether ranks generate in step at all; else each asks for its own rows alone.
        times: Number of times that each rank takes part, at least as many as any of them asks.
    """

    def __init__(
        self,
        generate: Generate,
        accelerator: Accelerator,
        spare: tuple[list[int], list[Image.Image]],
        in_step: bool = True,
        times: int = 1,
    ) -> None:
        self._generate, self._accelerator, self._spare, self._in_step = generate, accelerator, spare, in_step
        self._left = times

    def __call__(self, rows: list[list[int]], images: list[list[Image.Image]]) -> list[list[int]]:
        if not self._in_step:
            return self._generate(rows, images)
        self._left -= 1
        counts = self._accelerator.gather(torch.tensor([len(rows)], device=self._accelerator.device))
        missing = int(counts.max()) - len(rows)
        if not missing and not rows:
            return []
        ids, pictures = self._spare
        return self._generate(rows + [ids] * missing, images + [pictures] * missing)[: len(rows)]

    def settle(self) -> None:
        """Takes part in what other ranks still ask for; where none does, nothing is generated."""
        while self._in_step and self._left > 0:
            self([], [])


def share_of(count: int, rank: int, ranks: int) -> int:
    """Returns how many of so many things are a rank's, the first ranks having one more where they do not divide."""
    return count // ranks + (rank < count % ranks)


def gather_traces(traces: Sequence[Trace]) -> list[Trace]:
    """Returns the traces of all ranks, in their order, in the main process; in the others none."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return list(traces)
    gathered: list[Any] = [None] * dist.get_world_size()
    main = dist.get_rank() == 0
    dist.gather_object([trace.to_json() for trace in traces], gathered if main else None, dst=0)
    return [Trace.from_json(record) for some in gathered for record in some] if main else []


def look_at_tools(failing: Failing, traces: Sequence[Trace]) -> None:
    """Takes up what became of a step's calls over all ranks, so that all of them end a run whose tool never works.

    Args:
        failing: The counter of this rank, which counts the same on all.
        traces: Traces of this rank's rollouts.

    Raises:
        InputError: If every call of a tool failed (`iapo.tools.failing`), on each rank.
    """
    results = [dataclasses.replace(one, image=None) for trace in traces for one in trace.results]
    failing.step(gather_object(results))


def evaluate_shares(
    samples: Sequence[Sample],
    kept: int,
    accelerator: Accelerator,
    evaluate: Callable[[Sequence[Sample], int], list[Trace]],
) -> list[Trace]:
    """Has each rank evaluate every n-th sample, and gives all ranks all traces, in the samples' order.

    Args:
        samples: All samples, on each rank.
        kept: Number of first samples of which another rank's edited image is kept; the others' are not sent.
        accelerator: The accelerator.
        evaluate: Evaluates some samples, and keeps all there is of so many of them from the first.
    """
    rank, ranks = accelerator.process_index, accelerator.num_processes
    if ranks == 1:
        return evaluate(samples, kept)
    own = range(rank, len(samples), ranks)
    mine = evaluate([samples[index] for index in own], share_of(min(kept, len(samples)), rank, ranks))
    told = []
    for index, trace in zip(own, mine, strict=True):
        record = (trace if index < kept else trace.without_edits()).to_json(image_path="")
        told.append((index, {**record, "sample": None}))
    everyone = dict(gather_object(told))
    return [Trace.from_json(everyone[index], sample=sample) for index, sample in enumerate(samples)]
