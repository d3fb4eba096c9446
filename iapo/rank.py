"""Which of several processes that train together this one is."""

from __future__ import annotations

import os


def is_first() -> bool:
    """Tells whether this process is the first, or the only one: it alone writes and speaks for all."""
    return int(os.environ.get("RANK", "0")) == 0
