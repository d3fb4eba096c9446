"""Free tools that are packaged beside the six; each is offered by its name alone (docs/your-own.md)."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from iapo.ocr import check_ocr
from iapo.tools.definitions import ToolDefinition, define
from iapo.tools.packaged.calculate import calculate
from iapo.tools.packaged.crop import crop
from iapo.tools.packaged.measure_bar import measure_bar
from iapo.tools.packaged.read_text import read_text
from iapo.tools.packaged.rotate import rotate
from iapo.tools.packaged.zoom import zoom

PACKAGED: Mapping[str, ToolDefinition] = MappingProxyType(
    {
        tool.name: tool
        for tool in (
            define(crop),
            define(zoom),
            define(rotate),
            define(read_text),
            define(calculate, example='display(calculate("3 * (14.5 - 2)"))'),
            define(measure_bar),
        )
    }
)
"""The tools by name."""


def packaged_tool(name: str) -> ToolDefinition:
    """Returns one of them.

    Raises:
        InputError: If it needs what is not installed.
    """
    if name == read_text.__name__:
        check_ocr("the tool read_text needs", "offer other tools")
    return PACKAGED[name]
