"""The language of tool programs: a few lines of Python that are read, never run.

A program is a list of statements: `name = expression`, `display(expression)`, or a tool call on its own. An
expression is a known name, a tool call (positional or keyword arguments, nested as one likes), a text, or a
list or tuple of texts. A number stands for the text that `str` makes of it, so `2005` means `"2005"`.
Whatever else Python has is refused with its name and line.

Where a free tool is offered (`iapo.tools.signature`), numbers, True, False and None are values of their own, lists may
have any values in them, lists among them, and `columns_bbox["2019"]` is the box of that name.
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import NoReturn, TypeAlias

from iapo.records import FIRST_IMAGE, MOST_IMAGES, Box
from iapo.tools.errors import quoted

DISPLAY = "display"
IMAGE = FIRST_IMAGE
IMAGES = tuple(f"image_{number}" for number in range(1, MOST_IMAGES + 1))
"""What a sample's images may be called; a program has the names of those that there are."""

COLUMNS = "columns_bbox"
ROWS = "rows_bbox"

LONGEST_PROGRAM = 4000
MOST_STATEMENTS = 32
DEEPEST_NESTING = 16
_LARGEST_NUMBER_BITS = 256  # Python will not write integers of thousands of digits


class RefusedError(ValueError):
    """The program leaves the allowed language; the text is one sentence that says where and how."""


@dataclass(frozen=True, slots=True)
class Name:
    """A name that is read."""

    name: str
    line: int


@dataclass(frozen=True, slots=True)
class Literal:
    """A text, or a list of texts."""

    value: str | tuple[str, ...]
    line: int


@dataclass(frozen=True, slots=True)
class Listed:
    """A list of texts, some of them by the name of a variable."""

    entries: tuple[Name | Literal, ...]
    line: int


@dataclass(frozen=True, slots=True)
class BoxOf:
    """The box of one name in `columns_bbox` or `rows_bbox`: `columns_bbox["2019"]`."""

    boxes: str
    name: str
    line: int = 1


@dataclass(frozen=True, slots=True)
class Constant:
    """A number, True, False or None; where a free tool is offered."""

    value: int | float | bool | None
    line: int


@dataclass(frozen=True, slots=True)
class Values:
    """A list of any values; where a free tool is offered."""

    entries: tuple[Expression, ...]
    line: int


