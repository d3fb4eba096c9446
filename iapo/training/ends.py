"""How a run's folder says that training has ended, and that the run has; without torch."""

from __future__ import annotations

import logging
from pathlib import Path

from iapo.rank import warn
from iapo.results import read_result, write_result
from iapo.stopping import Stopped
from iapo.training.contents import Contents, list_contents, names_in

FINISHED = "finished.json"
"""Written last of all, when everything else of a run is."""
TRAINED = "trained.json"
"""Written with the last policy, and taken away with the end: what is left to do is to evaluate it."""

logger = logging.getLogger(__name__)


def mark_trained(folder: Path, step: int) -> None:
    """Marks the policy in a run's folder as that of its last step, with the checksums of its files."""
    policy = folder / "policy"
    write_result(folder / TRAINED, "trained", {"step": step, "files": list_contents(policy, names_in(policy))})


def trained_step(folder: Path) -> int | None:
    """Returns the step of a run's last policy; None where there is none yet, or it is not whole."""
    if not (folder / TRAINED).is_file():
        return None
    found = read_result(folder / TRAINED, "trained")
    step, files = found.get("step"), found.get("files")
    if not isinstance(step, int) or not isinstance(files, dict):
        return None
    told = {str(name): (int(size), int(crc)) for name, (size, crc) in files.items()}
    fault = Contents(1, "", told).fault_of(folder / "policy")
    if fault is not None:
        warn(logger, "%s is passed over: %s.", folder / "policy", fault)
    return step if fault is None else None


def finish(folder: Path, step: int) -> None:
    """Marks a run as finished; the last that is written."""
    write_result(folder / FINISHED, "finished", {"step": step})
    unmark(folder)


def unmark(folder: Path) -> None:
    """Takes away the mark of a run's last policy, where the run ends or goes on being trained."""
    (folder / TRAINED).unlink(missing_ok=True)


def unfinish(folder: Path) -> None:
    """Takes the mark of a finished run away, where it is trained for longer."""
    (folder / FINISHED).unlink(missing_ok=True)


def is_finished(folder: Path) -> bool:
    """Tells whether a run was finished."""
    return (folder / FINISHED).exists()


def check_ended(step: int, last: int) -> None:
    """Refuses to take a training that was stopped for one that has ended.

    Args:
        step: Its step.
        last: Its last step.

    Raises:
        Stopped: If it has not reached the last step.
    """
    if step < last:
        raise Stopped(f"stopped after step {step} of {last}; the same command goes on from the last whole checkpoint")
