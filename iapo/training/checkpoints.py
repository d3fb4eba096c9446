"""Which checkpoints of a run are whole: told from their files alone, without torch.

A process that dies while it writes leaves a checkpoint with a mark. A machine that dies may leave any file short, or
without those of another machine: a list says which there were (`iapo.training.contents`). Where there is neither, being
of an earlier version or of another program, the trainer's state is there last, and each form says where it ends.
"""

from __future__ import annotations

import json
import logging
import os
import zipfile
import zlib
from pathlib import Path

from iapo.checkpoint_names import numbered
from iapo.errors import InputError
from iapo.rank import warn
from iapo.runs import run_id
from iapo.training.contents import CONTENTS, INCOMPLETE, Contents

STATE = "trainer_state.json"

logger = logging.getLogger(__name__)


def homes(checkpoint: Path) -> tuple[Path, ...]:
    """Returns the folders whose run a checkpoint may be of: where it lies, and where a link in its place leads to."""
    named, real = Path(os.path.abspath(checkpoint)), Path(os.path.realpath(checkpoint))
    return tuple(dict.fromkeys((named.parent, real.parent)))


def last_whole(folder: Path) -> tuple[Path, int] | None:
    """Returns the latest whole checkpoint of a run and its step, None where there is none; a line for each other one.

    Args:
        folder: The run folder.
    """
    steps = numbered(folder)
    run = run_id(folder) if steps else None
    for step, path in sorted(steps.items(), reverse=True):
        fault = fault_of(path) or _another(path, run)
        if fault is None:
            return path, step
        warn(logger, "%s is passed over: %s.", path, fault)
    return None


def _another(path: Path, run: str | None) -> str | None:
    """Says that a whole checkpoint is of another run than the folder's; None where it is not, or nothing says so."""
    contents = Contents.read(path)
    if contents is None or run is None or contents.run in (run, None):
        return None
    return "it is of another run"


def step_of(path: Path) -> int:
    """Returns the step of a checkpoint that is named by the user.

    Raises:
        InputError: If it is no whole checkpoint.
    """
    if not path.is_dir():
        raise InputError(f"there is no checkpoint {path}; name a folder checkpoint-N, or leave it out")
    fault = fault_of(path, named=False)
    if fault is not None:
        raise InputError(f"{path} cannot be gone on from: {fault}; name another checkpoint")
    return int(json.loads((path / STATE).read_text())["global_step"])


def epoch_of(path: Path) -> float:
    """Returns the epochs that a whole checkpoint's training has come through, with the share of the last; 0 where it
    does not say.
    """
    told = json.loads((path / STATE).read_text()).get("epoch")
    return float(told) if isinstance(told, int | float) else 0.0


def fault_of(path: Path, *, named: bool = True) -> str | None:
    """Says why a checkpoint is not whole, None where it is.

    Args:
        path: The folder.
        named: Whether it is one of a run here: its name says its step, and it has our own state.
    """
    try:
        state = json.loads((path / STATE).read_text())
        step = int(state["global_step"])
    except OSError:
        return f"it has no {STATE}, which is written last"
    except (ValueError, KeyError, TypeError):
        return f"its {STATE} is cut off or damaged"
    if named and path.name != f"checkpoint-{step}":
        return f"its {STATE} is of step {step}"
    if (path / INCOMPLETE).exists():
        return "it was being written when the process ended"
    files = [one for one in path.rglob("*") if one.is_file()]
    names = {one.name for one in files}
    sharded = any(one.is_dir() and one.name.startswith(("pytorch_model_", "global_step")) for one in path.iterdir())
    if not sharded:
        if not any(name.endswith((".safetensors", ".bin")) and "model" in name for name in names):
            return "it has no weights"
        if not {"optimizer.pt", "optimizer.bin"} & names:
            return "it has no optimiser's state"
        # Without it Transformers leaves out the optimiser's state, too.
        if "scheduler.pt" not in names:
            return "it has no scheduler.pt"
    if not any(name.startswith("rng_state") for name in names):
        return "it has no state of the random numbers"
    if named and not any(name.startswith("iapo_state") for name in names):
        return "it has no iapo_state.pt"
    try:
        contents = Contents.read(path)
    except ValueError:
        return f"its {CONTENTS} is cut off or damaged"
    found = None if contents is None else contents.fault_of(path)
    return found or _missing_shard(path) or next((fault for one in files if (fault := _cut_off(one))), None)


def _missing_shard(path: Path) -> str | None:
    for index in path.glob("*.index.json"):
        try:
            wanted = set(json.loads(index.read_text())["weight_map"].values())
        except (ValueError, KeyError, TypeError, AttributeError):
            return f"its {index.name} is cut off or damaged"
        for name in sorted(wanted):
            if not (path / name).is_file():
                return f"its {name} is missing"
    return None


def _cut_off(file: Path) -> str | None:
    """Says that a file is shorter than it says itself; None where it is whole, or of no form that says."""
    if file.suffix == ".safetensors":
        with file.open("rb") as opened:
            start = opened.read(8)
            length = int.from_bytes(start, "little")
            if len(start) < 8 or length > file.stat().st_size:
                return f"its {file.name} is cut off"
            try:
                header = json.loads(opened.read(length))
                end = max((one["data_offsets"][1] for name, one in header.items() if name != "__metadata__"), default=0)
            except (ValueError, KeyError, TypeError, AttributeError):
                return f"its {file.name} is damaged"
        return None if file.stat().st_size == 8 + length + end else f"its {file.name} is cut off"
    if file.suffix in (".pt", ".pth", ".bin") and file.name != "training_args.bin":
        # What torch writes is an archive, whose list of contents stands at its end.
        if not zipfile.is_zipfile(file):
            return f"its {file.name} is cut off"
        try:
            with zipfile.ZipFile(file) as archive:
                whole = archive.testzip() is None
        except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError, ValueError):
            whole = False
        return None if whole else f"its {file.name} is damaged"
    return None
