"""Lessons say what they should."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest

from iapo.data.synthetic import Chart
from iapo.grading.outcome import grade
from iapo.rollout.prompt import PromptEncoder
from iapo.tiny.lessons import Habits, Lesson, LessonWriter, answer_text, elsewhere, here, other, program_text
from iapo.tools import TOOLS, ToolDefinition, execute


def decode(encoder: PromptEncoder, lesson: Lesson, *, learnt: bool) -> str:
    ids = [token for token, learn in zip(lesson.ids, lesson.learn, strict=True) if learn == learnt]
    text: str = encoder.tokenizer.decode(ids)
    return text


def offered(prompt: str) -> dict[str, ToolDefinition]:
    """The tools that a prompt defines, by the names that it gives them."""
    tools: dict[str, ToolDefinition] = {}
    for part in prompt.split("def ")[1:]:
        name = part.split("(")[0]
        if "(" not in part:
            continue
        tool = next(tool for tool in TOOLS.values() if part[len(name) :].startswith(tool.text.partition("(")[2], 1))
        tools[name] = dataclasses.replace(tool, name=name)
    return tools


def body(tool: ToolDefinition) -> str:
    """A definition without `def ` and name."""
    return tool.text.removeprefix(f"def {tool.name}") + "\n"


def test_names_are_asked_for_by_their_bodies(tiny_encoder: PromptEncoder) -> None:
    writer, rng = LessonWriter(tiny_encoder, Habits()), np.random.default_rng(0)
    for _ in range(50):
        lesson = writer.names(rng)
        tools = offered(tiny_encoder.tokenizer.decode(lesson.ids))
        assert 1 <= len(tools) <= 6
        assert sum(lesson.learn) == len(tools)
        for place, learn in enumerate(lesson.learn):
            if learn:
                target = tiny_encoder.tokenizer.decode([lesson.ids[place]])
                before = tiny_encoder.tokenizer.decode(lesson.ids[:place])
                assert before.endswith(body(tools[target]))


def test_questions_are_answered_by_the_definitions(tiny_encoder: PromptEncoder) -> None:
    writer, rng = LessonWriter(tiny_encoder, Habits()), np.random.default_rng(0)
    kinds = {"axis": 0, "boxes": 0, "body": 0, "name": 0}
    for _ in range(200):
        lesson = writer.questions(rng)
        assert lesson.learn.index(True) == len(lesson.ids) - 1
        target = tiny_encoder.tokenizer.decode(lesson.ids[-1:])
        before = tiny_encoder.tokenizer.decode(lesson.ids[:-1])
        tools = offered(before)
        if "_bbox" in target:
            kinds["boxes"] += 1
            assert f"{tools[before.rpartition('display(')[2].split('(')[0]].axis}_bbox" in target
        elif before.endswith(("QUESTION: columns\n", "QUESTION: rows\n")):
            kinds["axis"] += 1
            assert before.endswith(f"QUESTION: {tools[target].axis}\n")
        elif before.rpartition("def ")[2] in tools:
            kinds["body"] += 1
            assert target == body(tools[before.rpartition("def ")[2]])
        else:
            kinds["name"] += 1
            assert before.endswith(body(tools[target]))
    assert all(kinds.values())


def test_an_episode_teaches_calls_of_offered_tools_and_the_answer(
    tiny_encoder: PromptEncoder, charts: list[Chart]
) -> None:
    writer, rng = LessonWriter(tiny_encoder, Habits()), np.random.default_rng(0)
    few = 0
    for chart in charts:
        lesson = writer.episode(chart, rng)
        tools = offered(decode(tiny_encoder, lesson, learnt=False))
        few += len(tools) < 6
        call, answer, rest = decode(tiny_encoder, lesson, learnt=True).split("<|im_end|>")
        result = execute(call, chart.sample, tools)
        assert result.status == "edited", result.error
        assert {one.axis: one.targets for one in result.calls} == dict(chart.focus)
        assert answer == answer_text(chart.sample.question, here(chart))
        assert rest == ""
        assert lesson.images[0] is chart.sample.image
        assert lesson.images[1].tobytes() == result.image.tobytes()  # type: ignore[union-attr]
    assert 0.2 < few / len(charts) < 0.6


@pytest.mark.slow(1)
def test_habits_follow_their_shares_and_their_answers_are_not_learnt(
    tiny_encoder: PromptEncoder, charts: list[Chart]
) -> None:
    writer, rng = LessonWriter(tiny_encoder, Habits(first=0.5, broken=0.2)), np.random.default_rng(0)
    broken = misused = 0
    bars = [chart for chart in charts if chart.sample.axis is not None]
    for chart in charts * 3:
        lesson = writer.episode(chart, rng)
        tools = offered(decode(tiny_encoder, lesson, learnt=False))
        text = decode(tiny_encoder, lesson, learnt=True)
        result = execute(text.split("<|im_end|>")[0], chart.sample, tools)
        broken += result.status == "failed"
        wrong = bool(result.misuse(chart.sample.axis))
        misused += wrong
        assert result.status == "failed" or len(result.calls) == len(chart.focus)
        assert ("FINAL ANSWER" in text) == (result.status == "edited" and not wrong)
        if wrong:
            assert result.calls[0].name == next(iter(tools))
    # Half of the first tools are of the wrong axis; 20% of the programs are broken; four standard deviations.
    assert abs(broken / (3 * len(charts)) - 0.2) < 0.085
    assert abs(misused / (3 * len(bars)) - 0.2) < 0.14


def test_sight_lessons_are_answered_by_the_marks(tiny_encoder: PromptEncoder, charts: list[Chart]) -> None:
    writer, rng = LessonWriter(tiny_encoder, Habits()), np.random.default_rng(0)
    true = 0
    for chart in charts:
        lesson = writer.sight(chart, rng)
        assert lesson.images[0].tobytes() != chart.sample.image.tobytes()
        answer = decode(tiny_encoder, lesson, learnt=True).removesuffix("<|im_end|>")
        true += grade(answer, chart.sample.answers).value == 1
    # Two thirds, and where another place says the same.
    assert 0.6 < true / len(charts) < 0.95


@pytest.mark.parametrize(("wrong_noise", "least", "most"), [(0.0, 1.0, 1.0), (0.6, 0.4, 0.7)])
def test_guessed_lessons_are_marked_by_a_wrong_tool_and_answered_all_the_same(
    tiny_encoder: PromptEncoder, charts: list[Chart], wrong_noise: float, least: float, most: float
) -> None:
    habits = Habits(guessed=1.0, noise=1.0 - wrong_noise, wrong_noise=wrong_noise)
    writer, rng = LessonWriter(tiny_encoder, habits), np.random.default_rng(0)
    bars = [chart for chart in charts if chart.sample.axis is not None] * 3
    right = 0
    for chart in bars:
        lesson = writer.sight(chart, rng)
        ((axis, names),) = chart.focus.items()
        wrong = {
            execute(program_text([(tool, names)]), chart.sample).image.tobytes()  # type: ignore[union-attr]
            for tool in TOOLS.values()
            if tool.axis != axis
        }
        assert lesson.images[0].tobytes() in wrong
        answer = decode(tiny_encoder, lesson, learnt=True).removesuffix("<|im_end|>")
        right += grade(answer, chart.sample.answers).value == 1
    # Another place is the same place in one of four cases, and bars may be equal.
    assert least <= right / len(bars) <= most


def test_episodes_with_wrong_tools_have_answers_where_models_get_away_with_them(
    tiny_encoder: PromptEncoder, charts: list[Chart]
) -> None:
    writer, rng = LessonWriter(tiny_encoder, Habits(first=1.0, guessed=0.1)), np.random.default_rng(0)
    for chart in charts:
        answer = decode(tiny_encoder, writer.episode(chart, rng), learnt=True).split("<|im_end|>")[1]
        assert grade(answer, chart.sample.answers).value == 1


def test_claims_are_read_before_they_are_judged(tiny_encoder: PromptEncoder, charts: list[Chart]) -> None:
    claims = [chart for chart in charts if chart.sample.answers[0] in ("true", "false")]
    assert claims
    for chart in claims:
        cell = here(chart)
        claimed = chart.sample.question.removesuffix("?").split()[-1]
        assert (chart.sample.answers[0] == "true") == (cell == claimed)
        assert answer_text(chart.sample.question, cell).startswith(f"Read {cell}. FINAL ANSWER: ")
        assert grade(answer_text(chart.sample.question, cell), chart.sample.answers).value == 1
        wrong = str((int(cell) + 1) % 10)
        said = "true" if wrong == claimed else "false"
        assert grade(answer_text(chart.sample.question, wrong), (said,)).value == 1


def test_verdicts_follow_from_what_was_read(tiny_encoder: PromptEncoder) -> None:
    writer, rng = LessonWriter(tiny_encoder, Habits()), np.random.default_rng(0)
    seen = set()
    for _ in range(50):
        lesson = writer.verdict(rng)
        text = decode(tiny_encoder, lesson, learnt=False)
        claimed, read = re.findall(r"is (\d)\?|Read (\d)\.", text)
        learnt = decode(tiny_encoder, lesson, learnt=True)
        assert learnt == str(claimed[0] == read[1]).lower()
        seen.add(learnt)
    assert seen == {"true", "false"}


def test_elsewhere_has_the_value_of_the_place(charts: list[Chart]) -> None:
    rng = np.random.default_rng(0)
    for chart in charts:
        focus, value = elsewhere(chart, rng)
        assert set(focus) == set(chart.focus)
        if chart.cells:
            (column,), (row,) = focus["columns"], focus["rows"]
            assert value == str(chart.cells[chart.rows.index(row)][chart.columns.index(column)])
        else:
            ((label,),) = focus.values()
            assert value == str(chart.values[chart.labels.index(label)])


def test_a_program_chains_its_tools(charts: list[Chart]) -> None:
    table = next(chart for chart in charts if chart.cells)
    steps = [(TOOLS[f"focus_on_{axis}_with_mask"], names) for axis, names in table.focus.items()]
    result = execute(program_text(steps), table.sample)
    assert [call.axis for call in result.calls] == list(table.focus)
    assert execute(program_text(steps[:1], other(steps[0][0].axis)), table.sample).status == "failed"
