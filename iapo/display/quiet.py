"""What libraries print that the reader of a command's output cannot act on, silenced by name and for a while."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from transformers.utils import logging

RENAMED = r"`(is_)?gradient_checkpointing(_\w+)?` is deprecated"
"""Transformers' new name of a setting that TRL still sets by its old one, whatever the user gives."""

WARNINGS = (
    (FutureWarning, RENAMED),
    # TRL's and Transformers' default, which the user did not choose.
    (UserWarning, r"'pin_memory' argument is set as true but no accelerator is found"),
)
"""Category and beginning of each message that is left out."""


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Leaves out `WARNINGS` and the bars of loading and saving weights; all else that libraries say is said."""
    bars = logging.is_progress_bar_enabled()
    with warnings.catch_warnings():
        for category, message in WARNINGS:
            warnings.filterwarnings("ignore", message, category)
        logging.disable_progress_bar()
        try:
            yield
        finally:
            if bars:
                logging.enable_progress_bar()
