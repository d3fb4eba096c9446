"""Options that say how local models are loaded: those of `LoadSettings`, once for each model of a verb."""

from __future__ import annotations

import dataclasses
import inspect
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import typer

from iapo.bounds import COUNT
from iapo.cli.options import within
from iapo.errors import InputError
from iapo.rollout.load_settings import LoadSettings, check_view, comes_from_hub, load_settings

_OWN = ("device", "merge_adapter")
"""Settings that a verb names itself, or that follow from what it does."""


def loading_options(*prefixes: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Gives a verb the options of its models' loading; those that are given it gets by name, as `loading`.

    Args:
        prefixes: Before the options' names, one for each model: "" for the first, `teacher` for `--teacher-dtype`.
    """

    def decorate(verb: Callable[..., None]) -> Callable[..., None]:
        hints = typing.get_type_hints(verb, include_extras=True)
        own = inspect.signature(verb).parameters
        names = ["loading", *(name for name in own if name in ("json", "quiet"))]
        options = [option for prefix in prefixes for option in _options(prefix)]
        added = {option.name for option in options}

        def with_options(**values: Any) -> None:
            given = {name: values.pop(name) for name in added}
            # A flag that is not given says nothing.
            said = {name: value for name, value in given.items() if value is not None and value is not False}
            verb(**values, loading=said)

        first = [one.replace(annotation=hints[name]) for name, one in own.items() if name not in names]
        last = [one.replace(annotation=hints[name]) for name, one in own.items() if name in names[1:]]
        parameters = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in (*first, *options, *last)]
        with_options.__name__, with_options.__doc__ = verb.__name__, verb.__doc__
        with_options.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        with_options.__annotations__ = {one.name: one.annotation for one in parameters}
        return with_options

    return decorate


def check_loading(given: Mapping[str, Any], device: str | None) -> None:
    """Refuses settings of a student's and a teacher's loading that cannot be.

    Args:
        given: The settings by name.
        device: Device of both.

    Raises:
        InputError: If so.
    """
    load_settings({**given, "device": device}).check_packages()
    load_settings({**given, "teacher_device": device}, "teacher").check_packages()
    check_view(given)


def check_revision(model: str | None, given: Mapping[str, Any], prefix: str = "") -> None:
    """Refuses a revision of a model that does not come from the hub.

    Args:
        model: Its name; None is not known here.
        given: Settings of the loading by name.
        prefix: Prefix of its settings.

    Raises:
        InputError: If so.
    """
    name = f"{prefix}_model_revision".lstrip("_")
    if model is not None and given.get(name) is not None and not comes_from_hub(model):
        option = name.replace("_", "-")
        raise InputError(f"--{option} is a branch, tag or commit of a hub id, and {model!r} is none; leave it out")


def check_revisions(models: Sequence[str | None], given: Mapping[str, Any], prefix: str = "") -> None:
    """Refuses a revision where none of several models comes from the hub, as `check_revision`.

    Args:
        models: Their names; with one that is not known here, nothing is refused.
        given: Settings of the loading by name.
        prefix: Prefix of their settings.

    Raises:
        InputError: If so.
    """
    if models and not any(name is None or comes_from_hub(name) for name in models):
        check_revision(models[0], given, prefix)


def _options(prefix: str) -> list[inspect.Parameter]:
    start, of = (f"{prefix}_", f"Of the {prefix}: ") if prefix else ("", "")
    found = []
    for one in dataclasses.fields(LoadSettings):
        if one.name in _OWN:
            continue
        words = one.metadata["help"]
        help_text = f"{of}{words[:1].lower()}{words[1:]}" if of else words
        if isinstance(one.default, bool):
            option = typer.Option(f"--{start}{one.name}".replace("_", "-"), help=help_text)
            kind: Any = Annotated[bool, option]
            default: Any = False
        else:
            number = "int" in str(one.type)
            option = typer.Option(callback=within(COUNT) if number else None, help=help_text)
            kind = Annotated[(int if number else str) | None, option]
            default = None
        found.append(
            inspect.Parameter(start + one.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)
        )
    return found
