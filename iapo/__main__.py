"""`iapo` and `python -m iapo`: what is done before anything else is imported."""

from __future__ import annotations

import signal
import threading


def start() -> None:
    """Runs the command line; Ctrl-C while its modules are imported ends the process without a traceback."""
    # Another thread may not say what a signal does.
    first = threading.current_thread() is threading.main_thread()
    heeds = first and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if heeds:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from iapo.cli.main import main

    if heeds:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    main()


if __name__ == "__main__":
    from iapo.experiments.parent import end_with_parent

    end_with_parent()
    start()
