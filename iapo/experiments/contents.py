"""What trials are made of beside their settings: files that these name, and what the runs say that they used.

Runs are kept over days, and others are added; a table whose runs had other data, another prompt, another start or
another own code would compare different things.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from iapo.data.files import DAMAGED, FLAWED, QUARANTINE
from iapo.data.layouts import is_shown
from iapo.data.sources import source_names
from iapo.errors import InputError
from iapo.evaluation.checkpoint_files import small_files_of, weight_files
from iapo.own_files import PART, code_digests, digest_of
from iapo.plugins import is_reference
from iapo.results import MANIFEST, read_result
from iapo.rewards.presets import local_verifier
from iapo.rollout.policy import prompt_of
from iapo.training.arguments import RunArguments
from iapo.training.config import IAPOConfig

_SMALL = 1 << 26
"""Bytes up to which a file is compared by its contents, and not by its size and time."""

_WRITTEN = ", written"

_NO_DATA = (QUARANTINE, DAMAGED, FLAWED, ".txt", ".md", ".rst", ".log", ".lock")
"""How the names of files end that lie beside data and are none: no format that iapo reads has one."""

_LEFT = ("~", ".bak", ".orig", ".tmp", ".part", ".pyc")
"""The same of what editors, downloads and Python leave there."""

_PAPERS = ("license", "licence", "copying", "notice", "authors", "citation.cff", "readme", "changelog", "makefile")
"""Whole names of files that say something about data."""

_OF_DATA = (
    *("data", "data_split", "data_samples", "data_damage", "families", "question_types", "picture_size"),
    *("train_samples", "charts_seed"),
)
"""Settings of a run that say which training samples it has."""

_OF_PROMPT = ("prompt", "model", "model_revision")
"""Settings of a run that say which prompt it has."""


def contents_of(arguments: RunArguments, settings: IAPOConfig) -> dict[str, dict[str, Any]]:
    """Returns what tells the files that a training's settings name from what they may be later.

    Args:
        arguments: Arguments of the run.
        settings: The training's settings.

    Returns:
        By what is named, digests of its files, or sizes and times of large ones; nothing of what is packaged,
        synthetic or of the hub.
    """
    named = {**vars(settings), **{name: getattr(arguments, name) for name in arguments.__dataclass_fields__}}
    found: dict[str, dict[str, Any]] = {}
    for places in code_digests(named).values():
        found |= {place: {place: digest} for place, digest in places.items()}
    for model in (arguments.model, settings.teacher, arguments.eval_teacher, local_verifier(settings)):
        if model is not None and Path(model).is_dir():
            found[model] = {f"{model}: {name}": digest for name, digest in small_files_of(model).items()}
            for name, file in weight_files(model).items():
                found[model] |= _told(f"{model}: {name}", file, sized=True)
    if arguments.prompt is not None or Path(arguments.model).is_dir():
        # The teacher is asked with the student's prompt.
        template = prompt_of(arguments.model, arguments.prompt, arguments.model_revision)
        place = f"the prompt {arguments.prompt or f'of {arguments.model}'}"
        found[place] = {place: template.digest}
    for text in (arguments.data, arguments.eval_data):
        for name in source_names(text) if text is not None else ():
            reader, _, rest = name.partition("@")
            where = name if os.path.exists(name) else rest
            if where and os.path.exists(where):
                files = _files(where, every=where == rest and is_reference(reader))
                found[name] = {one: told for file in files for one, told in _told(str(file), file).items()}
    return found


def _files(place: str, *, every: bool) -> Iterator[Path]:
    """Yields what can be data of a file or folder, linked folders included; with `every`, as a reader of one's own may
    have it, whatever its name.
    """
    if os.path.isfile(place):
        yield Path(place)
        return
    seen: set[str] = set()
    for folder, folders, names in os.walk(place, followlinks=True):
        # A link to a folder above it would lead around for ever.
        seen.add(os.path.realpath(folder))
        folders[:] = sorted(
            name for name in folders if is_shown(name) and os.path.realpath(os.path.join(folder, name)) not in seen
        )
        for name in sorted(names):
            file = Path(folder, name)
            # Reading a pipe would wait for ever, and a link may lead to nothing.
            if is_shown(name) and (every or _is_data(name)) and file.is_file():
                yield file


def _is_data(name: str) -> bool:
    """Tells whether a file can be data for the formats that are read here, by its name."""
    return not name.lower().endswith((*_NO_DATA, *_LEFT)) and name.lower() not in _PAPERS


def _counted(place: str, name: str) -> bool:
    """Tells whether a file of a place counts, which what an earlier version took up may not."""
    if name.startswith(f"{place}: "):
        # A checkpoint's.
        return True
    reader, _, rest = place.partition("@")
    where, file = place if os.path.exists(place) else rest, Path(_file(name))
    # What stands above the place is no matter.
    parts = file.relative_to(where).parts if file.is_relative_to(where) else (file.name,)
    return all(map(is_shown, parts)) and (is_reference(reader) or _is_data(file.name))


def _told(name: str, file: Path, *, sized: bool = False) -> dict[str, Any]:
    """Returns a digest of a file; of a large one, or where sizes are asked for, too, its size and time."""
    stat = file.stat()
    small = stat.st_size <= _SMALL
    told: dict[str, Any] = {}
    if sized or not small:
        told = {f"{name}, bytes": stat.st_size, f"{name}{_WRITTEN}": stat.st_mtime_ns}
    return told | ({name: _digest(file, stat.st_size, stat.st_mtime_ns)} if small else {})


@functools.lru_cache(maxsize=4096)
def _digest(file: Path, size: int, written: int) -> str:
    """Each trial asks for the same files."""
    return digest_of(file)


def check_contents(out: Path, before: Mapping[str, Any], now: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuses to add to runs what is made of other files.

    Args:
        out: Folder of the trials.
        before: What `contents_of` returned when they were begun; what is not named there cannot differ. An earlier
            version kept the files alone, without what they are of, so that none can be said to be new or gone.
        now: What it returns now.

    Raises:
        InputError: If a file differs, is new or is gone.
    """
    for place, files in now.items():
        then = before.get(place)
        whole = isinstance(then, Mapping)
        known: Mapping[str, Any] = then if isinstance(then, Mapping) else before
        # What has a digest then and now is compared by it, and may have been touched or copied.
        settled = {f"{name}{_WRITTEN}" for name in files if name in known}
        for name, told in files.items():
            if name in settled or (name not in known and not whole):
                continue
            if name not in known:
                raise _refused(out, f"without {_file(name)}; remove it")
            if known[name] != told and name.endswith(_WRITTEN):
                touch = f"`touch -d @{known[name] // 10**9}.{known[name] % 10**9:09}`"
                raise _refused(
                    out,
                    f"when {_file(name)} had another time, at the same size, and no digest of it was kept; if it was "
                    f"only touched or copied, {touch} gives it back its time; if not, give it back as it was",
                )
            if known[name] != told:
                raise _refused(out, f"with other contents of {_file(name)}; give it back as it was")
        gone = next((name for name in known if name not in files and _counted(place, name)), None) if whole else None
        if gone is not None:
            raise _refused(out, f"with {_file(gone)}, which is not there now; give it back")


