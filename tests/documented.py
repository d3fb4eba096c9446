"""What the documents hold: commands, examples, links; and how a documented command is run without new processes."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import re
import runpy
import shlex
import subprocess
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from forks import Forked
from typer.testing import CliRunner

ROOT = Path(__file__).parent.parent
DOCUMENTS = {path.relative_to(ROOT).as_posix(): path for path in (ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")))}
SHELLS = ("", "sh", "bash", "shell", "console")


@dataclass(frozen=True)
class Block:
    """One fenced block of a document.

    Attributes:
        language: What stands behind the fence; empty where nothing does.
        line: The number of its first line.
        text: What it holds.
    """

    language: str
    line: int
    text: str

    @property
    def commands(self) -> list[str]:
        """Its commands of `iapo`, `make` and `python`, continuation lines joined and comments left out."""
        if self.language not in SHELLS:
            return []
        lines = re.sub(r"\s*\\\n\s*", " ", self.text).splitlines()
        found = (re.match(r"(?:\$ )?((?:iapo|make|python) .*?)(?:\s+#.*)?$", line) for line in lines)
        return [match[1] for match in found if match]


def blocks(path: Path) -> list[Block]:
    """The fenced blocks of a document in order."""
    found, language, start, held = [], None, 0, []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        fence = re.match(r"```(\w*)", line)
        if fence is None:
            held.append(line)
        elif language is None:
            language, start, held = fence[1], number + 1, []
        else:
            found.append(Block(language, start, "\n".join(held) + "\n"))
            language = None
    assert language is None, f"{path}: a fence is left open"
    return found


def prose(path: Path) -> str:
    """A document without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", path.read_text(), flags=re.DOTALL | re.MULTILINE)


class CommandError(AssertionError):
    """A command ended badly; the message ends with its output."""


def run(command: str) -> str:
    """Runs a command of `iapo` or `python` in this process, in the working directory.

    Raises:
        CommandError: If it raises, or ends with another exit code than 0.
    """
    program, *words = shlex.split(command)
    if program == "iapo":
        from iapo.cli.main import app

        done = CliRunner().invoke(app, words)
        if done.exit_code:
            reason = "".join(traceback.format_exception(done.exception)) if done.exception else ""
            raise CommandError(f"{command}\nended with exit code {done.exit_code}\n{done.output}\n{reason}")
        return done.output
    code, output = run_python(words)
    if code:
        raise CommandError(f"{command}\nended with exit code {code}\n{output}")
    return output


def run_python(words: Sequence[str]) -> tuple[int, str]:
    """Runs `python WORDS`, a file or `-m MODULE`, in this process: exit code and output."""
    module = words[0] == "-m"
    name, arguments = (words[1], words[2:]) if module else (words[0], words[1:])
    output, code, before, path = io.StringIO(), 0, sys.argv, list(sys.path)
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output), warnings.catch_warnings():
        try:
            sys.argv = [name, *arguments]
            if not module:
                # A script finds its neighbours.
                sys.path.insert(0, str(Path(name).parent))
            # A module that the test's process has imported already is run anew.
            warnings.simplefilter("ignore", RuntimeWarning)
            (runpy.run_module if module else runpy.run_path)(name, run_name="__main__")
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
            output.write("" if isinstance(end.code, int | None) else str(end.code))
        finally:
            sys.argv = before
            sys.path[:] = path
    return code, output.getvalue()


class Here:
    """Stands for a process of Python that has ended: it ran in this one, where everything is imported already."""

    def __init__(self, command: Sequence[str], stdout: Any = None, **_: Any) -> None:
        assert command[0] == sys.executable, command
        self.returncode, self.stdout = run_python(command[1:])
        self.stderr = self.stdout
        if hasattr(stdout, "write"):
            stdout.write(self.stdout.encode())

    def poll(self) -> int:
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        return self.returncode


@contextlib.contextmanager
def without_processes(monkeypatch: Any, but: int = 0) -> Iterator[None]:
    """Has the package's and the benchmarks' child processes run in this one, each with the code that it would run.

    The first `but` that are started, and not waited for, are processes, forked from one with all imports behind it.
    """
    start, call, real = subprocess.Popen, subprocess.run, iter(range(but))

    def popen(command: Sequence[str], **more: Any) -> Any:
        if command[0] != sys.executable:
            return start(command, **more)
        return Here(command, **more) if next(real, None) is None else Forked(command[1:], **more)

    def run_one(command: Sequence[str], **more: Any) -> Any:
        return Here(command, **more) if command[0] == sys.executable else call(command, **more)

    with monkeypatch.context() as patch:
        patch.setattr("iapo.experiments.processes.LOOK", 0.05)
        patch.setattr(subprocess, "Popen", popen)
        patch.setattr(subprocess, "run", run_one)
        yield


def few_lessons(patch: Any) -> None:
    """Has a step of lessons hold one of each kind, also in a module that is run anew."""
    from iapo.tiny import pretrain

    run_stage = pretrain.run_stage

    def few(teaching: Any, items: Any, stage: Any, *rest: Any, **more: Any) -> None:
        run_stage(teaching, items, dataclasses.replace(stage, batch=dict.fromkeys(stage.batch, 1)), *rest, **more)

    patch.setattr(pretrain, "run_stage", few)
