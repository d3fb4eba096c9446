"""Being stopped from outside: SIGTERM, SIGUSR1 and SIGHUP end a verb with a code of its own, at once or after a safe
point.
"""

from __future__ import annotations

import contextlib
import glob
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from types import FrameType

from iapo.rank import is_first

STOPPED = 75
"""Exit code of what was stopped and goes on with the same command: the system's word for `try again later`."""

SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGUSR1", "SIGHUP") if hasattr(signal, name))
"""What asks to stop: batch systems send the first or second before they end a job, a terminal the last as it closes."""


AGAIN, LONGEST = 0.05, 30.0
"""Seconds after which a signal that was put off comes again, and for which it is put off at most."""


class Stopped(SystemExit):
    """The process was asked to stop and has; a verb that goes on does so by the same command.

    Args:
        text: Sentence that says so.
    """

    def __init__(self, text: str) -> None:
        # The only argument, so that it comes whole out of another process.
        super().__init__(text)
        self.code: int = STOPPED
        self.text = text

    def __str__(self) -> str:
        return self.text


class Stopping:
    """Whether this process was asked to stop.

    Attributes:
        asked: Name of the signal that asked; None until one does.
        told: Whether another process of the same run was asked to, which all of them heed together.
        goes_on: Whether the same command goes on from what is saved; a verb that keeps nothing says that it does not.
            None before it has begun.
        places: Folders and files that it writes to, those that are not there yet too.
    """

    def __init__(self) -> None:
        self.asked: str | None = None
        self.told = False
        self.goes_on: bool | None = True
        self.places: list[Path] = []
        self._waits = False

    @property
    def ending(self) -> str:
        """What becomes of the work, as the end of a sentence."""
        if self.goes_on is None or (self.goes_on and not self.places):
            return "it had not begun yet"
        if self.goes_on and any(map(_has_work, self.places)):
            return "what is saved stays, and the same command goes on from it"
        if self.goes_on:
            return "nothing was saved yet that the same command could go on from; it begins anew"
        return "nothing goes on from here: another start begins anew"

    @contextmanager
    def later(self) -> Iterator[None]:
        """Has the first signal only set `asked` within the block, which then ends at its next safe point."""
        before, self._waits = self._waits, True
        try:
            # Libraries may have put handlers of their own in their place.
            with _handlers(self._take):
                yield
        finally:
            self._waits = before

    def check(self, said: str = "") -> None:
        """Ends the process if it was asked to.

        Args:
            said: More of the sentence: what was saved.

        Raises:
            Stopped: If so.
        """
        if self.asked is not None or self.told:
            ending = "the same command goes on from there" if said else self.ending
            raise Stopped(f"stopped by {self.asked or 'the signal of another process'}{said}; {ending}")

    def _take(self, number: int, frame: FrameType | None) -> None:
        if put_off(number, frame):
            return
        first, self.asked = self.asked is None, signal.Signals(number).name
        if self._waits and first:
            if is_first():
                with contextlib.suppress(RuntimeError, OSError, ValueError):
                    # A write of the interrupted code may be under way.
                    sys.stderr.write(f"iapo: {self.asked}: stops after this step; once more stops at once\n")
            return
        raise Stopped(f"stopped by {self.asked}; {self.ending}")


def writes_to(place: Path) -> None:
    """Remembers a folder or file that the process writes to, by which it says whether anything is saved."""
    if _current is not None:
        _current.places.append(place.absolute())


_WORK = ("*.safetensors", "*.pt", "*.bin", "*.parquet", "*.begun.jsonl", "evaluation.json", "finished.json")
"""Names of what verbs go on from: weights and states, data, begun tables, and what says that a part is done."""


def _has_work(place: Path) -> bool:
    """Tells whether there is anything at a place to go on from; at a file's also in what is named after it."""
    beside = [one for one in place.parent.glob(f"{glob.escape(place.name)}[.-]*") if not place.is_dir()]
    return any(map(_is_work, (place, *beside)))


def _is_work(place: Path) -> bool:
    if not place.is_dir():
        return place.is_file() and any(fnmatch(place.name, one) for one in _WORK)
    for folder, below, names in os.walk(place):
        if os.path.basename(folder).startswith("checkpoint-"):
            # Weights alone (`save_only_model`), and what was being written, are no state to go on from.
            random = any(one.startswith("rng_state") for one in names)
            if random and "trainer_state.json" in names and "checkpoint-is-incomplete.txt" not in names:
                return True
            below.clear()
            continue
        # Rollouts alone are kept by an evaluation; a training begins anew from them.
        if "traces.jsonl" in names and "metrics.jsonl" not in names:
            return True
        if "metrics.jsonl" in names and not {"finished.json", "trained.json"} & set(names):
            # A policy that training, say of an earlier version, did not mark as its last.
            below[:] = [one for one in below if not one.startswith("policy")]
        if any(fnmatch(name, one) for name in names for one in _WORK):
            return True
    return False


_since: dict[int, float] = {}


def put_off(number: int, frame: FrameType | None) -> bool:
    """Has a signal come again a little later where an exception would be lost, or would end the process.

    While a module is imported, libraries make another error of it, and those in C++ abort; in what is called when
    objects are deleted, Python prints and drops it.

    Args:
        number: Number of the signal.
        frame: Frame that it interrupts.

    Returns:
        Whether it was put off.
    """
    now = time.monotonic()
    if not _is_delicate(frame) or now - _since.setdefault(number, now) > LONGEST:
        _since.pop(number, None)
        return False
    again = threading.Timer(AGAIN, os.kill, (os.getpid(), number))
    again.daemon = True
    again.start()
    return True


def interrupt(number: int, frame: FrameType | None) -> None:
    """Is Python's handler of Ctrl-C, but for what is put off.

    Raises:
        KeyboardInterrupt: If it is not.
    """
    if not put_off(number, frame):
        raise KeyboardInterrupt


def _is_delicate(frame: FrameType | None) -> bool:
    while frame is not None:
        code = frame.f_code
        if code.co_name == "__del__" or code.co_filename.startswith("<frozen importlib"):
            return True
        if os.path.basename(code.co_filename) in ("weakref.py", "_weakrefset.py"):
            return True
        frame = frame.f_back
    return False


_current: Stopping | None = None


@contextmanager
def stoppable() -> Iterator[Stopping]:
    """Has these signals raise `Stopped` within the block, in a process's main thread; blocks may be nested.

    Yields:
        The process's `Stopping`, whose `later` puts that off.
    """
    global _current
    if _current is not None:
        yield _current
        return
    _current = Stopping()
    try:
        with _handlers(_current._take):
            yield _current
    finally:
        _current = None


@contextmanager
def _handlers(take: object) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # What is ignored stays so: `nohup` has a process outlive its terminal.
    heeded = [one for one in SIGNALS if signal.getsignal(one) is not signal.SIG_IGN]
    before = {one: signal.signal(one, take) for one in heeded}  # type: ignore[arg-type]
    try:
        yield
    finally:
        for one, handler in before.items():
            # None is what another language's code put there.
            signal.signal(one, signal.SIG_DFL if handler is None else handler)
