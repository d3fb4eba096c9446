"""What a run's folder holds of other courses: set aside, but for checkpoints beyond `save_total_limit`."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from iapo.checkpoint_names import numbered
from iapo.runs import rewind
from iapo.training.best import find_best
from iapo.training.checkpoints import STATE
from iapo.training.contents import INCOMPLETE
from iapo.training.resume import Start

_OF_POLICIES = {"config.json", "adapter_config.json", "model.safetensors", "adapter_model.safetensors"}
_FIRST = {"README.md", "prompt.yaml", "tokenizer_config.json"}
"""What else may be all that a dead process wrote."""

logger = logging.getLogger(__name__)


def set_aside(folder: Path, start: Start) -> None:
    """Renames checkpoints after the step from which a training goes on: they are of another course of it, or damaged.

    Where it goes on from a checkpoint of elsewhere, all that the folder holds is of another course, but for the best
    one so far. What a dead process began to write is removed, by the mark that it left there.

    Args:
        folder: The run folder.
        start: Where the training begins.
    """
    foreign = is_foreign(start, folder)
    best = find_best(start.checkpoint).place if foreign and start.checkpoint is not None else None
    for step, path in numbered(folder).items():
        if (not foreign and step <= start.step) or (best is not None and path.resolve() == best.resolve()):
            continue
        if (path / INCOMPLETE).exists() and not path.is_symlink():
            shutil.rmtree(path)
            logger.warning("%s is half written and is removed.", path)
            continue
        what = "of another course" if foreign else f"of later than step {start.step}"
        logger.warning("%s is %s and is set aside as %s.", path, what, rename(path).name)


def is_foreign(start: Start, folder: Path) -> bool:
    """Tells whether a training goes on from a checkpoint that is none of its folder's own, by name and place, whatever
    links lead there or on.
    """
    if start.checkpoint is None:
        return False
    own = numbered(Path(os.path.realpath(folder))).values()
    named = Path(os.path.abspath(start.checkpoint))
    return not {Path(os.path.realpath(named.parent)) / named.name, Path(os.path.realpath(named))} & set(own)


def drop_lines(folder: Path, start: Start, step: int) -> None:
    """Drops what a run's folder has logged after the step that a training goes on from; where that is of elsewhere,
    all of it.

    Args:
        folder: The run folder.
        start: Where the training begins.
        step: The step.
    """
    rewind(folder, -1 if is_foreign(start, folder) else step)


def make_room_for_policy(folder: Path) -> None:
    """Has nothing lie where a policy is to be written: one that was saved before is removed, all else set aside."""
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else {"."}
    known = _OF_POLICIES | (_FIRST if folder.suffix == ".part" else set())
    _make_room(folder, "policy", ours=not names or bool(names & known))


def make_room(folder: Path) -> None:
    """Has nothing lie where a checkpoint is to be written: another one is removed, what is none is set aside."""
    _make_room(folder, "checkpoint", ours=is_checkpoint(folder))


def _make_room(folder: Path, what: str, *, ours: bool) -> None:
    if ours and not folder.is_symlink():
        shutil.rmtree(folder)
    elif os.path.lexists(folder):
        logger.warning("%s is no %s and is set aside as %s.", folder, what, rename(folder).name)


def rotate(folder: Path, limit: int | None, kept: Iterable[Path]) -> None:
    """Removes the oldest checkpoints beyond a number.

    Transformers goes by the files' times, which another machine's clock may have given, and takes whatever else bears
    such a name for a checkpoint.

    Args:
        folder: The run folder.
        limit: Most checkpoints; None removes none.
        kept: Checkpoints that stay, however old they are.
    """
    if limit is None:
        return
    steps = _own(folder)
    spared = {path.resolve() for path in kept}
    excess = len(steps) - max(limit, 1)
    for _, path in sorted(steps.items()):
        if excess > 0 and path.resolve() not in spared:
            shutil.rmtree(path, ignore_errors=True)
            excess -= 1


def remove_checkpoints(folder: Path) -> None:
    """Removes the checkpoints of a run that has ended, and nothing else that bears such a name."""
    for path in _own(folder).values():
        if not path.is_symlink():
            shutil.rmtree(path)


def newest(folder: Path) -> list[Path]:
    """Returns the checkpoint of the latest step that a folder holds, if it holds any."""
    return [path for _, path in sorted(_own(folder).items())[-1:]]


def _own(folder: Path) -> dict[int, Path]:
    return {step: path for step, path in numbered(folder).items() if is_checkpoint(path)}


def is_checkpoint(path: Path) -> bool:
    """Tells whether a folder holds a checkpoint, whole or not; else it is the user's."""
    return path.is_dir() and ((path / STATE).is_file() or (path / INCOMPLETE).is_file())


def rename(path: Path) -> Path:
    """Renames something as superseded, under a name that nothing bears; returns where it is."""
    aside = path.with_name(f"superseded-{path.name}")
    count = 1
    while os.path.lexists(aside):
        count += 1
        aside = path.with_name(f"superseded-{path.name}.{count}")
    path.rename(aside)
    return aside
