"""What the processes of a training share out, agree on and refuse; real ones are in test_engines.py."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from iapo.data.synthetic import generate
from iapo.errors import InputError
from iapo.records import Score, ToolResult, Trace
from iapo.supervised.config import SupervisedConfig
from iapo.training import ranks
from iapo.training.config import IAPOConfig
from iapo.training.launch import check_launch
from iapo.training.precision import check_precision
from iapo.training.ranks import EqualRows, agree, check_world, evaluate_shares, share_of
from iapo.training.resume import Start


@pytest.mark.parametrize("count", [0, 1, 7, 8, 16])
@pytest.mark.parametrize("world", [1, 2, 3, 8])
def test_shares_add_up(count: int, world: int) -> None:
    shares = [share_of(count, rank, world) for rank in range(world)]
    assert shares == [len(range(rank, count, world)) for rank in range(world)]
    assert sum(shares) == count


@pytest.mark.parametrize(("counts", "asked"), [((3, 1), 3), ((0, 2), 2), ((2, 0), 2), ((0, 0), None)])
def test_ranks_ask_for_equally_many_rows_or_for_none(counts: tuple[int, int], asked: int | None) -> None:
    seen: list[int] = []

    def generate_rows(rows: list[list[int]], images: list[list[Any]]) -> list[list[int]]:
        assert len(rows) == len(images)
        seen.append(len(rows))
        return [[row[0] + 1] for row in rows]

    accelerator: Any = SimpleNamespace(device="cpu", gather=lambda own: torch.tensor(counts))
    together = EqualRows(generate_rows, accelerator, ([90], []))
    if counts[0]:
        assert together([[index] for index in range(counts[0])], [[]] * counts[0]) == [
            [index + 1] for index in range(counts[0])
        ]
    together.settle()
    assert seen == ([] if asked is None else [asked])


def test_a_rank_takes_part_in_all_rounds_of_the_others() -> None:
    """It asks for its own second turns alone; another rank has third ones, and no rank has fourth."""
    seen: list[list[list[int]]] = []

    def generate_rows(rows: list[list[int]], images: list[list[Any]]) -> list[list[int]]:
        seen.append(rows)
        return rows

    every = iter([(1, 2), (0, 1), (0, 0)])
    accelerator: Any = SimpleNamespace(device="cpu", gather=lambda own: torch.tensor(next(every)))
    together = EqualRows(generate_rows, accelerator, ([90], []), times=3)
    assert together([[7]], [[]]) == [[7]]
    together.settle()
    assert seen == [[[7], [90]], [[90]]]
    assert next(every, None) is None


@pytest.mark.parametrize("kept", [0, 3, 9])
def test_the_shares_of_an_evaluation_come_together_in_order(kept: int, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = list(generate("vbar", 5, seed=1))
    parts: list[Any] = []

    def evaluate(some: Any, patches: int) -> list[Trace]:
        image = samples[0].image
        return [
            Trace.of(
                one,
                one.id,
                ToolResult("edited", image=image, span=(0, 1)),
                "2",
                {"outcome": Score(float(place < patches))},
            )
            for place, one in enumerate(some)
        ]

    # Each rank in turn; the last one has the parts of all.
    monkeypatch.setattr(ranks, "gather_object", lambda told: parts.extend(told) or list(parts))
    for rank in range(2):
        accelerator: Any = SimpleNamespace(process_index=rank, num_processes=2)
        try:
            found = evaluate_shares(samples, kept, accelerator, evaluate)
        except KeyError:
            assert rank == 0
    assert [trace.sample for trace in found] == samples
    assert [trace.turn_1 for trace in found] == [one.id for one in samples]
    assert [trace.result.image is not None for trace in found] == [index < kept for index in range(5)]
    assert [trace.scores["outcome"].value for trace in found] == [float(index < kept) for index in range(5)]


def test_a_start_that_cannot_be_meant_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    check_launch({})
    check_launch({"SLURM_STEP_NUM_TASKS": "1"})
    check_launch({"SLURM_STEP_NUM_TASKS": "8", "WORLD_SIZE": "8"})
    check_launch({"ACCELERATE_MIXED_PRECISION": "no"})
    with pytest.raises(InputError, match="srun started 8 tasks"):
        check_launch({"SLURM_STEP_NUM_TASKS": "8"})
    with pytest.raises(InputError, match=r"started one.*torch\.distributed\.run"):
        check_launch({"ACCELERATE_MIXED_PRECISION": "no", "MASTER_PORT": "29500"})
    with monkeypatch.context() as patched:
        patched.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
        for config in (IAPOConfig, SupervisedConfig):
            with pytest.raises(InputError, match="mixed_precision is 'bf16', and the training's is 'no'"):
                config(str(tmp_path), bf16=False, use_cpu=True)
    check_precision(True, False, {"ACCELERATE_MIXED_PRECISION": "bf16"})
    check_precision(True, False, {"ACCELERATE_MIXED_PRECISION": "no"})
    check_precision(False, True, {"ACCELERATE_MIXED_PRECISION": "fp16"})
    with pytest.raises(InputError, match="mixed_precision is 'fp16', and the training's is 'bf16'"):
        check_precision(True, False, {"ACCELERATE_MIXED_PRECISION": "fp16"})
    monkeypatch.setenv("WORLD_SIZE", "2")
    check_world(SimpleNamespace(world_size=2))
    with pytest.raises(InputError, match="use_cpu"):
        check_world(SimpleNamespace(world_size=1))


def test_ranks_begin_at_one_place(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = SimpleNamespace(world_size=2, output_dir="runs/mine")

    def meet(own: Start, other: Start) -> Start:
        def gather(found: list[Any], told: Any) -> None:
            found[:] = [told, (other.step, other.trained)]

        monkeypatch.setattr(ranks.dist, "get_world_size", lambda: 2)
        monkeypatch.setattr(ranks.dist, "all_gather_object", gather)
        return agree(own, settings)

    # Where each machine has a folder of its own, the first alone has a manifest.
    start = Start(Path("checkpoint-4"), 4, begun=True)
    assert meet(start, Start(Path("elsewhere/checkpoint-4"), 4)) is start
    with pytest.raises(InputError, match="the first would go on from step 4, process 1 from the policy of step 4"):
        meet(start, Start(begun=True, trained=4))
