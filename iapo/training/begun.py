"""From which checkpoint a run was begun that its user named, as the run's manifest keeps it; without torch."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from iapo.own_files import digest_of
from iapo.training.contents import CONTENTS

BEGUN = "begun_from"
"""Name of the part in the configuration that a manifest keeps."""


@dataclass(frozen=True, slots=True)
class Begun:
    """A named checkpoint.

    Attributes:
        checkpoint: Its real path; it may be gone by now, as one of too many.
        step: Its step, after which the run's own checkpoints come.
        contents: SHA-256 of its list of files, wherever it lies now; None where it has none.
    """

    checkpoint: str
    step: int
    contents: str | None = None

    def is_of(self, checkpoint: Path) -> bool:
        """Tells whether a checkpoint is this one, also where its run's folder was moved."""
        if os.path.realpath(checkpoint) == self.checkpoint:
            return True
        return self.contents is not None and self.contents == _digest(checkpoint)


def begun_part(folder: Path, checkpoint: Path, step: int) -> dict[str, Any]:
    """Returns what a manifest keeps of a named checkpoint: its place, in the run's folder relative to that, its step
    and what tells it from others.

    Args:
        folder: The run folder, which may be moved.
        checkpoint: The checkpoint.
        step: Its step.
    """
    place, own = os.path.realpath(checkpoint), os.path.realpath(folder)
    inside = os.path.commonpath([place, own]) == own
    told = {"checkpoint": os.path.relpath(place, own) if inside else place, "step": step}
    return {BEGUN: {**told, "contents": _digest(checkpoint)}}


def begun_from(folder: Path, config: Mapping[str, Any]) -> Begun | None:
    """Returns the checkpoint that a run was begun from; None where it began anew.

    Args:
        folder: The run folder.
        config: Settings by part, of its manifest.
    """
    told = config.get(BEGUN)
    if isinstance(told, dict) and isinstance(told.get("checkpoint"), str) and isinstance(told.get("step"), int):
        # What is no text is no file's digest.
        return Begun(os.path.realpath(folder / told["checkpoint"]), told["step"], told.get("contents"))
    # Earlier versions kept the setting alone.
    named = named_checkpoint(config.get("training", {}).get("resume_from_checkpoint"))
    if not isinstance(named, str):
        return None
    number = re.search(r"-(\d+)/*$", named)
    return Begun(os.path.realpath(named), int(number[1]) if number else 0)


def _digest(checkpoint: Path) -> str | None:
    file = checkpoint / CONTENTS
    return digest_of(file) if file.is_file() else None


def named_checkpoint(setting: object) -> str | bool | None:
    """Returns the setting `resume_from_checkpoint` by its meaning; a command line's `true` is a word."""
    words = {"true": True, "false": False, "none": None, "": None}
    if isinstance(setting, str):
        return words.get(setting.lower(), setting)
    return None if setting is None else bool(setting)
