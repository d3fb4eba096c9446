"""What flows through the system: samples, tool calls, tool results, traces, scores.

Every record is frozen, typed and JSON-serialisable both ways. Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

from PIL import Image

from iapo.samples import (
    AXES,
    GRADINGS,
    Axis,
    Box,
    Grading,
    Kind,
    Sample,
    image_digest,
    image_from_text,
    image_to_text,
    pack_image,
    save_png,
    unpack_image,
)

__all__ = [
    "AXES",
    "GRADINGS",
    "Axis",
    "Box",
    "Grading",
    "Grid",
    "Kind",
    "Sample",
    "Score",
    "Status",
    "ToolCall",
    "ToolResult",
    "Trace",
    "image_digest",
    "image_from_text",
    "image_to_text",
    "save_png",
]

Status = Literal["edited", "no_call", "refused", "failed"]

Grid = tuple[tuple[float, ...], ...]
"""Numbers laid out as an image lies, the top row first; all rows are of one length."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One checked call of a tool in a model-written program.

    Attributes:
        name: The tool, for example `focus_on_columns_with_mask`.
        targets: The names of the columns or rows to focus on.
        boxes: Boxes were passed: `columns_bbox`, `rows_bbox`, or `own boxes`, which the program gave itself; empty for
            a free tool without such.
        axis: The axis that the tool works on; None where it works on none.
        arguments: What a free tool was given, by parameter: numbers, texts, tuples of them, and the names of images.
        misused: Judgment of the tool's or the sample's own judge; None where there is none, or it cannot tell.
    """

    name: str
    targets: tuple[str, ...]
    boxes: str
    axis: Axis | None
    arguments: tuple[tuple[str, Any], ...] = ()
    misused: bool | None = None

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
        arguments = tuple((name, _tuples(value)) for name, value in data.get("arguments", {}).items())
        return cls(data["name"], tuple(data["targets"]), data["boxes"], data["axis"], arguments, data.get("misused"))


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What came of the program in a model's first turn.

    Attributes:
        status: `edited` (an image or a text was displayed), `no_call` (no code block), `refused` (the program leaves
            the allowed language) or `failed` (allowed, but its arguments are wrong, or a tool failed).
        calls: The tool calls that were understood, in order, also where a later one failed.
        image: The displayed image; only with `edited`.
        error: Why it was refused or failed, one sentence.
        span: Character offsets of the program in the model's text; None with `no_call`.
        text: What displayed results say; only with `edited`, and from tools that return a text or a number.
        broken: Name of the tool that failed by its own fault; empty where the program was wrong.
    """

    status: Status
    calls: tuple[ToolCall, ...] = ()
    image: Image.Image | None = None
    error: str | None = None
    span: tuple[int, int] | None = None
    text: str | None = None
    broken: str = ""

    @property
    def called(self) -> bool:
        """Whether there was a program, also one that was refused or failed."""
        return self.status != "no_call"

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
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any], root: Path | None = None) -> Self:
        span = data["span"]
        return cls(
            status=data["status"],
            calls=tuple(ToolCall.from_json(call) for call in data["calls"]),
            image=unpack_image(data["image"], root),
            error=data["error"],
            span=None if span is None else (span[0], span[1]),
            text=data.get("text"),
            broken=data.get("broken", ""),
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
        """Whether the executed program is known to have used a wrong tool (`ToolResult.misuse`)."""
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
