"""What the tiny models are taught: short dense lessons first, then whole two-turn episodes.

A skill forms in a short sequence about ten times sooner than inside a long one, so each has its own lesson: reading a
marked bar (`sight`), choosing a tool and copying the asked label into the call (`pointing`), and only then the whole
protocol (`episode`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from PIL import Image

from iapo.prompt import Block, PromptEncoder, build_blocks
from iapo.records import Axis
from iapo.tasks.synthetic import Chart
from iapo.tools import TOOLS, ToolDefinition, execute

STYLES = ("highlight", "mask", "draw")


@dataclass(frozen=True, slots=True)
class Lesson:
    """One supervised sequence.

    Attributes:
        ids: Token ids, length L.
        learn: Which positions are targets, length L.
        images: The sequence's pictures, in order.
    """

    ids: list[int]
    learn: list[bool]
    images: tuple[Image.Image, ...]


def other(axis: Axis) -> Axis:
    """The axis that is not this one."""
    return "rows" if axis == "columns" else "columns"


def names_of(chart: Chart) -> tuple[str, ...]:
    """The labels that a bar chart's question is about; both of its axes have boxes for them."""
    return next(iter(chart.focus.values()))


def call_text(axis: Axis, style: str, targets: tuple[str, ...]) -> str:
    """A first turn that calls one tool."""
    names = ", ".join(f'"{name}"' for name in targets)
    return f"```python\ndisplay(focus_on_{axis}_with_{style}(image_1, [{names}], {axis}_bbox))\n```"


def answer_text(answer: str) -> str:
    """A second turn."""
    return f"FINAL ANSWER: {answer}. TERMINATE"


class LessonWriter:
    """Writes lessons for one processor.

    Args:
        encoder: The processor's encoder.
        tools: The tools that prompts define.
    """

    def __init__(self, encoder: PromptEncoder, tools: Mapping[str, ToolDefinition] = TOOLS) -> None:
        self.encoder = encoder
        self.tools = tools
        self._prompts: dict[tuple[str, ...], list[int]] = {}
        self._texts: dict[str, list[int]] = {}

    def sight(self, chart: Chart, rng: np.random.Generator, wrong: float, unmarked: float) -> Lesson:
        """A marked picture and the question -> the answer; marked along the wrong axis or not at all now and then."""
        assert chart.sample.axis is not None
        image = chart.sample.image
        if rng.random() >= unmarked:
            axis = other(chart.sample.axis) if rng.random() < wrong else chart.sample.axis
            image = self._edited(chart, axis, str(rng.choice(STYLES)))
        return self._short(chart, image, answer_text(chart.sample.answers[0]))

    def pointing(self, chart: Chart, rng: np.random.Generator, misuse: dict[str, float]) -> Lesson:
        """The picture and the question -> the call, without the tools' definitions."""
        return self._short(chart, chart.sample.image, self._call(chart, rng, misuse))

    def episode(self, chart: Chart, rng: np.random.Generator, misuse: dict[str, float]) -> Lesson:
        """The whole prompt -> the call -> the edited picture -> the answer.

        After a call of the wrong axis the answer is not learnt, so that reading such a picture stays as hard as the
        sight lessons left it.
        """
        blocks = build_blocks(chart.sample, self.tools)
        prompt = self._prompt(blocks)
        call = self._call(chart, rng, misuse)
        result = execute(call, chart.sample, self.tools)
        if result.image is None:
            raise RuntimeError(f"a lesson's call did not execute: {result.error}")
        turn_1 = self._turn(call)
        observation = self.encoder.observation(result, ended=True)
        turn_2 = self._turn(answer_text(chart.sample.answers[0]))
        read = not result.misused(chart.sample.axis)
        learn = [False] * len(prompt) + [True] * len(turn_1) + [False] * len(observation) + [read] * len(turn_2)
        return Lesson(prompt + turn_1 + observation + turn_2, learn, (chart.sample.image, result.image))

    def _short(self, chart: Chart, image: Image.Image, turn: str) -> Lesson:
        blocks = (Block("image", "image_1", image=image), Block("query", "query", f"QUESTION: {chart.sample.question}"))
        prompt, target = self._prompt(blocks), self._turn(turn)
        return Lesson(prompt + target, [False] * len(prompt) + [True] * len(target), (image,))

    def _call(self, chart: Chart, rng: np.random.Generator, misuse: dict[str, float]) -> str:
        assert chart.sample.axis is not None
        family = chart.sample.source.rpartition("/")[2]
        axis = other(chart.sample.axis) if rng.random() < misuse.get(family, 0.0) else chart.sample.axis
        return call_text(axis, str(rng.choice(STYLES)), names_of(chart))

    def _edited(self, chart: Chart, axis: Axis, style: str) -> Image.Image:
        result = execute(call_text(axis, style, names_of(chart)), chart.sample, self.tools)
        if result.image is None:
            raise RuntimeError(f"a lesson's call did not execute: {result.error}")
        return result.image

    def _prompt(self, blocks: tuple[Block, ...]) -> list[int]:
        key = tuple(block.text if block.image is None else str(block.image.size) for block in blocks)
        if key not in self._prompts:
            self._prompts[key] = self.encoder.encode(blocks).ids
        return self._prompts[key]

    def _turn(self, text: str) -> list[int]:
        if text not in self._texts:
            tokenizer = self.encoder.tokenizer
            ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
            self._texts[text] = [*ids, tokenizer.eos_token_id]
        return self._texts[text]
