"""The browser of the report's tests: started once for all of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    from report_browser import FLAGS, find_browser, playwright

    with playwright.sync_playwright() as driver:
        one = driver.chromium.launch(executable_path=find_browser(), args=FLAGS)
        yield one
        one.close()
