"""What a tool is, how one is registered, and the standard set of six."""

from __future__ import annotations

import functools
import inspect
import re
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, TypeVar, get_origin

from PIL import Image

from iapo.errors import InputError
from iapo.records import AXES, Axis, Sample, ToolCall
from iapo.tools import edits
from iapo.tools.language import COLUMNS, DISPLAY, IMAGES, ROWS
from iapo.tools.signature import Signature, hints_of, read_signature

Style = Literal["highlight", "mask", "draw"]

F = TypeVar("F", bound=Callable[..., Any])

_MOVES = "iapo_moves_pixels"
"""What the mark of `moves_pixels` is called."""

_KEEPS = "iapo_keeps_places"
"""What that of `keeps_places` is called."""

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)

_NEVER_A_RESULT = (inspect.iscoroutinefunction, inspect.isasyncgenfunction, inspect.isgeneratorfunction)

_TELLING = ((2, ("box",)), (0, ("image", "img", "picture")), (1, ("name", "column", "row", "label", "focus")))
"""By parameter: what a keyword that is none of the definition's has in it; `columns_bbox` is of boxes."""


Judge = Callable[[Sample, ToolCall], bool | None]
"""Tells whether a call is misuse; None where that cannot be told."""


@dataclass(frozen=True, slots=True)
class ToolDefinition:
    """One tool as the executor and the prompt know it; made with `define`.

    A tool that focuses takes an image, names and boxes; a free tool takes what its function's annotations say.

    Attributes:
        name: The function's name, as models write it.
        axis: Axis that it focuses on, `columns` or `rows`; None where its calls are right or wrong by no axis.
        style: Style in which it does that; None where it has none.
        function: `(image, names, boxes) -> edited image`, or a free tool's function.
        free: What a free tool takes and gives; None for a tool that focuses.
        misuse: Judge of its calls, instead of the axis.
        example: A call of it as a program would write it; made up where it is empty.
        timeout: Longest call in seconds, each of which runs in a process of its own; None: no limit, in this process.
    """

    name: str
    axis: Axis | None
    style: Style | None
    function: Callable[..., Any]
    free: Signature | None = field(default=None, compare=False)
    misuse: Judge | None = None
    example: str = ""
    timeout: float | None = None

    @property
    def parameters(self) -> tuple[str, ...]:
        """What the parameters are called, image, names and boxes if it focuses; programs may use them as keywords."""
        if self.free is not None:
            return tuple(one.name for one in self.free.parameters)
        return positional(self.function)

    @property
    def keeps_header(self) -> bool:
        """Whether its function is told that the image is a table, whose first row stays."""
        return "keep_header" in inspect.signature(self.function).parameters

    @property
    def packaged(self) -> bool:
        """Whether its function is one of this package's, which changes no image that it is given."""
        module, name = self.function.__module__, self.function.__name__
        # One that wraps one of them may bear its name.
        ours = module.startswith("iapo.tools.") and getattr(sys.modules.get(module), name, None)
        return ours is self.function

    @property
    def moves(self) -> bool:
        """Whether what is in an image lies elsewhere in its result, also in one of the same size (`moves_pixels`)."""
        return bool(getattr(self.function, _MOVES, False))

    @property
    def keeps(self) -> bool:
        """Whether what is in an image lies in its place in its result, also in a larger one (`keeps_places`)."""
        return bool(getattr(self.function, _KEEPS, False))

    @property
    def description(self) -> str:
        """The docstring, without its indentation."""
        return _documentation(self.function) or ""

    @property
    def text(self) -> str:
        """The definition as a prompt shows it: the signature without types, and the docstring.

        Of a free tool it goes on with a line on each parameter (type, unit, range), what is returned, and an example.
        """
        if self.free is None:
            body = textwrap.indent(f'"""{_documentation(self.function)}"""', "    ")
            return f"def {self.name}({', '.join(self.parameters)}):\n{body}"
        lines = f'"""{self.description}\n\n{self.free.about}\nExample: {self.call_text()}\n"""'
        return f"def {self.name}({self.free.head}):\n{textwrap.indent(lines, '    ')}"

    def slot(self, keyword: str) -> int | None:
        """Says which parameter of a tool that focuses a keyword stands for: 0 image, 1 names or 2 boxes.

        None if no word in it tells.
        """
        if keyword in self.parameters:
            return self.parameters.index(keyword)
        word = keyword.lower()
        return next((slot for slot, tells in _TELLING if any(one in word for one in tells)), None)

    def call_text(self, sample: Sample | None = None) -> str | None:
        """Writes a call of a free tool that is displayed, as a program has it.

        Args:
            sample: Sample that it is to fit; with None, places are left open as a definition may.

        Returns:
            The call; None where none can be made up for the sample.
        """
        assert self.free is not None
        if self.example:
            # A tool may be offered under another name than its function's.
            return re.sub(rf"\b{re.escape(self.function.__name__)}\b", self.name, self.example)
        needed = [(one, one.kind.example(sample)) for one in self.free.parameters if one.needed]
        if any(text is None for _, text in needed):
            return None
        given = [f"{one.name}={text}" if one.by_name else text for one, text in needed]
        return f"display({self.name}({', '.join(map(str, given))}))"


