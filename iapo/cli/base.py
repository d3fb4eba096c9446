"""What verbs share: loaded by name when they are called, quiet where that is asked for, wrong words in a sentence."""

from __future__ import annotations

import contextlib
import functools
import importlib
import io
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, TextIO, get_type_hints

import typer
from typer.core import TyperCommand, TyperGroup

from iapo.bounds import read_number
from iapo.errors import InputError, did_you_mean
from iapo.home import with_home
from iapo.kinds import expected, members
from iapo.stopping import stoppable
from iapo.storage import without_empty

UsageError: type[Any] = typer.BadParameter.__mro__[1]
"""What the parser raises for wrong words; Typer has no public name for it."""


STANDARD_OUTPUT = Path("-")
"""What `--json` takes for the standard output."""


class _Nothing(io.TextIOBase):
    """Takes text and drops it. Never closed: a logger may have kept it."""

    def write(self, text: str, /) -> int:
        return len(text)

    def fileno(self) -> int:
        """Returns the number of a file, which vLLM writes to past Python as it starts."""
        return _null()


@functools.cache
def _null() -> int:
    return os.open(os.devnull, os.O_WRONLY)


_NOTHING = _Nothing()


class Known:
    """What is known of the verb that runs, for the last line of an unexpected error.

    Attributes:
        folder: Folder that it writes to, if that is known.
        output: The standard output as it was when it began.
    """

    folder: Path | None = None
    output: TextIO = sys.stdout


@contextlib.contextmanager
def alone_on_output() -> Iterator[None]:
    """Keeps the standard output for `write_json` within the block; what else is printed goes to standard error.

    Also what processes print that are started within it, and code that is no Python.
    """
    before, output = Known.output, sys.stdout
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        Known.output = output
        stack.callback(setattr, Known, "output", before)
        # In a notebook, say, or where it is closed, there is no descriptor to mind.
        with contextlib.suppress(OSError, ValueError, AttributeError):
            if output.fileno() == 1:
                output.flush()
                kept = os.dup(1)
                stack.callback(os.close, kept)
                os.dup2(2, 1)
                stack.callback(os.dup2, kept, 1)
                Known.output = stack.enter_context(open(kept, "w", encoding=output.encoding, closefd=False))
        yield


def _asks_for_output(words: Sequence[str]) -> bool:
    """Tells whether a verb's words ask for the numbers on the standard output."""
    return any(word == "--json=-" or (word, following) == ("--json", "-") for word, following in pairwise([*words, ""]))


class Verb(TyperCommand):
    """A verb: with `--quiet` it prints nothing; where it writes to is remembered.

    Attributes:
        goes_on: Whether one that was stopped goes on by the same command (docs/resuming.md).
    """

    goes_on: ClassVar[bool] = False

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Refuses an option that is given twice, of which otherwise the last would count, and an empty word, which
        as a path would be the current folder; the parser calls it.
        """
        normal = ctx.token_normalize_func or str
        known = {normal(name): one for one in self.params for name in (*one.opts, *one.secondary_opts)}
        given: set[Any] = set()
        words, before, argument = iter(args), "", None
        arguments = iter([one for one in self.params if one.param_type_name == "argument"])
        for word in words:
            if word == "--":
                break
            name, equals, rest = word.partition("=")
            value: str | None = rest
            option = known.get(normal(name)) if name.startswith("--") else None
            if option is None:
                # What follows an unknown option is its value.
                if not before.startswith("--") and not word.startswith("--"):
                    argument = next(arguments, argument)
                    if not word:
                        what = "a word" if argument is None else (argument.metavar or argument.name.upper()).rstrip(".")
                        needed = argument is not None and argument.required and argument.nargs == 1
                        raise InputError(f"{what} is empty; give it a value{'' if needed else ', or leave it out'}")
                    self._check_number(argument, word)
                before = word
                continue
            if option in given and not option.multiple:
                raise InputError(f"the option {option.opts[0]} is given twice; give it once")
            given.add(option)
            before = ""
            if not equals and not getattr(option, "is_flag", False):
                # Its value may look as an option.
                value = next(words, None)
            if value == "" and not getattr(option, "is_flag", False) and option.default != "":
                or_not = "" if option.required else ", or leave it out"
                raise InputError(f"{option.opts[0]} is empty; give it a value{or_not}")
            self._check_number(option, value)
        if _asks_for_output(args):
            # Held until the verb ends: also a file that is imported to check an option may print.
            ctx.with_resource(alone_on_output())
        try:
            return super().parse_args(ctx, [with_home(word) for word in args])
        except BaseException:
            # The parser closes only what it has read to the end.
            ctx.close()
            raise

    def _check_number(self, parameter: Any, text: str | None) -> None:
        """Refuses what is no number by the rule of settings; the parser's takes `8_0`, and `5.0` for a whole one."""
        if parameter is None or text is None or self.callback is None:
            return
        kinds = [one for one in members(get_type_hints(self.callback).get(parameter.name)) if one is not type(None)]
        if kinds in ([int], [float]) and read_number(text, kinds[0]) is None:
            raise InputError(f"{parameter.opts[0]} is {text[:100]!r}; it takes {expected(kinds)}")

    def invoke(self, ctx: Any) -> Any:
        """Runs the verb; the parser calls it when all options are read."""
        out = ctx.params.get("out")
        Known.folder = (out.parent if out.suffix else out) if isinstance(out, Path) else None
        with stoppable() as stop, contextlib.ExitStack() as stack:
            stop.goes_on = self.goes_on
            if ctx.params.get("quiet"):
                # An error leaves as an exception, and is printed where these no longer hold.
                stack.enter_context(contextlib.redirect_stdout(_NOTHING))
                stack.enter_context(contextlib.redirect_stderr(_NOTHING))
            stack.enter_context(without_empty())
            return super().invoke(ctx)


class Resumable(Verb):
    """A verb that goes on, by the same command, where it was stopped."""

    goes_on = True


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


def refuse_more(context: typer.Context) -> None:
    """Refuses settings beside `--list-settings`, which would not be looked at.

    Raises:
        InputError: If there are any.
    """
    if context.args:
        raise InputError(f"--list-settings lists what can be given, and runs nothing; remove {context.args[0][:100]!r}")


def options_of(context: typer.Context) -> list[str]:
    """Returns the names of a verb's own options, as a mistyped setting may have meant them."""
    return [one.lstrip("-").replace("-", "_") for parameter in context.command.params for one in parameter.opts]
