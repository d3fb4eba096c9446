"""What flows through the system: samples, tool calls, tool results, traces, scores.

Every record is frozen, typed and JSON-serialisable both ways. Nothing here imports torch.
"""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO, Literal, Self

from PIL import Image

from iapo.errors import InputError
from iapo.images import open_image, to_rgb

Axis = Literal["columns", "rows"]
Kind = Literal["chart", "table"]
Grading = Literal["plain", "chart", "exact", "finance", "claim"]
"""The rules by which a sample's answers are graded (`iapo.grading.rules`, docs/grading.md)."""
Status = Literal["edited", "no_call", "refused", "failed"]

Grid = tuple[tuple[float, ...], ...]
"""Numbers laid out as an image lies, the top row first; all rows are of one length."""

Box = tuple[float, float, float, float]
"""``(x1, y1, x2, y2)`` in pixels of the image, ``x1 < x2`` and ``y1 < y2``, origin at the top left."""

AXES: tuple[Axis, ...] = ("columns", "rows")
GRADINGS: tuple[Grading, ...] = ("plain", "chart", "exact", "finance", "claim")

_PNG_MODES = ("1", "L", "LA", "I;16", "P", "RGB", "RGBA")


def save_png(image: Image.Image, target: Path | BinaryIO) -> None:
    """Writes an image as PNG; modes that PNG does not have, such as CMYK and F, become RGB."""
    writable = image if image.mode in _PNG_MODES else to_rgb(image)
    writable.save(target, format="PNG")


def image_digest(image: Image.Image) -> str:
    """Returns the SHA-256 of what makes an image look as it does: mode, size, pixels, and palette where it has one."""
    digest = hashlib.sha256(f"{image.mode} {image.size} ".encode() + image.tobytes())
    if image.mode in ("P", "PA"):
        # The pixels are indices here; two images may differ in the palette alone.
        digest.update(f"{image.getpalette()} {image.info.get('transparency')}".encode())
    return digest.hexdigest()


def image_to_text(image: Image.Image) -> str:
    """Encodes an image as base64 PNG, for JSON."""
    buffer = io.BytesIO()
    save_png(image, buffer)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def image_from_text(text: str) -> Image.Image:
    """Decodes what `image_to_text` wrote."""
    image = open_image(io.BytesIO(base64.b64decode(text)))
    image.load()
    return image


def _pack_image(image: Image.Image | None, path: str | None) -> dict[str, str] | None:
    if path is not None:
        return {"path": path}
    return None if image is None else {"png": image_to_text(image)}


def _unpack_image(data: Mapping[str, str] | None, root: Path | None) -> Image.Image | None:
    if data is None:
        return None
    if "png" in data:
        return image_from_text(data["png"])
    image = open_image((root or Path()) / data["path"])
    image.load()
    return image


def _boxes(data: Mapping[str, Any]) -> Mapping[str, Box]:
    boxes: dict[str, Box] = {}
    for name, box in data.items():
        x1, y1, x2, y2 = (float(value) for value in box)
        boxes[name] = (x1, y1, x2, y2)
    return MappingProxyType(boxes)