def moves_pixels(function: F) -> F:
    """Marks the function of a tool that moves what is in an image, as a rotation does; written over it as a decorator.

    The boxes of a sample do not fit such a result, nor one of another size than the image it was made of, nor what is
    made of either: with them a call on it fails, and a turn that displays it has none. Any other result keeps its
    places, as an image does that is drawn on.

    Args:
        function: The function.

    Returns:
        The function.

    Raises:
        InputError: If it is none, as what `define` made of one, or is marked with `keeps_places`.
    """
    return _marked(function, moves_pixels, _MOVES, _KEEPS)


def keeps_places(function: F) -> F:
    """Marks the function of a tool whose result is larger than its image, but has all of it in its place, as an image
    has below or right of which something is added; written over it as a decorator.

    The boxes of a sample, pixels from the top left, fit such a result. A result that is smaller in one direction than
    the image it was made of keeps no places, also with this mark.

    Args:
        function: The function.

    Returns:
        The function.

    Raises:
        InputError: If it is none, as what `define` made of one, or is marked with `moves_pixels`.
    """
    return _marked(function, keeps_places, _KEEPS, _MOVES)


def _marked(function: F, marker: Callable[..., Any], mark: str, opposite: str) -> F:
    name = marker.__name__
    if not inspect.isfunction(function):
        raise InputError(f"{name} marks a function; {function!r} is none; put it next to the function, below define")
    if getattr(function, opposite, False):
        raise InputError(
            f"{function.__name__} is marked with moves_pixels and with keeps_places, which is its opposite; leave one"
        )
    setattr(function, mark, True)
    return function


@functools.cache
def positional(function: Callable[..., Any]) -> tuple[str, ...]:
    """Returns the names of a function's positional parameters."""
    signature = inspect.signature(function)
    return tuple(name for name, parameter in signature.parameters.items() if parameter.kind in _POSITIONAL)


@functools.cache
def _documentation(function: Callable[..., Any]) -> str | None:
    return inspect.getdoc(function)


