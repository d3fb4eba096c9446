"""Where Qwen's ranks lie, for tests with the true tokenizer; they are skipped, with the reason, where they are not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from iapo.errors import InputError
from iapo.standins.tokenizer import find_ranks


def ranks() -> Path:
    """The file of ranks: `IAPO_RANKS`, or that of the package `dashscope`."""
    given = os.environ.get("IAPO_RANKS")
    try:
        return find_ranks(Path(given) if given else None)
    except InputError as error:
        pytest.skip(str(error))
