"""Shared prefixes under DistributedDataParallel and FSDP2: two processes, other rows on each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from processes import run_ranks
from scripted import four_ways, scripted

from iapo.data.synthetic import generate
from iapo.training.batches import to_dataset

CASES = ("ddp-kept", "fsdp-kept", "fsdp-checkpointing")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, model: Any, processor: Any) -> Path:
    """With the gradients of all cases; the processes are started once."""
    folder = tmp_path_factory.mktemp("distributed")
    charts = list(generate("vbar", 2, seed=5, question_types=("value",)))
    for rank, chart in enumerate(charts):
        trainer = scripted(folder / str(rank), model, processor, charts, script=four_ways)
        output = trainer._generate_and_score_completions(list(to_dataset([chart])) * 4)
        batch = {
            "input_ids": torch.cat([output["prompt_ids"], output["completion_ids"]], 1),
            "attention_mask": torch.cat([output["prompt_mask"], output["completion_mask"]], 1),
            "pixel_values": output["pixel_values"],
            "image_grid_thw": output["image_grid_thw"],
            "mm_token_type_ids": output["mm_token_type_ids"],
            "picture_ids": output["picture_ids"],
            "length": output["completion_ids"].shape[1],
        }
        torch.save(batch, folder / f"batch-{rank}.pt")
    model.save_pretrained(folder / "model")
    run_ranks(Path(__file__).parent / "distributed_gradient.py", folder, *CASES)
    return folder


@pytest.mark.slow(1)
@pytest.mark.parametrize("case", CASES)
def test_the_shared_gradient_is_synchronised(folder: Path, case: str) -> None:
    first, second = (torch.load(folder / f"gradients-{case}-{rank}.pt", weights_only=True) for rank in range(2))
    assert torch.equal(first["shared"], second["shared"])
    assert first["plain"].norm() > 0
    assert (first["shared"] - first["plain"]).norm() < 1e-5 * first["plain"].norm()
