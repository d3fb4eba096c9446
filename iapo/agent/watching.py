"""A rollout's events as they come: seen from outside, at the function that writes its turns."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from PIL import Image
from transformers import TextStreamer
from transformers.generation.streamers import BaseStreamer

from iapo.agent.answers import CallEvent, Event, ObservationEvent, TextEvent
from iapo.evaluation.solvers import Chat
from iapo.rollout.prompt import PromptEncoder
from iapo.rollout.template import PromptTemplate
from iapo.rollout.turns import Generate
from iapo.tools import TOOLS, ToolDefinition, extract_program
from iapo.tools.places import find_program

Watch = Callable[[Event], None]
"""Takes each event; what it raises ends the rollout."""

Check = Callable[[], None]
"""Called before each token, or each turn of an endpoint; what it raises ends the rollout."""

_SHOWN = re.compile(r"<\|im_start\|>user\n(.*?)<\|im_end\|>", re.DOTALL)
_MARKS = re.compile(r"<\|\w+\|>")


def program_in(text: str, template: PromptTemplate, tools: Mapping[str, ToolDefinition]) -> str | None:
    """Returns the program in a turn, found as it is found to be carried out; None where there is none."""
    if not tools:
        return None
    if template.lenient:
        place = find_program(text, {**TOOLS, **tools})
        span = None if place is None else place.span
    else:
        block = extract_program(text)
        span = None if block is None else block[1]
    return None if span is None else text[slice(*span)].strip() or None


class Checked(BaseStreamer):
    """Calls a check at each token that a model writes, and hands nothing on.

    Args:
        check: The check.
    """

    def __init__(self, check: Check) -> None:
        self._check = check

    def put(self, value: Any) -> None:
        """Takes the prompt, then each token; Transformers calls it."""
        self._check()

    def end(self) -> None:
        """Ends the turn; Transformers calls it."""


class Pieces(TextStreamer):
    """Hands on what a model writes, a word at a time.

    Args:
        tokenizer: The model's tokenizer.
        take: Takes each piece.
        check: Check that is called at each token; none if None.
    """

    def __init__(self, tokenizer: Any, take: Callable[[str], None], check: Check | None = None) -> None:
        super().__init__(tokenizer, skip_prompt=True, skip_special_tokens=True)
        self._take, self._check = take, check

    def put(self, value: Any) -> None:
        """Takes the prompt, then each token; Transformers calls it."""
        if self._check is not None:
            self._check()
        super().put(value)

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        """Takes a piece; Transformers calls it."""
        if text:
            self._take(text)


class Watched:
    """A `generate` of a rollout with one row, whose turns are told to a watcher.

    Args:
        make: Makes the `generate` that writes, given what hands on its pieces.
        encoder: The policy's encoder.
        tools: The offered tools.
        watch: The watcher.
        check: Check that is called at each token; none if None.
    """

    def __init__(
        self,
        make: Callable[[Pieces], Generate],
        encoder: PromptEncoder,
        tools: Mapping[str, ToolDefinition],
        watch: Watch,
        check: Check | None = None,
    ) -> None:
        self._encoder, self._tools, self._watch = encoder, tools, watch
        self._turn = 0
        self._seen: tuple[int, int] | None = None
        self._program: str | None = None
        self._generate = make(Pieces(encoder.tokenizer, self._piece, check))

    def __call__(self, rows: list[list[int]], images: list[list[Image.Image]]) -> list[list[int]]:
        """Writes the next turn, as `Generate`."""
        (row,), (shown,) = rows, images
        if self._seen is not None:
            text = self._encoder.tokenizer.decode(row[self._seen[0] :], skip_special_tokens=False)
            found = _SHOWN.search(text)
            new = shown[self._seen[1] :]
            said = _MARKS.sub("", found[1]).strip() if found else ""
            # Told now, when it has been carried out: what looks like a program in the last turn never is.
            if self._program is not None:
                self._watch(CallEvent(self._turn, self._program))
            self._watch(ObservationEvent(self._turn, said, new[-1] if new else None))
        self._turn += 1
        (ids,) = self._generate(rows, images)
        self._seen = (len(row) + len(ids), len(shown))
        text = self._encoder.tokenizer.decode(ids, skip_special_tokens=True)
        self._program = program_in(text, self._encoder.template, self._tools)
        return [ids]

    def _piece(self, text: str) -> None:
        self._watch(TextEvent(self._turn, text))


def watched_chat(chat: Chat, template: PromptTemplate, tools: Mapping[str, ToolDefinition], watch: Watch) -> Chat:
    """Tells a watcher of the turns of one rollout at an endpoint; each turn's text is one piece."""
    turn, program = 0, None

    def ask(messages: Sequence[Mapping[str, Any]]) -> str:
        nonlocal turn, program
        if turn:
            if program is not None:
                watch(CallEvent(turn, program))
            parts = messages[-1]["content"]
            text = "".join(part["text"] for part in parts if part["type"] == "text")
            images = [part["image"] for part in parts if part["type"] == "image"]
            watch(ObservationEvent(turn, text, images[-1] if images else None))
        turn += 1
        said = chat(messages)
        watch(TextEvent(turn, said))
        program = program_in(said, template, tools)
        return said

    return ask
