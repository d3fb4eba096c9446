"""Lessons say what they should."""

from __future__ import annotations

import dataclasses

import numpy as np

from iapo.prompt import PromptEncoder
from iapo.rewards.outcome import grade
from iapo.tasks.synthetic import Chart
from iapo.tiny.lessons import Habits, Lesson, LessonWriter, elsewhere, other, program_text
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
        assert answer == f"FINAL ANSWER: {chart.sample.answers[0]}. TERMINATE"
        assert rest == ""
        assert lesson.images[0] is chart.sample.image
        assert lesson.images[1].tobytes() == result.image.tobytes()  # type: ignore[union-attr]
    assert 0.2 < few / len(charts) < 0.6


def test_habits_follow_their_shares_and_their_answers_are_not_learnt(
    tiny_encoder: PromptEncoder, charts: list[Chart]
) -> None:
    writer, rng = LessonWriter(tiny_encoder, Habits(first=0.5, broken=0.2)), np.random.default_rng(0)
    broken = misused = incomplete = 0
    bars = [chart for chart in charts if chart.sample.axis is not None]
    tables = [chart for chart in charts if chart.sample.axis is None]
    for chart in charts * 3:
        lesson = writer.episode(chart, rng)
        tools = offered(decode(tiny_encoder, lesson, learnt=False))
        text = decode(tiny_encoder, lesson, learnt=True)
        result = execute(text.split("<|im_end|>")[0], chart.sample, tools)
        broken += result.status == "failed"
        wrong = result.misused(chart.sample.axis)
        single = chart.sample.axis is None and result.status == "edited" and len(result.calls) == 1
        misused += wrong
        incomplete += single
        assert ("FINAL ANSWER" in text) == (result.status == "edited" and not wrong and not single)
        if wrong or single:
            assert result.calls[0].name == next(iter(tools))
    # Half of the first tools are of the wrong axis; 20% of the programs are broken; four standard deviations.
    assert abs(broken / (3 * len(charts)) - 0.2) < 0.085
    assert abs(misused / (3 * len(bars)) - 0.2) < 0.14
    assert abs(incomplete / (3 * len(tables)) - 0.4) < 0.14


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


def test_guessed_lessons_are_marked_by_a_wrong_tool_and_right_by_luck(
    tiny_encoder: PromptEncoder, charts: list[Chart]
) -> None:
    writer, rng = LessonWriter(tiny_encoder, Habits(guessed=1.0, luck=0.6)), np.random.default_rng(0)
    right = 0
    for chart in charts * 2:
        lesson = writer.sight(chart, rng)
        wrong = {
            execute(program_text([(tool, names)]), chart.sample).image.tobytes()  # type: ignore[union-attr]
            for axis, names in chart.focus.items()
            for tool in TOOLS.values()
            if (tool.axis == axis) == (chart.sample.axis is None)
        }
        assert lesson.images[0].tobytes() in wrong
        answer = decode(tiny_encoder, lesson, learnt=True).removesuffix("<|im_end|>")
        right += grade(answer, chart.sample.answers).value == 1
    # Luck, and another place that says the same (a quarter of the bars, half of the claims).
    assert 0.6 < right / (2 * len(charts)) < 0.85


def test_elsewhere_has_the_answer_of_the_place(charts: list[Chart]) -> None:
    rng = np.random.default_rng(0)
    for chart in charts:
        focus, answer = elsewhere(chart, rng)
        assert set(focus) == set(chart.focus)
        if chart.cells:
            (column,), (row,) = focus["columns"], focus["rows"]
            cell = str(chart.cells[chart.rows.index(row)][chart.columns.index(column)])
            claimed = chart.sample.question.removesuffix("?").split()[-1]
            assert answer == (cell if "is" not in chart.sample.question.split() else str(cell == claimed).lower())
        else:
            ((label,),) = focus.values()
            assert answer == str(chart.values[chart.labels.index(label)])


def test_a_program_chains_its_tools(charts: list[Chart]) -> None:
    table = next(chart for chart in charts if chart.cells)
    steps = [(TOOLS[f"focus_on_{axis}_with_mask"], names) for axis, names in table.focus.items()]
    result = execute(program_text(steps), table.sample)
    assert [call.axis for call in result.calls] == list(table.focus)
    assert execute(program_text(steps[:1], other(steps[0][0].axis)), table.sample).status == "failed"
