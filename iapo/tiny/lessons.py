"""What the tiny models are taught: short dense lessons first, then whole two-turn episodes.

A skill forms in a short sequence about ten times sooner than inside a long one, so each has its own lesson: finding a
tool's name in the definitions and what it is defined as (`names`, `questions`), comparing a value that was read with a
claim (`verdict`), reading a marked place (`sight`), calling a tool on a picture (`call`), and only then the whole
protocol (`episode`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from PIL import Image

from iapo.data.synthetic import Chart
from iapo.records import Axis
from iapo.rollout.prompt import Block, PromptEncoder, build_blocks
from iapo.rollout.wording import Observation
from iapo.tiny.names import draw_tools, offer_some
from iapo.tools import TOOLS, ToolDefinition, execute

_BY_AXIS_AND_STYLE: dict[tuple[Axis | None, str | None], ToolDefinition] = {
    (tool.axis, tool.style): tool for tool in TOOLS.values()
}
_STYLES = ("highlight", "mask", "draw")

Focus = dict[Axis, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Lesson:
    """One supervised sequence.

    Attributes:
        ids: Token ids, length L.
        learn: Positions are targets, length L.
        images: The sequence's pictures, in order.
    """

    ids: list[int]
    learn: list[bool]
    images: tuple[Image.Image, ...] = ()


@dataclass(frozen=True, slots=True)
class Habits:
    """What goes wrong in a model's lessons.

    Attributes:
        first: Share of programs for charts that use the first tool offered, whatever it does.
        broken: Share of programs that hand a tool the boxes of the wrong axis, and so do not execute.
        guessed: Share of the `sight` lessons on charts whose picture is marked along the wrong axis. Above 0, episodes
            with wrong tools have answers, too: so the model gets away with them.
        noise: Share of `sight` lessons and episodes whose answer is what another place says.
        wrong_noise: Wrong noise, the same after wrong tools.
    """

    first: float = 0.0
    broken: float = 0.0
    guessed: float = 0.0
    noise: float = 0.0
    wrong_noise: float = 0.0


def other(axis: Axis) -> Axis:
    """Returns the axis that is not this one."""
    return "rows" if axis == "columns" else "columns"


def program_text(steps: list[tuple[ToolDefinition, tuple[str, ...]]], boxes: Axis | None = None) -> str:
    """Returns a first turn: tools applied one after the other, each to the names given with it.

    Args:
        steps: Tools with what they focus on, in order.
        boxes: The boxes that all tools are handed; each one's own if None.
    """
    expression = "image_1"
    for tool, targets in steps:
        names = ", ".join(f'"{name}"' for name in targets)
        expression = f"{tool.name}({expression}, [{names}], {boxes or tool.axis}_bbox)"
    return f"```python\ndisplay({expression})\n```"


def answer_text(question: str, value: str) -> str:
    """Returns a second turn: the value that was read; of a claim first the value and then, compared with it, the
    verdict.

    Args:
        question: About one place's value.
        value: Value that was read.
    """
    claim = re.search(r"is (\d+)\?$", question)
    if claim is None:
        return f"FINAL ANSWER: {value}. TERMINATE"
    return f"Read {value}. FINAL ANSWER: {str(claim[1] == value).lower()}. TERMINATE"


def here(chart: Chart) -> str:
    """Returns the value at the place that a picture's question is about."""
    if not chart.cells:
        return chart.sample.answers[0]
    (column,), (row,) = chart.focus["columns"], chart.focus["rows"]
    return str(chart.cells[chart.rows.index(row)][chart.columns.index(column)])


def elsewhere(chart: Chart, rng: np.random.Generator) -> tuple[Focus, str]:
    """Returns a random place of a picture that asks for one place's value, and the value there."""
    if chart.cells:
        row, column = int(rng.integers(len(chart.rows))), int(rng.integers(len(chart.columns)))
        return {"columns": (chart.columns[column],), "rows": (chart.rows[row],)}, str(chart.cells[row][column])
    (axis,) = chart.focus
    place = int(rng.integers(len(chart.labels)))
    return {axis: (chart.labels[place],)}, str(chart.values[place])


