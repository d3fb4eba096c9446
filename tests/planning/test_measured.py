"""Plans against what steps really take, in processes of their own on the CPU."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from processes import run as run_process

ROOT = Path(__file__).parents[2]
PHASES = ("rollout", "attribution", "reference", "update", "optimizer")


def measured(kind: str, folder: str, case: dict[str, Any], *words: str) -> dict[str, Any]:
    """What a case of the benchmark takes and was planned to take, in bytes."""
    script = str(ROOT / "benchmarks" / "memory.py")
    command = [sys.executable, script, kind, folder, "--case", json.dumps(case), "--settings", *words]
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "MALLOC_MMAP_THRESHOLD_": "262144",
        "OMP_NUM_THREADS": "1",
    }
    done = run_process(command, env=environment, timeout=1500)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model with random weights that is large beside what measuring is off by."""
    spec = importlib.util.spec_from_file_location("memory_benchmark", ROOT / "benchmarks" / "memory.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.random_model(tmp_path_factory.mktemp("random"))


@pytest.mark.slow(120)
@pytest.mark.timeout(1600)
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("words", [(), ("--beta", "0.01", "--gradient_checkpointing", "false")])
def test_a_step_takes_what_was_planned(folder: str, words: tuple[str, ...]) -> None:
    row = measured("train", folder, {"group": 4, "words": 100, "side": 224}, *words)
    for phase in PHASES:
        if phase in row:
            assert row[phase] == pytest.approx(row[f"{phase} planned"], rel=0.15), (phase, row)
    assert ("reference" in row) == bool(words)


@pytest.mark.slow(60)
@pytest.mark.timeout(1600)
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_attribution_stays_within_its_tokens(folder: str) -> None:
    """Less memory with fewer tokens in a graph, as planned."""
    case = {"group": 8, "words": 600, "side": 224}
    whole, bounded = (measured("attribution", folder, {**case, "tokens": tokens}) for tokens in (None, 700))
    assert bounded["attribution"] < 0.6 * whole["attribution"]
    for row in (whole, bounded):
        assert row["attribution"] == pytest.approx(row["planned"], rel=0.25), row