@dataclass(frozen=True, slots=True)
class Sample:
    """One question about one image.

    Attributes:
        id: Unique within its source.
        image: The image, any Pillow mode.
        question: The question as asked.
        answers: The gold answer(s); several mean that all of them are asked for, in any order.
        column_boxes: Box of each named column, in pixels; empty where columns are not annotated.
        row_boxes: Box of each named row, in pixels; empty where rows are not annotated.
        kind: `chart` or `table`.
        axis: The axis along which the image is cleanly divisible (the right tools' axis), or None where both
            or neither is, in which case no call on it counts as misuse.
        source: The data set, for example `synthetic/vbar`.
        question_type: Type of the question (`value`, `largest`, ...), empty where unknown.
        list_names: Whether prompts list the names of the boxes, for images from which they cannot be read off.
        flaws: What was wrong with the boxes as they were read, and what became of it, a sentence each; empty for a
            whole sample. A box that is no use is left out, and the sample stays.
        grading: The rules by which answers are graded, a name in `iapo.grading.rules`.

    Raises:
        InputError: If there is no answer, a box is empty, or the axis or the grading is unknown.
    """

    id: str
    image: Image.Image
    question: str
    answers: tuple[str, ...]
    column_boxes: Mapping[str, Box] = field(default_factory=dict)
    row_boxes: Mapping[str, Box] = field(default_factory=dict)
    kind: Kind = "chart"
    axis: Axis | None = None
    source: str = ""
    question_type: str = ""
    list_names: bool = False
    flaws: tuple[str, ...] = ()
    grading: Grading = "plain"

    def __post_init__(self) -> None:
        if not self.answers:
            raise InputError(f"sample {self.id!r} has no answer; give at least one")
        if self.axis is not None and self.axis not in AXES:
            raise InputError(f"sample {self.id!r} has axis {self.axis!r}; use 'columns', 'rows' or None")
        if self.grading not in GRADINGS:
            raise InputError(f"sample {self.id!r} has grading {self.grading!r}; use one of {', '.join(GRADINGS)}")
        object.__setattr__(self, "column_boxes", _boxes(self.column_boxes))
        object.__setattr__(self, "row_boxes", _boxes(self.row_boxes))
        for what, boxes in (("column", self.column_boxes), ("row", self.row_boxes)):
            for name, (x1, y1, x2, y2) in boxes.items():
                if not (x1 < x2 and y1 < y2):
                    raise InputError(f"sample {self.id!r}: the box of {what} {name!r} is empty: {(x1, y1, x2, y2)}")

    def to_json(self, image_path: str | None = None) -> dict[str, Any]:
        """Returns a JSON-ready dict; the image is embedded as PNG unless `image_path` says where it lies."""
        # Whole samples are written, and hashed, as they were before there were flaws.
        flaws = {"flaws": list(self.flaws)} if self.flaws else {}
        return {
            "id": self.id,
            "image": _pack_image(self.image, image_path),
            "question": self.question,
            "answers": list(self.answers),
            "column_boxes": {name: list(box) for name, box in self.column_boxes.items()},
            "row_boxes": {name: list(box) for name, box in self.row_boxes.items()},
            "kind": self.kind,
            "axis": self.axis,
            "source": self.source,
            "question_type": self.question_type,
            "list_names": self.list_names,
            **flaws,
            # Left out where it is plain: older files have none, and the hashes of their data stay as they were.
            **({} if self.grading == "plain" else {"grading": self.grading}),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any], root: Path | None = None, image: Image.Image | None = None) -> Self:
        """Reads what `to_json` wrote.

        Args:
            data: The dict.
            root: The folder that relative image paths start from.
            image: The image itself, where the caller keeps it apart from the dict.

        Raises:
            InputError: If there is no image.
        """
        picture = image if image is not None else _unpack_image(data["image"], root)
        if picture is None:
            raise InputError(f"sample {data['id']!r} has no picture")
        return cls(
            id=data["id"],
            image=picture,
            question=data["question"],
            answers=tuple(data["answers"]),
            column_boxes=data["column_boxes"],
            row_boxes=data["row_boxes"],
            kind=data["kind"],
            axis=data["axis"],
            source=data["source"],
            question_type=data["question_type"],
            list_names=data.get("list_names", False),
            flaws=tuple(data.get("flaws", ())),
            grading=data.get("grading", "plain"),
        )


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One checked call of a tool in a model-written program.

    Attributes:
        name: The tool, for example `focus_on_columns_with_mask`.
        targets: The names of the columns or rows to focus on.
        boxes: Boxes were passed: `columns_bbox`, `rows_bbox`, or `own boxes`, which the program gave itself.
        axis: The axis that the tool works on.
    """

    name: str
    targets: tuple[str, ...]
    boxes: str
    axis: Axis

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "targets": list(self.targets), "boxes": self.boxes, "axis": self.axis}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        return cls(data["name"], tuple(data["targets"]), data["boxes"], data["axis"])


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What came of the program in a model's first turn.

    Attributes:
        status: `edited` (an image was displayed that differs from the given one), `no_call` (no code block), `refused`
            (the program leaves the allowed language) or `failed` (allowed, but its arguments are wrong, or what it
            displays looks as the given image, or blank).
        calls: The tool calls that were understood, in order, also where a later one failed.
        image: The displayed image; only with `edited`.
        error: Why it was refused or failed, one sentence.
        span: Character offsets of the program in the model's text; None with `no_call`.
    """

    status: Status
    calls: tuple[ToolCall, ...] = ()
    image: Image.Image | None = None
    error: str | None = None
    span: tuple[int, int] | None = None

    @property
    def called(self) -> bool:
        """Whether there was a program, also one that was refused or failed."""
        return self.status != "no_call"

    @property
    def executed(self) -> bool:
        """Whether the program ran to its end and displayed an image."""
        return self.status == "edited"

    def misuse(self, axis: Axis | None) -> bool | None:
        """Tells whether an executed program used a tool of the other axis than the image's; None where that is not
        judged.

        A program that did not execute is a failure, not a misuse, and an image without one right axis
        (`axis=None`) has no wrong tools (the paper's case study, Fig. 3).
        """
        if not self.executed or axis is None:
            return None
        return any(call.axis != axis for call in self.calls)

    def to_json(self, image_path: str | None = None) -> dict[str, Any]:
        return {
            "status": self.status,
            "calls": [call.to_json() for call in self.calls],
            "image": _pack_image(self.image, image_path),
            "error": self.error,
            "span": None if self.span is None else list(self.span),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any], root: Path | None = None) -> Self:
        span = data["span"]
        return cls(
            status=data["status"],
            calls=tuple(ToolCall.from_json(call) for call in data["calls"]),
            image=_unpack_image(data["image"], root),
            error=data["error"],
            span=None if span is None else (span[0], span[1]),
        )


