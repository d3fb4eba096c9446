"""Settings of a supervised run: a YAML file and flags, checked by name and type before TRL is loaded."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from iapo.errors import InputError
from iapo.supervised.arguments import SupervisedArguments
from iapo.supervised.trl_settings import check_supervised
from iapo.training.declared import Setting, settings_of
from iapo.training.files import layers_of
from iapo.training.settings import Changes, typed

if TYPE_CHECKING:
    from iapo.supervised.config import SupervisedConfig

LIST = "`iapo sft --list-settings` lists all"


def run_settings() -> dict[str, Setting]:
    """Returns the settings of `SupervisedArguments`."""
    return settings_of("iapo.supervised.arguments", "SupervisedArguments")


def trainer_settings() -> dict[str, Setting]:
    """Returns the settings of `SupervisedConfig`, TRL's and Transformers' among them."""
    return settings_of("iapo.supervised.config", "SupervisedConfig")


def check(
    config: str | None, changes: Changes = (), *, options: Iterable[str] = ()
) -> tuple[SupervisedArguments, dict[str, Any]]:
    """Reads the settings and checks all that can be told without TRL and torch.

    Args:
        config: A YAML file, the name of a packaged one, or several with commas between; None for flags alone.
        changes: Settings that win over the file's.
        options: Further names that a mistyped setting may have meant.

    Returns:
        The arguments of the run, and the trainer's settings by name.

    Raises:
        InputError: If there is no such file, a setting is unknown or given twice, or a value cannot be.
    """
    run = run_settings()
    known = trainer_settings() | run
    given: dict[str, Any] = {}
    for path, written in [] if config is None else layers_of(config):
        given |= typed(written, where=str(path), known=known, listed=LIST)
    given |= typed(changes, options=options, known=known, listed=LIST)
    arguments = SupervisedArguments(**{name: value for name, value in given.items() if name in run})
    settings = {name: value for name, value in given.items() if name not in run}
    check_supervised(settings, arguments.held_out)
    if not settings.get("output_dir"):
        raise InputError("output_dir is not given; name the folder that the run writes")
    return arguments, settings


def parse(settings: dict[str, Any]) -> SupervisedConfig:
    """Makes the trainer's settings of those that `check` returned.

    Raises:
        InputError: If TRL or Transformers refuse a value.
    """
    from iapo.supervised.config import SupervisedConfig
    from iapo.training.rehearsal import made, rehearse

    found = made(SupervisedConfig, settings)
    rehearse(found)
    return found
