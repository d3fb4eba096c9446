"""Ends a process with the one that started it, however that one ends."""

from __future__ import annotations

import os
import signal
import threading
import time

PARENT = "IAPO_PARENT"
"""Environment variable with the process id of the parent that a job ends with."""

GRACE = 60.0
"""Seconds that a process has to save its state and end by itself before it is killed."""


def end_with_parent(parent: int | None = None, every: float = 1.0) -> None:
    """Watches the parent from a thread; once this process has another one, ends it: SIGTERM, after a grace SIGKILL.

    A parent that is killed can end nobody, and its jobs would go on writing into folders that the next start takes up.
    Polling works on every platform and, unlike a hook between fork and exec, beside any threads of the parent.

    Args:
        parent: Process id of the parent; that of the variable `IAPO_PARENT` if None. Without either nothing is watched.
        every: Seconds between two looks.
    """
    if parent is None:
        name = os.environ.pop(PARENT, "")
        if not name:
            return
        parent = int(name)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(every)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(GRACE)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()
