"""Where a training begins: anew, or from the last whole checkpoint of the run that its folder holds; without torch."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from iapo.checkpoint_names import numbered
from iapo.endpoints.address import hide_credentials
from iapo.errors import InputError
from iapo.own_files import PART, Digests, by_contents, changed_file, code_digests
from iapo.rank import warn
from iapo.results import MANIFEST, read_result
from iapo.runs import versions
from iapo.storage import read_records
from iapo.training.begun import BEGUN, begun_from, begun_part, named_checkpoint
from iapo.training.checkpoints import epoch_of, homes, last_whole, step_of
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
_ROUNDING = 1e-6
"""A share of an epoch is the quotient of two numbers of batches."""
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
        named: Whether the checkpoint is one that the user names, and nothing of the run's own.
    """

    checkpoint: Path | None = None
    step: int = 0
    begun: bool = False
    trained: int | None = None
    named: bool = False


def check_free(folder: Path, resume: str, named: object) -> None:
    """Refuses a folder that a training cannot be written into, by what can be told without its settings.

    Args:
        folder: The run folder.
        resume: `auto` or `never`.
        named: The setting `resume_from_checkpoint`.

    Raises:
        InputError: If it holds a finished run, one that may not go on, or something else.
    """
    logged = any((folder / name).exists() for name in ("metrics.jsonl", "traces.jsonl", "policy"))
    known = (folder / MANIFEST).exists()
    if (logged and not known) or (resume == "never" and (logged or (known and numbered(folder)))):
        raise InputError(f"{folder} already holds a run; choose another output_dir or remove it")
    if named_checkpoint(named) not in (None, False):
        return
    if (folder / FINISHED).exists():
        raise InputError(
            f"{folder} already holds a finished run; choose another output_dir or remove it, or give one of its "
            "checkpoints as resume_from_checkpoint to train it for longer"
        )


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
        return _start_again(folder, config, kind, Path(named)) or _start_from(folder, config, kind, Path(named))
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
    same = _is_as_long(found, config)
    if same:
        _check_unfinished(folder)
    start = _own_start(folder, found, trained=same)
    if start is None and (begun := begun_from(folder, found["config"])) is not None:
        raise InputError(
            f"{folder} was begun from {begun.checkpoint} and has no whole checkpoint of its own yet; give that as "
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
    if start.checkpoint is not None and not same:
        _check_longer(start.checkpoint, start.step, config)
    return start


def _own_start(folder: Path, found: Mapping[str, Any], *, trained: bool) -> Start | None:
    """Returns where a run goes on from what its own folder holds; None where there is nothing whole.

    Args:
        folder: The run folder.
        found: Its manifest.
        trained: Whether its last policy counts, being of as many steps as are asked for.
    """
    _say_versions(found)
    if trained and (step := trained_step(folder)) is not None:
        warn(logger, "%s was trained up to its last step, %d, and goes on from its policy.", folder, step)
        return Start(begun=True, trained=step)
    whole, begun = last_whole(folder), begun_from(folder, found["config"])
    # What is not of later than where it began is of what the folder held before.
    if whole is None or (begun and whole[1] <= begun.step and os.path.realpath(whole[0]) != begun.checkpoint):
        return None
    warn(logger, "%s goes on from step %d (%s).", folder, whole[1], whole[0].name)
    _say_lost(folder, whole[1], found["config"].get("training", {}), begun.step if begun else 0)
    return Start(*whole, begun=True)


def _start_from(folder: Path, config: Mapping[str, Mapping[str, Any]], kind: str, checkpoint: Path) -> Start:
    """Returns a start from a checkpoint that the user names."""
    step = step_of(checkpoint)
    _check_processes(checkpoint)
    for place in (*homes(checkpoint), folder):
        if (place / MANIFEST).exists() and has_steps(place, kind):
            _check_settings(place, config, kind, free=(*FREE, *LENGTH))
    _check_longer(checkpoint, step, config)
    return Start(checkpoint, step, begun=(folder / MANIFEST).exists(), named=True)


def _start_again(folder: Path, config: Mapping[str, Mapping[str, Any]], kind: str, checkpoint: Path) -> Start | None:
    """Returns where the same command goes on that began from a named checkpoint, as Slurm gives it once more; None
    where it is another command, or has come to nothing since.
    """
    if not (folder / MANIFEST).exists() or not has_steps(folder, kind):
        return None
    found = _check_settings(folder, config, kind, free=(*FREE, *LENGTH))
    begun = begun_from(folder, found["config"])
    if begun is None or not begun.is_of(checkpoint) or not _is_as_long(found, config):
        return None
    _check_unfinished(folder)
    return _own_start(folder, found, trained=True)


def _check_unfinished(folder: Path) -> None:
    if (folder / FINISHED).exists():
        raise InputError(
            f"{folder} already holds the finished run of this command; choose another output_dir or remove it, or give "
            "more steps and one of its checkpoints as resume_from_checkpoint to train it for longer"
        )


def _check_longer(checkpoint: Path, step: int, config: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuses a checkpoint of a later step than the last one is to be."""
    training = config.get("training", {})
    most, epochs = training.get("max_steps"), training.get("num_train_epochs")
    if isinstance(most, int) and most > 0:
        if most < step:
            raise InputError(f"{checkpoint} is of step {step}, and max_steps is {most}; give more steps")
    elif isinstance(epochs, int | float) and step > 0:
        done = epoch_of(checkpoint)
        # The last step is the first one at or behind the end, which need not be a whole step.
        if done * (step - 1) / step > epochs - _ROUNDING:
            raise InputError(f"{checkpoint} is of epoch {done:g}, and num_train_epochs is {epochs:g}; give more epochs")


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


def _say_lost(folder: Path, step: int, training: Mapping[str, Any], first: int) -> None:
    """Says which lines of the metrics are gone that steps before the checkpoint have written; those up to the one that
    it was begun from are another folder's.
    """
    every, how = training.get("logging_steps"), training.get("logging_strategy", "steps")
    if not isinstance(every, int | float) or every < 1 or how != "steps":
        return
    path = folder / "metrics.jsonl"
    known = {row.get("step") for row in read_records(path)} if path.is_file() else set()
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


def check_begun(
    folder: Path,
    config: Mapping[str, Mapping[str, Any]],
    data: Mapping[str, Any],
    kind: str = "training",
    start: Start | None = None,
) -> bool:
    """Refuses to go on with a run that was begun with other settings or data.

    Args:
        folder: The run folder.
        config: Settings by part, as the manifest keeps them.
        data: Hashes by what the data are for.
        kind: Kind of the manifest.
        start: Where the training begins, where that is known.

    Returns:
        Whether all is as it was; not where the run is to be longer, or begins from a named checkpoint.

    Raises:
        InputError: If so, and the run has taken a step.
    """
    if not has_steps(folder, kind):
        return False
    found = _check_settings(folder, config, kind, free=(*FREE, *LENGTH))
    check_data(folder, data)
    return _is_as_long(found, config) and not (start is not None and start.named)


def manifest_parts(folder: Path, config: Mapping[str, Mapping[str, Any]], start: Start) -> dict[str, Any]:
    """Returns what a manifest's configuration has beside settings: digests of own code, and the named checkpoint that
    the run was begun from.

    Args:
        folder: The run folder.
        config: Settings by part.
        start: Where the training begins.
    """
    digests = code_digests(_named(config))
    parts: dict[str, Any] = {PART: digests} if digests else {}
    if start.checkpoint is not None and start.named:
        return parts | begun_part(folder, start.checkpoint, start.step)
    if start.checkpoint is None or not (folder / MANIFEST).exists():
        return parts
    before = read_result(folder / MANIFEST, "training", "supervised")["config"]
    return parts | ({BEGUN: before[BEGUN]} if BEGUN in before else {})


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
