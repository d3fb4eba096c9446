"""Carries out the statements of a tool program on one sample."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NoReturn

from PIL import Image, ImageChops

from iapo.box_names import one_form
from iapo.images import to_rgb
from iapo.records import Box, Sample, ToolCall
from iapo.tools.arguments import bind, meant
from iapo.tools.calling import LONGEST_TEXT, BrokenToolError, call_function, said
from iapo.tools.definitions import ToolDefinition
from iapo.tools.edits import Masking, erase_all
from iapo.tools.errors import BLANK, ERASED, UNCHANGED, ToolError, listed, quoted
from iapo.tools.judges import judged
from iapo.tools.language import (
    COLUMNS,
    DISPLAY,
    IMAGE,
    ROWS,
    Boxes,
    BoxOf,
    Call,
    Constant,
    Expression,
    Listed,
    Literal,
    Name,
    Statement,
    Values,
)
from iapo.tools.names import known_name
from iapo.tools.own_boxes import OWN_BOXES, check_boxes
from iapo.tools.values import NamedBox, NamedBoxes, Observation, Picture, Said, Value, check_places, described


@dataclass(frozen=True, slots=True)
class Shown:
    """What a program displays.

    Attributes:
        image: The image that is displayed last; None where only texts are.
        text: The texts that are displayed, a line each; None where there are none.
        made_of: Name of the sample's image that it was made of.
        moved: Whether what is in that image lies elsewhere in this one.
        kept: Whether this one is larger, and what is in that image lies in its place all the same.
    """

    image: Image.Image | None
    text: str | None
    made_of: str
    moved: bool = False
    kept: bool = False


class Interpreter:
    """One run of one program.

    Args:
        sample: The image and the boxes.
        tools: The offered tools.
        lenient: Whether arguments may stand in any order, go by other names or be left out where their meaning is
            plain, and a result that is not displayed but stands on its own is shown.

    Attributes:
        calls: The tool calls that succeeded so far, in order.
        broken: Name of the tool that failed by its own fault; empty while none has.
    """

    def __init__(self, sample: Sample, tools: Mapping[str, ToolDefinition], *, lenient: bool = False) -> None:
        self.calls: list[ToolCall] = []
        self.broken = ""
        self._sample, self._tools, self._lenient = sample, tools, lenient
        self._given = sample.named_images
        self._values: dict[str, Value] = {
            **{name: Picture(image, name, edited=False, made_of=name) for name, image in self._given.items()},
            COLUMNS: NamedBoxes(COLUMNS, "columns", sample.column_boxes),
            ROWS: NamedBoxes(ROWS, "rows", sample.row_boxes),
        }

    def run(self, statements: Sequence[Statement]) -> Shown:
        """Returns the image that is displayed last, and the texts that are displayed.

        Raises:
            ToolError: If an argument is wrong, a tool failed, or nothing is displayed that a tool gave or that differs
                from the given image.
        """
        shown: list[Picture | Said] = []
        alone: list[Picture | Said] = []
        for statement in statements:
            value = statement.value
            if isinstance(value, Call) and value.function == DISPLAY:
                shown.append(self._displayed(value))
            elif statement.target is None:
                result = self._value(value)
                # As in a notebook: what stands on its own is shown, unless something is displayed.
                if self._lenient and (isinstance(result, Said) or (isinstance(result, Picture) and result.edited)):
                    alone.append(result)
            else:
                self._values[statement.target] = self._value(value)
        shown = shown or alone
        if not shown:
            raise ToolError(f"nothing is displayed; end the program with {DISPLAY}(...)")
        pictures = [one for one in shown if isinstance(one, Picture)]
        texts = [one.text for one in shown if one.text is not None]
        if pictures and not pictures[-1].edited and not texts:
            raise ToolError("the displayed picture is the unchanged one; call a tool and display its result")
        edited = pictures[-1] if pictures and pictures[-1].edited else None
        # A free tool may well give back what it got: a crop of all, say. A tool of the wrong axis is misuse, whatever
        # it shows: a mask of a row may leave a chart of columns as it is.
        if edited is not None and not (edited.free or edited.misused):
            _check_effect(edited, self._given[edited.made_of])
        text = "\n".join(texts)[:LONGEST_TEXT] if texts else None
        if edited is None:
            return Shown(None, text, IMAGE)
        moved = bool(edited.moved_by)
        kept = not moved and edited.image.size != self._given[edited.made_of].size
        return Shown(edited.image, text, edited.made_of, moved, kept)

    def _displayed(self, call: Call) -> Picture | Said:
        if len(call.arguments) != 1 or call.keywords:
            _fail(call, "takes one argument, the picture to display")
        value = self._value(call.arguments[0])
        if not isinstance(value, Picture | Said):
            _fail(call, f"was given {described(value)}; give it a picture")
        return value

    def _value(self, expression: Expression) -> Value:
        if isinstance(expression, Literal | Constant):
            return expression.value
        if isinstance(expression, Listed):
            return tuple(self._text(entry) for entry in expression.entries)
        if isinstance(expression, Values):
            return tuple(self._value(entry) for entry in expression.entries)
        if isinstance(expression, Boxes):
            counts = Counter(one_form(name) for name, _ in expression.boxes)
            if (twice := next((name for name, count in counts.items() if count > 1), None)) is not None:
                raise ToolError(f"line {expression.line}: the boxes have the name {quoted(twice)} twice; give it once")
            boxes = {name: self._box(box, expression.line) for name, box in expression.boxes}
            return NamedBoxes(OWN_BOXES, None, boxes)
        if isinstance(expression, BoxOf):
            return self._box(expression, expression.line)
        if isinstance(expression, Name):
            if expression.name not in self._values:
                raise ToolError(
                    f"line {expression.line}: unknown name {quoted(expression.name)}; use one of {listed(self._values)}"
                )
            return self._values[expression.name]
        tool = self._tools.get(expression.function)
        if tool is None:
            _fail(expression, f"is not offered here; use one of {listed(self._tools)}")
        return self._edited(expression, tool) if tool.free is None else self._called(expression, tool)

    def _text(self, entry: Name | Literal) -> str:
        value = self._value(entry)
        if not isinstance(value, str):
            raise ToolError(f"line {entry.line}: a list of names has {described(value)} in it; give texts alone")
        return value

    def _box(self, box: Box | BoxOf, line: int) -> Box | NamedBox:
        if not isinstance(box, BoxOf):
            return box
        given = self._values[box.boxes]
        if not isinstance(given, NamedBoxes):
            raise ToolError(f"line {line}: {box.boxes} is {described(given)} here; give it boxes")
        if not given.boxes:
            raise ToolError(
                f"line {line}: {box.boxes} has no boxes for this picture; give [x1, y1, x2, y2] in its pixels"
            )
        name = known_name(box.name, given.boxes)
        if name not in given.boxes:
            raise ToolError(f"line {line}: {box.boxes} has no {quoted(name)}; use names from {listed(given.boxes)}")
        # Boxes that the program gave that name itself are in pixels of whatever it says.
        return given.boxes[name] if given.axis is None else NamedBox.of(name, given)

    def _edited(self, call: Call, tool: ToolDefinition) -> Picture:
        """Calls a tool that focuses."""
        picture, names, boxes = (
            self._lenient_arguments(call, tool) if self._lenient else self._arguments(call, tool.parameters)
        )
        _, names_parameter, boxes_parameter = tool.parameters
        if not isinstance(picture, Picture):
            _fail(call, f"works on a picture, but was given {described(picture)}; give it {IMAGE} or a result")
        names = _names(names)
        if not isinstance(names, tuple) or not all(isinstance(one, str) for one in names):
            _fail(call, f"was given {described(names)} as {names_parameter}; give it a list of names")
        if not isinstance(boxes, NamedBoxes):
            wanted = COLUMNS if tool.axis == "columns" else ROWS
            _fail(call, f"was given {described(boxes)} as {boxes_parameter}; give it {wanted}")
        if (other := boxes.of_another_axis(tool.axis)) is not None:
            _fail(call, f"works on {tool.axis}, but was given {other[0]}; use a tool that works on {other[1]}")
        if tool.packaged and boxes.axis is not None and not (self._sample.column_boxes or self._sample.row_boxes):
            own = ', or give boxes of your own, {"a name": [x1, y1, x2, y2]} in its pixels' if self._lenient else ""
            raise ToolError(
                f"line {call.line}, {call.function}: this picture has neither column boxes nor row boxes; answer from "
                f"what it shows{own}"
            )
        try:
            check_places(picture, (boxes,))
        except ToolError as error:
            _fail(call, str(error))
        names = tuple(known_name(name, boxes.boxes) for name in names)
        try:
            if boxes.axis is None:
                check_boxes(boxes.boxes, picture.image.size)
        except ToolError as error:
            raise ToolError(f"line {call.line}, {call.function}: {error}") from error
        header = {"keep_header": self._sample.kind == "table"} if tool.keeps_header else {}
        observed = self._observed(call, tool, (picture.image, names, boxes.boxes), header)
        assert observed.image is not None
        told = zip(tool.parameters, (picture.name, names, boxes.name), strict=True)
        # Where it is told of no other, the image is the first one, or made of it.
        arguments = () if picture.made_of == IMAGE else tuple(told)
        self._record(tool, ToolCall(tool.name, names, boxes.name, tool.axis, arguments), picture.made_of)
        # A tool of the user's own may give an image in which boxes are of other places.
        mover = _mover(tool, picture.image, observed.image)
        one = (Masking(names, boxes.boxes, any(header.values())),) if tool.packaged and tool.style == "mask" else ()
        return replace(
            picture,
            image=observed.image,
            name=f"{tool.name}(...)",
            edited=True,
            text=None,
            misused=picture.misused or bool(self.calls[-1].misuse(self._sample.axis)),
            moved_by=picture.moved_by or mover,
            # Where it moves things, the masks that were laid over it lie elsewhere.
            maskings=() if mover else (*picture.maskings, *one),
        )

    def _called(self, call: Call, tool: ToolDefinition) -> Picture | Said:
        """Calls a free tool."""
        assert tool.free is not None
        given = [(None, self._argument(one, tool)) for one in call.arguments]
        named = [(name, self._argument(one, tool)) for name, one in call.keywords]
        try:
            bound = bind(tool.free, [*given, *named], self._sample, self._values[IMAGE], lenient=self._lenient)
        except ToolError as error:
            raise ToolError(f"line {call.line}, {call.function}: {error}") from error
        observed = self._observed(call, tool, (), bound.values)
        self._record(tool, ToolCall(tool.name, bound.targets, bound.boxes, tool.axis, bound.record), bound.made_of)
        text = None if observed.text is None else said(observed.text)
        if observed.image is not None:
            moved_by = bound.moved_by or _mover(tool, bound.image, observed.image)
            return Picture(observed.image, f"{tool.name}(...)", True, text, bound.made_of, moved_by, free=True)
        assert observed.text is not None
        assert text is not None
        return Said(observed.text, text)

    def _observed(
        self, call: Call, tool: ToolDefinition, arguments: tuple[object, ...], by_name: Mapping[str, object]
    ) -> Observation:
        try:
            return call_function(tool, arguments, by_name)
        except ToolError as error:
            if isinstance(error, BrokenToolError):
                self.broken = tool.name
            raise ToolError(f"line {call.line}, {call.function}: {error}") from error

    def _record(self, tool: ToolDefinition, call: ToolCall, made_of: str) -> None:
        # The sample says along which axis its first image divides, and of the others nothing.
        call = call if made_of == IMAGE else replace(call, axis=None)
        self.calls.append(judged(self._sample, tool, call))

    def _argument(self, expression: Expression, tool: ToolDefinition) -> Value:
        """Returns the value of a free tool's argument; a lenient program may give a parameter's own name as such."""
        if self._lenient and isinstance(expression, Name) and expression.name not in self._values:
            assert tool.free is not None
            kinds = {one.name: meant(one) for one in tool.free.parameters}
            if kinds.get(expression.name) is Picture:
                return self._values[IMAGE]
            if kinds.get(expression.name) is NamedBoxes:
                return self._values[ROWS if tool.axis == "rows" else COLUMNS]
        return self._value(expression)

    def _arguments(self, call: Call, parameters: tuple[str, ...]) -> list[Value]:
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

    def _lenient_arguments(self, call: Call, tool: ToolDefinition) -> list[Value]:
        """Finds image, names and boxes among the arguments by what they are, and what is left out by the tool."""
        boxes_name = COLUMNS if tool.axis == "columns" else ROWS
        own = dict(zip(tool.parameters, (IMAGE, None, boxes_name), strict=True))
        bound: dict[int, Value] = {}
        given = [(None, argument) for argument in call.arguments] + list(call.keywords)
        for keyword, argument in given:
            known = not isinstance(argument, Name) or argument.name in self._values
            # The definition says what its parameters are called, and models pass them by that name.
            own_name = None if known or not isinstance(argument, Name) else own.get(argument.name)
            value = self._values[own_name] if own_name is not None else self._value(argument)
            slot = _slot_of_value(value) if keyword is None else tool.slot(keyword)
            if slot is None:
                _fail(call, f"has no argument {quoted(keyword)}; its arguments are {listed(tool.parameters)}")
            if slot in bound:
                what = described(value) if keyword is None else f"the argument {quoted(keyword)}"
                _fail(call, f"was given {what} beside another of its kind; its arguments are {listed(tool.parameters)}")
            bound[slot] = (value,) if slot == 1 and isinstance(value, str | int | float) else value
        bound.setdefault(0, self._values[IMAGE])
        bound.setdefault(2, self._values[boxes_name])
        if 1 not in bound:
            _fail(call, f"was given no {tool.parameters[1]}; give it a list of names")
        return [bound[slot] for slot in range(3)]


def _mover(tool: ToolDefinition, given: Image.Image | None, made: Image.Image) -> str:
    """Returns a tool's name where what is in the given image lies elsewhere in the one that it made, else nothing.

    What has another size does (but of a tool that keeps places a larger one), or is made of no image, and of a tool
    that moves pixels whatever is not as it was.
    """
    larger = given is not None and given.width <= made.width and given.height <= made.height
    if given is None or (given.size != made.size and not (tool.keeps and larger)):
        return tool.name
    return tool.name if tool.moves and not _is_same(given, made) else ""


def _is_same(one: Image.Image, other: Image.Image) -> bool:
    return one.size == other.size and ImageChops.difference(to_rgb(one), to_rgb(other)).getbbox() is None


def _check_effect(picture: Picture, original: Image.Image) -> None:
    """Refuses a picture that says what the given one says, or nothing."""
    shown = picture.image
    if _is_same(original, shown):
        raise ToolError(UNCHANGED)
    if _is_blank(shown) and not _is_blank(original):
        raise ToolError(BLANK)
    # One mask leaves what it focuses on. Title and axes stay round the boxes, so that no pixel tells.
    if len(picture.maskings) > 1 and erase_all(picture.maskings, shown.size):
        raise ToolError(ERASED)


def _is_blank(image: Image.Image) -> bool:
    """Tells whether all pixels have one colour."""
    return all(channel.getextrema()[0] == channel.getextrema()[1] for channel in to_rgb(image).split())


def _names(value: Value) -> Value:
    """Returns a list of names as one, its numbers as the texts that they are written as; another value as it is."""
    if not isinstance(value, tuple):
        return value
    texts = [str(one) if isinstance(one, int | float) and not isinstance(one, bool) else one for one in value]
    return tuple(texts)


def _slot_of_value(value: Value) -> int:
    """Returns the parameter that a value is for: 0 image, 1 names, 2 boxes."""
    return 0 if isinstance(value, Picture) else 2 if isinstance(value, NamedBoxes) else 1


def _fail(call: Call, reason: str) -> NoReturn:
    raise ToolError(f"line {call.line}: {call.function} {reason}")
