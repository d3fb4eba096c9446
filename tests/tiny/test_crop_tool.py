"""The judge of the crop world's tool: a crop without the panel asked for is misuse."""

from __future__ import annotations

import dataclasses

import pytest

from iapo.tiny.crop.lessons import TOOLS, program_text
from iapo.tiny.crop.pages import PANELS, SIDE, Page, draw, panel
from iapo.tiny.crop.tool import CROP
from iapo.tools import execute, offered_tools
from iapo.tools.packaged.crop import crop


@pytest.fixture(scope="module")
def page() -> Page:
    # Not at the edge, so that there are pixels on all sides of it.
    return next(draw(1, seed=0, split="test")).asking(PANELS + 1)


def misused(page: Page, text: str) -> bool | None:
    result = execute(text, page.sample, TOOLS)
    assert result.status == "edited", result.error
    return result.misuse(page.sample.axis)


def test_the_panel_asked_for_is_right_and_any_other_is_misuse(page: Page) -> None:
    for place in range(PANELS**2):
        assert misused(page, program_text(panel(place))) == (place != page.asked)


def test_more_than_the_panel_is_right_and_a_part_of_it_misuse(page: Page) -> None:
    x1, y1, x2, y2 = panel(page.asked)
    assert not misused(page, program_text((0, 0, SIDE - 1, SIDE - 1)))
    assert not misused(page, program_text((x1 - 3, y1 - 3, x2 + 3, y2 + 3)))
    for wrong in ((x1 + 1, y1, x2, y2), (x1, y1 + 1, x2, y2), (x1, y1, x2 - 1, y2), (x1, y1, x2, y2 - 1)):
        assert misused(page, program_text(wrong))


def test_a_margin_counts(page: Page) -> None:
    x1, y1, x2, y2 = (int(edge) for edge in panel(page.asked))
    call = "```python\ndisplay(crop(image_1, [{}, {}, {}, {}], margin=5))\n```"
    assert not misused(page, call.format(x1 + 5, y1 + 5, x2 - 5, y2 - 5))
    assert misused(page, call.format(x1 + 6, y1 + 5, x2 - 5, y2 - 5))


def test_a_named_box_is_judged_as_its_pixels(page: Page) -> None:
    for column, wrong in (("B", False), ("A", True)):
        assert misused(page, f'```python\ndisplay(crop(image_1, columns_bbox["{column}"]))\n```') == wrong


def test_what_cannot_be_told_is_not_known(page: Page) -> None:
    inner = "```python\ndisplay(crop(crop(image_1, [0, 0, 300, 300]), [0, 0, 50, 50]))\n```"
    (_, second) = execute(inner, page.sample, TOOLS).calls
    assert second.misused is None
    unasked = dataclasses.replace(page.sample, question="how many?")
    (call,) = execute(program_text(panel(0)), unasked, TOOLS).calls
    assert call.misused is None


def test_it_is_the_packaged_crop_and_named_as_a_configuration_names_it() -> None:
    assert CROP.function is crop
    assert offered_tools("iapo.tiny.crop.tool:CROP") == {"crop": CROP}
