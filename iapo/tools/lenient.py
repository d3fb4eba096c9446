"""The language of `iapo.tools.language`, with what instruction models write beside it; read, never run.

Understood as well: imports that nothing depends on, texts and names that stand on a line of their own, `print(x)` and
`x.show()` as the display of `x`, one value for several names, new values for `image_1` and the boxes, `x.copy()`, boxes
that the program gives itself, and tool calls as JSON. Which arguments may be left out, and in which order they may
stand, is the interpreter's matter. All else is refused as it is there.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Mapping
from typing import Any

from iapo.box_names import unique_names
from iapo.records import Box
from iapo.tools.arguments import meant
from iapo.tools.definitions import ToolDefinition
from iapo.tools.language import (
    COLUMNS,
    DEEPEST_NESTING,
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
    Reader,
    RefusedError,
    Statement,
    Values,
    is_ordinary_integer,
    read_body,
    refuse,
    short,
    text_of,
)

HARMLESS = ("PIL", "IPython", "numpy", "matplotlib", "typing", "__future__")
"""Packages whose import a program may write down; what it imports cannot be used."""

_SIDES = ("x1", "y1", "x2", "y2")
_MOST_COPIES = 8


def parse_lenient(program: str, tools: Mapping[str, ToolDefinition]) -> tuple[Statement, ...]:
    """Reads a program.

    Args:
        program: Program as Python text.
        tools: Every tool that may be called, by name.

    Returns:
        Its statements; none where it does nothing.

    Raises:
        RefusedError: If it is not Python, is too long, or leaves the allowed language.
    """
    reader = LenientReader(tools.keys(), free=any(tool.free is not None for tool in tools.values()))
    return tuple(statement for node in read_body(program) for statement in reader.statements(node))


class LenientReader(Reader):
    """Reads what `iapo.tools.language.Reader` refuses although its meaning is plain."""

    def statements(self, node: ast.stmt) -> list[Statement]:
        """Reads one statement of the syntax tree as any number of statements of the language.

        Raises:
            RefusedError: If it leaves the language.
        """
        if isinstance(node, ast.Import | ast.ImportFrom):
            self._import(node)
            return []
        if isinstance(node, ast.Pass):
            return []
        if isinstance(node, ast.Assign):
            return self._assigned(node.targets, node.value, node.lineno)
        if isinstance(node, ast.AnnAssign) and node.value is not None:
            return self._assigned([node.target], node.value, node.lineno)
        if isinstance(node, ast.Expr):
            return self._alone(node.value)
        refuse(node)

    def expression(self, node: ast.expr, depth: int = 0) -> Expression:
        """Reads a value; see `iapo.tools.language.Reader.expression`."""
        node = _without_copies(node)
        if isinstance(node, ast.Dict):
            return Boxes(
                tuple(_entry(key, value) for key, value in zip(node.keys, node.values, strict=True)), node.lineno
            )
        if isinstance(node, ast.List) and node.elts and all(isinstance(one, ast.Dict) for one in node.elts):
            return _listed_boxes([(_data(one), one.lineno) for one in node.elts], node.lineno)
        if isinstance(node, ast.Set):
            node = ast.copy_location(ast.List(node.elts), node)
        if isinstance(node, ast.List | ast.Tuple) and not self.free:
            if any(isinstance(entry, ast.Name) for entry in node.elts):
                return Listed(tuple(self._listed(entry) for entry in node.elts), node.lineno)
            return Literal(tuple(text_of(entry, in_list=True) for entry in node.elts), node.lineno)
        return super().expression(node, depth)

    def _listed(self, node: ast.expr) -> Name | Literal:
        if isinstance(node, ast.Name) and node.id not in self.callable:
            return Name(node.id, node.lineno)
        return Literal(text_of(node, in_list=True), node.lineno)

    def _import(self, node: ast.Import | ast.ImportFrom) -> None:
        names = [alias.name for alias in node.names]
        places = names if isinstance(node, ast.Import) else [node.module or ""]
        bound = [alias.asname or alias.name.partition(".")[0] for alias in node.names]
        # Tools are there without an import, wherever a model thinks that they are.
        known = isinstance(node, ast.ImportFrom) and self.callable.issuperset(names) and names == bound
        harmful = [place for place in places if place.partition(".")[0] not in HARMLESS]
        if harmful and not known:
            raise RefusedError(f"line {node.lineno} imports {short(harmful[0])}, which tool programs may not")
        taken = [name for name in bound if name in (*self.callable, IMAGE, COLUMNS, ROWS)]
        if taken and not known and (taken != [DISPLAY] or names != bound):
            raise RefusedError(f"line {node.lineno} imports something as {taken[0]}, which is given; leave it out")

    def _assigned(self, targets: list[ast.expr], value: ast.expr, line: int) -> list[Statement]:
        names: list[str] = []
        for target in targets:
            if not isinstance(target, ast.Name):
                raise RefusedError(f"line {line} does not assign to plain names; write name = value")
            if target.id in self.callable:
                raise RefusedError(f"line {line} assigns to {short(target.id)}, which is given; use another name")
            names.append(target.id)
        first = Statement(names[0], self.expression(value))
        return [first, *(Statement(name, Name(names[0], line)) for name in names[1:])]

    def _alone(self, node: ast.expr) -> list[Statement]:
        """Reads an expression that stands on its own: a text says nothing, and a picture is shown."""
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            return []
        if isinstance(node, ast.Name):
            return [Statement(None, self.expression(node))]
        if not isinstance(node, ast.Call):
            refuse(node)
        function = node.func
        if isinstance(function, ast.Name) and function.id == "print" and "print" not in self.callable:
            shown = [argument for argument in node.args if not _is_message(argument)]
            return [Statement(None, self.expression(argument)) for argument in shown]
        if isinstance(function, ast.Attribute) and function.attr == "show" and not _is_module(function.value):
            return [Statement(None, Call(DISPLAY, (self.expression(function.value),), (), node.lineno))]
        if _is_display(function):
            node = ast.Call(ast.Name(DISPLAY), node.args, node.keywords, lineno=node.lineno)
        return [Statement(None, self.call(node, depth=1, may_display=True))]


def read_json_call(data: Any, tools: Mapping[str, ToolDefinition]) -> Statement:
    """Reads a tool call that is given as JSON data as the display of its result.

    Args:
        data: Data with the tool's name and its arguments.
        tools: Every tool that may be called, by name.

    Raises:
        RefusedError: If it has another form, or calls something else.
    """
    name, arguments = _named(data)
    if name not in tools:
        raise RefusedError(f"the tool call names {short(name)}, which is not a tool")
    tool = tools[name]
    read = _json_value if tool.free is None else _json_argument
    keywords = tuple((key, read(key, value, tool)) for key, value in arguments.items())
    return Statement(None, Call(DISPLAY, (Call(name, (), keywords, 1),), (), 1))


def _named(data: Any) -> tuple[str, Mapping[str, Any]]:
    if isinstance(data, Mapping) and isinstance(data.get("function"), Mapping):
        data = data["function"]
    if isinstance(data, Mapping):
        name = next(
            (data[key] for key in ("name", "tool", "function", "action") if isinstance(data.get(key), str)), None
        )
        keys = ("arguments", "parameters", "args", "kwargs", "input", "action_input")
        arguments = next((data[key] for key in keys if key in data), None)
        if isinstance(name, str) and isinstance(arguments, Mapping) and all(isinstance(key, str) for key in arguments):
            return name, arguments
    raise RefusedError('the tool call has another form; write {"name": "TOOL", "arguments": {...}}')


def _json_value(key: str, value: Any, tool: ToolDefinition) -> Expression:
    slot = tool.slot(key)
    if slot in (0, 2) and isinstance(value, str):
        return Name(value, 1)
    if slot == 2 and isinstance(value, Mapping):
        return Boxes(tuple((str(name), _box(box, 1)) for name, box in value.items()), 1)
    if slot == 2 and isinstance(value, list) and value and all(isinstance(one, Mapping) for one in value):
        return _listed_boxes([(one, 1) for one in value], 1)
    if isinstance(value, list):
        return Literal(tuple(_json_text(one, key) for one in value), 1)
    return Literal(_json_text(value, key), 1)


def _json_argument(key: str, value: Any, tool: ToolDefinition) -> Expression:
    """Reads an argument of a free tool."""
    assert tool.free is not None
    parameter = next((one for one in tool.free.parameters if one.name == key), None)
    named = parameter is not None and meant(parameter) is not None
    if named and isinstance(value, str):
        return Name(value, 1)
    if (named or parameter is None) and isinstance(value, Mapping):
        return Boxes(tuple((str(name), _box(box, 1)) for name, box in value.items()), 1)
    return _json_data(key, value, DEEPEST_NESTING, names=named)


def _json_data(key: str, value: Any, depth: int, *, names: bool) -> Expression:
    if isinstance(value, list) and depth:
        return Values(tuple(_json_data(key, one, depth - 1, names=names) for one in value), 1)
    if isinstance(value, str):
        return Name(value, 1) if names else Literal(value, 1)
    if value is None or isinstance(value, bool | float) or is_ordinary_integer(value):
        return Constant(value, 1)
    raise RefusedError(f"the argument {short(key)} of the tool call is no text, no ordinary number and no list of such")


def _json_text(value: Any, key: str) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, float) or is_ordinary_integer(value):
        return str(value)
    raise RefusedError(f"the argument {short(key)} of the tool call is neither a text nor a list of texts")


def _without_copies(node: ast.expr) -> ast.expr:
    """Returns what `.copy()` and `.convert("RGB")` are called on: tools change no image, and their results are RGB."""
    for _ in range(_MOST_COPIES):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and not node.keywords):
            break
        given = [one.value if isinstance(one, ast.Constant) else None for one in node.args]
        if (node.func.attr, given) not in (("copy", []), ("convert", ["RGB"])):
            break
        node = node.func.value
    return node


def _is_message(node: ast.expr) -> bool:
    """Tells whether an expression is a text for people: nothing is called, looked up or computed in it."""
    if not isinstance(node, ast.Constant | ast.JoinedStr):
        return False
    return all(
        isinstance(one, ast.Constant | ast.JoinedStr | ast.FormattedValue | ast.Name | ast.Load)
        for one in ast.walk(node)
    )


def _is_display(node: ast.expr) -> bool:
    """Tells whether it is `IPython.display.display`, or what is taken for it."""
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Attribute) and node.attr == DISPLAY:
        node = node.value
    return (
        isinstance(node, ast.Attribute)
        and node.attr == DISPLAY
        and isinstance(node.value, ast.Name)
        and node.value.id == "IPython"
    )


def _is_module(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id in ("plt", "matplotlib", "Image", "PIL", "np", "numpy", "IPython")


def _entry(key: ast.expr | None, value: ast.expr) -> tuple[str, Box | BoxOf]:
    if key is None:
        raise RefusedError(f"line {value.lineno} uses argument unpacking, which tool programs may not")
    name = text_of(key)
    if isinstance(value, ast.Subscript):
        if isinstance(value.value, ast.Name) and value.value.id in (COLUMNS, ROWS):
            return name, BoxOf(value.value.id, text_of(value.slice))
        refuse(value)
    return name, _box(_data(value), value.lineno)


def _listed_boxes(entries: list[tuple[Any, int]], line: int) -> Boxes:
    """Reads a list of boxes with a label each; a label for the second time gets a number, as in lists of data."""
    found = [_labelled_data(data, its_line) for data, its_line in entries]
    names = unique_names([name for name, _ in found], None)
    return Boxes(tuple((name, box) for name, (_, box) in zip(names, found, strict=True)), line)


def _labelled_data(data: Any, line: int) -> tuple[str, Box | BoxOf]:
    """Reads a box as grounding models write it: `{"bbox_2d": [x1, y1, x2, y2], "label": "a name"}`."""
    box = next((data[key] for key in ("bbox_2d", "bbox", "box") if key in data), None)
    label = next((data[key] for key in ("label", "name", "text_content") if key in data), None)
    if box is None or label is None:
        raise RefusedError(f'line {line} has boxes of another form; write {{"a name": [x1, y1, x2, y2]}}')
    return str(label), _box(box, line)


def _box(data: Any, line: int) -> Box:
    if isinstance(data, Mapping) and set(data) == set(_SIDES):
        data = [data[side] for side in _SIDES]
    numbers = data if isinstance(data, list | tuple) else []
    if len(numbers) != 4 or not all(isinstance(one, float) or is_ordinary_integer(one) for one in numbers):
        raise RefusedError(f"line {line} has a box that is not four numbers; write [x1, y1, x2, y2] in pixels")
    if not all(math.isfinite(one) for one in numbers):
        raise RefusedError(f"line {line} has a box with a number that is not finite")
    x1, y1, x2, y2 = map(float, numbers)
    return x1, y1, x2, y2


def _data(node: ast.expr) -> Any:
    """Reads numbers and texts in lists and dicts, one in the other, three deep at most."""
    return _plain(node, 3)


def _plain(node: ast.expr, depth: int) -> Any:
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and isinstance(node.operand, ast.Constant):
        value = node.operand.value
        return -value if isinstance(value, float | int) else refuse(node)
    if isinstance(node, ast.Constant):
        return node.value
    if depth and isinstance(node, ast.List | ast.Tuple):
        return [_plain(one, depth - 1) for one in node.elts]
    if depth and isinstance(node, ast.Dict):
        keys = [None if key is None else _plain(key, 0) for key in node.keys]
        if len(set(map(str, keys))) < len(keys):
            raise RefusedError(f"line {node.lineno} has a key twice in one dictionary; give it once")
        return {str(key): _plain(value, depth - 1) for key, value in zip(keys, node.values, strict=True)}
    refuse(node)
