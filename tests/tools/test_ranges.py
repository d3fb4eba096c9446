"""Ranges and marks of free tools' parameters: nested ones all hold, and what no value fits is refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, Any

import pytest
from annotated_types import Ge, Gt, Interval, Le, Len, Lt, MaxLen, MinLen
from PIL import Image

from iapo.errors import InputError
from iapo.records import Sample
from iapo.tools import BoxName, ColumnName, RowName, define, execute
from iapo.tools.signature import NameOf

BOXES = {"A": (0.0, 0.0, 20.0, 30.0), "B": (20.0, 0.0, 40.0, 30.0)}
SAMPLE = Sample("s", Image.new("RGB", (40, 30), "white"), "q?", ("1",), column_boxes=BOXES)

AtLeast5 = Annotated[int, Ge(5)]
Short = Annotated[str, MaxLen(3)]


def tool_of(annotation: Any) -> Callable[..., Any]:
    def tool(x: Any) -> str:
        """Take one thing."""
        return str(x)

    tool.__annotations__["x"] = annotation
    tool.__annotations__["return"] = str
    return tool


def takes(annotation: Any, value: Any) -> bool:
    result = execute(f"```python\ndisplay(tool({value!r}))\n```", SAMPLE, {"tool": define(tool_of(annotation))})
    assert result.status in ("edited", "failed")
    return result.status == "edited"


@pytest.mark.parametrize(
    ("annotation", "inside", "outside"),
    [
        (Annotated[AtLeast5, Ge(0)], 5, 2),
        (Annotated[AtLeast5, Ge(0), Le(10)], 10, 11),
        (Annotated[AtLeast5, Le(7)], 5, 4),
        (Annotated[int, Ge(5), Ge(1)], 5, 4),
        (Annotated[int, Ge(1), Ge(5)], 5, 4),
        (Annotated[int, Le(5), Le(9)], 5, 6),
        (Annotated[float, Gt(1), Gt(0), Lt(3), Lt(9)], 2.5, 1),
        (Annotated[Annotated[float, Interval(ge=0, lt=1)], Interval(ge=-1, lt=5)], 0.5, 1),
        (Annotated[Short, MaxLen(9)], "abc", "abcd"),
        (Annotated[Annotated[str, MinLen(2)], Len(0, 5)], "ab", "a"),
        (Annotated[Annotated[list[int], Len(2)], Len(1)], [1, 2], [1]),
        (Annotated[ColumnName, NameOf(None)], "A", "C"),
        (Annotated[BoxName, NameOf("columns")], "A", "C"),
    ],
)
def test_all_marks_hold(annotation: Any, inside: Any, outside: Any) -> None:
    assert takes(annotation, inside)
    assert not takes(annotation, outside)


@pytest.mark.parametrize(
    ("annotation", "reason"),
    [
        (Annotated[int, Ge(5), Le(3)], "asks for a whole number from 5 to 3, and there is none"),
        (Annotated[AtLeast5, Lt(5)], "and there is none"),
        (Annotated[int, Gt(1), Lt(2)], "asks for a whole number above 1 and below 2, and there is none"),
        (Annotated[int, Ge(1.2), Le(1.8)], "and there is none"),
        (Annotated[float, Gt(2), Lt(2)], "asks for a number above 2 and below 2, and there is none"),
        (Annotated[float, Ge(2), Lt(2)], "and there is none"),
        (Annotated[list[AtLeast5], Len(5, 2)], "asks for a length from 5 to 2, and there is none"),
        (Annotated[list[Annotated[int, Le(0), Gt(0)]], Len(1)], "and there is none"),
        (Annotated[str, Len(5, 2)], "and there is none"),
        (Annotated[list[int], Len(65)], "asks for 65 entries or more; programs give at most 64"),
        (Annotated[int, Ge(math.nan)], "has the bound nan; give a finite number"),
        (Annotated[float, Le(math.nan)], "has the bound nan"),
        (Annotated[float, Lt(math.inf)], "has the bound inf; give a finite number, or leave it out"),
        (Annotated[int, Ge(10**5000)], "has the bound a whole number of thousands of digits"),
        (Annotated[int, Ge(True)], "has the bound True"),
        (Annotated[int, Ge("1")], "has the bound '1'"),
        (Annotated[str, MinLen(-1)], "has the length -1; give a whole number, 0 or above"),
        (Annotated[str, MaxLen(2.5)], "has the length 2.5"),  # type: ignore[arg-type]
        (Annotated[ColumnName, NameOf("rows")], "is a name of columns and of rows"),
        (Annotated[RowName, NameOf("columns")], "is a name of columns and of rows"),
    ],
)
def test_what_no_value_fits_is_refused(annotation: Any, reason: str) -> None:
    with pytest.raises(InputError) as caught:
        define(tool_of(annotation))
    assert "parameter 'x' of tool tool" in str(caught.value)
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    "annotation",
    [
        Annotated[int, Ge(1234567), Le(1234569)],
        Annotated[int, Gt(2.5)],
        Annotated[int, Lt(-2.5)],
        Annotated[int, Ge(-9), Lt(-3)],
        Annotated[float, Gt(0.25), Lt(0.5)],
        Annotated[float, Gt(1e300), Lt(1e308)],
        Annotated[float, Lt(-7)],
        Annotated[list[Annotated[int, Ge(7)]], Len(6, 9)],
    ],
)
def test_the_made_up_example_is_inside(annotation: Any) -> None:
    """The call in the definition, and the one for a sample, are calls that the tool takes."""
    tool = define(tool_of(annotation))
    for call in (tool.call_text(), tool.call_text(SAMPLE)):
        result = execute(f"```python\n{call}\n```", SAMPLE, {"tool": tool})
        assert result.status == "edited", (call, result.error)
