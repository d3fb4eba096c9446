"""Processes that tests start: each has a time limit, and nothing that it started outlives it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Sequence
from typing import Any

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


def end_group(process: subprocess.Popen[Any]) -> None:
    """Kills a process that was started in a session of its own, and all that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
