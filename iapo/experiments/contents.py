"""What trials are made of beside their settings: files that these name, and what the runs say that they used.

Runs are kept over days, and others are added; a row whose runs had other data, another prompt, another start or another
own code would be a mean of different things.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from iapo.data.sources import source_names
from iapo.errors import InputError
from iapo.evaluation.checkpoint_files import small_files_of, weights_of
from iapo.own_files import PART, code_digests, digest_of
from iapo.results import MANIFEST, read_result
from iapo.rewards.presets import local_verifier
from iapo.rollout.policy import prompt_of
from iapo.training.arguments import RunArguments
from iapo.training.config import IAPOConfig

_SMALL = 1 << 26
"""Bytes up to which a file of data is compared by its contents, and not by its size and time."""


def contents_of(arguments: RunArguments, settings: IAPOConfig) -> dict[str, Any]:
    """Returns what tells the files that a training's settings name from what they may be later.

    Args:
        arguments: Arguments of the run.
        settings: The training's settings.

    Returns:
        Digests, or sizes and times, by file; nothing of what is packaged, synthetic or of the hub.
    """
    named = {**vars(settings), **{name: getattr(arguments, name) for name in arguments.__dataclass_fields__}}
    found: dict[str, Any] = {}
    for places in code_digests(named).values():
        found |= places
    for model in (arguments.model, settings.teacher, arguments.eval_teacher, local_verifier(settings)):
        if model is not None and Path(model).is_dir():
            files: dict[str, Any] = {**(weights_of(model) or {}), **small_files_of(model)}
            found |= {f"{model}: {name}": told for name, told in files.items()}
    if arguments.prompt is not None:
        template = prompt_of(arguments.model, arguments.prompt, arguments.model_revision)
        found[f"the prompt {arguments.prompt}"] = template.digest
    for text in (arguments.data, arguments.eval_data):
        for name in source_names(text) if text is not None else ():
            where = name if os.path.exists(name) else name.partition("@")[2]
            found |= {str(file): _told(file) for file in _files(where)}
    return found


def _files(place: str) -> list[Path]:
    if not place or not os.path.exists(place):
        return []
    if os.path.isfile(place):
        return [Path(place)]
    return sorted(Path(folder, name) for folder, _, names in os.walk(place) for name in names)


def _told(file: Path) -> str:
    stat = file.stat()
    return _digest(file, stat.st_size, stat.st_mtime_ns)


@functools.lru_cache(maxsize=4096)
def _digest(file: Path, size: int, written: int) -> str:
    """Each trial asks for the same files."""
    return digest_of(file) if size <= _SMALL else f"{size} bytes, written {written}"


def check_contents(out: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuses to add to runs what is made of other files.

    Args:
        out: Folder of the trials.
        before: What `contents_of` returned when they were begun; what is missing there cannot differ.
        now: What it returns now.

    Raises:
        InputError: If a file differs.
    """
    changed = next((name for name, told in now.items() if name in before and before[name] != told), None)
    if changed is not None:
        raise InputError(
            f"{out} holds runs that were begun with other contents of {changed}; give it back as it was, or choose "
            "another --out"
        )


def check_alike(name: str, folders: Sequence[Path]) -> None:
    """Refuses to take runs together that used different things, whatever their settings say.

    Args:
        name: Name of the trial.
        folders: Folders of its runs.

    Raises:
        InputError: If the manifests name other training data, another prompt or other own code.
    """
    told = [(folder, read_result(folder / MANIFEST, "training")) for folder in folders if (folder / MANIFEST).exists()]
    for what, take in (
        ("training data", lambda found: (found.get("data") or {}).get("train")),
        ("prompts", lambda found: found["config"].get("prompt")),
        ("own code", lambda found: found["config"].get(PART)),
    ):
        known = [(folder, value) for folder, found in told if (value := take(found)) is not None]
        other = next((folder for folder, value in known if value != known[0][1]), None)
        if other is not None:
            raise InputError(
                f"the runs of {name} had different {what}: {known[0][0]} and {other}; remove the wrong one, "
                "and start the same command again"
            )
