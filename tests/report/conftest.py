"""What the tests of the report's page share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def watched(browser: Any, report: Path) -> Iterator[Any]:
    """The page of a module's own report, which has to be free of problems at the end."""
    from report_browser import Watched

    context = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme="light")
    one = Watched(context.new_page(), report)
    yield one
    context.close()
    assert one.problems == []
