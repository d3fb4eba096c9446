"""Defaults of free tools: of their parameter's own kind, or refused where the tool is defined."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Annotated, Any, Literal

import annotated_types
import pytest
from PIL import Image

from iapo.errors import InputError
from iapo.records import Box
from iapo.tools import ColumnName, Point, define

Small = Annotated[int, annotated_types.Le(3)]
Short = Annotated[str, annotated_types.MaxLen(2)]


def tool_with(annotation: Any, default: Any) -> Callable[..., Any]:
    def tool(given: Any = default) -> str:
        """Takes one thing."""
        return str(given)

    tool.__annotations__["given"] = annotation
    tool.__annotations__["return"] = str
    return tool


@pytest.mark.parametrize(
    ("annotation", "default"),
    [
        (int, 3),
        (Small, 3),
        (float, 3),
        (float, 0.5),
        (int | None, None),
        (int, None),
        (str, "x"),
        (Short, "ab"),
        (bool, True),
        (Literal["a", "b"], "b"),
        (list[int], []),
        (list[int], (1, 2)),
        (tuple[str, ...], ("a",)),
        (Box, (0, 0, 1, 1)),
        (list[Box], [(0, 0, 1, 1)]),
        (Point, (1.5, 2)),
        (ColumnName, "2019"),
        (Mapping[str, Box], {}),
        (Image.Image, Image.new("RGB", (1, 1))),
    ],
)
def test_defaults_of_their_kind(annotation: Any, default: Any) -> None:
    assert define(tool_with(annotation, default)).free is not None


@pytest.mark.parametrize(
    ("annotation", "default"),
    [
        (int, "x"),
        (int, 1.5),
        (int, True),
        (Small, 4),
        (float, "1"),
        (float, float("nan")),
        (str, 3),
        (Short, "abc"),
        (bool, 1),
        (Literal["a", "b"], "c"),
        (Literal[1, 2], True),
        (list[int], ["x"]),
        (list[str], "ab"),
        (Box, (0, 0, 1)),
        (Box, (0, 0, 0, 0)),
        (Box, (5, 5, 5, 9)),
        (Box | None, (9, 5, 5, 9)),
        (Box, (-9, -9, -5, -5)),
        (list[Box], [(0, 0, 1, 1), (0, 0, 0, 0)]),
        (Box, "0, 0, 1, 1"),
        (Point, ("a", 1)),
        (ColumnName, 2019),
        (Mapping[str, Box], []),
        (Image.Image, "image_1"),
    ],
)
def test_other_defaults_are_refused(annotation: Any, default: Any) -> None:
    with pytest.raises(InputError, match=r"parameter 'given' of tool tool has the default .*; give it one that is"):
        define(tool_with(annotation, default))


@pytest.mark.parametrize("default", [(0, 0, 0, 0), (-1, -1, -1, -1)])
def test_a_box_of_nothing_is_told_what_stands_for_the_whole(default: Box) -> None:
    with pytest.raises(InputError, match=r"or None, which may stand for the whole image$"):
        define(tool_with(Box, default))
    assert define(tool_with(Box | None, None)).free is not None


def test_what_gives_no_result_is_refused() -> None:
    async def late(image: Image.Image) -> Image.Image:
        """Waits."""
        return image

    def bits(image: Image.Image) -> Iterator[Image.Image]:
        """Yields."""
        yield image

    async def both(image: Image.Image) -> AsyncIterator[Image.Image]:
        """Waits and yields."""
        yield image

    for function in (late, bits, both):
        with pytest.raises(InputError, match=f"tool {function.__name__} is async or yields"):
            define(function)
