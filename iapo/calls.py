"""What a program in a model's turn called, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Any, Literal, Self, get_args

from PIL import Image

from iapo.errors import InputError
from iapo.kinds import check_kinds
from iapo.samples import AXES, FIRST_IMAGE, Axis, pack_image, unpack_image
from iapo.storage import take, take_list

Status = Literal["edited", "no_call", "refused", "failed"]


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One checked call of a tool in a model-written program.

    Attributes:
        name: The tool, for example `focus_on_columns_with_mask`.
        targets: The names of the columns or rows to focus on.
        boxes: Boxes were passed: `columns_bbox`, `rows_bbox`, or `own boxes`, which the program gave itself; empty for
            a free tool without such.
        axis: The axis that the tool works on; None where it works on none, or the image is another than `image_1`.
        arguments: What a free tool was given, by parameter: numbers, texts, tuples of them, and the names of images;
            of a tool that focuses only where it was given another image than `image_1`.
        misused: Judgment of the tool's or the sample's own judge; None where there is none, or it cannot tell.
    """

    name: str
    targets: tuple[str, ...]
    boxes: str
    axis: Axis | None
    arguments: tuple[tuple[str, Any], ...] = ()
    misused: bool | None = None

    def __post_init__(self) -> None:
        check_kinds(self, "the call's ")

    @property
    def given(self) -> dict[str, Any]:
        """What a free tool was given, by parameter."""
        return dict(self.arguments)

    def misuse(self, axis: Axis | None) -> bool | None:
        """Tells whether the call is misuse on an image that divides along `axis`; None where that is not known."""
        if self.misused is not None:
            return self.misused
        return None if axis is None or self.axis is None else self.axis != axis

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "targets": list(self.targets),
            "boxes": self.boxes,
            "axis": self.axis,
            # Left out where there is none: records of tools that focus stay as they were.
            **({"arguments": dict(self.arguments)} if self.arguments else {}),
            **({} if self.misused is None else {"misused": self.misused}),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Reads what `to_json` wrote.

        Raises:
            InputError: If it is something else.
        """
        given = take(data, "arguments", dict, default={})
        axis = take(data, "axis", str, NoneType)
        if axis not in (*AXES, None):
            raise InputError(f"the field axis is {axis[:40]!r}; it is one of {', '.join(AXES)}, or null")
        return cls(
            take(data, "name", str),
            tuple(take_list(data, "targets", str)),
            take(data, "boxes", str),
            axis,
            tuple((name, _tuples(value)) for name, value in given.items()),
            take(data, "misused", bool, NoneType, default=None),
        )


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What came of the program in a model's turn.

    Attributes:
        status: `edited` (an image was displayed that differs from the given one, or a text), `no_call` (no code block,
            or a turn whose program is not run: the last one), `refused` (the program leaves the allowed language) or
            `failed` (allowed, but its arguments are wrong, what it displays looks as the given image, or blank, or a
            tool failed).
        calls: The tool calls that were understood, in order, also where a later one failed.
        image: The displayed image; only with `edited`.
        error: Why it was refused or failed, one sentence.
        span: Character offsets of the program in the model's text; None with `no_call`.
        text: What displayed results say; only with `edited`, and from tools that return a text or a number.
        broken: Name of the tool that failed by its own fault; empty where the program was wrong.
        made_of: Name of the sample's image that the displayed one was made of.
        moved: Whether what is in that image lies elsewhere in the displayed one, so that no box fits it.
        kept: Whether the displayed one is larger, and what is in that image lies in its place all the same.
    """

    status: Status
    calls: tuple[ToolCall, ...] = ()
    image: Image.Image | None = None
    error: str | None = None
    span: tuple[int, int] | None = None
    text: str | None = None
    broken: str = ""
    made_of: str = FIRST_IMAGE
    moved: bool = False
    kept: bool = False

    def __post_init__(self) -> None:
        check_kinds(self, "the result's ")

    @property
    def called(self) -> bool:
        """Whether there was a program, also one that was refused or failed."""
        return self.status != "no_call"

    @property
    def called_names(self) -> frozenset[str]:
        """Names of the tools that were called."""
        return frozenset(call.name for call in self.calls)

    @property
    def executed(self) -> bool:
        """Whether the program ran to its end and displayed an image or a text."""
        return self.status == "edited"

    def misuse(self, axis: Axis | None) -> bool | None:
        """Tells whether an executed program misused a tool: one of the other axis than the image's, or what the tool's
        or the sample's own judge says; None where that is not known.

        A program that did not execute is a failure, not a misuse, and an image without one right axis
        (`axis=None`) has no wrong tools (the paper's case study, Fig. 3). One call that is misuse makes the program so;
        else one of which it is not known leaves it unknown.
        """
        if not self.executed or (axis is None and not self.calls):
            return None
        found = [call.misuse(axis) for call in self.calls]
        return True if True in found else None if None in found else False

    def to_json(self, image_path: str | None = None) -> dict[str, Any]:
        return {
            "status": self.status,
            "calls": [call.to_json() for call in self.calls],
            "image": pack_image(self.image, image_path),
            "error": self.error,
            "span": None if self.span is None else list(self.span),
            **({} if self.text is None else {"text": self.text}),
            **({"broken": self.broken} if self.broken else {}),
            **({} if self.made_of == FIRST_IMAGE else {"made_of": self.made_of}),
            **({"moved": True} if self.moved else {}),
            **({"kept": True} if self.kept else {}),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any], root: Path | None = None) -> Self:
        """Reads what `to_json` wrote; paths of images start from `root`.

        Raises:
            InputError: If it is something else, or an image cannot be read.
        """
        status = take(data, "status", str)
        if status not in get_args(Status):
            raise InputError(f"the field status is {status[:40]!r}; it is one of {', '.join(get_args(Status))}")
        span = take(data, "span", list, NoneType)
        if span is not None and (len(span) != 2 or not all(isinstance(one, int) for one in span)):
            raise InputError("the field span is no pair of whole numbers")
        return cls(
            status=status,
            calls=tuple(map(ToolCall.from_json, take_list(data, "calls", dict))),
            image=unpack_image(take(data, "image", dict, NoneType), root),
            error=take(data, "error", str, NoneType),
            span=None if span is None else (span[0], span[1]),
            text=take(data, "text", str, NoneType, default=None),
            broken=take(data, "broken", str, default=""),
            made_of=take(data, "made_of", str, default=FIRST_IMAGE),
            moved=take(data, "moved", bool, default=False),
            kept=take(data, "kept", bool, default=False),
        )
