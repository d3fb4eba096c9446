"""The command line. Each verb is a module beside this one, imported when it is called, its heavy parts later still."""

from __future__ import annotations

import errno
import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, ClassVar, NoReturn

import typer

from iapo.cli.base import Known, Lazy, UsageError, sentence
from iapo.errors import DISK, InputError, NumberError, PlaceError, one_line
from iapo.rank import is_first
from iapo.stopping import STOPPED, Stopped, Stopping, stoppable
from iapo.storage import FULL

FAILED = 1
"""Exit code where a process that was started failed; the sentence ends with its log."""

INTERRUPTED = 130
"""Exit code of what Ctrl-C ended: the shell's word for SIGINT."""


class Root(Lazy):
    """All verbs; each is the module `iapo.cli.NAME`, whose `app` it is."""

    verbs: ClassVar[Mapping[str, str]] = {
        "demo": "Train a tiny student with GRPO and with IAPO, and compare.",
        "plan": "Say what a training takes of a GPU's memory.",
        "train": "Train a policy as a YAML file says.",
        "doctor": "Look for what would go wrong in a training.",
        "sft": "Train on transcripts first: a supervised cold start.",
        "evaluate": "Measure a policy on test sets.",
        "compare": "Train methods with several seeds, and write Table 1.",
        "study": "Studies of training runs: figures and ablations.",
        "report": "Write one HTML page about runs.",
        "ask": "Ask a policy about an image.",
        "serve": "Serve a policy with its tools over HTTP.",
        "export": "Write a trained policy as a checkpoint for other programs.",
        "attribute": "Show which part of the prompt a call came from.",
        "teacher": "What a teacher is asked once.",
        "data": "Data sets: check, convert, look at, make.",
        "new": "Write a tool, reward or data format to begin with.",
        "tiny": "The packaged tiny models.",
    }


app = typer.Typer(
    cls=Root,
    help="Teach small vision-language models to use tools (IAPO).",
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    # Its options are below: Typer's own have no default, which loads pydantic before any verb is found.
    add_completion=False,
    # One spelling everywhere: a hyphen and an underscore are the same.
    context_settings={"token_normalize_func": lambda name: name.replace("_", "-")},
)


def _print_version(value: bool) -> None:
    if value:
        from importlib.metadata import version

        typer.echo(f"iapo {version('iapo')}")
        raise typer.Exit


def _completion(context: typer.Context, parameter: typer.CallbackParam, value: bool) -> None:
    if value:
        from typer.completion import install_callback, show_callback

        (install_callback if parameter.name == "install_completion" else show_callback)(context, parameter, value)


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
    install_completion: Annotated[
        bool, typer.Option("--install-completion", callback=_completion, help="Install completion for this shell.")
    ] = False,
    show_completion: Annotated[
        bool, typer.Option("--show-completion", callback=_completion, help="Print the completion for this shell.")
    ] = False,
) -> None:
    """Teach small vision-language models to use tools (IAPO)."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line.

    What the user can mend is one sentence on standard error and exit code 2, an endpoint that fails one and exit code
    3, numbers that are not finite one and exit code 4, a process that fails the end of its log and exit code 1, a disk
    that takes no more or a run folder that is gone one and exit code 74, being stopped by SIGTERM, SIGUSR1 or SIGHUP
    one and exit code 75, and by Ctrl-C (SIGINT) one and exit code 130. Everything else keeps its traceback, with a
    line that says so.

    Args:
        arguments: The words after `iapo`; the process's own if None.

    Raises:
        SystemExit: Where the verb has ended, or failed in one of those ways.
    """
    sys.excepthook = _report
    # `iapo.images` refuses what Pillow only warns of.
    warnings.filterwarnings("ignore", message="Image size .* exceeds limit of .* pixels, could be decompression bomb")
    if "_IAPO_COMPLETE" in os.environ:
        from typer.completion import get_completion_inspect_parameters

        # Has Typer answer in the form that the script of `--show-completion` asks in.
        get_completion_inspect_parameters()
    stop = Stopping()
    try:
        # The command itself: the app would set an excepthook of its own.
        with stoppable() as stop:
            stop.goes_on = None
            code = _call(list(sys.argv[1:] if arguments is None else arguments), stop)
        # What the parser makes of Ctrl-C, without a word.
        if code == INTERRUPTED:
            raise KeyboardInterrupt
    except NumberError as error:
        _end(str(error), 4)
    except InputError as error:
        _end(str(error), 2)
    except Stopped as error:
        # All ranks are asked to stop, and all stop at one step.
        if not is_first():
            raise SystemExit(STOPPED) from None
        _end(error.text, STOPPED)
    except PlaceError as error:
        _end(str(error), DISK)
    except UsageError as error:
        _end(sentence(error), 2)
    except (typer.Abort, KeyboardInterrupt):
        _end(f"stopped by Ctrl-C; {stop.ending}", INTERRUPTED)
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            _end(f"{str(error.filename)[:60]}... is too long for the name of a file or folder; give a shorter one", 2)
        if lost := _lost(error):
            _end(lost, DISK)
        if error.errno not in FULL:
            raise
        where = f"; the folder is {Known.folder}" if Known.folder is not None and Known.folder.is_dir() else ""
        _end(
            f"{error.filename or 'a file or the output'} could not be written: {error.strerror}; make room there and "
            f"start the same command again{where}",
            DISK,
        )
    except RuntimeError as error:
        # Imported where one is raised: they load more than `iapo --help` needs.
        from iapo.endpoints.chat import EndpointError
        from iapo.experiments.processes import JobError

        if not isinstance(error, EndpointError | JobError):
            raise
        _end(str(error), 3 if isinstance(error, EndpointError) else FAILED)
    raise SystemExit(code if isinstance(code, int) else 0)


