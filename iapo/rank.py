"""Which of several processes that train together this one is."""

from __future__ import annotations

import logging
import os


def is_first() -> bool:
    """Tells whether this process is the first, or the only one: it alone writes and speaks for all."""
    return int(os.environ.get("RANK", "0")) == 0


def warn(logger: logging.Logger, text: str, *given: object) -> None:
    """Warns, in the first of several processes alone: all of them find the same."""
    if is_first():
        logger.warning(text, *given)
