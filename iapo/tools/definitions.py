"""What a tool is, how one is registered, and the standard set of six."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from PIL import Image

from iapo.errors import InputError
from iapo.records import AXES, Axis, Box
from iapo.tools import edits

Style = Literal["highlight", "mask", "draw"]

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)

_TELLING = ((2, ("box",)), (0, ("image", "img", "picture")), (1, ("name", "column", "row", "label", "focus")))
"""By parameter: what a keyword that is none of the definition's has in it; `columns_bbox` is of boxes."""


@dataclass(frozen=True, slots=True)
class ToolDefinition:
    """One tool as the executor and the prompt know it; made with `define`.

    Attributes:
        name: The function's name, as models write it.
        axis: Axis that it focuses on, `columns` or `rows`.
        style: Style in which it does that.
        function: `(image, names, boxes) -> edited image`.
    """

    name: str
    axis: Axis
    style: Style
    function: Callable[..., Image.Image]

    @property
    def parameters(self) -> tuple[str, ...]:
        """What the three parameters are called: image, names, boxes; programs may use them as keywords."""
        signature = inspect.signature(self.function)
        return tuple(name for name, parameter in signature.parameters.items() if parameter.kind in _POSITIONAL)

    @property
    def description(self) -> str:
        """The docstring, without its indentation."""
        return inspect.getdoc(self.function) or ""

    @property
    def text(self) -> str:
        """The definition as a prompt shows it: the signature without types, and the docstring."""
        body = textwrap.indent(f'"""{inspect.getdoc(self.function)}"""', "    ")
        return f"def {self.name}({', '.join(self.parameters)}):\n{body}"

    def slot(self, keyword: str) -> int | None:
        """Says which parameter a keyword stands for: 0 image, 1 names or 2 boxes; None if no word in it tells."""
        if keyword in self.parameters:
            return self.parameters.index(keyword)
        word = keyword.lower()
        return next((slot for slot, tells in _TELLING if any(one in word for one in tells)), None)

    def apply(
        self, image: Image.Image, names: tuple[str, ...], boxes: Mapping[str, Box], is_table: bool
    ) -> Image.Image:
        """Edits an image; a tool with a keyword-only `keep_header` is told whether the image is a table.

        Raises:
            ToolError: If the names or boxes do not fit the image.
            InputError: If the function returns no image.
        """
        header = {"keep_header": is_table} if "keep_header" in inspect.signature(self.function).parameters else {}
        edited = self.function(image, names, boxes, **header)
        if not isinstance(edited, Image.Image):
            raise InputError(f"tool {self.name} returned an object of type {type(edited).__name__}; return an image")
        return edited


def define(function: Callable[..., Image.Image], *, axis: Axis, style: Style) -> ToolDefinition:
    """Makes a tool of a function; `{**TOOLS, tool.name: tool}` is then a tool set that includes it.

    Args:
        function: `(image, names, boxes) -> edited image`, with a docstring for the model to read. It must not
            change the image that it is given, and raises `ToolError` where its arguments do not fit.
            It may have a keyword-only parameter `keep_header`, which is true for tables.
        axis: Axis that the tool focuses on, and so whose boxes it is given.
        style: Style in which it does that.

    Raises:
        InputError: If the axis is unknown, the docstring is missing, or the parameters are not the three.
    """
    name = function.__name__
    tool = ToolDefinition(name, axis, style, function)
    if axis not in AXES:
        raise InputError(f"tool {name} has axis {axis!r}; use 'columns' or 'rows'")
    if not inspect.getdoc(function):
        raise InputError(f"tool {name} has no docstring; write the sentence that a model shall read")
    if len(tool.parameters) != 3:
        raise InputError(f"tool {name} takes {len(tool.parameters)} parameters; take the image, names and boxes")
    return tool


TOOLS: Mapping[str, ToolDefinition] = MappingProxyType(
    {
        tool.name: tool
        for tool in (
            define(edits.focus_on_columns_with_highlight, axis="columns", style="highlight"),
            define(edits.focus_on_columns_with_mask, axis="columns", style="mask"),
            define(edits.focus_on_columns_with_draw, axis="columns", style="draw"),
            define(edits.focus_on_rows_with_highlight, axis="rows", style="highlight"),
            define(edits.focus_on_rows_with_mask, axis="rows", style="mask"),
            define(edits.focus_on_rows_with_draw, axis="rows", style="draw"),
        )
    }
)
"""The standard tools by name, in the order in which a prompt shows them."""
