"""`iapo` and `python -m iapo`: what is done before anything else is imported, and when all is done."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Sequence
from types import FrameType

_CODES = {"SIGINT": 130, "SIGTERM": 75, "SIGUSR1": 75, "SIGHUP": 75}
"""Exit codes of what a signal ended, as `iapo.cli.main` and `iapo.stopping` have them, which are not imported yet."""


def start() -> None:
    """Runs the command line.

    A signal while its modules are imported ends the process with one sentence; one while the interpreter ends, when
    the verb is done and its code is known, changes nothing, and a second one leaves the rest of that out.
    """
    heeded = _heeded()
    for number in heeded:
        signal.signal(number, _end)
    # Called last of all; the interpreter then takes back all handlers, but not that a signal is ignored.
    atexit.register(_ignore, heeded)
    from iapo.cli.main import main
    from iapo.stopping import interrupt

    if signal.SIGINT in heeded:
        signal.signal(signal.SIGINT, interrupt)
    code: object = 1
    ended = False
    try:
        main()
    except SystemExit as end:
        code, ended = end.code, True
        raise
    finally:
        done = code if isinstance(code, int) else 0 if code is None else 1
        for number in heeded:
            signal.signal(number, lambda number, _: signal.signal(number, lambda *_: os._exit(done)))
        if ended and _has_met_others():
            _leave(done)


def _has_met_others() -> bool:
    """Tells whether this is one of several processes that talk to one another."""
    distributed = getattr(sys.modules.get("torch"), "distributed", None)
    return distributed is not None and distributed.is_available() and distributed.is_initialized()


def _leave(code: int) -> None:
    """Ends the process without the interpreter's own end, where threads of torch.distributed now and then abort a run
    that is done ("terminate called without an active exception").
    """
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        # Who read it may be gone.
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def _ignore(numbers: Sequence[int]) -> None:
    for number in numbers:
        signal.signal(number, signal.SIG_IGN)


def _heeded() -> list[signal.Signals]:
    """Returns the signals that end a process of themselves, and are not ignored; another thread may not say so."""
    if threading.current_thread() is not threading.main_thread():
        return []
    known = [getattr(signal, name) for name in _CODES if hasattr(signal, name)]
    return [one for one in known if signal.getsignal(one) in (signal.SIG_DFL, signal.default_int_handler)]


def _end(number: int, frame: FrameType | None) -> None:
    name = signal.Signals(number).name
    said = "Ctrl-C" if name == "SIGINT" else name
    os.write(2, f"iapo: stopped by {said} before it began\n".encode())
    os._exit(_CODES[name])


if __name__ == "__main__":
    from iapo.experiments.parent import end_with_parent

    end_with_parent()
    start()