def _call(arguments: list[str], stop: Stopping) -> Any:
    """Calls the command; what fails since it was interrupted, in a library's import say, is no failure of its own."""
    try:
        return typer.main.get_command(app)(arguments, prog_name="iapo", standalone_mode=False)
    except Exception:
        stop.check()
        raise


def _lost(error: OSError) -> str:
    """Says that a folder that was there is gone, the current one or the one that is written to, or that the system
    refuses a place; else nothing.
    """
    try:
        os.getcwd()
    except OSError:
        return "the current folder is gone; change to one that is there, and start the same command again"
    folder = Known.folder
    if error.errno in FULL:
        return ""
    if error.errno in (errno.EACCES, errno.EPERM) and error.filename is not None:
        return f"{error.filename} cannot be read or written: {error.strerror}; choose another place, or allow it"
    if folder is None or not isinstance(error.filename, str | Path) or folder.is_dir():
        return ""
    if not Path(error.filename).absolute().is_relative_to(folder.absolute()):
        return ""
    return f"{folder} was taken away while it was written to; start the same command again"


def _end(text: str, code: int) -> NoReturn:
    # Imported where it is needed: `iapo --help` needs it not.
    from iapo.endpoints.address import without_credentials

    # What a process wrote before it failed has lines.
    said = without_credentials(text if code == FAILED else one_line(text))
    sys.stderr.write(f"iapo: {said}\n")
    raise SystemExit(code)


_OUT_OF_TOUCH = (
    *("gloo/transport", "Connection closed by peer", "Connection reset by peer", "Broken pipe", "Timed out waiting"),
    *("collective mismatch", "ncclRemoteError", "remote process exited", "NCCL communicator was aborted"),
    *("Watchdog caught collective", "Socket Timeout", "wait timeout"),
)


def _tells_of_memory(error: RuntimeError) -> bool:
    """Tells whether torch says that memory ran out: by a type of its own on accelerators, in words on the CPU."""
    return type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error)


def _tells_of_others(error: BaseException) -> bool:
    """Tells whether torch says, among processes that had found each other, that another one does not answer."""
    distributed = getattr(sys.modules.get("torch"), "distributed", None)
    if not isinstance(error, RuntimeError) or distributed is None or not distributed.is_available():
        return False
    return distributed.is_initialized() and any(word in str(error) for word in _OUT_OF_TOUCH)


def _report(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Stands for `sys.excepthook`: the traceback, and whose fault it is."""
    # Imported where they are needed: `iapo --help` needs them not.
    import traceback

    from iapo.endpoints.address import without_credentials

    sys.stderr.write(without_credentials("".join(traceback.format_exception(kind, error, trace))))
    where = f"; the run folder is {Known.folder}" if Known.folder is not None and Known.folder.is_dir() else ""
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and _tells_of_memory(error)):
        what = (
            "memory ran out; this is no bug of iapo (`iapo plan` with a training's settings says what takes how much)"
        )
    elif _tells_of_others(error):
        what = (
            "the other processes of this run do not answer: one of them has ended, as its own lines or the launcher's "
            "say, or they are out of step, which is a bug of iapo"
        )
    elif isinstance(error, OSError):
        what = "this is no fault of the input, but of a file, the disk or the network, or a bug of iapo"
    else:
        what = "this is a bug of iapo, not of the input; please report it with the lines above"
    sys.stderr.write(f"iapo: {what}{where}\n")


if __name__ == "__main__":
    main()
