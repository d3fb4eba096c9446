"""Names of boxes in calls: white space of any kind is one space."""

from __future__ import annotations

import dataclasses

import pytest
from PIL import Image

from iapo.records import Sample
from iapo.tools import TOOLS, Box, ColumnName, define, execute
from iapo.tools.names import known_name

BOXES = {"a\xa0b": (0, 0, 30, 40), "BEL\n(Fl)": (30, 0, 60, 40), "x y": (60, 0, 70, 40)}
SAMPLE = Sample("one", Image.new("RGB", (90, 40), "white"), "?", ("1",), column_boxes=BOXES, axis="columns")


def width(image: Image.Image, name: ColumnName) -> int:
    """Say how wide a column is."""
    left, _, right, _ = SAMPLE.column_boxes[name]
    return int(right - left)


def left(image: Image.Image, box: Box) -> float:
    """Say where a box begins."""
    return box[0]


FREE = {"width": define(width), "left": define(left)}


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("a b", "a\xa0b"),
        ("a\\xa0b", "a\xa0b"),
        ("BEL (Fl)", "BEL\n(Fl)"),
        ("BEL\\n(Fl)", "BEL\n(Fl)"),
        ("BEL \\t (Fl)", "BEL\n(Fl)"),
        ("x\\u2003y", "x y"),
    ],
)
def test_white_space_of_any_kind_is_one(written: str, meant: str):
    """The call is recorded with the name as the data have it."""
    call = f'focus_on_columns_with_draw(image_1, ["{written}"], columns_bbox)'
    result = execute(f"```python\ndisplay({call})\n```", SAMPLE, TOOLS)
    assert (result.status, result.error) == ("edited", None)
    assert [one.targets for one in result.calls] == [(meant,)]
    result = execute(f'```python\ndisplay(width(image_1, "{written}"))\n```', SAMPLE, FREE)
    assert (result.error, result.text) == (None, str(BOXES[meant][2] - BOXES[meant][0]))
    assert result.calls[0].targets == (meant,)


def test_a_box_by_name():
    result = execute('```python\ndisplay(left(image_1, columns_bbox["BEL (Fl)"]))\n```', SAMPLE, FREE)
    assert (result.error, result.text) == (None, "30")


@pytest.mark.parametrize("written", ["ab", "BEL(Fl)", "A b", "\\uff41 b"])
def test_letters_and_missing_spaces_still_count(written: str):
    call = f'focus_on_columns_with_draw(image_1, ["{written}"], columns_bbox)'
    result = execute(f"```python\ndisplay({call})\n```", SAMPLE, TOOLS)
    assert result.status == "failed"
    assert "there is no column" in str(result.error)
    assert "'a\\xa0b', 'BEL\\n(Fl)', 'x y'" in str(result.error)


def test_two_names_that_differ_in_white_space_alone_stay_two():
    boxes = {"a\xa0b": (0, 0, 30, 40), "a\nb": (30, 0, 60, 40), "a b": (60, 0, 90, 40)}
    sample = dataclasses.replace(SAMPLE, column_boxes=boxes)

    def targets(written: str) -> list[tuple[str, ...]]:
        call = f'focus_on_columns_with_draw(image_1, ["{written}"], columns_bbox)'
        return [one.targets for one in execute(f"```python\ndisplay({call})\n```", sample, TOOLS).calls]

    assert [targets(written) for written in ("a b", "a\\xa0b", "a\\nb")] == [[("a b",)], [("a\xa0b",)], [("a\nb",)]]
    assert targets("a\\tb") == []


def test_an_accent_may_be_a_character_of_its_own() -> None:
    assert known_name("Caf\u00e9", ["Cafe\u0301", "Cafe"]) == "Cafe\u0301"
    assert known_name("Cafe\u0301 au\nlait", ["Caf\u00e9 au lait"]) == "Caf\u00e9 au lait"
    assert known_name("Cafe", ["Cafe\u0301"]) == "Cafe"
