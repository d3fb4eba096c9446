"""What the tests of the embedded families share."""

from __future__ import annotations

from typing import Any

import pytest
from PIL import Image

from iapo.data.synthetic import real_charts, real_panels, tiny_charts, tiny_panels, tiny_tables


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has nothing drawn, for tests of data and questions: pictures of one pixel, no boxes."""

    def draw_nothing(*_: Any) -> tuple[Image.Image, dict[str, Any], dict[str, Any]]:
        return Image.new("RGB", (1, 1)), {}, {}

    for module in (real_charts, real_panels, tiny_charts, tiny_panels, tiny_tables):
        monkeypatch.setattr(module, "render", draw_nothing)
