"""Hooks: what the processes that run tests load and start."""

from __future__ import annotations

import gc

import forks
import pytest

# Test modules, what they import and the tests in them are no garbage, and many: to look for some takes its time.
gc.disable()


def pytest_configure(config: pytest.Config) -> None:
    """Loads the fixtures, but for the process that only shares out the tests."""
    if getattr(config.option, "dist", "no") == "no":
        config.pluginmanager.import_plugin("shared")


def pytest_collection_finish() -> None:
    """What is there by now stays to the end; no collection, and each training asks for some, walks it again."""
    gc.collect()
    gc.freeze()
    forks.begin()
    gc.enable()


def pytest_unconfigure() -> None:
    """Has nothing stay behind."""
    forks.end()
