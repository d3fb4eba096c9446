"""What verbs share: loaded by name when they are called, quiet where that is asked for, wrong words in a sentence."""

from __future__ import annotations

import contextlib
import importlib
import io
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, TextIO

import typer
from typer.core import TyperCommand, TyperGroup

from iapo.errors import InputError, did_you_mean
from iapo.home import with_home

UsageError: type[Any] = typer.BadParameter.__mro__[1]
"""What the parser raises for wrong words; Typer has no public name for it."""


STANDARD_OUTPUT = Path("-")
"""What `--json` takes for the standard output."""


class _Nothing(io.TextIOBase):
    """Takes text and drops it. Never closed: a logger may have kept it."""

    def write(self, text: str, /) -> int:
        return len(text)


_NOTHING = _Nothing()


class Known:
    """What is known of the verb that runs, for the last line of an unexpected error.

    Attributes:
        folder: Folder that it writes to, if that is known.
        output: The standard output as it was when it began.
    """

    folder: Path | None = None
    output: TextIO = sys.stdout


class Verb(TyperCommand):
    """A verb: with `--quiet` it prints nothing; where it writes to is remembered."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Refuses an option that is given twice, of which otherwise the last would count, and an empty word, which
        as a path would be the current folder; the parser calls it.
        """
        normal = ctx.token_normalize_func or str
        known = {normal(name): one for one in self.params for name in (*one.opts, *one.secondary_opts)}
        given: set[Any] = set()
        words, before, argument = iter(args), "", "a word"
        arguments = (
            (one.metavar or one.name.upper()).rstrip(".") for one in self.params if one.param_type_name == "argument"
        )
        for word in words:
            if word == "--":
                break
            name, equals, value = word.partition("=")
            option = known.get(normal(name)) if name.startswith("--") else None
            if option is None:
                # What follows an unknown option is its value.
                if not before.startswith("--") and not word.startswith("--"):
                    argument = next(arguments, argument)
                    if not word:
                        raise InputError(f"{argument} is empty; give it a value, or leave it out")
                before = word
                continue
            if option in given and not option.multiple:
                raise InputError(f"the option {option.opts[0]} is given twice; give it once")
            given.add(option)
            before = ""
            if not equals and not getattr(option, "is_flag", False):
                # Its value may look as an option.
                value = next(words, "-")
            if not value and not getattr(option, "is_flag", False) and option.default != "":
                raise InputError(f"{option.opts[0]} is empty; give it a value, or leave it out")
        return super().parse_args(ctx, [with_home(word) for word in args])

    def invoke(self, ctx: Any) -> Any:
        """Runs the verb; the parser calls it when all options are read."""
        out = ctx.params.get("out")
        Known.folder = out if isinstance(out, Path) and not out.suffix else None
        Known.output = sys.stdout
        with contextlib.ExitStack() as stack:
            if ctx.params.get("json") == STANDARD_OUTPUT:
                # Nothing but the numbers is to be in the way of what reads them.
                stack.enter_context(contextlib.redirect_stdout(sys.stderr))
            if ctx.params.get("quiet"):
                # An error leaves as an exception, and is printed where these no longer hold.
                stack.enter_context(contextlib.redirect_stdout(_NOTHING))
                stack.enter_context(contextlib.redirect_stderr(_NOTHING))
            return super().invoke(ctx)


class Group(TyperGroup):
    """A group of verbs; alone, it says what it has."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Resolves the verb; the parser calls it."""
        return super().parse_args(ctx, args or ["--help"])

    def get_help_option(self, ctx: Any) -> Any:
        """Gives `--help` a default: without one, Typer loads pydantic to find that it was not given."""
        option = super().get_help_option(ctx)
        if option is not None and option.default is None:
            option.default = False
        return option


class _Verbs(Mapping[str, Any]):
    """Commands by name, each imported when it is asked for: `NAME` is the app of `iapo.cli.NAME`."""

    def __init__(self, names: Mapping[str, str]) -> None:
        self.names = names

    def __getitem__(self, name: str) -> Any:
        if name not in self.names:
            raise KeyError(name)
        command = typer.main.get_command(importlib.import_module(f"iapo.cli.{name}").app)
        command.name = name
        return command

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


class Lazy(Group):
    """A group whose verbs are not imported to list them.

    Attributes:
        verbs: Sentence on each, by name.
    """

    verbs: ClassVar[Mapping[str, str]] = {}

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        self.commands = _Verbs(self.verbs)  # type: ignore[assignment]

    def list_commands(self, ctx: Any) -> list[str]:
        """Returns the names of the verbs, in order."""
        return list(self.verbs)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Writes the verbs and what they do."""
        with formatter.section("Commands"):
            formatter.write_dl(list(self.verbs.items()))


def make_app(**more: Any) -> typer.Typer:
    """Makes an app of plain text: without boxes, and without what draws them."""
    more.setdefault("cls", Group)
    return typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None, **more)


SETTINGS = {"allow_extra_args": True, "ignore_unknown_options": True}
"""Of a verb that takes any setting of a training by a flag of its name."""


def sentence(error: Any) -> str:
    """Says in one sentence what is wrong with the words of a command line."""
    path = error.ctx.command_path if error.ctx is not None else "iapo"
    option = getattr(error, "option_name", None)
    if option is not None and hasattr(error, "possibilities"):
        known = [one for parameter in error.ctx.command.params for one in parameter.opts] if error.ctx else []
        text = f"{path} has no option {option}"
        guess = did_you_mean(option.replace("_", "-"), known)
    else:
        text = " ".join(error.format_message().split()).rstrip(".")
        text, found, guess = text.partition(". Did you mean ")
        guess = f"did you mean {guess.rstrip('?')}?" if found else ""
        text = text[:1].lower() + text[1:]
    return f"{text}; {guess or f'`{path} --help` says what it takes'}"


def options_of(context: typer.Context) -> list[str]:
    """Returns the names of a verb's own options, as a mistyped setting may have meant them."""
    return [one.lstrip("-").replace("-", "_") for parameter in context.command.params for one in parameter.opts]
