"""Where a training begins: anew, or from the last whole checkpoint of the run that its folder holds; without torch."""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from iapo.endpoints.address import hide_credentials
from iapo.errors import InputError
from iapo.own_files import PART, Digests, by_contents, changed_file, code_digests
from iapo.rank import warn
from iapo.results import MANIFEST, read_result
from iapo.runs import versions
from iapo.storage import read_records
from iapo.training.checkpoints import last_whole, step_of
from iapo.training.contents import Contents
from iapo.training.ends import FINISHED, TRAINED, trained_step

# Settings in which a run that goes on may differ, by how their names begin: where and how often it is written and
# shown, on how many threads, and how often and for how long somebody is asked again. No result depends on them.
FREE = (
    *("output_dir", "resume", "threads", "run_name", "logging_dir", "log_level", "disable_tqdm", "report_to"),
    *("report_traces", "save_", "hub_", "push_to_hub", "project", "trackio", "enable_jit_checkpoint", "local_rank"),
    *("dataloader_num_workers", "dataloader_pin", "dataloader_prefetch", "dataloader_persistent", "ddp_timeout"),
    *("judge_timeout", "judge_retries", "judge_concurrency", "judge_cache", "attribution_tokens"),
    *("vllm_server", "vllm_group_port", "on_nonfinite"),
)
LENGTH = ("max_steps", "num_train_epochs")
"""A checkpoint that the user names may be trained for longer than it was to be."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Start:
    """Where a training begins.

    Attributes:
        checkpoint: Checkpoint that it goes on from; None where it begins anew.
        step: Step of the checkpoint, else 0.
        begun: Whether the folder holds a part of this run.
        trained: Step of the policy where training has ended, and only the policy is still to be evaluated; else None.
    """

    checkpoint: Path | None = None
    step: int = 0
    begun: bool = False
    trained: int | None = None


def check_free(folder: Path, resume: str, named: object) -> None:
    """Refuses a folder that a training cannot be written into, by what can be told without its settings.

    Args:
        folder: The run folder.
        resume: `auto` or `never`.
        named: The setting `resume_from_checkpoint`.

    Raises:
        InputError: If it holds a finished run, one that may not go on, or something else.
    """
    begun = any((folder / name).exists() for name in ("metrics.jsonl", "traces.jsonl"))
    if named_checkpoint(named) not in (None, False):
        return
    if (folder / FINISHED).exists():
        raise InputError(
            f"{folder} already holds a finished run; choose another output_dir or remove it, or give one of its "
            "checkpoints as resume_from_checkpoint to train it for longer"
        )
    if begun and (resume == "never" or not (folder / MANIFEST).exists()):
        raise InputError(f"{folder} already holds a run; choose another output_dir or remove it")


def find_start(
    folder: Path, config: Mapping[str, Mapping[str, Any]], kind: str, *, resume: str = "auto", named: object = None
) -> Start:
    """Returns where a training begins.

    Args:
        folder: The run folder.
        config: Settings by part, as the manifest keeps them: `run` and `training`.
        kind: Kind of the manifest: `training` or `supervised`.
        resume: `auto` goes on with the run that the folder holds; `never` refuses it.
        named: The setting `resume_from_checkpoint`: a folder, or true for the last whole checkpoint.

    Raises:
        InputError: If the folder holds a finished run, one with other settings, or something else; or the named
            checkpoint is not whole.
    """
    check_free(folder, resume, named)
    if isinstance(named, str):
        again = _start_again(folder, config, kind, Path(named)) if resume == "auto" else None
        return again or _start_from(folder, config, kind, Path(named))
    manifest = folder / MANIFEST
    if not manifest.exists():
        if named is True:
            raise InputError(f"{folder} holds no run to go on with; leave out resume_from_checkpoint")
        return Start()
    if named is not True and not has_steps(folder, kind):
        warn(logger, "%s holds a run that was stopped before its first step; it starts again.", folder)
        return Start(begun=True)
    found = _check_settings(folder, config, kind, free=(*FREE, *LENGTH) if named is True else FREE)
    if named is not True and "resume" not in found["config"].get("run", {}):
        raise InputError(
            f"{folder} already holds a run of an earlier version; choose another output_dir or remove it, or go on "
            "with it by --resume_from_checkpoint true"
        )
    start = _own_start(folder, found, trained=named is not True or _is_as_long(found, config))
    if start is None and (before := _begun_from(found["config"])) is not None:
        raise InputError(
            f"{folder} was begun from {before} and has no whole checkpoint of its own yet; give that as "
            "resume_from_checkpoint once more, or choose another output_dir"
        )
    if start is None and named is True and any((folder / name).exists() for name in (FINISHED, TRAINED)):
        raise InputError(
            f"{folder} was trained to its end and has no whole checkpoint to be trained on from; begin anew in another "
            f"output_dir with {folder / 'policy'} as model"
        )
    if start is None:
        warn(logger, "%s holds a run that was stopped before its first whole checkpoint; it starts again.", folder)
        return Start(begun=True)
    return start


def _own_start(folder: Path, found: Mapping[str, Any], *, trained: bool = True, after: int = -1) -> Start | None:
    """Returns where a run goes on from what its own folder holds; None where there is nothing whole.

    Args:
        folder: The run folder.
        found: Its manifest.
        trained: Whether its last policy counts, being of as many steps as are asked for.
        after: Step that a checkpoint has to be later than.
    """
    _say_versions(found)
    if trained and (step := trained_step(folder)) is not None:
        warn(logger, "%s was trained up to its last step, %d, and goes on from its policy.", folder, step)
        return Start(begun=True, trained=step)
    whole = last_whole(folder)
    if whole is None or whole[1] <= after:
        return None
    warn(logger, "%s goes on from step %d (%s).", folder, whole[1], whole[0].name)
    _say_lost(folder, whole[1], found["config"].get("training", {}))
    return Start(*whole, begun=True)


def _start_from(folder: Path, config: Mapping[str, Mapping[str, Any]], kind: str, checkpoint: Path) -> Start:
    """Returns a start from a checkpoint that the user names."""
    step = step_of(checkpoint)
    _check_processes(checkpoint)
    for place in (checkpoint.parent, folder):
        if (place / MANIFEST).exists():
            _check_settings(place, config, kind, free=(*FREE, *LENGTH))
    return Start(checkpoint, step, begun=(folder / MANIFEST).exists())


def _start_again(folder: Path, config: Mapping[str, Mapping[str, Any]], kind: str, checkpoint: Path) -> Start | None:
    """Returns where the same command goes on that began from a named checkpoint, as Slurm gives it once more; None
    where it is another command, or has come to nothing since.
    """
    if not (folder / MANIFEST).exists() or not has_steps(folder, kind):
        return None
    found = _check_settings(folder, config, kind, free=(*FREE, *LENGTH))
    if _begun_from(found["config"]) != _begun_from(config) or not _is_as_long(found, config):
        return None
    if (folder / FINISHED).exists():
        raise InputError(
            f"{folder} already holds the finished run of this command; choose another output_dir or remove it"
        )
    # It may be gone by now, with `save_total_limit`.
    number = re.search(r"-(\d+)$", checkpoint.name)
    return _own_start(folder, found, after=int(number[1]) if number else -1)


def _begun_from(config: Mapping[str, Mapping[str, Any]]) -> str | None:
    """Returns the checkpoint that a run was begun from, named by its user; None where it began anew."""
    named = named_checkpoint(config.get("training", {}).get("resume_from_checkpoint"))
    return os.path.realpath(named) if isinstance(named, str) else None


def _is_as_long(found: Mapping[str, Any], config: Mapping[str, Mapping[str, Any]]) -> bool:
    """Tells whether a manifest has the settings that are given, number of steps and epochs among them."""
    return _difference(found, config, FREE, code_digests(_named(config))) is None


def has_steps(folder: Path, kind: str = "training") -> bool:
    """Tells whether a run has left anything of its training: a line of metrics or traces, a checkpoint, a policy.

    Where it has not, nothing is there to go on with or to be lost, and it may begin with other settings.

    Args:
        folder: The run folder, with a manifest.
        kind: Kind of the run; what is of another kind counts as something.
    """
    if read_result(folder / MANIFEST, "training", "supervised", "evaluation").get("kind", kind) != kind:
        return True
    files = (folder / name for name in ("metrics.jsonl", "traces.jsonl"))
    return any(file.is_file() and file.stat().st_size for file in files) or any(
        one.is_dir() for pattern in ("checkpoint-*", "policy") for one in folder.glob(pattern)
    )


def _say_lost(folder: Path, step: int, training: Mapping[str, Any]) -> None:
    """Says which lines of the metrics are gone that steps before the checkpoint have written."""
    every, how = training.get("logging_steps"), training.get("logging_strategy", "steps")
    if not isinstance(every, int | float) or every < 1 or how != "steps":
        return
    path = folder / "metrics.jsonl"
    known = {row.get("step") for row in read_records(path)} if path.is_file() else set()
    # Lines before a checkpoint of another folder are there.
    begun = re.search(r"-(\d+)$", str(training.get("resume_from_checkpoint")).rstrip("/"))
    first = int(begun[1]) if begun else 0
    lost = [one for one in range(int(every), step + 1, int(every)) if one > first and one not in known]
    if lost:
        warn(logger, "%s has no line of step %d, nor of %d others; they are lost.", path, lost[0], len(lost) - 1)


def check_data(folder: Path, data: Mapping[str, Any]) -> None:
    """Refuses to go on with a run on other data.

    Args:
        folder: The run folder, or that of the checkpoint; one without a manifest says nothing.
        data: Hashes by what the data are for.

    Raises:
        InputError: If one differs from the manifest's.
    """
    if not (folder / MANIFEST).exists():
        return
    before = read_result(folder / MANIFEST, "training", "supervised").get("data") or {}
    now = json.loads(json.dumps(dict(data)))
    for name in ("train", "test", "held_out"):
        if name in before and name in now and before[name] != now[name]:
            raise InputError(
                f"{folder} was begun with other data ({name}: other samples, or in another order); give the same, or "
                "choose another output_dir"
            )


def named_checkpoint(setting: object) -> str | bool | None:
    """Returns the setting `resume_from_checkpoint` by its meaning; a command line's `true` is a word."""
    words = {"true": True, "false": False, "none": None, "": None}
    if isinstance(setting, str):
        return words.get(setting.lower(), setting)
    return None if setting is None else bool(setting)


