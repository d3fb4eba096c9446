"""Carries out the statements of a tool program on one sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn, TypeAlias

from PIL import Image

from iapo.records import Axis, Box, Sample, ToolCall
from iapo.tools.definitions import ToolDefinition
from iapo.tools.errors import ToolError, listed, quoted
from iapo.tools.language import COLUMNS, DISPLAY, IMAGE, ROWS, Call, Expression, Literal, Name, Statement


@dataclass(frozen=True, slots=True)
class _Picture:
    image: Image.Image
    edited: bool


@dataclass(frozen=True, slots=True)
class _Boxes:
    name: str
    axis: Axis
    boxes: Mapping[str, Box]


_Value: TypeAlias = _Picture | _Boxes | str | tuple[str, ...]


class Interpreter:
    """One run of one program.

    Attributes:
        calls: The tool calls that succeeded so far, in order.
    """

    def __init__(self, sample: Sample, tools: Mapping[str, ToolDefinition]) -> None:
        self.calls: list[ToolCall] = []
        self._tools = tools
        self._is_table = sample.kind == "table"
        self._values: dict[str, _Value] = {
            IMAGE: _Picture(sample.image, edited=False),
            COLUMNS: _Boxes(COLUMNS, "columns", sample.column_boxes),
            ROWS: _Boxes(ROWS, "rows", sample.row_boxes),
        }

    def run(self, statements: Sequence[Statement]) -> Image.Image:
        """Returns the image that is displayed last.

        Raises:
            ToolError: If an argument is wrong, or no edited image is displayed.
        """
        shown: _Picture | None = None
        for statement in statements:
            value = statement.value
            if isinstance(value, Call) and value.function == DISPLAY:
                shown = self._displayed(value)
            elif statement.target is None:
                self._value(value)
            else:
                self._values[statement.target] = self._value(value)
        if shown is None:
            raise ToolError(f"nothing is displayed; end the program with {DISPLAY}(...)")
        if not shown.edited:
            raise ToolError("the displayed picture is the unchanged one; call a tool and display its result")
        return shown.image

    def _displayed(self, call: Call) -> _Picture:
        if len(call.arguments) != 1 or call.keywords:
            _fail(call, "takes one argument, the picture to display")
        value = self._value(call.arguments[0])
        if not isinstance(value, _Picture):
            _fail(call, f"was given {_described(value)}; give it a picture")
        return value

    def _value(self, expression: Expression) -> _Value:
        if isinstance(expression, Literal):
            return expression.value
        if isinstance(expression, Name):
            if expression.name not in self._values:
                raise ToolError(
                    f"line {expression.line}: unknown name {quoted(expression.name)}; use one of {listed(self._values)}"
                )
            return self._values[expression.name]
        return self._edited(expression)

    def _edited(self, call: Call) -> _Picture:
        tool = self._tools.get(call.function)
        if tool is None:
            _fail(call, f"is not offered here; use one of {listed(self._tools)}")
        picture, names, boxes = self._arguments(call, tool.parameters)
        _, names_parameter, boxes_parameter = tool.parameters
        if not isinstance(picture, _Picture):
            _fail(call, f"works on a picture, but was given {_described(picture)}; give it {IMAGE} or a result")
        if not isinstance(names, tuple):
            _fail(call, f"was given {_described(names)} as {names_parameter}; give it a list of names")
        if not isinstance(boxes, _Boxes):
            wanted = COLUMNS if tool.axis == "columns" else ROWS
            _fail(call, f"was given {_described(boxes)} as {boxes_parameter}; give it {wanted}")
        if boxes.axis != tool.axis:
            _fail(
                call,
                f"works on {tool.axis}, but was given {boxes.name}; use a tool that works on {boxes.axis}",
            )
        try:
            image = tool.apply(picture.image, names, boxes.boxes, self._is_table)
        except ToolError as error:
            raise ToolError(f"line {call.line}, {call.function}: {error}") from error
        self.calls.append(ToolCall(tool.name, names, boxes.name, tool.axis))
        return _Picture(image, edited=True)

    def _arguments(self, call: Call, parameters: tuple[str, ...]) -> list[_Value]:
        given = len(call.arguments) + len(call.keywords)
        if len(call.arguments) > len(parameters):
            _fail(call, f"takes {len(parameters)} arguments, but was given {given}")
        # Positional ones first, as Python does, so that `calls` comes out in the order of execution.
        bound = {name: self._value(value) for name, value in zip(parameters, call.arguments, strict=False)}
        for name, value in call.keywords:
            if name not in parameters:
                _fail(call, f"has no argument {quoted(name)}; its arguments are {listed(parameters)}")
            if name in bound:
                _fail(call, f"was given the argument {quoted(name)} twice; give it once")
            bound[name] = self._value(value)
        missing = [name for name in parameters if name not in bound]
        if missing:
            _fail(call, f"takes {len(parameters)} arguments, but {listed(missing)} is missing")
        return [bound[name] for name in parameters]


def _fail(call: Call, reason: str) -> NoReturn:
    raise ToolError(f"line {call.line}: {call.function} {reason}")


def _described(value: _Value) -> str:
    if isinstance(value, _Picture):
        return "a picture"
    if isinstance(value, _Boxes):
        return f"the boxes {value.name}"
    return f"the text {quoted(value)}" if isinstance(value, str) else "a list of names"
