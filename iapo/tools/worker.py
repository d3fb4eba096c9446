"""Calls in processes of their own, which are ended where a call takes too long.

A process loads the function by the file or module that it is in, and is used again for the next call. It shares nothing
with this one but what is sent; it protects from a hang, a crash and a leak, and from no ill will: it runs as this user.
It has a process group of its own, and what a tool starts ends with it, unless that leaves the group.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from types import MappingProxyType
from typing import Any

from iapo.errors import InputError
from iapo.plugins import load_module
from iapo.tools.errors import ToolError, reason_of

_START = 60.0
"""Longest time that a process may take to start, in seconds."""

_COMMAND = (
    "import sys, json; sys.path[:] = json.loads(sys.argv[1]); "
    "from iapo.tools.worker import serve; serve(int(sys.argv[2]), int(sys.argv[3]))"
)

_LOOK = 0.5
"""Seconds between two looks whether the process that asks is still there."""

_LAST = 5.0
"""Longest time that a process may take to end, in seconds."""

_idle: list[_Worker] = []
_lock = threading.Lock()


class WorkerError(RuntimeError):
    """A call raised something, took too long, or its process ended."""


def check_own_process(function: Callable[..., Any], tool: str) -> None:
    """Refuses a function that another process cannot find.

    Raises:
        InputError: If so.
    """
    if "<" in function.__qualname__ or function.__module__ == "__main__":
        raise InputError(
            f"tool {tool} cannot run in a process of its own, which tool_timeout asks for: its function is not at the "
            "top of a file that can be imported; put it into one"
        )


def call_in_worker(
    function: Callable[..., Any], arguments: tuple[Any, ...], by_name: Mapping[str, Any], timeout: float
) -> Any:
    """Calls a function in another process.

    Args:
        function: A function at the top of a file or module.
        arguments: Its arguments.
        by_name: Its keyword arguments.
        timeout: Longest time in seconds; the start of a process does not count.

    Returns:
        What it returned.

    Raises:
        ToolError: If it raised that.
        WorkerError: If it raised something else, or took longer, or its process ended.
    """
    module = sys.modules[function.__module__]
    file = getattr(module, "__file__", None)
    place = str(Path(file)) if file and function.__module__.startswith("iapo_file_") else function.__module__
    request = (place, function.__qualname__, _plain(arguments), _plain(dict(by_name)))
    with _worker() as worker:
        kind, value = worker.ask(request, timeout)
    if kind == "value":
        return value
    raise ToolError(value) if kind == "unfit" else WorkerError(value)


@contextlib.contextmanager
def _worker() -> Iterator[_Worker]:
    with _lock:
        worker = _idle.pop() if _idle else None
    worker = worker or _Worker()
    try:
        yield worker
    except BaseException:
        # Also where this process is interrupted in the middle of a call.
        worker.end()
        raise
    with _lock:
        _idle.append(worker)


class _Worker:
    """A process that calls functions, under one that ends it once this one is gone."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        command = [sys.executable, "-c", _COMMAND, json.dumps([one or os.getcwd() for one in sys.path])]
        with theirs:
            self.process = subprocess.Popen(
                [*command, str(theirs.fileno()), str(os.getpid())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        self.connection = Connection(ours.detach())
        _started.add(self)
        try:
            ready = self.connection.poll(_START) and self.connection.recv() == "ready"
        except (EOFError, ConnectionResetError):
            ready = False
        except BaseException:
            self.end()
            raise
        if not ready:
            self.end()
            raise WorkerError("its process did not start")

    def ask(self, request: tuple[Any, ...], timeout: float) -> tuple[str, Any]:
        try:
            self.connection.send(request)
            if not self.connection.poll(timeout):
                raise WorkerError(f"it took longer than {timeout:g} s")
            kind, value = self.connection.recv()
        # Or another thread has ended the process meanwhile.
        except (EOFError, OSError) as error:
            with contextlib.suppress(subprocess.TimeoutExpired):
                # Its own end has a code; that of being killed says nothing.
                self.process.wait(_LAST)
            self.end()
            raise WorkerError(f"its process ended with code {self.process.returncode}") from error
        return kind, value

    def end(self) -> None:
        """Ends the process, and what a tool has started in its group."""
        _started.discard(self)
        self.process.terminate()
        self.connection.close()
        try:
            self.process.wait(_LAST)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


_started: set[_Worker] = set()


@atexit.register
def end_workers() -> None:
    """Ends all processes, and the calls in them, which fail."""
    with _lock:
        _idle.clear()
    for worker in list(_started):
        worker.end()


def _forget() -> None:
    """Leaves the workers to the process that this one was forked from."""
    _idle.clear()
    _started.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def serve(descriptor: int, parent: int) -> None:
    """Answers requests until the other process is gone; the worker's main function.

    The requests are answered in a fork: what a tool does to its process, holding the interpreter's lock for hours
    say, must not keep this one from looking whether the other process is still there.

    Args:
        descriptor: Descriptor of the connection to the other process.
        parent: Process id of the other process.
    """
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        _answer(Connection(descriptor))
        os._exit(0)
    os.close(descriptor)
    asked: list[int] = []
    woken, wakes = os.pipe()
    os.set_blocking(wakes, False)
    signal.set_wakeup_fd(wakes, warn_on_full_buffer=False)
    signal.signal(signal.SIGTERM, lambda number, _: asked.append(number))
    signal.signal(signal.SIGCHLD, lambda *_: None)
    ended = None
    while not asked and ended is None and os.getppid() == parent:
        # A signal wakes it; where one came before its handler, the next look sees what it said.
        select.select([woken], [], [], _LOOK)
        ended = os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    # The child is not waited for yet, so that its number is that of no other group.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os._exit(code if code >= 0 else 128 - code)


def _answer(connection: Connection) -> None:
    """Answers requests until the other process is gone."""
    # Where the numbers of a verb go, no word of a tool may come between.
    sys.stdout = sys.stderr
    with contextlib.suppress(OSError):
        os.dup2(2, 1)
    with contextlib.suppress(EOFError, ConnectionResetError, BrokenPipeError):
        connection.send("ready")
        while True:
            place, name, arguments, by_name = connection.recv()
            answer: tuple[str, Any]
            try:
                answer = "value", _function(place, name)(*arguments, **by_name)
            except ToolError as error:
                answer = "unfit", reason_of(error)
            # As in `iapo.tools.calling`, which makes a failed call of whatever a user's function raises; here nothing
            # but the function can raise what ends a process.
            except BaseException as error:  # noqa: BLE001
                answer = "raised", f"{type(error).__name__}: {reason_of(error)}"
            try:
                connection.send(answer)
            # What cannot be pickled raises any of these.
            except (TypeError, AttributeError, ValueError, ImportError, RecursionError) as error:
                connection.send(("raised", f"it returned what cannot be sent ({type(error).__name__}: {error})"))


def _function(place: str, name: str) -> Callable[..., Any]:
    found: Any = load_module(place, "tool") if place.endswith(".py") else importlib.import_module(place)
    for part in name.split("."):
        found = getattr(found, part)
    # Where `define` stands over the function as a decorator, its name is the tool's.
    return getattr(found, "function", found)


def _plain(value: Any) -> Any:
    """Returns a value as it can be sent."""
    if isinstance(value, MappingProxyType | dict):
        return {key: _plain(one) for key, one in value.items()}
    return type(value)(map(_plain, value)) if isinstance(value, list | tuple) else value
