"""From which checkpoint a run was begun that its user named, as the run's manifest keeps it; without torch."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from iapo.training.checkpoints import STATE
from iapo.training.contents import Contents

BEGUN = "begun_from"
"""Name of the part in the configuration that a manifest keeps."""


@dataclass(frozen=True, slots=True)
class Begun:
    """A named checkpoint.

    Attributes:
        checkpoint: Its real path; it may be gone by now, as one of too many.
        step: Its step, after which the run's own checkpoints come.
        run: What tells its run from others (`iapo.runs.run_id`), wherever that lies now; None where nothing does.
    """

    checkpoint: str
    step: int
    run: str | None = None

    def is_of(self, checkpoint: Path) -> bool:
        """Tells whether a checkpoint is this one, also where its run's folder was moved."""
        if os.path.realpath(checkpoint) == self.checkpoint:
            return True
        return self.run is not None and (self.run, self.step) == (run_of(checkpoint), _step_of(checkpoint))


def begun_part(folder: Path, checkpoint: Path, step: int) -> dict[str, Any]:
    """Returns what a manifest keeps of a named checkpoint: its place, in the run's folder relative to that, and step.

    Args:
        folder: The run folder, which may be moved.
        checkpoint: The checkpoint.
        step: Its step.
    """
    place, own = os.path.realpath(checkpoint), os.path.realpath(folder)
    inside = os.path.commonpath([place, own]) == own
    told = {"checkpoint": os.path.relpath(place, own) if inside else place, "step": step, "run": run_of(checkpoint)}
    return {BEGUN: told}


def begun_from(folder: Path, config: Mapping[str, Any]) -> Begun | None:
    """Returns the checkpoint that a run was begun from; None where it began anew.

    Args:
        folder: The run folder.
        config: Settings by part, of its manifest.
    """
    told = config.get(BEGUN)
    if isinstance(told, dict) and isinstance(told.get("checkpoint"), str) and isinstance(told.get("step"), int):
        run = told.get("run")
        return Begun(os.path.realpath(folder / told["checkpoint"]), told["step"], run if isinstance(run, str) else None)
    # Earlier versions kept the setting alone.
    named = named_checkpoint(config.get("training", {}).get("resume_from_checkpoint"))
    if not isinstance(named, str):
        return None
    number = re.search(r"-(\d+)/*$", named)
    return Begun(os.path.realpath(named), int(number[1]) if number else 0)


def run_of(checkpoint: Path) -> str | None:
    """Returns what tells the run of a checkpoint from others; None where nothing does."""
    try:
        contents = Contents.read(checkpoint)
    except ValueError:
        # It is refused where it is gone on from.
        return None
    return None if contents is None else contents.run


def _step_of(checkpoint: Path) -> int | None:
    try:
        return int(json.loads((checkpoint / STATE).read_text())["global_step"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def named_checkpoint(setting: object) -> str | bool | None:
    """Returns the setting `resume_from_checkpoint` by its meaning; a command line's `true` is a word."""
    words = {"true": True, "false": False, "none": None, "": None}
    if isinstance(setting, str):
        return words.get(setting.lower(), setting)
    return None if setting is None else bool(setting)
