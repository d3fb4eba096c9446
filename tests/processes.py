"""Processes that tests start: each has a time limit, and nothing that it started outlives it."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from unittest import mock

import psutil

from iapo.cli.main import main
from iapo.experiments.parent import PARENT

LIMIT = 240.0
"""Seconds that a process may take; a test's own limit is longer, so that the process's output is seen."""


def run(command: Sequence[str], timeout: float = LIMIT, **more: Any) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end, its output as text, in a process group of its own that ends with it.

    Raises:
        AssertionError: If it takes longer than its limit; the end of its output is in the message.
    """
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | more
    process = subprocess.Popen(list(command), text=True, start_new_session=True, **pipes)
    try:
        output, errors = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        end_group(process)
        output, errors = process.communicate()
        raise AssertionError(f"{command} took more than {timeout} s: {(errors or output or '')[-2000:]}") from None
    finally:
        end_group(process)
    return subprocess.CompletedProcess(list(command), process.returncode, output, errors)


@contextlib.contextmanager
def started(command: Sequence[str], **more: Any) -> Iterator[subprocess.Popen[Any]]:
    """Starts a command in a process group of its own, which ends with the block."""
    process = subprocess.Popen(list(command), start_new_session=True, **more)
    try:
        yield process
    finally:
        end_group(process)


def wait_for(condition: Callable[[], object], seconds: float = 120) -> None:
    """Looks every 50 ms until a condition holds.

    Raises:
        AssertionError: If it does not within so many seconds.
    """
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited {seconds} s in vain"
        time.sleep(0.05)


def end_group(process: subprocess.Popen[Any]) -> None:
    """Kills a process that was started in a session of its own, and all that it started.

    Those that have a session of their own are found as long as it lives; what it leaves behind is its group.
    """
    if process.poll() is None:
        for child in psutil.Process(process.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def iapo(*words: object, timeout: float = LIMIT, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs `iapo WORDS` in a process of its own, which ends with this one even where this one is killed."""
    more = {"OMP_NUM_THREADS": "1", "COLUMNS": "200", PARENT: str(os.getpid())}
    command = [sys.executable, "-m", "iapo", *map(str, words)]
    return run(command, timeout, env={**os.environ, **more, **environment})


def iapo_here(*words: object, columns: int = 200) -> subprocess.CompletedProcess[str]:
    """Runs `iapo WORDS` in this process, where seconds of imports are over; processes that it starts are real ones."""
    output, errors, code = io.StringIO(), io.StringIO(), 0
    arguments = list(map(str, words))
    with (
        mock.patch.dict(os.environ, COLUMNS=str(columns)),
        contextlib.redirect_stdout(output),
        contextlib.redirect_stderr(errors),
    ):
        try:
            main(arguments)
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
    return subprocess.CompletedProcess(arguments, code, output.getvalue(), errors.getvalue())
