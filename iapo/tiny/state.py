"""The state of a supervised stage of a tiny model, kept every so many steps: a build that was stopped goes on."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from transformers import PreTrainedModel

from iapo.errors import InputError
from iapo.rollout.writing import writing
from iapo.stopping import stoppable
from iapo.storage import make_folder, whole_file

STATE = "state.pt"
"""In a stage's folder while it is made."""

EVERY = 50
"""Steps between two states."""

_Item = TypeVar("_Item")


class Counted(Generic[_Item]):
    """An iterator that knows how many of its items were taken."""

    def __init__(self, items: Iterator[_Item]) -> None:
        self.items, self.taken = items, 0

    def __iter__(self) -> Iterator[_Item]:
        return self

    def __next__(self) -> _Item:
        self.taken += 1
        return next(self.items)

    def skip_to(self, count: int) -> None:
        """Takes items until so many are taken."""
        while self.taken < count:
            next(self)


class StageState:
    """Where a stage is: its part, the part's step, and all that the next step depends on.

    Args:
        folder: The stage's folder.
        settings: What the stage depends on; a state of another one is refused.

    Attributes:
        part: Number of the part that runs.
        history: The log lines so far.

    Raises:
        InputError: If the folder holds the state of a stage with other settings.
    """

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self.path, self.settings = folder / STATE, settings
        self.part, self.history = 0, list[dict[str, Any]]()
        self._found: dict[str, Any] | None = None
        if self.path.exists():
            self._found = torch.load(self.path, weights_only=True)
            before = self._found["settings"]
            if other := next((name for name in settings if before.get(name) != settings[name]), None):
                raise InputError(
                    f"{folder} was begun with {other} {before.get(other)!r}, not {settings[other]!r}; give the same or "
                    "choose another --out"
                )
            self.part, self.history = self._found["part"], self._found["history"]

    def load(
        self, model: PreTrainedModel, optimizer: Any, schedule: Any, rng: np.random.Generator, charts: Counted[Any]
    ) -> tuple[int, dict[str, list[float]] | None]:
        """Takes up the state of the part that runs.

        Returns:
            The step that is done, 0 at the part's beginning, and the losses since the last log line.
        """
        found, self._found = self._found, None
        if found is None:
            return 0, None
        model.load_state_dict(found["model"])
        torch.random.set_rng_state(found["torch"])
        version, words, gauss = found["python"]
        random.setstate((version, tuple(words), gauss))
        if found["step"] == 0:
            return 0, None
        optimizer.load_state_dict(found["optimizer"])
        schedule.load_state_dict(found["schedule"])
        rng.bit_generator.state = found["rng"]
        charts.skip_to(found["charts"])
        return found["step"], found["losses"]

    def load_weights(self, model: PreTrainedModel) -> None:
        """Takes up the weights of a stage whose parts were all done before this process began."""
        if self._found is not None:
            model.load_state_dict(self._found["model"])

    def after_step(
        self,
        step: int,
        model: PreTrainedModel,
        optimizer: Any,
        schedule: Any,
        rng: np.random.Generator,
        charts: Counted[Any],
        losses: dict[str, list[float]],
    ) -> None:
        """Keeps the state every `EVERY` steps, and where the process was asked to stop.

        Raises:
            Stopped: If it was.
        """
        with stoppable() as stop:
            if step % EVERY and stop.asked is None:
                return
            found = {
                "step": step,
                "model": model.state_dict(),
                "optimizer": optimizer.state_dict(),
                "schedule": schedule.state_dict(),
                "rng": rng.bit_generator.state,
                "charts": charts.taken,
                "losses": losses,
            }
            self._write(found)
            stop.check(f" after step {step} of {self.path.parent}, which is saved")

    def end_part(self, model: PreTrainedModel) -> None:
        """Keeps the state between two parts."""
        self.part += 1
        self._write({"step": 0, "model": model.state_dict()})

    def _write(self, found: dict[str, Any]) -> None:
        version, words, gauss = random.getstate()
        state = {
            **found,
            "settings": self.settings,
            "part": self.part,
            "history": self.history,
            "torch": torch.random.get_rng_state(),
            "python": [version, list(words), gauss],
        }
        make_folder(self.path.parent)
        with writing(self.path, keep=True), whole_file(self.path) as part:
            torch.save(state, part)
