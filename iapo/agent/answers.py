"""What an agent gives back: the answer with all that led to it, and the events on the way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

from PIL import Image

from iapo.grading.extraction import extract_answer
from iapo.records import Status, ToolCall, ToolResult, Trace, image_to_text


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of the model, and what came of it.

    Attributes:
        text: What the model wrote.
        result: Result of the program in it; None in the turn with the answer, in which no program is looked for.
        attribution: The share of each block that stands before the turn in its call, earlier turns and what was shown
            included; empty where it was not asked for, or there is no call in the tools' language.
    """

    text: str
    result: ToolResult | None = None
    attribution: Mapping[str, float] = field(default_factory=dict)

    @property
    def program(self) -> str | None:
        """The program in it, as the model wrote it."""
        if self.result is None or self.result.span is None:
            return None
        return self.text[slice(*self.result.span)].strip()

    def to_json(self) -> dict[str, Any]:
        """Returns it as JSON has it, without an image."""
        result = self.result
        if result is None or not result.called:
            return {"text": self.text}
        # All that the record has, but for what is large, and for the place that `program` stands for.
        told = {name: value for name, value in result.to_json("").items() if name not in ("image", "span")}
        shares = {"attribution": dict(self.attribution)} if self.attribution else {}
        return {"text": self.text, "program": self.program, "result": told, **shares}


@dataclass(frozen=True, slots=True)
class Answer:
    """A finished rollout, as one who asks wants it.

    Attributes:
        question: The question.
        answer: The final answer; None where the last turn has none.
        turns: The model's turns, in order.
        status: What came of its programs: `no_call` where there is none, else that of the last one.
        note: A sentence on the boxes that it had.
        whole: Whether it ended by itself: neither was the last turn cut off, nor did an observation not fit. An
            endpoint's answers count as whole.
        prompt_tokens: Tokens of the prompt; None where an endpoint answers.
        written_tokens: Tokens that the model wrote; None where an endpoint answers.
    """

    question: str
    answer: str | None
    turns: tuple[Turn, ...]
    status: Status
    note: str = ""
    whole: bool = True
    prompt_tokens: int | None = None
    written_tokens: int | None = None

    @property
    def attribution(self) -> Mapping[str, float]:
        """The share of each of the prompt's blocks in the call of the first turn; empty where the turn has none."""
        return self.turns[0].attribution

    @property
    def results(self) -> tuple[ToolResult, ...]:
        """The results of its programs, in order."""
        return tuple(turn.result for turn in self.turns if turn.result is not None and turn.result.called)

    @property
    def calls(self) -> tuple[ToolCall, ...]:
        """The calls of all its programs that were understood, in order."""
        return tuple(call for result in self.results for call in result.calls)

    @property
    def program(self) -> str | None:
        """Its last program."""
        return next((turn.program for turn in reversed(self.turns) if turn.program is not None), None)

    @property
    def image(self) -> Image.Image | None:
        """The last image that a program displayed."""
        return next((result.image for result in reversed(self.results) if result.image is not None), None)

    @property
    def error(self) -> str | None:
        """Why its last program was refused or failed."""
        return self.results[-1].error if self.results else None

    @property
    def text(self) -> str:
        """The final answer; the whole last turn where it has none."""
        return self.turns[-1].text.strip() if self.answer is None else self.answer

    def to_json(self, *, image: bool = True) -> dict[str, Any]:
        """Returns it as JSON has it.

        Args:
            image: Whether the last displayed image is in it, as base64 PNG.
        """
        shown = {"image": None if self.image is None else image_to_text(self.image)} if image else {}
        return {
            "question": self.question,
            "answer": self.answer,
            "status": self.status,
            "error": self.error,
            "program": self.program,
            "turns": [turn.to_json() for turn in self.turns],
            "whole": self.whole,
            "boxes": self.note,
            "attribution": dict(self.attribution),
            **shown,
        }


@dataclass(frozen=True, slots=True)
class TextEvent:
    """A piece of text that the model wrote.

    Attributes:
        turn: Number of the turn, from 1.
        text: The piece.
    """

    kind: ClassVar[Literal["text"]] = "text"
    turn: int
    text: str

    def to_json(self) -> dict[str, Any]:
        return {"event": self.kind, "turn": self.turn, "text": self.text}


@dataclass(frozen=True, slots=True)
class CallEvent:
    """A program that was carried out.

    Attributes:
        turn: Number of the turn, from 1.
        program: The program.
    """

    kind: ClassVar[Literal["call"]] = "call"
    turn: int
    program: str

    def to_json(self) -> dict[str, Any]:
        return {"event": self.kind, "turn": self.turn, "program": self.program}


@dataclass(frozen=True, slots=True)
class ObservationEvent:
    """What the model is shown after a turn.

    Attributes:
        turn: Number of the turn that it comes after, from 1.
        text: Its text.
        image: Its image; None where there is none.
    """

    kind: ClassVar[Literal["observation"]] = "observation"
    turn: int
    text: str
    image: Image.Image | None = None

    def to_json(self) -> dict[str, Any]:
        image = None if self.image is None else image_to_text(self.image)
        return {"event": self.kind, "turn": self.turn, "text": self.text, "image": image}


@dataclass(frozen=True, slots=True)
class AnswerEvent:
    """The end.

    Attributes:
        answer: The answer with all that led to it.
    """

    kind: ClassVar[Literal["answer"]] = "answer"
    answer: Answer

    def to_json(self) -> dict[str, Any]:
        return {"event": self.kind, **self.answer.to_json(image=False)}


Event = TextEvent | CallEvent | ObservationEvent | AnswerEvent


def answer_of(trace: Trace, shares: Sequence[Mapping[str, float]] = (), **more: Any) -> Answer:
    """Makes an answer of a rollout's record.

    Args:
        trace: The record.
        shares: Attribution of each turn's call, in order; none if there are none.
        more: Further attributes of the answer.
    """
    turns = turns_of(trace)
    if shares:
        turns = tuple(replace(turn, attribution=one) for turn, one in zip(turns, shares, strict=True))
    called = [turn.result.status for turn in turns if turn.result is not None and turn.result.called]
    return Answer(
        question=trace.sample.question,
        answer=extract_answer(trace.final_text),
        turns=turns,
        status=called[-1] if called else "no_call",
        **more,
    )


def turns_of(trace: Trace) -> tuple[Turn, ...]:
    """Returns a record's turns in order."""
    first, *rest = trace.turns
    further = (Turn(one.text, one.result if one.result.called else None) for one in rest)
    return (Turn(first.text, first.result), *further)