def check_begun(
    folder: Path, config: Mapping[str, Mapping[str, Any]], data: Mapping[str, Any], kind: str = "training"
) -> bool:
    """Refuses to go on with a run that was begun with other settings or data.

    Args:
        folder: The run folder.
        config: Settings by part, as the manifest keeps them.
        data: Hashes by what the data are for.
        kind: Kind of the manifest.

    Returns:
        Whether all is as it was; not where the run is to be longer, or begins from another checkpoint.

    Raises:
        InputError: If so, and the run has taken a step.
    """
    if not has_steps(folder, kind):
        return False
    found = _check_settings(folder, config, kind, free=(*FREE, *LENGTH))
    check_data(folder, data)
    return _is_as_long(found, config) and _begun_from(config) in (None, _begun_from(found["config"]))


def code_part(config: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Returns the part of a manifest's configuration by which own code is compared: digests of the files named.

    Args:
        config: Settings by part.
    """
    digests = code_digests(_named(config))
    return {PART: digests} if digests else {}


def _named(config: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {name: value for part in ("run", "training") for name, value in config.get(part, {}).items()}


def _check_settings(
    folder: Path, config: Mapping[str, Mapping[str, Any]], kind: str, free: tuple[str, ...]
) -> dict[str, Any]:
    found = read_result(folder / MANIFEST, "training", "supervised", "evaluation")
    if found.get("kind", kind) != kind:
        raise InputError(f"{folder} holds another kind of run; choose another output_dir")
    for checkpoint in sorted(folder.glob("checkpoint-*")):
        _check_processes(checkpoint)
    code = code_digests(_named(config))
    if changed := changed_file(found["config"].get(PART), code):
        raise InputError(
            f"{folder} was begun with other contents of {changed}; a run goes on with the code that it was begun with: "
            "give back the file as it was, or choose another output_dir"
        )
    if difference := _difference(found, config, free, code):
        raise InputError(
            f"{folder} holds a run with {difference}; a run goes on with the settings that it was begun with: give the "
            "same, or choose another output_dir"
        )
    return found


def _check_processes(checkpoint: Path) -> None:
    """Refuses another number of processes, by which settings differ that nobody gave."""
    try:
        contents = Contents.read(checkpoint)
    except ValueError:
        # Passed over elsewhere, with a line.
        return
    if contents is not None:
        contents.check(checkpoint, int(os.environ.get("WORLD_SIZE", "1")))


def _difference(
    found: Mapping[str, Any], config: Mapping[str, Mapping[str, Any]], free: tuple[str, ...], code: Digests
) -> str | None:
    now = json.loads(json.dumps(hide_credentials(config)))
    known = found["config"].get(PART)
    for part, settings in now.items():
        before = found["config"].get(part, {})
        for name, value in settings.items():
            # What one of the two versions does not know cannot differ.
            if name not in before or name.startswith(free) or before[name] == value:
                continue
            # A file of own code is the same wherever it lies.
            if by_contents(name, before[name], known) != by_contents(name, value, code):
                return f"{name} {before[name]!r}, now it is {value!r}"
    return None


def _say_versions(found: Mapping[str, Any]) -> None:
    before, now = found.get("versions") or {}, versions()
    for name in ("torch", "transformers", "trl"):
        if before.get(name, now.get(name)) != now.get(name):
            warn(
                logger,
                "The run was begun with %s %s and goes on with %s: its numbers may differ in their last digits.",
                name,
                before[name],
                now.get(name),
            )
