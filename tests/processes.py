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
from pathlib import Path
from typing import Any
from unittest import mock

import psutil
from forks import Forked

from iapo.cli.main import main
from iapo.experiments.parent import PARENT

LIMIT = 600.0
"""Seconds that a process may take; a test's own limit is longer, so that the process's output is seen."""


def run(
    command: Sequence[str], timeout: float = LIMIT, fork: bool = False, **more: Any
) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end, its output as text, in a process group of its own that ends with it.

    Args:
        command: The command line.
        timeout: Seconds that it may take.
        fork: Whether it is one of Python that is forked with all imports behind it (`tests/forks.py`).
        more: What `start` takes.

    Raises:
        AssertionError: If it takes longer than its limit; the end of its output is in the message.
    """
    process = start(command, fork, **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **more})
    try:
        output, errors = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        end_group(process)
        output, errors = process.communicate()
        raise AssertionError(f"{command} took more than {timeout} s: {(errors or output or '')[-2000:]}") from None
    finally:
        end_group(process)
    return subprocess.CompletedProcess(list(command), process.returncode, output, errors)


def start(command: Sequence[str], fork: bool = False, **more: Any) -> Any:
    """Starts a command in a process group of its own, forked or not; what is forked writes text."""
    if not fork:
        return subprocess.Popen(list(command), start_new_session=True, **more)
    assert command[0] == sys.executable
    return Forked(command[1:], **{name: value for name, value in more.items() if name != "text"})


@contextlib.contextmanager
def started(command: Sequence[str], fork: bool = False, **more: Any) -> Iterator[Any]:
    """Starts a command in a process group of its own, which ends with the block."""
    process = start(command, fork, **more)
    try:
        yield process
    finally:
        end_group(process)


def wait_for(condition: Callable[[], object], seconds: float = 400) -> None:
    """Looks every 50 ms until a condition holds.

    Raises:
        AssertionError: If it does not within so many seconds.
    """
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited {seconds} s in vain"
        time.sleep(0.05)


def end_group(process: subprocess.Popen[Any] | Forked) -> None:
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


def run_ranks(script: Path, *words: object, count: int = 2, timeout: float = LIMIT) -> list[str]:
    """Runs a script in several processes that find one another as those of `torch.distributed.run` do: their outputs.

    Raises:
        AssertionError: If one of them fails, or takes longer than its limit.
    """
    from torch.distributed import TCPStore

    # As with the launcher, the address at which they meet is held by the one that starts them: no port is guessed.
    meeting = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    world = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(meeting.port), "TORCHELASTIC_USE_AGENT_STORE": "True"}
    world |= {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(script), *map(str, words)]
    with contextlib.ExitStack() as stack:
        ranks = [
            stack.enter_context(
                started(command, fork=True, env={**os.environ, **world, "RANK": str(rank), "LOCAL_RANK": str(rank)})
            )
            for rank in range(count)
        ]
        wait_for(lambda: all(rank.poll() is not None for rank in ranks) or any(rank.poll() for rank in ranks), timeout)
        for number, rank in enumerate(ranks):
            assert not rank.poll(), f"rank {number}: {rank.stderr.read()[-3000:]}"
        return [rank.stdout.read() for rank in ranks]


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
