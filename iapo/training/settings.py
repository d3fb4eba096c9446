"""Settings of a training: a YAML file and flags, merged as mappings, checked by name and type, parsed once.

All that can be told without TRL is told without it: the names and types of its settings are read from its source
(`iapo.training.declared`), so that a wrong one is refused at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iapo.attribution.forms import check_form
from iapo.bounds import check_numbers
from iapo.endpoints.address import check_asked
from iapo.errors import InputError, did_you_mean, unknown
from iapo.plugins import check_reference, is_reference, name_in
from iapo.rollout.names import check_teacher
from iapo.storage import check_place
from iapo.training.arguments import RunArguments
from iapo.training.declared import Setting, keys_of, settings_of
from iapo.training.files import CONFIGS, layers_of
from iapo.training.idle import check_idle
from iapo.training.model_settings import check_frozen
from iapo.training.trl_settings import check_command, check_trl
from iapo.training.values import parse_value

if TYPE_CHECKING:
    from iapo.training.config import IAPOConfig

Changes = Mapping[str, Any] | Sequence[str]
"""Settings by name, or as the words of a command line."""

LIST = "`iapo train --list-settings` lists all"


def run_settings() -> dict[str, Setting]:
    """Returns the settings of `RunArguments`."""
    return settings_of("iapo.training.arguments", "RunArguments")


def trainer_settings() -> dict[str, Setting]:
    """Returns the settings of `IAPOConfig`, TRL's and Transformers' among them."""
    return settings_of("iapo.training.config", "IAPOConfig")


def reward_names() -> tuple[str, ...]:
    """Returns the names of `iapo.rewards.presets.PRESETS`, without what their code needs."""
    return keys_of("iapo.rewards.presets", "PRESETS")


def compared_rewards() -> tuple[str, ...]:
    """Returns the rewards that docs/rewards.md lists, in its order: what `iapo compare` trains by default."""
    return (*reward_names(), "iapo+distill")


def reward_label(text: str) -> str:
    """Returns what tables and folders call a reward: the function's name alone where it is the user's own."""
    return "+".join(name_in(part) for part in text.split("+"))


def check_reward(name: str, what: str = "reward") -> None:
    """Refuses a name that no reward has; a reference to the user's own is left to who resolves it.

    Args:
        name: Name, reference, or several of them with `+` between.
        what: Noun for it in the error.

    Raises:
        InputError: If there is no such reward.
    """
    for part in name.split("+"):
        check_reference(part, what)
        if not is_reference(part) and part not in reward_names():
            raise unknown(what, part, (*compared_rewards(), "FILE.py:NAME"))


def check_method(name: str | None) -> None:
    """Refuses the name of an attribution method that there is not; None is left to the settings.

    Raises:
        InputError: If so.
    """
    if name is None:
        return
    check_reference(name, "attribution method")
    known = keys_of("iapo.attribution.methods", "METHODS")
    if not is_reference(name) and name not in known:
        raise unknown("attribution method", name, known)


def check_cache(path: str | None) -> None:
    """Refuses a file for verdicts that cannot be one.

    Raises:
        InputError: If it is a folder, or lies below a file.
    """
    if path is not None:
        check_place(Path(path))
        if Path(path).is_dir():
            raise InputError(f"judge_cache is {path}, a folder; name a file in it")


def read_flags(words: Sequence[str]) -> dict[str, Any]:
    """Reads the words of a command line: `--name value`, `--name=value`, `--name one two`, or `--name` alone.

    Args:
        words: The words; names may have hyphens or underscores.

    Returns:
        By name a text, a list of texts where there are several, or True.

    Raises:
        InputError: If a word belongs to no setting, or a setting is given twice.
    """
    found: dict[str, Any] = {}
    name = ""
    for word in words:
        if word.startswith("--") and len(word) > 2:
            name, equals, value = word[2:].partition("=")
            name = name.replace("-", "_")
            if name in found:
                raise InputError(f"the setting {name} is given twice; give it once")
            found[name] = value if equals else True
        elif not name:
            raise InputError(f"{word!r} belongs to no setting; write --NAME VALUE")
        elif found[name] is True:
            found[name] = word
        else:
            found[name] = [*(found[name] if isinstance(found[name], list) else [found[name]]), word]
    return found


def typed(
    settings: Changes,
    *,
    options: Iterable[str] = (),
    where: str = "",
    known: Mapping[str, Setting] | None = None,
    listed: str = LIST,
) -> dict[str, Any]:
    """Checks settings by name, and parses their values by type.

    Args:
        settings: The settings.
        options: Further names that may have been meant.
        where: Place that stands before the sentence of an error, for example a file.
        known: Settings that there are; those of `iapo train` if None.
        listed: Sentence that says what lists them, for an unknown name that resembles none.

    Raises:
        InputError: If a setting is unknown or given twice, or a value is of another type or cannot be.
    """
    given = settings if isinstance(settings, Mapping) else read_flags(settings)
    known = trainer_settings() | run_settings() if known is None else known
    found: dict[str, Any] = {}
    before = f"{where}: " if where else ""
    for key, value in given.items():
        name = str(key).replace("-", "_")
        if name not in known:
            guess = did_you_mean(name, [*known, *options])
            raise InputError(f"{before}no setting {name!r}; {guess or listed}")
        if name in found:
            raise InputError(f"{before}the setting {name} is given twice; give it once")
        try:
            found[name] = parse_value(name, value, known[name].kind)
            check_numbers({name: found[name]})
        except InputError as error:
            raise InputError(f"{before}{error}") from error
    return found


def check(config: str, changes: Changes = (), *, options: Iterable[str] = ()) -> tuple[RunArguments, dict[str, Any]]:
    """Reads a training's settings and checks all that can be told without TRL and torch.

    Args:
        config: A YAML file, the name of a packaged one, or several with commas between, of which a later one wins.
        changes: Settings that win over the files'.
        options: Further names that a mistyped setting may have meant.

    Returns:
        The arguments of the run, and the trainer's settings by name.

    Raises:
        InputError: If there is no such file, it holds no mapping, a setting is unknown or given twice, or a value
            cannot be.
    """
    merged: dict[str, Any] = {}
    for given, _ in _layers(config, changes, options):
        merged |= given
    if "reward" in merged:
        check_reward(merged["reward"])
    check_method(merged.get("attribution_method"))
    check_cache(merged.get("judge_cache"))
    check_asked(merged)
    check_trl(merged)
    check_command(merged)
    check_frozen(merged)
    check_form(merged)
    if merged.get("output_dir", ".") in (None, ""):
        raise InputError("output_dir is empty; name the folder that the run is written to")
    run = run_settings()
    arguments = RunArguments(**{name: value for name, value in merged.items() if name in run})
    if (teacher := merged.get("teacher")) is not None and merged.get("teacher_table") is None:
        check_teacher(arguments.model, teacher, arguments.model_revision, merged.get("teacher_model_revision"))
    return arguments, {name: value for name, value in merged.items() if name not in run}


def check_written(config: str, changes: Changes = ()) -> None:
    """Refuses settings that do nothing, where a user wrote them for one training: `iapo.training.idle.check_idle`.

    Args:
        config: As in `check`; packaged files are not the user's.
        changes: As in `check`.

    Raises:
        InputError: If there is one, or as `check` of names and values.
    """
    check_idle(_layers(config, changes), trainer_settings() | run_settings())


def _layers(config: str, changes: Changes, options: Iterable[str] = ()) -> list[tuple[dict[str, Any], bool]]:
    """Returns the settings in layers, lowest first, and of each whether it is the user's own."""
    files = layers_of(config)
    changed = typed(changes, options=options)
    own = [(typed(given, where=str(path)), not path.resolve().is_relative_to(CONFIGS)) for path, given in files]
    return [*own, (changed, True)]


def parse(config: str, changes: Changes = (), **fixed: Any) -> tuple[RunArguments, IAPOConfig]:
    """Reads a training's settings: `check`, and what TRL and Transformers say of them.

    Args:
        config: A YAML file, or the name of a packaged one.
        changes: Settings that win over the file's.
        fixed: Settings of the trainer that win over both.

    Raises:
        InputError: As `check`, or if TRL or Transformers refuse a value.
    """
    arguments, settings = check(config, changes)
    from iapo.training.config import IAPOConfig
    from iapo.training.rehearsal import made

    return arguments, made(IAPOConfig, {**settings, **fixed})


def list_settings(groups: Mapping[str, Mapping[str, Setting]] | None = None) -> Iterator[str]:
    """Yields a line for each setting, its name, type and default, and one for what it means.

    Args:
        groups: Settings by title; those of `iapo train` if None.
    """
    if groups is None:
        groups = {"The run": run_settings(), "The trainer (IAPO's, TRL's and Transformers')": trainer_settings()}
    for title, settings in groups.items():
        yield f"{title}:"
        for setting in settings.values():
            default = f" = {setting.default}" if setting.default else ""
            yield f"  --{setting.name}  {setting.annotation}{default}"
            if setting.help:
                yield f"      {setting.help}"
