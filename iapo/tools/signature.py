"""A Python function's annotations -> the parameters of a free tool, and what a prompt says of them."""

from __future__ import annotations

import inspect
import math
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeAlias

import annotated_types
from PIL import Image

from iapo.errors import InputError
from iapo.records import Axis, Box
from iapo.tools.bounds import Bounds, is_writable
from iapo.tools.defaults import admits
from iapo.tools.errors import quoted
from iapo.tools.kinds import (
    LONGEST_LIST,
    BoxesKind,
    BoxKind,
    ChoiceKind,
    FlagKind,
    ImageKind,
    Kind,
    ListKind,
    NameKind,
    NumberKind,
    PointKind,
    TextKind,
)
from iapo.tools.values import Observation


@dataclass(frozen=True, slots=True)
class InPixels:
    """Mark of two numbers that are a place in the image."""


Point: TypeAlias = Annotated[tuple[float, float], InPixels()]
"""``(x, y)`` in pixels of the image, origin at the top left."""


@dataclass(frozen=True, slots=True)
class NameOf:
    """Mark of a text that is the name of one of the sample's boxes.

    Attributes:
        axis: Axis of the boxes; None for either.
    """

    axis: Axis | None


ColumnName: TypeAlias = Annotated[str, NameOf("columns")]
"""A name in `columns_bbox`."""
RowName: TypeAlias = Annotated[str, NameOf("rows")]
"""A name in `rows_bbox`."""
BoxName: TypeAlias = Annotated[str, NameOf(None)]
"""A name in either."""

Gives = Literal["image", "text", "number"]

_ORDINARY = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
_KNOWN = (
    "an image (PIL.Image.Image), a box (iapo.tools.Box), a point (iapo.tools.Point), int, float, str, bool, a Literal, "
    "a list of these, a name (iapo.tools.ColumnName, RowName, BoxName) or a mapping of boxes"
)


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a free tool.

    Attributes:
        name: Its name.
        kind: What it takes.
        needed: Whether it has no default.
        default: Its default.
        optional: Whether None may be given.
        by_name: Whether it is given by its name alone.
        about: What the function's author says of it, for example its unit.
    """

    name: str
    kind: Kind
    needed: bool = True
    default: Any = None
    optional: bool = False
    by_name: bool = False
    about: str = ""

    @property
    def head(self) -> str:
        """The parameter in the first line of the definition."""
        return self.name if self.needed else f"{self.name}={self.default!r}"

    @property
    def line(self) -> str:
        """What the definition says of it."""
        return f"{self.name}: {self.kind.told}{f'; {self.about}' if self.about else ''}"


@dataclass(frozen=True, slots=True)
class Signature:
    """What a free tool takes and gives.

    Attributes:
        parameters: Its parameters, in order.
        gives: What it returns, as it is annotated; empty where it is not.
    """

    parameters: tuple[Parameter, ...]
    gives: frozenset[Gives]

    @property
    def head(self) -> str:
        """The parameters as the definition's first line has them."""
        by_name = [one.by_name for one in self.parameters]
        heads = [one.head for one in self.parameters]
        if any(by_name):
            heads.insert(by_name.index(True), "*")
        return ", ".join(heads)

    @property
    def about(self) -> str:
        """What the definition says of parameters and result, behind the docstring."""
        said = " or ".join(f"a {one}" for one in ("text", "number") if one in self.gives)
        both = " and ".join([*(["an image"] if "image" in self.gives else []), *([said] if said else [])])
        lines = [one.line for one in self.parameters]
        return "\n".join([*lines, *([f"Returns {both}."] if both else [])])


def hints_of(function: Callable[..., Any]) -> dict[str, Any]:
    """Returns a function's annotations, those that are written as texts read.

    Raises:
        InputError: If one names what is not there.
    """
    try:
        return typing.get_type_hints(function, include_extras=True)
    except (NameError, AttributeError, TypeError, SyntaxError) as error:
        name = getattr(function, "__name__", "?")
        raise InputError(
            f"tool {name} has an annotation that cannot be read ({error}); import what it names"
        ) from error


