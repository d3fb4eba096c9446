"""Processes that are forked from one with all imports behind it: what they run is the same, seconds sooner.

One waits from before the first test on, a fork of the tests' own process as it was then, and forks the others from
itself. Each has a session, a working directory, an environment, limits and an output of its own, runs a module or a
file as `python` would, and ends as that would. What is tested of a fresh interpreter, imports above all, needs one.
"""

from __future__ import annotations

import atexit
import contextlib
import faulthandler
import json
import logging
import os
import resource
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from iapo.experiments.parent import PARENT

_LONGEST = 2**20
_channel: socket.socket | None = None
_forker = 0


def begin() -> None:
    """Forks the process that forks the others, out of this one as it is now; it ends with this one."""
    global _channel, _forker
    _channel, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in (_channel, other):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _LONGEST)
    _forker = os.fork()
    if _forker == 0:
        _channel.close()
        try:
            _serve(other)
        finally:
            os._exit(0)
    other.close()


def end() -> None:
    """Ends it, and all that it has forked."""
    if _channel is not None:
        _channel.close()
        os.waitpid(_forker, 0)


def _serve(channel: socket.socket) -> None:
    """Forks a child for each command line and says how those ended that it is asked for, until nobody asks."""
    faulthandler.cancel_dump_traceback_later()
    faulthandler.disable()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(nothing, number)
    keep = channel.fileno()
    os.closerange(3, keep)
    os.closerange(keep + 1, 2**16)
    running: set[int] = set()
    while said := channel.recv(_LONGEST):
        asked = json.loads(said)
        if "command" in asked:
            pid = os.fork()
            if pid == 0:
                channel.close()
                _become(**asked)
            running.add(pid)
            answer = pid
        else:
            pid = asked["pid"]
            ended, status = os.waitpid(pid, os.WNOHANG) if pid in running else (0, 0)
            if ended:
                running.remove(pid)
            answer = os.waitstatus_to_exitcode(status) if ended else None
        channel.send(json.dumps(answer).encode())
    for pid in running:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def _become(
    command: Sequence[str], cwd: str, environment: Mapping[str, str], output: str, errors: str, largest: int | None
) -> None:
    """Is `python COMMAND` from here on."""
    code = 1
    try:
        os.setsid()
        for number, path in ((1, output), (2, errors)):
            file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(file, number)
            os.close(file)
        sys.stdin, sys.stdout, sys.stderr = (
            os.fdopen(number, mode, closefd=False) for number, mode in ((0, "r"), (1, "w"), (2, "w"))
        )
        sys.__stdin__, sys.__stdout__, sys.__stderr__ = sys.stdin, sys.stdout, sys.stderr
        # Who forks is the parent that a job ends with.
        environment = {**environment, **({PARENT: str(os.getppid())} if PARENT in environment else {})}
        # What the tests' own process has set for itself.
        atexit._clear()
        logging.root.handlers.clear()
        warnings.resetwarnings()
        warnings.simplefilter("ignore")
        sys.excepthook, threading.excepthook = sys.__excepthook__, threading.__excepthook__
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for name in os.environ.keys() - environment.keys():
            del os.environ[name]
        os.environ.update(environment)
        os.chdir(cwd)
        if largest is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
        code = _run(command)
    finally:
        raised = sys.exc_info()
        if raised[0] is not None:
            sys.excepthook(*raised)
        with contextlib.suppress(Exception):
            threading._shutdown()
            atexit._run_exitfuncs()
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _run(command: Sequence[str]) -> int:
    """Runs `-m MODULE WORDS` or `FILE WORDS`: the exit code."""
    module = command[0] == "-m"
    name, words = (command[1], command[2:]) if module else (command[0], command[1:])
    sys.argv = [name, *words]
    sys.path.insert(0, os.getcwd() if module else str(Path(name).parent))
    try:
        if module:
            runpy.run_module(name, run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(name, run_name="__main__")
    except SystemExit as end:
        if isinstance(end.code, int | None):
            return end.code or 0
        sys.stderr.write(f"{end.code}\n")
        return 1
    return 0


class Forked:
    """A forked process, as a `subprocess.Popen` of `python COMMAND` in a session of its own.

    Attributes:
        pid: Its process id.
        returncode: Its exit code; None until it is known to have ended.
        stdout: What it has written, for reading.
        stderr: What it has written on standard error; `stdout` where both were to be one.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        stdout: int | IO[Any] = subprocess.PIPE,
        stderr: int | IO[Any] = subprocess.PIPE,
        env: Mapping[str, str] | None = None,
        cwd: str | Path | None = None,
        largest: int | None = None,
    ) -> None:
        """Starts it.

        Args:
            command: Words behind `python`: `-m` and a module or a file, and what that is given.
            stdout: Where its output goes, as for `subprocess.Popen`: `PIPE`, `DEVNULL` or a file with a name.
            stderr: Where its errors go; `STDOUT` for both as one.
            env: Its environment; this process's if None.
            cwd: Its working directory; this process's if None.
            largest: Bytes that a file it writes may have at most.
        """
        self.stdout = self._file(stdout)
        self.stderr = self.stdout if stderr == subprocess.STDOUT else self._file(stderr)
        asked = {"command": [str(word) for word in command], "cwd": str(cwd or Path.cwd()), "largest": largest}
        asked |= {"environment": dict(os.environ if env is None else env)}
        asked |= {"output": self.stdout.name, "errors": self.stderr.name}
        self.returncode: int | None = None
        self.pid: int = self._ask(asked)

    @staticmethod
    def _file(asked: int | IO[Any]) -> IO[Any]:
        if not isinstance(asked, int):
            return asked
        if asked == subprocess.DEVNULL:
            return open(os.devnull)
        assert asked == subprocess.PIPE
        return tempfile.NamedTemporaryFile("r")

    @staticmethod
    def _ask(asked: Mapping[str, Any]) -> Any:
        assert _channel is not None, "nothing is forked before the tests are collected"
        _channel.send(json.dumps(asked).encode())
        return json.loads(_channel.recv(_LONGEST))

    def poll(self) -> int | None:
        """Returns its exit code, the negative number of the signal that killed it, or None where it still runs."""
        if self.returncode is None:
            self.returncode = self._ask({"pid": self.pid})
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Waits for its end.

        Raises:
            subprocess.TimeoutExpired: If it takes longer than so many seconds.
        """
        end = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if end is not None and time.monotonic() > end:
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
            time.sleep(0.02)
        return code

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Waits for its end, and returns what it has written."""
        self.wait(timeout)
        return self.stdout.read(), "" if self.stderr is self.stdout else self.stderr.read()

    def send_signal(self, number: int) -> None:
        """Sends it a signal."""
        os.kill(self.pid, number)

    def terminate(self) -> None:
        """Asks it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Kills it."""
        self.send_signal(signal.SIGKILL)
