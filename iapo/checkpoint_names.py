"""The checkpoints of a run, by the names of their folders."""

from __future__ import annotations

import re
from pathlib import Path


def numbered(folder: Path) -> dict[int, Path]:
    """Returns what bears the name of a run's checkpoint, by step; `checkpoint-best-3` and `checkpoint-3-good` do not.

    Args:
        folder: The run folder.
    """
    found = ((re.fullmatch(r"checkpoint-([1-9][0-9]*)", path.name), path) for path in folder.glob("checkpoint-*"))
    return {int(name[1]): path for name, path in found if name}