@dataclass(frozen=True, slots=True)
class Boxes:
    """Boxes that a program gives itself, by name."""

    boxes: tuple[tuple[str, Box | BoxOf], ...]
    line: int


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a tool or of `display`."""

    function: str
    arguments: tuple[Expression, ...]
    keywords: tuple[tuple[str, Expression], ...]
    line: int


Expression: TypeAlias = Name | Literal | Listed | Boxes | Call | Constant | Values | BoxOf


@dataclass(frozen=True, slots=True)
class Statement:
    """A value and the name it is given; no name for a call, or in lenient programs a name, that stands on its own."""

    target: str | None
    value: Expression


_CONSTRUCTS: dict[type[ast.AST], str] = {
    ast.Import: "an import",
    ast.ImportFrom: "an import",
    ast.Attribute: "attribute access",
    ast.Subscript: "indexing",
    ast.ListComp: "a comprehension",
    ast.SetComp: "a comprehension",
    ast.DictComp: "a comprehension",
    ast.GeneratorExp: "a generator expression",
    ast.JoinedStr: "an f-string",
    ast.Lambda: "a lambda",
    ast.Dict: "a dict",
    ast.Set: "a set",
    ast.BinOp: "arithmetic",
    ast.UnaryOp: "an operator",
    ast.BoolOp: "a condition",
    ast.Compare: "a comparison",
    ast.IfExp: "a condition",
    ast.NamedExpr: "an assignment inside an expression",
    ast.Starred: "argument unpacking",
    ast.Await: "await",
    ast.For: "a for loop",
    ast.While: "a while loop",
    ast.If: "an if statement",
    ast.With: "a with statement",
    ast.Try: "a try statement",
    ast.FunctionDef: "a function definition",
    ast.ClassDef: "a class definition",
    ast.AugAssign: "an augmented assignment",
    ast.AnnAssign: "an annotated assignment",
    ast.Delete: "del",
    ast.Pass: "pass",
}


def parse(program: str, tool_names: AbstractSet[str], *, free: bool = False) -> tuple[Statement, ...]:
    """Reads a program.

    Args:
        program: The text between the fences.
        tool_names: Every name that may be called besides `display`.
        free: Whether a free tool is offered, so that numbers and lists of anything are values.

    Returns:
        Its statements; none where it holds comments and blank lines alone.

    Raises:
        RefusedError: If it is not Python, is too long, or leaves the allowed language.
    """
    reader = Reader(tool_names, free=free)
    return tuple(reader.statement(node) for node in read_body(program))


def read_body(program: str) -> list[ast.stmt]:
    """Returns the statements of a program's syntax tree; nothing is looked at in them yet.

    Raises:
        RefusedError: If it is not Python, or is too long.
    """
    check_length(program)
    body = _syntax_tree(program).body
    if len(body) > MOST_STATEMENTS:
        raise RefusedError(f"the program has {len(body)} statements; write at most {MOST_STATEMENTS}")
    return body


def check_length(program: str) -> None:
    """Refuses a program that is too long.

    Raises:
        RefusedError: If so.
    """
    if len(program) > LONGEST_PROGRAM:
        raise RefusedError(f"the program has {len(program)} characters; write at most {LONGEST_PROGRAM}")


def _syntax_tree(program: str) -> ast.Module:
    try:
        with warnings.catch_warnings():
            # A stray backslash in a name is the model's business, not a warning to whoever runs it.
            warnings.simplefilter("ignore")
            return ast.parse(program)
    except SyntaxError as error:
        where = "the program" if error.lineno is None else f"line {error.lineno}"
        reason = (error.msg or "invalid syntax").partition(". ")[0].rstrip(".?")
        raise RefusedError(f"{where} is not valid Python: {reason}") from error
    except UnicodeEncodeError as error:
        raise RefusedError("the program holds a character that is not valid Unicode") from error
    except ValueError as error:
        raise RefusedError(f"the program is not valid Python: {error}") from error
    except (RecursionError, MemoryError) as error:
        raise RefusedError("the program is nested too deeply") from error


class Reader:
    """Turns the nodes of a program's syntax tree into its statements, or refuses them.

    Args:
        tool_names: Every name that may be called besides `display`.
        free: Whether a free tool is offered.
    """

    def __init__(self, tool_names: AbstractSet[str], *, free: bool = False) -> None:
        self.callable = {*tool_names, DISPLAY}
        self.free = free
        self._reserved = {*self.callable, IMAGE, COLUMNS, ROWS}

    def statement(self, node: ast.stmt) -> Statement:
        """Reads one statement.

        Raises:
            RefusedError: If it leaves the language.
        """
        if isinstance(node, ast.Assign):
            return Statement(self._target(node), self.expression(node.value))
        if isinstance(node, ast.Expr):
            if isinstance(node.value, ast.Call):
                return Statement(None, self.call(node.value, depth=1, may_display=True))
            if isinstance(node.value, ast.Name | ast.Constant | ast.List | ast.Tuple):
                raise RefusedError(f"line {node.lineno} is a value without effect; show a picture with {DISPLAY}(...)")
            refuse(node.value)
        refuse(node)

    def _target(self, node: ast.Assign) -> str:
        if len(node.targets) != 1 or not isinstance(node.targets[0], ast.Name):
            raise RefusedError(f"line {node.lineno} does not assign to one plain name; write name = value")
        name = node.targets[0].id
        if name in self._reserved:
            raise RefusedError(f"line {node.lineno} assigns to {quoted(name)}, which is given; use another name")
        return name

    def expression(self, node: ast.expr, depth: int = 0) -> Expression:
        """Reads a value; `depth` calls stand round it.

        Raises:
            RefusedError: If it leaves the language.
        """
        if isinstance(node, ast.Name):
            if node.id in self.callable:
                raise RefusedError(f"line {node.lineno} names {node.id} without calling it; call it")
            return Name(node.id, node.lineno)
        if isinstance(node, ast.Call):
            return self.call(node, depth + 1)
        if self.free:
            return self.value(node, depth)
        if isinstance(node, ast.List | ast.Tuple):
            return Literal(tuple(text_of(entry, in_list=True) for entry in node.elts), node.lineno)
        return Literal(text_of(node), node.lineno)

    def value(self, node: ast.expr, depth: int) -> Expression:
        """Reads a value that is neither a name nor a call, where a free tool is offered.

        Raises:
            RefusedError: If it leaves the language.
        """
        if isinstance(node, ast.List | ast.Tuple):
            if depth > DEEPEST_NESTING:
                raise RefusedError(f"line {node.lineno} nests lists more than {DEEPEST_NESTING} deep")
            return Values(tuple(self.expression(one, depth + 1) for one in node.elts), node.lineno)
        if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and node.value.id in (COLUMNS, ROWS):
            return BoxOf(node.value.id, text_of(node.slice), node.lineno)
        if isinstance(node, ast.Constant) and (node.value is None or isinstance(node.value, bool)):
            return Constant(node.value, node.lineno)
        number = number_of(node)
        return Literal(text_of(node), node.lineno) if number is None else Constant(number, node.lineno)

    def call(self, node: ast.Call, depth: int, may_display: bool = False) -> Call:
        """Reads a call, the `depth`-th one into the program; `display` is one of its own alone.

        Raises:
            RefusedError: If it leaves the language.
        """
        if not isinstance(node.func, ast.Name):
            refuse(node.func)
        name = node.func.id
        if depth > DEEPEST_NESTING:
            raise RefusedError(f"line {node.lineno} nests calls more than {DEEPEST_NESTING} deep; use fewer calls")
        if name not in self.callable:
            raise RefusedError(f"line {node.lineno} calls {short(name)}(), which is not a tool")
        if name == DISPLAY and not may_display:
            raise RefusedError(f"line {node.lineno} uses the value of {DISPLAY}(); put it on a line of its own")
        keywords = []
        for keyword in node.keywords:
            if keyword.arg is None:
                raise RefusedError(f"line {keyword.lineno} uses argument unpacking, which tool programs may not")
            keywords.append((keyword.arg, self.expression(keyword.value, depth)))
        arguments = tuple(self.expression(argument, depth) for argument in node.args)
        return Call(name, arguments, tuple(keywords), node.lineno)


def text_of(node: ast.expr, in_list: bool = False) -> str:
    """Reads a text, or a number as the text that `str` makes of it.

    Raises:
        RefusedError: If it is neither.
    """
    value, sign = node, ""
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        value, sign = node.operand, "-"
    if isinstance(value, ast.Constant):
        constant = value.value
        if isinstance(constant, str) and not sign:
            return constant
        if isinstance(constant, float) or is_ordinary_integer(constant):
            return sign + str(constant)
        raise RefusedError(f"line {node.lineno} uses a value that is neither a text nor an ordinary number")
    if in_list and isinstance(node, ast.Name | ast.Call | ast.List | ast.Tuple):
        raise RefusedError(f"line {node.lineno} has a list entry that is not a text; write the names in quotes")
    refuse(node)


def number_of(node: ast.expr) -> int | float | None:
    """Returns the number that a constant is, with its sign; None where it is none that a program may write."""
    sign = 1
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        sign = -1 if isinstance(node.op, ast.USub) else 1
        node = node.operand
    if isinstance(node, ast.Constant) and (isinstance(node.value, float) or is_ordinary_integer(node.value)):
        value: int | float = node.value  # type: ignore[assignment]
        return sign * value
    return None


def is_ordinary_integer(value: object) -> bool:
    """Tells whether a value is an integer, no truth value, of a size that Python writes."""
    return isinstance(value, int) and not isinstance(value, bool) and value.bit_length() <= _LARGEST_NUMBER_BITS


def short(name: str) -> str:
    """Returns a name without quotes, shortened where a model wrote a very long one."""
    return quoted(name)[1:-1]


def refuse(node: ast.stmt | ast.expr) -> NoReturn:
    """Refuses what tool programs may not have, by its name and line."""
    construct = _CONSTRUCTS.get(type(node), f"the construct {type(node).__name__}")
    raise RefusedError(f"line {node.lineno} uses {construct}, which tool programs may not")