def define(
    function: Callable[..., Any],
    *,
    axis: Axis | None = None,
    style: Style | None = None,
    misuse: Judge | None = None,
    example: str = "",
) -> ToolDefinition:
    """Makes a tool of a function; `{**TOOLS, tool.name: tool}` is then a tool set that includes it.

    Args:
        function: Either `(image, names, boxes) -> edited image`, with an axis; or any function whose parameters are all
            annotated (docs/your-own.md). Its docstring is for the model to read. It raises `ToolError` where its
            arguments do not fit; whatever else it raises is its own failure.
            One of image, names and boxes may have a keyword-only parameter `keep_header`, which is true for tables.
        axis: Axis that the tool focuses on, and so whose boxes it is given; without one, whether a call is misuse is
            not known.
        style: Style in which it does that.
        misuse: Judge of its calls, `(sample, call) -> bool`, instead of the axis.
        example: A call as a program would write it, for example `display(calculate("3 * 4"))`, of a free tool.

    Raises:
        InputError: If the axis is unknown, the docstring is missing, the function is async or yields, or the parameters
            are neither the three nor all annotated with what a program can give, with defaults of the same.
    """
    name = getattr(function, "__name__", None)
    if name is None or not callable(function) or isinstance(function, type):
        raise InputError(f"a tool is made of a function; {function!r} is none")
    if name in (DISPLAY, *IMAGES, COLUMNS, ROWS) or not name.isidentifier():
        raise InputError(f"a tool cannot be called {name!r}, which programs have another meaning for; rename it")
    if axis is not None and axis not in AXES:
        raise InputError(f"tool {name} has axis {axis!r}; use 'columns' or 'rows'")
    _refuse_unsigned(function)
    if not inspect.getdoc(function):
        raise InputError(f"tool {name} has no docstring; write the sentence that a model shall read")
    if any(tells(function) for tells in _NEVER_A_RESULT):
        raise InputError(f"tool {name} is async or yields, so that a call gives no result; write a plain function")
    if misuse is not None and not callable(misuse):
        raise InputError(f"tool {name} has the judge {misuse!r}; give a function of a sample and a call")
    if axis is not None and _focuses(function):
        return ToolDefinition(name, axis, style, function, misuse=misuse)
    if axis is not None and not any(one in getattr(function, "__annotations__", ()) for one in positional(function)):
        count = len(positional(function))
        raise InputError(
            f"tool {name} takes {count} parameters; take the image, names and boxes, or annotate what it takes"
        )
    return ToolDefinition(name, axis, style, function, read_signature(function, axis), misuse=misuse, example=example)


def _refuse_unsigned(function: Callable[..., Any]) -> None:
    """Refuses a function of which nobody can say what it takes, as some of Python's own."""
    try:
        inspect.signature(function)
    except ValueError as error:
        name = getattr(function, "__name__", "?")
        raise InputError(f"tool {name} does not tell its parameters; write a function of your own round it") from error


def check_tools(tools: Mapping[str, ToolDefinition]) -> None:
    """Refuses what is no mapping of tools by their own names; prompts and records have a tool's own name alone.

    Args:
        tools: Offered tools.

    Raises:
        InputError: If so.
    """
    if not isinstance(tools, Mapping):
        raise InputError(f"tools are no mapping of names to tools, but {type(tools).__name__}; give one ({_MADE})")
    for key, tool in tools.items():
        if not isinstance(tool, ToolDefinition):
            what = type(tool).__name__
            raise InputError(f"tools are no mapping of names to tools: {key!r} has an object of type {what} ({_MADE})")
        if tool.name != key:
            raise InputError(
                f"tools have the tool {tool.name!r} for {key!r}; give it under its own name, or rename it "
                "(dataclasses.replace(tool, name=NAME))"
            )


_MADE = "iapo.define makes one of a function"


def _focuses(function: Callable[..., Any]) -> bool:
    """Tells whether a function takes image, names and boxes, and nothing else that is not there by itself."""
    parameters = inspect.signature(function).parameters
    names = positional(function)
    if len(names) != 3 or any(
        one.kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        or (name not in names and name != "keep_header")
        for name, one in parameters.items()
    ):
        return False
    try:
        hints = hints_of(function)
        found = [None if hints.get(name) is Any else hints.get(name) for name in names]
    except InputError:
        # Annotations for a type checker alone, as tools of three parameters may have them.
        return True
    if all(one is None for one in found):
        return True
    image, several, boxes = (get_origin(one) or one for one in found)
    return (
        (image is None or (isinstance(image, type) and issubclass(image, Image.Image)))
        and (several is None or (isinstance(several, type) and issubclass(several, Sequence) and several is not str))
        and (boxes is None or (isinstance(boxes, type) and issubclass(boxes, Mapping)))
    )


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