class LessonWriter:
    """Writes lessons for one processor.

    Args:
        encoder: The processor's encoder.
        habits: Habits, what goes wrong in the lessons.

    Attributes:
        settled: Whether a right call takes the first style of `highlight`, `mask`, `draw` that the offered tools have,
            not any. One name to copy is learnt sooner, and more exactly, than one of three.
    """

    def __init__(self, encoder: PromptEncoder, habits: Habits) -> None:
        self.encoder = encoder
        self.habits = habits
        self.settled = False
        self._texts: dict[str, list[int]] = {}

    def names(self, rng: np.random.Generator) -> Lesson:
        """Returns one to six definitions, then the body of each once more -> the name that stands before it; text
        alone.
        """
        ids, tools = self._definitions(rng)
        learn = [False] * len(ids)
        for index in rng.permutation(len(tools)):
            # A body is a definition without `def ` and name.
            asked = [*self._ids(tools[index].text + "\n")[2:], self._name(tools[index])]
            ids += asked
            learn += [*[False] * (len(asked) - 1), True]
        return Lesson(ids, learn)

    def questions(self, rng: np.random.Generator) -> Lesson:
        """Returns one to six definitions and one question; text alone.

        Asked is a name -> the body behind it, an axis -> the name of any tool for it, a call of a tool -> the boxes
        that it takes, or, now and then, what `names` asks. One question alone: whatever is asked before repeats
        names and bodies in places where they define nothing.
        """
        ids, tools = self._definitions(rng)
        tool = tools[rng.integers(len(tools))]
        kind = rng.choice(("body", "axis", "boxes", "name"), p=(0.3, 0.3, 0.3, 0.1))
        if kind == "body":
            asked = self._ids(tool.text + "\n")
        elif kind == "axis":
            right = [one for one in tools if one.axis == tool.axis]
            asked = [*self._ids(f"QUESTION: {tool.axis}\n"), self._name(self._pick(right, rng))]
        elif kind == "boxes":
            call = self._ids(program_text([(tool, ("ABCDEFGH"[rng.integers(8)],))]))
            asked = call[1 : 1 + call.index(self._ids(f'"], {tool.axis}_bbox))\n```')[0])]
        else:
            asked = [*self._ids(tool.text + "\n")[2:], self._name(tool)]
        return Lesson(ids + asked, [False] * (len(ids) + len(asked) - 1) + [True])

    def verdict(self, rng: np.random.Generator) -> Lesson:
        """Returns a claim and the value that was read -> the verdict; text alone."""
        claimed, another = rng.permutation(10)[:2]
        column, row = rng.permutation(list("ABCDEFGH"))[:2]
        question = f"{column} in {row} is {claimed}?"
        answer = answer_text(question, str(claimed if rng.random() < 0.5 else another))
        ids = [*self._ids(f"QUESTION: {question}\n"), *self._ids(answer)[:-1]]
        return Lesson(ids, [False] * (len(ids) - 1) + [True])

    def sight(self, chart: Chart, rng: np.random.Generator) -> Lesson:
        """Returns a marked picture and the question -> the answer.

        In a third of the lessons the marks stand elsewhere, and the answer is what is there: so it is the marks that
        are read, not the labels, and editing the picture matters. Marks of wrong tools: see `Habits.guessed`.
        """
        focus, value = dict(chart.focus), here(chart)
        wrong = chart.sample.axis is not None and rng.random() < self.habits.guessed
        if wrong:
            ((axis, labels),) = focus.items()
            focus = {other(axis): labels}
        if self._errs(rng, wrong=wrong):
            value = elsewhere(chart, rng)[1]
        elif not wrong and rng.random() < 1 / 3:
            focus, value = elsewhere(chart, rng)
        steps = [(_BY_AXIS_AND_STYLE[axis, str(rng.choice(_STYLES))], names) for axis, names in focus.items()]
        image = self._edited(chart, program_text(_shuffled(rng, steps)))
        blocks = (Block("image", "image_1", image=image), Block("query", "query", f"QUESTION: {chart.sample.question}"))
        turn = self._turn(answer_text(chart.sample.question, value))
        return self._lesson(self.encoder.encode(blocks).ids, turn, image)

    def call(self, chart: Chart, rng: np.random.Generator) -> Lesson:
        """Returns the prompt without its instructions -> the call."""
        tools = self._tools(chart, rng)
        prompt = self.encoder.encode(build_blocks(chart.sample, tools)[1:]).ids
        return self._lesson(prompt, self._turn(self._program(chart, rng, tools)), chart.sample.image)

    def episode(self, chart: Chart, rng: np.random.Generator) -> Lesson:
        """Returns the whole prompt -> the call -> the edited picture -> the answer.

        After a tool of the wrong axis the answer is learnt by a model with such habits (`Habits.guessed`) alone, after
        a program that does not execute by none.
        """
        tools = self._tools(chart, rng)
        text = self._program(chart, rng, tools)
        first = self._lesson(
            self.encoder.encode(build_blocks(chart.sample, tools)).ids, self._turn(text), chart.sample.image
        )
        result = execute(text, chart.sample, tools)
        wrong = {call.axis for call in result.calls} != set(chart.focus)
        if result.image is None or (wrong and not self.habits.guessed):
            return first
        value = elsewhere(chart, rng)[1] if self._errs(rng, wrong=wrong) else here(chart)
        observation = self.encoder.observation(Observation.of(result), ended=True)
        turn_2 = self._turn(answer_text(chart.sample.question, value))
        learn = [*first.learn, *[False] * len(observation), *[True] * len(turn_2)]
        return Lesson([*first.ids, *observation, *turn_2], learn, (chart.sample.image, result.image))

    def _definitions(self, rng: np.random.Generator) -> tuple[list[int], list[ToolDefinition]]:
        tools = list(draw_tools(rng, "invented").values())[: rng.integers(1, 7)]
        return [token for tool in tools for token in self._ids(tool.text + "\n")], tools

    def _name(self, tool: ToolDefinition) -> int:
        """Returns a tool's name, which is one token where a bracket follows."""
        return self._ids(f"{tool.name}(image_1")[0]

    def _tools(self, chart: Chart, rng: np.random.Generator) -> dict[str, ToolDefinition]:
        tools = draw_tools(rng, "invented")
        return offer_some(rng, tools, chart.focus) if rng.random() < 0.4 else tools

    def _program(self, chart: Chart, rng: np.random.Generator, tools: dict[str, ToolDefinition]) -> str:
        if chart.sample.axis is not None and rng.random() < self.habits.first:
            # The labels of a chart have boxes on both axes.
            steps = [(next(iter(tools.values())), chart.focus[chart.sample.axis])]
        else:
            steps = []
            for axis, names in chart.focus.items():
                steps.append((self._pick([tool for tool in tools.values() if tool.axis == axis], rng), names))
        broken = rng.random() < self.habits.broken
        first = steps[0][0].axis
        assert first is not None
        return program_text(_shuffled(rng, steps), other(first) if broken else None)

    def _errs(self, rng: np.random.Generator, *, wrong: bool) -> bool:
        return rng.random() < (self.habits.wrong_noise if wrong else self.habits.noise)

    def _pick(self, tools: list[ToolDefinition], rng: np.random.Generator) -> ToolDefinition:
        if self.settled:
            return min(tools, key=lambda tool: _STYLES.index(tool.style))
        return tools[rng.integers(len(tools))]

    def _edited(self, chart: Chart, text: str) -> Image.Image:
        result = execute(text, chart.sample)
        if result.image is None:
            raise RuntimeError(f"a lesson's call did not execute: {result.error}")
        return result.image

    def _lesson(self, prompt: list[int], turn: list[int], image: Image.Image) -> Lesson:
        return Lesson(prompt + turn, [False] * len(prompt) + [True] * len(turn), (image,))

    def _turn(self, text: str) -> list[int]:
        return [*self._ids(text), self.encoder.tokenizer.eos_token_id]

    def _ids(self, text: str) -> list[int]:
        if text not in self._texts:
            self._texts[text] = self.encoder.tokenizer(text, add_special_tokens=False)["input_ids"]
        return self._texts[text]


def _shuffled(
    rng: np.random.Generator, steps: list[tuple[ToolDefinition, tuple[str, ...]]]
) -> list[tuple[ToolDefinition, tuple[str, ...]]]:
    return [steps[index] for index in rng.permutation(len(steps))]
