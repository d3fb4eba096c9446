"""Which checkpoint is the best so far, where a training goes on in a folder that was moved or is named otherwise."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate.utils import broadcast_object_list
from transformers import TrainerState

from iapo.rank import warn
from iapo.training.checkpoints import STATE, homes
from iapo.training.contents import Contents

logger = logging.getLogger(__name__)


def place_in(folder: Path, best: str | None) -> str | None:
    """Returns the best checkpoint's place as it is kept: within the run's folder relative to that, else its real path.

    Args:
        folder: The run folder.
        best: Its place, as the trainer's state has it.
    """
    if best is None:
        return None
    place, own = os.path.realpath(best), os.path.realpath(folder)
    return os.path.relpath(place, own) if os.path.dirname(place) == own else place


@dataclass(frozen=True, slots=True)
class Best:
    """The best checkpoint that another one knows of.

    Attributes:
        told: Its place as it was written; None where it knows of none.
        place: Where it is now; None where it is gone.
    """

    told: str | None = None
    place: Path | None = None


def find_best(checkpoint: Path) -> Best:
    """Finds the best checkpoint that one knows of.

    Args:
        checkpoint: The checkpoint, whole.
    """
    told = json.loads((checkpoint / STATE).read_text()).get("best_model_checkpoint")
    if not isinstance(told, str):
        return Best()
    contents, folders = Contents.read(checkpoint), homes(checkpoint)
    best = Path(told).name if contents is None or contents.best is None else contents.best
    # As it was written last, since it may be of another run by now, in a folder that was moved.
    places = [*(folder / best for folder in folders), Path(told)]
    run = None if contents is None or os.path.isabs(best) else contents.run
    return Best(told, next((place for place in places if place.is_dir() and _is_of(place, run)), None))


def _is_of(checkpoint: Path, run: str | None) -> bool:
    """Tells whether a checkpoint is of a run, or does not say; one of weights alone does not."""
    try:
        contents = Contents.read(checkpoint)
    except ValueError:
        # Its list is damaged, and says nothing of its weights.
        return True
    return run is None or contents is None or contents.run in (run, None)


class _Missing(logging.Filter):
    """Passes over what Transformers says of a best checkpoint that is not where it was written: it is said here."""

    def filter(self, record: logging.LogRecord) -> bool:
        return "recorded in the resumed state does not exist anymore" not in record.getMessage()


@contextmanager
def saying_itself() -> Iterator[None]:
    """Has Transformers say nothing of a best checkpoint that is not where it was."""
    theirs, missing = logging.getLogger("transformers.trainer"), _Missing()
    theirs.addFilter(missing)
    try:
        yield
    finally:
        theirs.removeFilter(missing)


def take_best(state: TrainerState, best: Best, *, needed: bool) -> None:
    """Has a training that goes on know its best checkpoint by where it is now; all processes call it.

    Args:
        state: The trainer's state, as it was read.
        best: What this process found; the first one's counts.
        needed: Whether the best policy is to be loaded in the end.
    """
    told: list[Any] = [best]
    (best,) = broadcast_object_list(told)
    state.best_model_checkpoint = None if best.place is None else str(best.place)
    if best.told is None:
        return
    if best.place is not None:
        if not Path(best.told).is_dir():
            warn(logger, "The best checkpoint so far is %s.", best.place)
    elif needed:
        warn(logger, "%s, the best policy so far, is gone; the best of the steps from here on is taken.", best.told)
        state.best_metric = state.best_global_step = None