def read_signature(function: Callable[..., Any], axis: Axis | None) -> Signature:
    """Reads what a free tool takes and gives.

    Args:
        function: The function.
        axis: Axis of the boxes that it takes; None for either.

    Raises:
        InputError: If a parameter has no annotation or one that no program can give, or a default that is none of its
            values, or the result is none of a tool's.
    """
    tool, hints = getattr(function, "__name__", "?"), hints_of(function)
    parameters = []
    for one in inspect.signature(function).parameters.values():
        where = f"parameter {one.name!r} of tool {tool}"
        if one.kind not in _ORDINARY:
            raise InputError(f"{where} is no plain one; programs give each argument by itself, so name them")
        if one.name not in hints:
            raise InputError(f"{where} has no annotation; give it one: {_KNOWN}")
        annotation, optional = _without_none(hints[one.name])
        kind, about = _kind(annotation, where, axis)
        needed = one.default is inspect.Parameter.empty
        if optional and needed:
            raise InputError(f"{where} may be None but has no default; give it the default None")
        by_name = one.kind is inspect.Parameter.KEYWORD_ONLY
        default = None if needed else one.default
        optional = optional or (not needed and default is None)
        if default is not None and not admits(kind, default):
            whole = ", which may stand for the whole image" if isinstance(kind, BoxKind) else ""
            raise InputError(
                f"{where} has the default {quoted(default)}; give it one that is {kind.told}, or None{whole}"
            )
        parameters.append(Parameter(one.name, kind, needed, default, optional, by_name, about))
    return Signature(tuple(parameters), frozenset(_gives(hints.get("return", inspect.Parameter.empty), tool)))


def _without_none(annotation: Any) -> tuple[Any, bool]:
    if typing.get_origin(annotation) is Annotated:
        inner, *marks = typing.get_args(annotation)
        inner, optional = _without_none(inner)
        return Annotated[(inner, *marks)], optional
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        parts = [one for one in typing.get_args(annotation) if one is not type(None)]
        if len(parts) == 1 and len(parts) < len(typing.get_args(annotation)):
            return parts[0], True
    return annotation, False


def _kind(annotation: Any, where: str, axis: Axis | None) -> tuple[Kind, str]:
    """Returns the kind that an annotation stands for, and what is said of it in words."""
    marks: Sequence[Any] = ()
    if typing.get_origin(annotation) is Annotated:
        annotation, *marks = typing.get_args(annotation)
    in_pixels = InPixels() in marks
    bounds, lengths, names, words = _read_marks([one for one in marks if one != InPixels()], where)
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    kind: Kind
    if annotation in (int, float):
        _refuse_empty(bounds, where, "number", whole=annotation is int)
        kind, bounds = NumberKind(annotation is int, bounds), Bounds()
    elif annotation is str and names is not None:
        kind, names = NameKind(names.axis), None
    elif annotation is str:
        kind, lengths = TextKind(lengths), Bounds()
    elif annotation is bool:
        kind = FlagKind()
    elif isinstance(annotation, type) and issubclass(annotation, Image.Image):
        kind = ImageKind()
    elif annotation == Box:
        kind = BoxKind()
    elif annotation == tuple[float, float]:
        if not in_pixels:
            raise InputError(
                f"{where} takes two numbers; annotate it with iapo.tools.Point for a point in the image, which is "
                "held to its sides, else with list[float] (and Len(2, 2) of annotated_types)"
            )
        kind, in_pixels = PointKind(), False
    elif origin is Literal and all(isinstance(one, str) or _is_ordinary(one) for one in inner):
        kind = ChoiceKind(inner)
    elif isinstance(origin, type) and issubclass(origin, Mapping) and inner == (str, Box):
        kind = BoxesKind(axis)
    elif _is_list(origin, inner):
        of, about = _kind(inner[0], where, axis)
        if lengths.ge is not None and lengths.ge > LONGEST_LIST:
            raise InputError(f"{where} asks for {lengths.ge} entries or more; programs give at most {LONGEST_LIST}")
        kind, lengths = ListKind(of, lengths, origin is tuple), Bounds()
        words = [*words, *([about] if about else [])]
    else:
        raise InputError(f"{where} has the annotation {annotation!r}; give it one of: {_KNOWN}")
    if in_pixels or (bounds, lengths, names) != (Bounds(), Bounds(), None):
        raise InputError(f"{where} has bounds or a mark that do not fit its type {annotation!r}; leave them out")
    return kind, "; ".join(words)


def _is_ordinary(value: Any) -> bool:
    return isinstance(value, int) and is_writable(value)


