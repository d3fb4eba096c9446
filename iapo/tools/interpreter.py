"""Carries out the statements of a tool program on one sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn, TypeAlias

from PIL import Image, ImageChops

from iapo.images import to_rgb
from iapo.records import Axis, Box, Sample, ToolCall
from iapo.tools.definitions import ToolDefinition
from iapo.tools.errors import BLANK, UNCHANGED, ToolError, listed, quoted
from iapo.tools.language import (
    COLUMNS,
    DISPLAY,
    IMAGE,
    ROWS,
    Boxes,
    BoxOf,
    Call,
    Expression,
    Listed,
    Literal,
    Name,
    Statement,
)
from iapo.tools.own_boxes import OWN_BOXES, check_boxes


@dataclass(frozen=True, slots=True)
class _Picture:
    image: Image.Image
    edited: bool


@dataclass(frozen=True, slots=True)
class _Boxes:
    name: str
    axis: Axis | None  # None: the program's own, which a tool of either axis takes
    boxes: Mapping[str, Box]


_Value: TypeAlias = _Picture | _Boxes | str | tuple[str, ...]


class Interpreter:
    """One run of one program.

    Args:
        sample: The image and the boxes.
        tools: The offered tools.
        lenient: Whether arguments may stand in any order, go by other names or be left out where their meaning is
            plain, and a result that is not displayed but stands on its own is shown.

    Attributes:
        calls: The tool calls that succeeded so far, in order.
    """

    def __init__(self, sample: Sample, tools: Mapping[str, ToolDefinition], *, lenient: bool = False) -> None:
        self.calls: list[ToolCall] = []
        self._tools, self._lenient = tools, lenient
        self._given, self._is_table = sample.image, sample.kind == "table"
        self._values: dict[str, _Value] = {
            IMAGE: _Picture(sample.image, edited=False),
            COLUMNS: _Boxes(COLUMNS, "columns", sample.column_boxes),
            ROWS: _Boxes(ROWS, "rows", sample.row_boxes),
        }

    def run(self, statements: Sequence[Statement]) -> Image.Image:
        """Returns the image that is displayed last.

        Raises:
            ToolError: If an argument is wrong, or no image is displayed that differs from the given one.
        """
        shown: _Picture | None = None
        alone: _Picture | None = None
        for statement in statements:
            value = statement.value
            if isinstance(value, Call) and value.function == DISPLAY:
                shown = self._displayed(value)
            elif statement.target is None:
                result = self._value(value)
                # As in a notebook: what stands on its own is shown, unless something is displayed.
                if self._lenient and isinstance(result, _Picture) and result.edited:
                    alone = result
            else:
                self._values[statement.target] = self._value(value)
        shown = shown or alone
        if shown is None:
            raise ToolError(f"nothing is displayed; end the program with {DISPLAY}(...)")
        if not shown.edited:
            raise ToolError("the displayed picture is the unchanged one; call a tool and display its result")
        self._check_effect(shown.image)
        return shown.image

    def _check_effect(self, shown: Image.Image) -> None:
        """Refuses a picture that says what the given one says, or nothing."""
        given = to_rgb(self._given)
        if shown.size == given.size and ImageChops.difference(to_rgb(shown), given).getbbox() is None:
            raise ToolError(UNCHANGED)
        if _is_blank(shown) and not _is_blank(given):
            raise ToolError(BLANK)

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
        if isinstance(expression, Listed):
            return tuple(self._text(entry) for entry in expression.entries)
        if isinstance(expression, Boxes):
            return _Boxes(OWN_BOXES, None, {name: self._box(box, expression.line) for name, box in expression.boxes})
        if isinstance(expression, Name):
            if expression.name not in self._values:
                raise ToolError(
                    f"line {expression.line}: unknown name {quoted(expression.name)}; use one of {listed(self._values)}"
                )
            return self._values[expression.name]
        return self._edited(expression)

    def _text(self, entry: Name | Literal) -> str:
        value = self._value(entry)
        if not isinstance(value, str):
            raise ToolError(f"line {entry.line}: a list of names has {_described(value)} in it; give texts alone")
        return value

    def _box(self, box: Box | BoxOf, line: int) -> Box:
        if not isinstance(box, BoxOf):
            return box
        given = self._values[box.boxes]
        if not isinstance(given, _Boxes):
            raise ToolError(f"line {line}: {box.boxes} is {_described(given)} here; give it boxes")
        if box.name not in given.boxes:
            raise ToolError(f"line {line}: {box.boxes} has no {quoted(box.name)}; use names from {listed(given.boxes)}")
        return given.boxes[box.name]

    def _edited(self, call: Call) -> _Picture:
        tool = self._tools.get(call.function)
        if tool is None:
            _fail(call, f"is not offered here; use one of {listed(self._tools)}")
        picture, names, boxes = (
            self._lenient_arguments(call, tool) if self._lenient else self._arguments(call, tool.parameters)
        )
        _, names_parameter, boxes_parameter = tool.parameters
        if not isinstance(picture, _Picture):
            _fail(call, f"works on a picture, but was given {_described(picture)}; give it {IMAGE} or a result")
        if not isinstance(names, tuple):
            _fail(call, f"was given {_described(names)} as {names_parameter}; give it a list of names")
        if not isinstance(boxes, _Boxes):
            wanted = COLUMNS if tool.axis == "columns" else ROWS
            _fail(call, f"was given {_described(boxes)} as {boxes_parameter}; give it {wanted}")
        if boxes.axis not in (tool.axis, None):
            _fail(
                call,
                f"works on {tool.axis}, but was given {boxes.name}; use a tool that works on {boxes.axis}",
            )
        try:
            if boxes.axis is None:
                check_boxes(boxes.boxes, picture.image.size)
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

    def _lenient_arguments(self, call: Call, tool: ToolDefinition) -> list[_Value]:
        """Finds image, names and boxes among the arguments by what they are, and what is left out by the tool."""
        boxes_name = COLUMNS if tool.axis == "columns" else ROWS
        own = dict(zip(tool.parameters, (IMAGE, None, boxes_name), strict=True))
        bound: dict[int, _Value] = {}
        given = [(None, argument) for argument in call.arguments] + list(call.keywords)
        for keyword, argument in given:
            known = not isinstance(argument, Name) or argument.name in self._values
            # The definition says what its parameters are called, and models pass them by that name.
            meant = None if known or not isinstance(argument, Name) else own.get(argument.name)
            value = self._values[meant] if meant is not None else self._value(argument)
            slot = _slot_of_value(value) if keyword is None else tool.slot(keyword)
            if slot is None:
                _fail(call, f"has no argument {quoted(keyword)}; its arguments are {listed(tool.parameters)}")
            if slot in bound:
                what = _described(value) if keyword is None else f"the argument {quoted(keyword)}"
                _fail(call, f"was given {what} beside another of its kind; its arguments are {listed(tool.parameters)}")
            bound[slot] = (value,) if slot == 1 and isinstance(value, str) else value
        bound.setdefault(0, self._values[IMAGE])
        bound.setdefault(2, self._values[boxes_name])
        if 1 not in bound:
            _fail(call, f"was given no {tool.parameters[1]}; give it a list of names")
        return [bound[slot] for slot in range(3)]


def _is_blank(image: Image.Image) -> bool:
    """Tells whether all pixels have one colour."""
    return all(channel.getextrema()[0] == channel.getextrema()[1] for channel in to_rgb(image).split())


def _slot_of_value(value: _Value) -> int:
    """Returns the parameter that a value is for: 0 image, 1 names, 2 boxes."""
    return 0 if isinstance(value, _Picture) else 2 if isinstance(value, _Boxes) else 1


def _fail(call: Call, reason: str) -> NoReturn:
    raise ToolError(f"line {call.line}: {call.function} {reason}")


def _described(value: _Value) -> str:
    if isinstance(value, _Picture):
        return "a picture"
    if isinstance(value, _Boxes):
        return f"the boxes {value.name}"
    return f"the text {quoted(value)}" if isinstance(value, str) else "a list of names"
