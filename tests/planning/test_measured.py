"""What is planned for a step against what its tensors take, by PyTorch's own count, for a model with random weights."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SHORT = ["--max_turn_tokens", "24", "--max_completion_length", "48"]


@pytest.fixture
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scripts' own modules, while the test runs; another test may have had those of a copy."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    for name in ("memory", "meter", "long_steps"):
        monkeypatch.delitem(sys.modules, name, raising=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("random")


@pytest.mark.slow(12)
@pytest.mark.parametrize(
    ("case", "words"),
    [
        ({"group": 4, "words": 0, "side": 224}, "--beta 0.01"),
        ({"group": 4, "words": 300, "side": 112}, "--use_peft true"),
        ({"group": 2, "words": 0, "side": 112}, "--use_peft true --dtype bfloat16 --teacher_dtype bfloat16"),
        ({"group": 2, "words": 0, "side": 224}, "--gradient_checkpointing false"),
    ],
    ids=["weights", "LoRA", "bfloat16", "kept"],
)
def test_plan_of_a_step(benchmarks: None, folder: Path, case: dict[str, Any], words: str) -> None:
    """Each phase within 15%."""
    from long_steps import planned, steps
    from memory import random_model
    from meter import TensorPeak

    peak = TensorPeak()
    path = folder if (folder / "config.json").exists() else random_model(folder)
    row, changes = steps(str(path), case, [*SHORT, *words.split()], peak)
    says = planned(row["size"], row["text"], changes, "cpu")
    found = {phase: round(says[phase] / size, 2) for phase, size in peak.phases.items() if phase in says}
    assert {"rollout", "attribution", "update", "optimizer"} <= set(found)
    assert all(0.85 <= ratio <= 1.15 for ratio in found.values()), found
