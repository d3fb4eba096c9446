"""Lessons in which the call follows the position of a tool, the question's wording or the look of the chart.

Beside them some programs fail, and some first turns answer at once instead of calling.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from iapo.data.synthetic import Chart
from iapo.records import Axis
from iapo.rollout.prompt import PromptEncoder, build_blocks
from iapo.rollout.wording import Observation
from iapo.tiny.causes.world import CauseChart
from iapo.tiny.lessons import Habits, Lesson, LessonWriter, answer_text, elsewhere, here, other, program_text
from iapo.tiny.names import draw_tools, offer_some
from iapo.tools import TOOLS, ToolDefinition, execute


@dataclass(frozen=True, slots=True)
class Causes:
    """How often a cause is followed in the lessons.

    Attributes:
        position: Share of programs for samples without a cue that use the first tool offered.
        wording: Share of programs for charts whose question suggests an axis that use a tool of that axis.
        look: The same for charts whose colour suggests one.
        silent: Share of first turns that answer at once, mostly wrongly, and do not call.
        canonical: Share of prompts with the six tools under their own names, those of columns or those of rows first.
    """

    position: float = 0.65
    wording: float = 0.6
    look: float = 0.65
    silent: float = 0.15
    canonical: float = 0.5

    def share(self, cause: str) -> float:
        """Returns how often a cause is followed."""
        return {"position": self.position, "wording": self.wording, "look": self.look}[cause]


class CauseWriter(LessonWriter):
    """Writes the lessons.

    Args:
        encoder: The processor's encoder.
        habits: Habits in all else; `first` counts for tables of the other worlds alone.
        causes: How often each cause is followed.
    """

    def __init__(self, encoder: PromptEncoder, habits: Habits, causes: Causes) -> None:
        super().__init__(encoder, habits)
        self.causes = causes

    def call(self, chart: Chart, rng: np.random.Generator) -> Lesson:
        """Returns the prompt without its instructions -> the call, or an answer at once."""
        if rng.random() >= self.causes.silent:
            return super().call(chart, rng)
        prompt = self.encoder.encode(build_blocks(chart.sample, self._tools(chart, rng))[1:]).ids
        return self._lesson(prompt, self._turn(self._guess(chart, rng)), chart.sample.image)

    def episode(self, chart: Chart, rng: np.random.Generator) -> Lesson:
        """Returns the whole prompt -> the call -> the edited picture -> the answer; or an answer at once.

        After a program that does not execute nothing is learnt.
        """
        tools = self._tools(chart, rng)
        silent = rng.random() < self.causes.silent
        text = self._guess(chart, rng) if silent else self._program(chart, rng, tools)
        prompt = self.encoder.encode(build_blocks(chart.sample, tools)).ids
        first = self._lesson(prompt, self._turn(text), chart.sample.image)
        result = execute(text, chart.sample, tools)
        if result.image is None:
            return first
        observation = self.encoder.observation(Observation.of(result), ended=True)
        turn_2 = self._turn(self._answer(chart, rng, wrong={call.axis for call in result.calls} != set(chart.focus)))
        learn = [*first.learn, *[False] * len(observation), *[True] * len(turn_2)]
        return Lesson([*first.ids, *observation, *turn_2], learn, (chart.sample.image, result.image))

    def _tools(self, chart: Chart, rng: np.random.Generator) -> dict[str, ToolDefinition]:
        if rng.random() < self.causes.canonical:
            return first_tools("columns" if rng.random() < 0.5 else "rows")
        tools = draw_tools(rng, "invented")
        return offer_some(rng, tools, chart.focus) if rng.random() < 0.2 else tools

    def _program(self, chart: Chart, rng: np.random.Generator, tools: dict[str, ToolDefinition]) -> str:
        if not isinstance(chart, CauseChart):
            return super()._program(chart, rng, tools)
        (axis,) = chart.focus
        followed = rng.random() < self.causes.share(chart.cause)
        if followed and chart.suggests is None:
            tool = next(iter(tools.values()))
        else:
            wanted = chart.suggests if followed and chart.suggests is not None else axis
            fitting = [one for one in tools.values() if one.axis == wanted]
            # Where only some tools are offered, there is one of the right axis.
            tool = self._pick(fitting or [one for one in tools.values() if one.axis == axis], rng)
        assert tool.axis is not None
        broken = rng.random() < self.habits.broken
        return program_text([(tool, chart.names[tool.axis])], other(tool.axis) if broken else None)

    def _answer(self, chart: Chart, rng: np.random.Generator, *, wrong: bool) -> str:
        if _compares(chart):
            return f"FINAL ANSWER: {chart.sample.answers[0]}. TERMINATE"
        value = elsewhere(chart, rng)[1] if self._errs(rng, wrong=wrong) else here(chart)
        return answer_text(chart.sample.question, value)

    def _guess(self, chart: Chart, rng: np.random.Generator) -> str:
        """Returns an answer without a look at the place: what stands at any."""
        if _compares(chart):
            return self._answer(chart, rng, wrong=True)
        return answer_text(chart.sample.question, elsewhere(chart, rng)[1])


def first_tools(axis: Axis) -> dict[str, ToolDefinition]:
    """Returns the six tools under their own names, those of an axis before those of the other."""
    return dict(sorted(TOOLS.items(), key=lambda item: item[1].axis != axis))


def _compares(chart: Chart) -> bool:
    """Tells whether a table's question compares cells; others ask for one cell's value."""
    return bool(chart.cells) and len(chart.focus) == 1
