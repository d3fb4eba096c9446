"""Calls in processes of their own, which are ended where a call takes too long.

A process loads the function by the file or module that it is in, and is used again for the next call. It shares nothing
with this one but what is sent; it protects from a hang, a crash and a leak, and from no ill will: it runs as this user.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
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
from iapo.tools.errors import ToolError

_START = 60.0
"""Longest time that a process may take to start, in seconds."""

_COMMAND = (
    "import sys, json; sys.path[:] = json.loads(sys.argv[1]); "
    "from iapo.tools.worker import serve; serve(int(sys.argv[2]))"
)

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
    yield worker
    # One whose call went wrong is not taken back.
    with _lock:
        _idle.append(worker)


class _Worker:
    """A process that calls functions; it ends by itself when this one does."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        command = [sys.executable, "-c", _COMMAND, json.dumps([one or os.getcwd() for one in sys.path])]
        with theirs:
            self.process = subprocess.Popen(
                [*command, str(theirs.fileno())], pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL
            )
        self.connection = Connection(ours.detach())
        if not self.connection.poll(_START) or self.connection.recv() != "ready":
            self.end()
            raise WorkerError("its process did not start")

    def ask(self, request: tuple[Any, ...], timeout: float) -> tuple[str, Any]:
        try:
            self.connection.send(request)
            if not self.connection.poll(timeout):
                self.end()
                raise WorkerError(f"it took longer than {timeout:g} s")
            kind, value = self.connection.recv()
        except (EOFError, BrokenPipeError, ConnectionResetError) as error:
            self.end()
            raise WorkerError(f"its process ended with code {self.process.returncode}") from error
        return kind, value

    def end(self) -> None:
        self.connection.close()
        self.process.kill()
        self.process.wait()


def serve(descriptor: int) -> None:
    """Answers requests until the other process is gone; the worker's main function."""
    connection = Connection(descriptor)
    # The terminal's interrupt is the other process's matter.
    with contextlib.suppress(EOFError, ConnectionResetError, BrokenPipeError, KeyboardInterrupt):
        connection.send("ready")
        while True:
            place, name, arguments, by_name = connection.recv()
            answer: tuple[str, Any]
            try:
                answer = "value", _function(place, name)(*arguments, **by_name)
            except ToolError as error:
                answer = "unfit", str(error)
            # As in `iapo.tools.calling`, which makes a failed call of whatever a user's function raises.
            except Exception as error:  # noqa: BLE001
                answer = "raised", f"{type(error).__name__}: {error}"
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
