"""What the tests of the report's page share."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def tab(browser: Any) -> Iterator[Any]:
    """One tab for all: a new one costs as much as a test in it."""
    context = browser.new_context()
    yield context.new_page()
    context.close()


@pytest.fixture
def watch(tab: Any) -> Callable[[Path], Any]:
    """Shows a report in the tab, as in a new one, for the length of a block, at whose end it has to be free of
    problems.
    """
    from report_browser import Watched

    @contextlib.contextmanager
    def shown(path: Path) -> Iterator[Any]:
        tab.set_viewport_size({"width": 1280, "height": 900})
        tab.emulate_media(color_scheme="light")
        one = Watched(tab, path)
        try:
            yield one
        finally:
            if tab.url.startswith("file:"):
                tab.evaluate("localStorage.clear()")
            tab.goto("about:blank")
            one.close()
        assert one.problems == []

    return shown


@pytest.fixture
def watched(watch: Callable[[Path], Any], report: Path) -> Iterator[Any]:
    """The page of a module's own report."""
    with watch(report) as one:
        yield one
