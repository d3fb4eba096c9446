"""Hooks: what the processes that run tests load and start."""

from __future__ import annotations

import gc
import signal
from collections.abc import Iterator

import forks
import pytest
from dealing import deal

# Test modules, what they import and the tests in them are no garbage, and many: to look for some takes its time.
gc.disable()


def pytest_configure(config: pytest.Config) -> None:
    """Loads the fixtures, but for the process that only shares out the tests."""
    if getattr(config.option, "dist", "no") == "no":
        config.pluginmanager.import_plugin("shared")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Has each worker begin with files of slow tests, so that none is still at one when the others are done.

    A worker's share are as many tests as another's, in order; the tests of a file stay together.
    """
    workers = int(getattr(config, "workerinput", {}).get("workercount", 1))
    if workers > 1:
        items[:] = deal(items, workers)


def pytest_collection_finish() -> None:
    """What is there by now stays to the end; no collection, and each training asks for some, walks it again."""
    _keep()
    forks.begin()
    # Models are many objects and little garbage. The trainings themselves have theirs collected.
    gc.set_threshold(20_000, 20, 50)
    gc.enable()


def _keep() -> None:
    """Has no collection walk again what is there now."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
    """What is left of a file of tests are modules that it imported, and what is made once for all: it stays, too."""
    yield
    if nextitem is not None and nextitem.path != item.path:
        _keep()


def pytest_unconfigure() -> None:
    """Has nothing stay behind."""
    forks.end()


@pytest.fixture
def heeded() -> Iterator[None]:
    """The signals as a shell gives them to what runs in the foreground."""
    before = {one: signal.getsignal(one) for one in (signal.SIGINT, signal.SIGHUP)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    for one, handler in before.items():
        signal.signal(one, handler)
