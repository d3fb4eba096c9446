"""`calculate`: arithmetic, parsed and checked node by node; nothing is run as Python."""

from __future__ import annotations

import ast
import math
import operator
import warnings
from collections.abc import Callable, Mapping
from typing import Annotated

from annotated_types import MaxLen

from iapo.tools.errors import ToolError, quoted

LONGEST = 200
"""Most characters of an expression, which bounds its nesting and the number of its steps, too."""

_LARGEST = 10.0**100
"""Largest number that is read or comes out of a step."""
_BITS = 333
"""Its bits, beyond which no integer is compared with it."""
_LARGEST_EXPONENT = 1000
_MOST_ROUNDED = 100
"""Most digits, before or behind the point, to which whole numbers are rounded as such."""

_SIGNS = str.maketrans({"\N{MULTIPLICATION SIGN}": "*", "\N{DIVISION SIGN}": "/", "\N{MINUS SIGN}": "-"})
"""Signs as they are printed, and as they are written here."""

_STEPS: Mapping[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_FUNCTIONS: Mapping[str, tuple[int, int, Callable[..., float]]] = {
    "abs": (1, 1, abs),
    "round": (1, 2, lambda value, digits=0: _rounded(value, digits)),
    "sqrt": (1, 1, math.sqrt),
    # Of one number, too, which Python's own take for a list.
    "min": (1, LONGEST, lambda *values: min(values)),
    "max": (1, LONGEST, lambda *values: max(values)),
    "sum": (1, LONGEST, lambda *values: (sum if all(isinstance(one, int) for one in values) else math.fsum)(values)),
    "mean": (1, LONGEST, lambda *values: math.fsum(values) / len(values)),
}
"""By name: how many arguments at least and at most, and what is done."""


def calculate(
    expression: Annotated[
        str, "+ - * / // % ** and parentheses, abs, round, sqrt, min, max, sum and mean of numbers", MaxLen(LONGEST)
    ],
) -> float:
    """Compute an arithmetic expression."""
    written = expression.strip().translate(_SIGNS)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(written, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        odd = next((one for one in written if not one.isascii()), None)
        what = "is not valid arithmetic" if odd is None else f"has the sign {quoted(odd)} in it"
        raise ToolError(f"the expression {what}; write for example 3 * (14.5 - 2)") from error
    return _value(tree.body)


def _value(node: ast.expr) -> float:
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float) and not isinstance(node.value, bool):
        return _bounded(node.value)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        return -_value(node.operand) if isinstance(node.op, ast.USub) else _value(node.operand)
    if isinstance(node, ast.BinOp):
        return _step(node.op, _value(node.left), _value(node.right))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _FUNCTIONS:
        return _call(node.func.id, node)
    known = ", ".join(_FUNCTIONS)
    raise ToolError(f"the expression has {_named(node)} in it; use numbers, + - * / // % **, parentheses and {known}")


def _call(name: str, node: ast.Call) -> float:
    least, most, function = _FUNCTIONS[name]
    # `sum([1, 2])` and `sum(1, 2)` are the same.
    first = node.args[0] if len(node.args) == 1 else None
    nodes = first.elts if isinstance(first, ast.List | ast.Tuple) else node.args
    if node.keywords or not least <= len(nodes) <= most:
        raise ToolError(f"{name} takes {least if least == most else f'{least} or more'} numbers, and no keywords")
    values = [_value(one) for one in nodes]
    return _done(lambda: function(*values))


def _step(step: ast.operator, left: float, right: float) -> float:
    if isinstance(step, ast.Pow):
        if abs(right) > _LARGEST_EXPONENT:
            raise ToolError(f"the exponent {right:g} is too large; use at most {_LARGEST_EXPONENT}")
        whole = isinstance(left, int) and isinstance(right, int) and right >= 0
        if whole and right * int(left).bit_length() <= 2 * _BITS:
            return _done(lambda: left**right)
        # Floats, so that no number of a million digits is made on the way.
        return _done(lambda: math.pow(left, right))
    if type(step) not in _STEPS:
        raise ToolError(f"the expression has the operator {type(step).__name__} in it; use + - * / // % **")
    return _done(lambda: _STEPS[type(step)](left, right))


def _done(step: Callable[[], float]) -> float:
    try:
        value = step()
    except ZeroDivisionError as error:
        raise ToolError("the expression divides by zero") from error
    # `sqrt(-1)` and `(-8) ** 0.5`, and what no float holds.
    except (ValueError, OverflowError) as error:
        raise ToolError("the expression has no value among the numbers that can be written") from error
    return _bounded(value)


def _bounded(value: float) -> float:
    """Returns a number as it is, whole ones with all their digits; refuses what is too large.

    Raises:
        ToolError: If so.
    """
    if (isinstance(value, int) and value.bit_length() > _BITS) or not abs(value) <= _LARGEST:
        raise ToolError("a number of the expression is too large; use numbers of at most 100 digits")
    return value


def _rounded(value: float, digits: float) -> float:
    if not digits:
        return round(value)
    # A whole number is rounded to tens by a power of ten, which may have a million digits.
    return round(value if abs(digits) <= _MOST_ROUNDED else float(value), int(digits))


def _named(node: ast.expr) -> str:
    if isinstance(node, ast.Name):
        return f"the name {node.id[:40]!r}"
    return "a comma" if isinstance(node, ast.Tuple) else f"something else ({type(node).__name__})"
