"""Run folders written by hand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from iapo.runs import RunFolder


def write_run(path: Path, misuse: Sequence[float | None], *, seed: int = 0, **settings: Any) -> RunFolder:
    """A finished run with a step for each misuse rate; what else is logged is 1, and no divergence."""
    folder = RunFolder(path)
    training = {"penalty_weight": 0.1, "seed": seed, "output_dir": str(path), **settings}
    manifest = {"config": {"run": {"model": "tiny-student"}, "training": training}, "seeds": {"training": seed}}
    (path / "manifest.json").write_text(json.dumps(manifest))
    for step, value in enumerate(misuse, 1):
        folder.append_metrics(
            {
                "step": step,
                "tools/misuse_rate": value,
                "tools/call_ratio": 1.0,
                "reward/outcome": 1.0,
                "attribution/lambda": 0.1,
            }
        )
    return folder
