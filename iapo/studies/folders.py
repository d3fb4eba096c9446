"""Which run folders a study is about, and what their runs are called."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from iapo.errors import InputError
from iapo.results import MANIFEST, Manifest
from iapo.rollout.template import FILE, TINY, PromptTemplate, find_prompt, read_prompt
from iapo.storage import read_json, read_lines

logger = logging.getLogger(__name__)

_METRICS = "metrics.jsonl"

# Settings, by how their names begin, in which runs of one method may differ: seeds, places, what is kept and measured.
_OWN = (
    *("seed", "data_seed", "eval_", "output_dir", "run_name", "resume_from", "threads", "save_", "logging_", "trace"),
    *("case_study_", "report_to", "disable_tqdm"),
)


@dataclass(frozen=True, slots=True)
class Run:
    """A run folder.

    Attributes:
        name: Its method: what was given with it, else the folder's own name, or its parent's where it is a
            `seed-SEED`.
        path: The folder.
        manifest: Its manifest.
    """

    name: str
    path: Path
    manifest: Manifest

    @property
    def seed(self) -> int:
        """Of the training."""
        return int(self.manifest.seeds["training"])

    @property
    def label(self) -> str:
        """Method and seed."""
        return f"{self.name}, seed {self.seed}"


def find_runs(words: Sequence[str]) -> list[Run]:
    """Returns the runs that words name.

    Args:
        words: `FOLDER` or `NAME=FOLDER`; a folder that is no run but holds some, as those of `iapo demo`, `iapo
            compare` and `iapo study ablate` do, stands for all of them.

    Raises:
        InputError: If a folder holds no run of `iapo train` that has measured a step, or one is named twice.
    """
    found: list[Run] = []
    for word in words:
        # A folder's name may hold an equals sign, too.
        name, _, folder = ("", "", word) if Path(word).exists() or "=" not in word else word.partition("=")
        paths, begun = _runs_in(Path(folder))
        if not paths:
            raise InputError(_nothing(folder, begun))
        for path in begun:
            logger.warning("no step of the run %s has been measured; it is left out.", path)
        found += [Run(name or _name(path), path, Manifest.read(path / MANIFEST)) for path in paths]
    places = [run.path.resolve() for run in found]
    if twice := next((path for index, path in enumerate(places) if path in places[:index]), None):
        raise InputError(f"{twice} is given twice; name each run once")
    return found


def by_name(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Returns the runs of one method together, in the order in which they came.

    Raises:
        InputError: If two of one name differ in more than the seed.
    """
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(run.name, []).append(run)
    for name, some in groups.items():
        first = _settings(some[0])
        for run in some[1:]:
            for key, value in _settings(run).items():
                if first.get(key) != value:
                    raise InputError(
                        f"{some[0].path} and {run.path} are both called {name!r} but differ in {key}; "
                        "name them apart with NAME=FOLDER"
                    )
            if run.seed in [other.seed for other in some if other is not run]:
                raise InputError(f"{run.path} repeats seed {run.seed} of {name!r}; name them apart with NAME=FOLDER")
    return groups


def run_prompt(folder: Path) -> PromptTemplate:
    """Returns the prompt template of a run folder; earlier versions wrote none, and knew that of the tiny models alone.

    Raises:
        InputError: If its `prompt.yaml` is damaged.
    """
    path = folder / FILE
    return read_prompt(path) if path.is_file() else find_prompt(TINY)


def common_folder(runs: Sequence[Run], out: Path | None) -> Path:
    """Returns where a study is written: `out`, else the run's folder, else the nearest folder that holds all runs."""
    return out or Path(os.path.commonpath([run.path.resolve() for run in runs]))


def _runs_in(folder: Path) -> tuple[list[Path], list[Path]]:
    """Returns the folder's trainings that have measured a step, of the uppermost level that has any, and the others."""
    begun: list[Path] = []
    for pattern in (".", "*", "*/*", "*/*/*"):
        trainings = sorted(path.parent for path in folder.glob(f"{pattern}/{MANIFEST}") if _is_training(path))
        found = [path for path in trainings if _has_measured(path)]
        begun += [path for path in trainings if path not in found]
        if found:
            return found, begun
    return [], begun


def _is_training(manifest: Path) -> bool:
    if (manifest.parent / _METRICS).exists():
        return Manifest.read(manifest).kind == "training"
    # Without measurements it may be anything's.
    with contextlib.suppress(InputError):
        config = read_json(manifest).get("config")
        return isinstance(config, dict) and isinstance(config.get("training"), dict)
    return False


def _has_measured(folder: Path) -> bool:
    path = folder / _METRICS
    return path.exists() and any(line.strip() for line in read_lines(path)[0])


def _nothing(folder: str, begun: Sequence[Path]) -> str:
    if not begun:
        return f"{folder} holds no run; give a run folder of iapo train, or a folder of such"
    more = f" (and of {len(begun) - 1} more)" if len(begun) > 1 else ""
    path = begun[0] / _METRICS
    said = "is missing"
    if path.exists():
        lines, rest = read_lines(path)
        # Of whole lines there are empty ones at most.
        said = f"holds half a line alone (line {len(lines) + 1} has no end)" if rest.strip() else "is empty"
    return (
        f"no step of the run {begun[0]}{more} has been measured: its metrics.jsonl {said}, as it may until the first "
        "one is logged; wait for that, or start its command again"
    )


def _name(path: Path) -> str:
    path = path.resolve()
    return path.parent.name if path.name.startswith("seed-") else path.name


def _settings(run: Run) -> dict[str, Any]:
    """Returns what runs of one method share."""
    config = run.manifest.config
    shared = {
        key: value
        # A training from Python has no part `run`.
        for part in ("run", "training")
        for key, value in config.get(part, {}).items()
        if not key.startswith(_OWN)
    }
    # The wording counts, not where it was found.
    return {**shared, "prompt": config.get("prompt") or find_prompt(TINY).to_json()}
