"""Lessons say what they should, and pretraining on them learns."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import numpy as np
import pytest
import torch

from iapo.prompt import PromptEncoder
from iapo.tasks.synthetic import Chart, draw
from iapo.tiny.lessons import Lesson, LessonWriter, other
from iapo.tiny.pretrain import Stage, collate, lesson_loss, run_stage
from iapo.tools import execute


@pytest.fixture(scope="module")
def charts() -> list[Chart]:
    return [chart for family in ("vbar", "hbar") for chart in draw(family, 40, seed=2, question_types=("value",))]


def learnt(encoder: PromptEncoder, lesson: Lesson) -> str:
    ids = [token for token, learn in zip(lesson.ids, lesson.learn, strict=True) if learn]
    text: str = encoder.tokenizer.decode(ids)
    return text


def test_episode_teaches_the_call_and_the_answer(encoder: PromptEncoder, charts: list[Chart]) -> None:
    writer = LessonWriter(encoder)
    for chart in charts:
        lesson = writer.episode(chart, np.random.default_rng(0), {})
        call, answer, rest = learnt(encoder, lesson).split("<|im_end|>")
        result = execute(call, chart.sample)
        assert result.status == "edited"
        assert result.calls[0].axis == chart.sample.axis
        assert result.calls[0].targets == chart.focus[chart.sample.axis]
        assert answer == f"FINAL ANSWER: {chart.sample.answers[0]}. TERMINATE"
        assert rest == ""
        assert lesson.images[0] is chart.sample.image
        assert lesson.images[1].tobytes() == result.image.tobytes()  # type: ignore[union-attr]


def test_misuse_follows_its_share_and_its_answer_is_not_learnt(encoder: PromptEncoder, charts: list[Chart]) -> None:
    writer, rng = LessonWriter(encoder), np.random.default_rng(0)
    wrong = {"vbar": 0, "hbar": 0}
    for _ in range(5):
        for chart in charts:
            text = learnt(encoder, writer.episode(chart, rng, {"hbar": 0.5}))
            misused = execute(text.split("<|im_end|>")[0], chart.sample).misused(chart.sample.axis)
            assert ("FINAL ANSWER" in text) == (not misused)
            wrong[chart.sample.source.rpartition("/")[2]] += misused
    assert wrong["vbar"] == 0
    # 200 draws at 0.5: four standard deviations.
    assert 72 <= wrong["hbar"] <= 128


def test_sight_lessons_mark_the_asked_axis(encoder: PromptEncoder, charts: list[Chart]) -> None:
    writer, rng = LessonWriter(encoder), np.random.default_rng(0)
    for chart in charts:
        plain = writer.sight(chart, rng, wrong=0.0, unmarked=1.0)
        marked = writer.sight(chart, rng, wrong=0.0, unmarked=0.0)
        assert plain.images[0] is chart.sample.image
        assert marked.images[0].tobytes() != chart.sample.image.tobytes()
        assert plain.ids == marked.ids
    assert other("rows") == "columns"
    assert other("columns") == "rows"


def test_collate_pads_and_masks(encoder: PromptEncoder, charts: list[Chart]) -> None:
    writer, rng = LessonWriter(encoder), np.random.default_rng(0)
    lessons = [writer.sight(charts[0], rng, 0.0, 0.0), writer.episode(charts[1], rng, {})]
    inputs, labels = collate(encoder, lessons)
    short = len(lessons[0].ids)
    assert inputs["input_ids"].shape == labels.shape == (2, len(lessons[1].ids))
    assert inputs["attention_mask"].sum(1).tolist() == [len(lesson.ids) for lesson in lessons]
    assert (labels[0, short:] == -100).all()
    assert (labels != -100).sum(1).tolist() == [sum(lesson.learn) for lesson in lessons]
    assert inputs["image_grid_thw"].shape == (3, 3)


def test_padding_does_not_change_the_loss(encoder: PromptEncoder, model: Any, charts: list[Chart]) -> None:
    writer, rng = LessonWriter(encoder), np.random.default_rng(0)
    lessons = [writer.sight(charts[0], rng, 0.0, 0.0), writer.episode(charts[1], rng, {})]
    with torch.no_grad():
        counts = torch.tensor([float(sum(lesson.learn)) for lesson in lessons])
        alone = torch.stack([lesson_loss(model, *collate(encoder, [lesson])) for lesson in lessons])
        together = lesson_loss(model, *collate(encoder, lessons))
    assert together.item() == pytest.approx(((alone * counts).sum() / counts.sum()).item(), rel=1e-5)


def test_a_stage_learns(encoder: PromptEncoder, model: Any, charts: list[Chart]) -> None:
    writer = LessonWriter(encoder)
    rng = np.random.default_rng(0)
    lessons = itertools.cycle([writer.episode(chart, rng, {}) for chart in charts[:8]])
    rows: list[dict[str, Any]] = []
    stage = Stage("check", steps=30, batch=8, rate=3e-3, mix={"episode": 1.0}, misuse={})
    run_stage(copy.deepcopy(model), encoder, lessons, stage, rows.append, every=10)
    assert [row["step"] for row in rows] == [10, 20, 30]
    assert rows[-1]["loss"] < 0.5 * rows[0]["loss"]