def _refuse_empty(bounds: Bounds, where: str, what: str, *, whole: bool) -> None:
    """Refuses a range that no value is in."""
    if bounds.inside(whole=whole) is None:
        said = f"{'whole ' if whole and what == 'number' else ''}{what}{bounds.told}"
        raise InputError(f"{where} asks for a {said}, and there is none; give a range that has some")


def _is_list(origin: Any, inner: tuple[Any, ...]) -> bool:
    if origin is tuple:
        return len(inner) == 2 and inner[1] is Ellipsis
    return isinstance(origin, type) and issubclass(origin, Sequence) and len(inner) == 1


def _read_marks(marks: Iterable[Any], where: str) -> tuple[Bounds, Bounds, NameOf | None, list[str]]:
    """Returns the range of a value, that of a length, the mark of a name, and the words of an `Annotated`.

    Marks of one kind, as an `Annotated` inside of another has them, all hold.
    """
    values: dict[str, float] = {}
    lengths: dict[str, float] = {}
    names: NameOf | None = None
    words: list[str] = []
    flat = [one for mark in marks for one in (mark if isinstance(mark, annotated_types.GroupedMetadata) else (mark,))]
    for one in flat:
        if isinstance(one, str):
            words.append(one)
        elif isinstance(one, NameOf):
            names = _one_name(names, one, where)
        elif isinstance(one, annotated_types.Ge | annotated_types.Gt | annotated_types.Le | annotated_types.Lt):
            name = type(one).__name__.lower()
            _narrow(values, name, getattr(one, name), where)
        elif isinstance(one, annotated_types.MinLen):
            _narrow(lengths, "ge", one.min_length, where, length=True)
        elif isinstance(one, annotated_types.MaxLen):
            _narrow(lengths, "le", one.max_length, where, length=True)
        else:
            raise InputError(
                f"{where} is annotated with {one!r}, which is not checked; use a text, or Ge, Gt, Le, Lt, Interval and "
                "Len of annotated_types"
            )
    _refuse_empty(Bounds(**lengths), where, "length", whole=True)
    return Bounds(**values), Bounds(**lengths), names, words


def _narrow(bounds: dict[str, float], name: str, bound: Any, where: str, *, length: bool = False) -> None:
    """Adds a bound to those that are there, of which the narrowest holds."""
    fits = isinstance(bound, int | float) and not isinstance(bound, bool) and is_writable(bound)
    if not fits or (isinstance(bound, float) and not math.isfinite(bound)):
        raise InputError(f"{where} has the bound {quoted(bound)}; give a finite number, or leave it out")
    if length and (not isinstance(bound, int) or bound < 0):
        raise InputError(f"{where} has the length {bound!r}; give a whole number, 0 or above")
    narrowest = max if name in ("ge", "gt") else min
    bounds[name] = narrowest(bounds.get(name, bound), bound)


def _one_name(known: NameOf | None, mark: NameOf, where: str) -> NameOf:
    """Returns what two marks of a name say together."""
    if known is None or known.axis is None or mark.axis == known.axis:
        return mark
    if mark.axis is None:
        return known
    raise InputError(f"{where} is a name of columns and of rows; say one of them, or BoxName for either")


def _gives(annotation: Any, tool: str) -> set[Gives]:
    """Reads what a function returns; nothing is known of it where it does not say, or returns an `Observation`."""
    if annotation in (inspect.Parameter.empty, Observation, Any):
        return set()
    if typing.get_origin(annotation) is Annotated:
        annotation = typing.get_args(annotation)[0]
    if annotation in (str, int, float):
        return {"text" if annotation is str else "number"}
    if isinstance(annotation, type) and issubclass(annotation, Image.Image):
        return {"image"}
    inner = typing.get_args(annotation)
    if typing.get_origin(annotation) is tuple and len(inner) == 2 and Ellipsis not in inner:
        found = [_gives(one, tool) for one in inner]
        if sum("image" in one for one in found) == 1:
            return found[0] | found[1]
    if typing.get_origin(annotation) in (typing.Union, types.UnionType) and set(inner) <= {str, int, float}:
        return {kind for one in inner for kind in _gives(one, tool)}
    raise InputError(
        f"tool {tool} returns {annotation!r}; return an image, a text (str), a number (int, float), a tuple of an "
        "image and one of these, or an iapo.Observation"
    )
