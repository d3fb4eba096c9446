"""Checks of what verbs are given that need no torch, so that what is wrong is said before seconds of imports."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import typer

from iapo.bounds import split_list
from iapo.errors import InputError

SPLITS = ("train", "validation", "test")
"""Splits of synthetic images."""


def checkpoint(parameter: typer.CallbackParam, value: Any) -> Any:
    """Refuses a name that is no checkpoint: neither packaged nor a folder, nor a hub id by its form."""
    if isinstance(value, str):
        check_checkpoint(value)
    return value


def check_checkpoint(name: str) -> None:
    """Refuses one name that is no checkpoint, as `checkpoint` does.

    Raises:
        InputError: If it is no checkpoint.
    """
    from iapo.rollout.load_settings import is_hub_id

    packaged = sorted(path.name for path in Path(str(resources.files("iapo"))).joinpath("checkpoints").iterdir())
    # The empty path is the working directory's.
    if name and (name in packaged or _is_folder(name) or is_hub_id(name)):
        return
    raise InputError(f"no checkpoint {name!r}: neither packaged ({', '.join(packaged)}) nor a local folder")


def _is_folder(name: str) -> bool:
    try:
        return Path(name).is_dir()
    except (OSError, ValueError):
        # Too long, or with what no path can hold.
        return False


def offered(parameter: typer.CallbackParam, value: str | None) -> str | None:
    """Refuses tools that are not there (`iapo.tools.offered_tools`)."""
    from iapo.tools import offered_tools

    offered_tools(value)
    return value


def prompt(parameter: typer.CallbackParam, value: str | None) -> str | None:
    """Refuses a prompt that is not there, or no template (`iapo.rollout.template.find_prompt`)."""
    if value is not None:
        from iapo.rollout.template import find_prompt

        find_prompt(value)
    return value


def variable(parameter: typer.CallbackParam, value: str) -> str:
    """Refuses what is no name of an environment variable (`iapo.endpoints.address.check_variable`)."""
    from iapo.endpoints.address import check_variable

    check_variable(f"--{str(parameter.name).replace('_', '-')}", value)
    return value


def check_output(settings: Mapping[str, Any], resume: str = "auto", read: Iterable[str | None] = ()) -> Path | None:
    """Refuses an `output_dir` that a training cannot write.

    Args:
        settings: The trainer's settings by name.
        resume: Whether a run that the folder holds goes on (`auto`) or is refused (`never`).
        read: Names of the checkpoints that the training begins with.

    Returns:
        The folder; None where none is given.

    Raises:
        InputError: If it is below or is a file, cannot be made, holds a run that cannot go on, or one of the
            checkpoints is in the place of the trained policy.
    """
    if "output_dir" not in settings:
        return None
    from iapo.storage import check_place
    from iapo.training.resume import check_free

    folder = Path(settings["output_dir"])
    check_place(folder)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; choose another output_dir, which is a folder")
    if folder.is_symlink() and not folder.exists():
        raise InputError(f"{folder} is a link to nothing; make its target, or choose another output_dir")
    for name in read:
        if name and _is_folder(name) and Path(name).resolve() in (folder.resolve(), (folder / "policy").resolve()):
            raise InputError(
                f"output_dir is {folder}, whose policy would be written over or among the checkpoint {name}; choose "
                "another output_dir"
            )
    check_free(folder, resume, settings.get("resume_from_checkpoint"))
    return folder


def check_source(name: str) -> None:
    """Refuses the name of a test set that cannot be one, without reading it.

    Raises:
        InputError: If it is no family, no benchmark with a place, no path, and no hub id by its form.
    """
    from iapo.data.benchmarks import BENCHMARKS
    from iapo.data.formats.known import FORMATS
    from iapo.data.synthetic.families import FAMILIES
    from iapo.errors import unknown
    from iapo.plugins import check_reference, is_reference

    if "://" in name:
        # Not said: there may be a password in it.
        raise InputError("a test set is given as an address; give a family, a file, a folder or a hub id")
    before, at, where = name.partition("@")
    if at and not Path(name).exists():
        check_reference(before, "data format")
        if before not in BENCHMARKS and before not in FORMATS and not is_reference(before):
            raise unknown("test set or format", before, [*BENCHMARKS, *FORMATS])
        if where != "hub" and not Path(where).exists() and where.count("/") != 1:
            raise InputError(f"test set {name!r}: there is no file or folder {where!r}; give one, or `{before}@hub`")
    elif name not in FAMILIES and not Path(name).exists() and name.count("/") != 1:
        raise InputError(f"test set {name!r} is no family ({', '.join(FAMILIES)}), no file and no folder")


def check_sets(text: str, split: str | None = None) -> None:
    """Checks a list with commas between as `check_source` does; each name once, and at least one.

    Args:
        text: The list.
        split: Split of them, if that is to be looked for, too.

    Raises:
        InputError: If the list or one of its names cannot be.
    """
    names = split_list("--sets", text)
    if not names or len(set(names)) < len(names):
        raise InputError(f"test sets are {', '.join(names) or 'none'}; name each one once, and at least one")
    for name in names:
        check_source(name)
        if split is not None:
            check_split(name, split)


def check_split(source: str, split: str) -> None:
    """Refuses a split that a family or a folder has not; of rows no more is read than the splits that they name.

    Raises:
        InputError: If so.
    """
    from iapo.data.synthetic.families import BY_NAME

    if source in BY_NAME:
        known = SPLITS if BY_NAME[source].trained else SPLITS[1:]
        if split not in known:
            raise InputError(f"split is {split!r}; synthetic images of {source} have {', '.join(known)}")
    elif Path(source).is_dir():
        # Not needed to check a family.
        from iapo.data.choosing import choose

        choose(Path(source), split)


def check_training_data(arguments: Any) -> None:
    """Refuses sources of a training that are not there, and splits that they have not.

    Args:
        arguments: The training's `iapo.training.arguments.RunArguments`.

    Raises:
        InputError: If so.
    """
    from iapo.data.sources import check_once, source_names

    if arguments.data is None:
        check_once(arguments.families)
    asked = [(arguments.data, arguments.data_split)]
    if arguments.eval_samples:
        asked.append((arguments.eval_data or arguments.data, arguments.eval_split))
    for text, split in asked:
        names = () if text is None else source_names(text)
        check_once(names)
        for name in names:
            check_source(name)
            check_split(name, split)


def check_questions(text: str, families: tuple[str, ...]) -> None:
    """Refuses a list of question types where one is known to none of the families.

    Raises:
        InputError: If so.
    """
    from iapo.data.synthetic.families import BY_NAME
    from iapo.errors import unknown

    asked = split_list("--question-types", text)
    known = [one for name in families if name in BY_NAME for one in BY_NAME[name].question_types]
    for name in asked:
        if known and name not in known:
            raise unknown("question type", name, dict.fromkeys(known))


def check_drawn(options: Mapping[str, Any], sources: Iterable[str]) -> None:
    """Refuses options of synthetic images where no source is a family of them.

    Args:
        options: Values by the options' names; None and what is empty is not given.
        sources: The sources.

    Raises:
        InputError: If so.
    """
    from iapo.data.synthetic.families import BY_NAME

    names = list(sources)
    if any(name in BY_NAME for name in names):
        return
    if option := next((option for option, value in options.items() if value not in (None, "")), None):
        raise InputError(f"{option} is of synthetic images, and {', '.join(names)} has none; leave it out")


def check_ended(samples: int, sources: Iterable[str]) -> None:
    """Refuses to take all samples of what has no end.

    Raises:
        InputError: If so.
    """
    from iapo.data.synthetic.families import BY_NAME

    if samples == 0 and (name := next((name for name in sources if name in BY_NAME), None)):
        raise InputError(f"--samples 0 is all of a set, and synthetic images of {name} have no end; say how many")


def check_toolless(context: typer.Context, tools: str | None) -> None:
    """Refuses options of tools where none is offered, and there is one turn.

    Args:
        context: The verb's context, which knows what was given.
        tools: What is offered, as `--tools` has it.

    Raises:
        InputError: If one was given.
    """
    if tools == "none":
        check_unused(context, ["tool_timeout"], "is of tools, and none is offered; leave it out")
        check_unused(context, ["max_turns"], "is of tools, and without one there is one turn; leave it out")


def check_unused(context: typer.Context, names: Iterable[str], reason: str) -> None:
    """Refuses options that were given and would do nothing.

    Args:
        context: The verb's context, which knows what was given.
        names: Names of the options' parameters.
        reason: Why they do nothing, and what to do, as the sentence goes on after the option.

    Raises:
        InputError: If one was given.
    """
    for name in names:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            raise InputError(f"--{name.replace('_', '-')} {reason}")
