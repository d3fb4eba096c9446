"""Run forked, with a count of processes, a script and its words: what `torch.distributed.run --standalone` does with
them, but that its processes are forks of this one and have all imports behind them.
"""

from __future__ import annotations

import runpy
import sys
import uuid
from pathlib import Path

from torch.distributed.launcher.api import LaunchConfig, elastic_launch


def _run(script: str, *words: str) -> None:
    """Is `python SCRIPT WORDS` in a process of the launcher's."""
    sys.argv = [script, *words]
    sys.path.insert(0, str(Path(script).parent))
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    count, script, *words = sys.argv[1:]
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=int(count),
        run_id=str(uuid.uuid4()),
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
        monitor_interval=0.1,
        start_method="fork",
    )
    elastic_launch(config, _run)(script, *words)