def _file(name: str) -> str:
    return name.removesuffix(_WRITTEN).removesuffix(", bytes")


def _refused(out: Path, what: str) -> InputError:
    return InputError(f"{out} holds runs that were begun {what}, or choose another --out")


def check_alike(trials: Mapping[str, Sequence[Path]]) -> None:
    """Refuses to take runs together that used different things, where no setting of their own says so.

    Args:
        trials: Folders of the runs, those that are there and others, by the name of their trial.

    Raises:
        InputError: If the manifests name other training data, another prompt or other own code.
    """
    first: dict[object, tuple[str, Path, object]] = {}
    for trial, folders in trials.items():
        for folder in folders:
            if not (folder / MANIFEST).exists():
                continue
            for what, key, value in _used(trial, read_result(folder / MANIFEST, "training")):
                other, place, known = first.setdefault((what, key), (trial, folder, value))
                if known != value:
                    of = trial if other == trial else f"{other} and {trial}"
                    raise InputError(
                        f"the runs of {of} had different {what}: {place} and {folder}; remove the wrong one, and start "
                        "the same command again"
                    )


def _used(trial: str, found: Mapping[str, Any]) -> Iterator[tuple[str, object, object]]:
    """Yields what a run used: the word for it, what it follows from, and what it was."""
    config, data = found["config"], found.get("data") or {}
    run = config.get("run") or {}
    if "train" in data:
        # Which samples are too long follows from nearly all settings.
        dropped = trial if "long_prompts" in data else ""
        yield "training data", (dropped, *(repr(run.get(name)) for name in _OF_DATA)), data["train"]
    if "prompt" in config:
        yield "prompts", tuple(repr(run.get(name)) for name in _OF_PROMPT), config["prompt"]
    for places in (config.get(PART) or {}).values():
        for place, digest in places.items():
            yield f"contents of {place}", None, digest
