"""One process at a time writes into an output folder: a lock that ends with its holder, and says who holds it."""

from __future__ import annotations

import datetime
import json
import logging
import os
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
from filelock import FileLock, SoftFileLock, Timeout

from iapo.errors import InputError
from iapo.stopping import writes_to
from iapo.storage import make_folder, remove_empty

LOCK = "run.lock"
"""Name of the lock in a folder."""

LINGERS = 10.0
"""Seconds that what a dead holder left running has to end, before its lock is refused."""

_PIDS = 2**31
"""Numbers of processes are below it."""

logger = logging.getLogger(__name__)

_held: set[Path] = set()


@contextmanager
def hold_folder(folder: Path, wait: float = 0.0) -> Iterator[None]:
    """Holds a folder's lock, `run.lock` in it, while the block runs; a folder made for it goes if it stays empty.

    Args:
        folder: The folder.
        wait: Seconds to wait for another holder.

    Raises:
        InputError: If another process holds it; the message names the process and its machine. Or if something else
            than a file stands in the lock's place.
    """
    made = make_folder(folder)
    writes_to(folder)
    try:
        with hold(folder / LOCK, str(folder), wait):
            yield
    finally:
        remove_empty(made)


@contextmanager
def hold_file(path: Path) -> Iterator[None]:
    """Holds the lock of a file that is about to be written: `.NAME.lock` beside it.

    Raises:
        InputError: As `hold_folder`.
    """
    make_folder(path.parent)
    writes_to(path)
    with hold(path.with_name(f".{path.name}.lock"), str(path)):
        yield


@contextmanager
def hold(lock_path: Path, what: str, wait: float = 0.0) -> Iterator[None]:
    """Holds a lock while the block runs; a process that holds it already goes on holding it.

    The system frees the lock when its holder ends, however it ends, so that a lock of a dead process is taken over.

    Args:
        lock_path: The lock's file; it names the holder and is removed at the end.
        what: Name of what it guards, for the message.
        wait: Seconds to wait for another holder.

    Raises:
        InputError: If another process holds it, or something else than a file stands in its place.
    """
    path = lock_path.parent.resolve() / lock_path.name
    if path in _held:
        yield
        return
    lock = FileLock(path)
    _acquire(lock, path, what, wait)
    _held.add(path)
    try:
        before = _holder(path)
        if before and not isinstance(lock, SoftFileLock):
            logger.warning("%s was held by %s, which has ended; taken over.", what, _named(before))
            _remove_parts(path.parent, before)
        # Without file locks the package keeps its own marker in the file.
        if not isinstance(lock, SoftFileLock):
            now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
            path.write_text(json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": now}) + "\n")
        yield
    finally:
        _held.discard(path)
        # Removed while it is held: who opened it before finds it unlinked, and opens the next one.
        if not isinstance(lock, SoftFileLock):
            path.unlink(missing_ok=True)
        lock.release()


def _acquire(lock: FileLock, path: Path, what: str, wait: float) -> None:
    begun = time.monotonic()
    while True:
        _refuse_other(path, what)
        try:
            lock.acquire(timeout=0)
            return
        except Timeout:
            holder = _holder(path)
        # What the holder started may hold its lock for a moment longer than it lives.
        dead = holder.get("host") == socket.gethostname() and not psutil.pid_exists(int(holder.get("pid", 0)))
        if time.monotonic() - begun < max(wait, LINGERS if dead else 0.0):
            time.sleep(0.2)
            continue
        if dead:
            raise InputError(
                f"{what} is held by what {_named(holder)} started before it died; end those processes, then start again"
            )
        raise InputError(
            f"{what} is in use by {_named(holder)}; wait until it ends, or choose another place for this one"
        )


def _refuse_other(path: Path, what: str) -> None:
    """Refuses what is no file in the place of a lock: a link would be written through, a pipe be waited at.

    Raises:
        InputError: If so.
    """
    try:
        mode = path.lstat().st_mode
    except OSError:
        # There is none, or who makes it says why it cannot be.
        return
    if not stat.S_ISREG(mode):
        kind = next((kind for is_kind, kind in _KINDS if is_kind(mode)), "something else than a file")
        raise InputError(f"{what} cannot be held: {path} is {kind} and no lock; remove it, then start again")


_KINDS = ((stat.S_ISDIR, "a folder"), (stat.S_ISLNK, "a symbolic link"), (stat.S_ISFIFO, "a named pipe"))


def _remove_parts(folder: Path, dead: dict[str, Any]) -> None:
    """Removes what a dead holder was writing into a folder when it ended (`iapo.storage.whole_file`)."""
    if dead["host"] == socket.gethostname():
        for part in folder.glob(f"*.{dead['pid']}-????????.part"):
            part.unlink(missing_ok=True)


def _holder(path: Path) -> dict[str, Any]:
    """Reads who holds a lock; nothing where that is not known (yet), or something else stands there."""
    found: Any = {}
    with suppress(OSError, ValueError, RecursionError):
        text = path.read_text()
        try:
            found = json.loads(text)
        except ValueError:
            # The form of the lock package where the file system has no locks.
            pid, host, *_ = text.split()
            found = {"pid": int(pid), "host": host}
    known = isinstance(found, dict) and isinstance(found.get("host"), str) and isinstance(found.get("pid"), int)
    return found if known and 0 < found["pid"] < _PIDS else {}


def _named(holder: dict[str, Any]) -> str:
    if not holder:
        return "another process"
    since = f" (since {holder['since']})" if "since" in holder else ""
    return f"process {holder['pid']} on {holder['host']}{since}"