@dataclass(frozen=True, slots=True)
class Score:
    """One component of a reward or an evaluation.

    Attributes:
        value: The number.
        answer: Text that was scored, for example the extracted final answer; None where there was nothing.
        explanation: Why this value, one sentence.
    """

    value: float
    answer: str | None = None
    explanation: str = ""

    def to_json(self) -> dict[str, Any]:
        return {"value": self.value, "answer": self.answer, "explanation": self.explanation}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        return cls(data["value"], data["answer"], data["explanation"])


@dataclass(frozen=True, slots=True)
class Trace:
    """One rollout: at most two model turns around one tool program.

    Attributes:
        sample: The question and image.
        turn_1: The model's first turn.
        result: Result of its program.
        turn_2: The model's second turn; None where turn 1 called no tool.
        scores: Reward components by name, for example `outcome`, `divergence`.
        attribution: Block distributions by whose they are (`student`, `teacher`), each a map from block name to
            probability; empty where the rollout has no attribution.
        step: Optimiser step in which a training rollout was sampled, from 1; number of steps that the policy of a
            held-out rollout of a training run had taken, 0 before training; else None.
        patches: Signed share of each of the image's tokens in the attribution, by whose they are (`student`,
            `teacher`; `iapo.attribution.tokens.picture_shares`), to three digits; empty where they were not kept.
        observation_cut: Whether the rollout ended after turn 1 because what its call gave did not fit into the longest
            sequence. It says nothing about the model, so that training leaves it out.
    """

    sample: Sample
    turn_1: str
    result: ToolResult
    turn_2: str | None = None
    scores: Mapping[str, Score] = field(default_factory=dict)
    attribution: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    step: int | None = None
    patches: Mapping[str, Grid] = field(default_factory=dict)
    observation_cut: bool = False

    @property
    def final_text(self) -> str:
        """The turn that is graded: the second where there is one, else the first."""
        return self.turn_1 if self.turn_2 is None else self.turn_2

    @property
    def misused(self) -> bool:
        """Whether the executed program used a tool of the wrong axis."""
        return bool(self.result.misuse(self.sample.axis))

    def to_json(self, image_path: str | None = None, edited_path: str | None = None) -> dict[str, Any]:
        """Returns a JSON-ready dict; images are embedded unless a path says where they lie."""
        return {
            "sample": self.sample.to_json(image_path),
            "turn_1": self.turn_1,
            "result": self.result.to_json(edited_path),
            "turn_2": self.turn_2,
            "scores": {name: score.to_json() for name, score in self.scores.items()},
            "attribution": {who: dict(blocks) for who, blocks in self.attribution.items()},
            "step": self.step,
            "patches": {who: [list(row) for row in grid] for who, grid in self.patches.items()},
            "observation_cut": self.observation_cut,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any], root: Path | None = None, sample: Sample | None = None) -> Self:
        return cls(
            sample=Sample.from_json(data["sample"], root) if sample is None else sample,
            turn_1=data["turn_1"],
            result=ToolResult.from_json(data["result"], root),
            turn_2=data["turn_2"],
            scores={name: Score.from_json(score) for name, score in data["scores"].items()},
            attribution=data["attribution"],
            step=data["step"],
            # Runs of earlier versions have none.
            patches={who: tuple(map(tuple, grid)) for who, grid in data.get("patches", {}).items()},
            observation_cut=data.get("observation_cut", False),
        )
