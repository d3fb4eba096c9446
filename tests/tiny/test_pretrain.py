"""Pretraining on lessons learns."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from iapo.data.synthetic import Chart
from iapo.errors import InputError
from iapo.rollout.prompt import PromptEncoder
from iapo.tiny.lessons import Habits, LessonWriter, program_text
from iapo.tiny.models import make_model, start_with_lookups
from iapo.tiny.names import CANONICAL, INVENTED, UNSEEN, draw_tools
from iapo.tiny.pretrain import Stage, Teaching, collate, name_ids, run_stage
from iapo.tiny.state import StageState


@pytest.fixture
def teaching(tiny_encoder: PromptEncoder) -> Teaching:
    return make_teaching(tiny_encoder)


def make_teaching(tiny_encoder: PromptEncoder) -> Teaching:
    torch.manual_seed(0)
    widths = {"hidden": 64, "heads": 2, "layers": 2, "vision_hidden": 48, "vision_layers": 1}
    model = make_model(tiny_encoder.tokenizer, **widths)  # type: ignore[arg-type]
    start_with_lookups(model)
    return Teaching(model, tiny_encoder, LessonWriter(tiny_encoder, Habits()))


def test_collate_pads_and_masks(tiny_encoder: PromptEncoder, charts: list[Chart]) -> None:
    writer, rng = LessonWriter(tiny_encoder, Habits()), np.random.default_rng(0)
    lessons = [writer.sight(charts[0], rng), writer.episode(charts[1], rng)]
    inputs, labels = collate(tiny_encoder, lessons)
    short = len(lessons[0].ids)
    assert inputs["input_ids"].shape == labels.shape == (2, len(lessons[1].ids))
    assert inputs["attention_mask"].sum(1).tolist() == [len(lesson.ids) for lesson in lessons]
    assert (labels[0, short:] == -100).all()
    assert (labels != -100).sum(1).tolist() == [sum(lesson.learn) for lesson in lessons]
    assert inputs["image_grid_thw"].shape == (3, 3)
    text = collate(tiny_encoder, [writer.names(rng)])[0]
    assert "pixel_values" not in text


@pytest.mark.slow(4)
def test_a_stage_learns_and_leaves_the_names_alone(teaching: Teaching, charts: list[Chart]) -> None:
    encoder = teaching.encoder
    weight = teaching.model.get_input_embeddings().weight
    fixed = name_ids(encoder, (*CANONICAL, *INVENTED, *UNSEEN))
    before = weight.detach().clone()
    teaching.fix_names()
    rows: list[dict[str, Any]] = []
    batch = {"names": 4, "questions": 8, "content": 4, "sight": 4, "call": 4, "episode": 4}
    stage = Stage("check", steps=24, rate=3e-3, batch=batch, falls=True)
    run_stage(teaching, itertools.cycle(charts[:8]), stage, np.random.default_rng(0), rows.append, every=8)
    assert [row["step"] for row in rows] == [8, 16, 24]
    for kind in batch:
        assert rows[-1][kind] < 0.98 * rows[0][kind], kind
    assert rows[-1]["sight"] < 0.7 * rows[0]["sight"]
    assert torch.equal(weight[fixed], before[fixed])
    others = [index for index in range(len(weight)) if index not in set(fixed)]
    assert not torch.equal(weight[others], before[others])


def test_early_layers_are_asked_what_definitions_say(teaching: Teaching) -> None:
    encoder = teaching.encoder

    def ids(text: str) -> list[int]:
        found: list[int] = encoder.tokenizer(text, add_special_tokens=False)["input_ids"]
        return found

    tools = draw_tools(np.random.default_rng(0), "invented")
    first, second = list(tools.values())[:2]
    prompt = [*ids(first.text + "\n"), *ids(second.text + "\n")]
    call = ids(program_text([(second, ("A",))]))
    # Asked for as a definition's beginning, it still is a later name.
    row = [*prompt, *call, *ids(first.text + "\n")]
    names, bodies = (found[0].tolist() for found in teaching._definitions(torch.tensor([row])))
    assert {place: token for place, token in enumerate(names) if token != -100} == {2: row[1], 5: row[4]}
    called = row.index(row[4], 6)
    again = len(prompt) + len(call) + 1
    assert {place: token for place, token in enumerate(bodies) if token != -100} == {called: row[5], again: row[2]}


def test_held_out_names_take_no_part(teaching: Teaching, charts: list[Chart]) -> None:
    weight = teaching.model.get_input_embeddings().weight
    held_out = name_ids(teaching.encoder, UNSEEN)
    teaching.loss("episode", iter(charts), 4, np.random.default_rng(0)).backward()
    assert weight.grad is not None
    assert not weight.grad[held_out].any()
    assert weight.grad[name_ids(teaching.encoder, INVENTED)].any()


@pytest.mark.slow(10)
def test_a_stage_goes_on_where_it_was_stopped(
    tmp_path: Path, tiny_encoder: PromptEncoder, charts: list[Chart], monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = Stage("both", 5, 1e-3, {"names": 2, "sight": 2})

    def go(folder: Path | None, stops: int | None = None) -> tuple[Any, list[dict[str, Any]]]:
        lessons = make_teaching(tiny_encoder)
        state = None if folder is None else StageState(folder, {"seed": 0})
        rows: list[dict[str, Any]] = [] if state is None else state.history
        items = itertools.islice(itertools.cycle(charts[:6]), stops)
        run_stage(lessons, items, stage, np.random.default_rng(0), rows.append, every=3, state=state)
        return lessons.model, [{key: value for key, value in row.items() if key != "seconds"} for row in rows]

    whole, said = go(None)
    monkeypatch.setattr("iapo.tiny.state.EVERY", 1)
    # Two images a step: after the third there are none left.
    with pytest.raises(StopIteration):
        go(tmp_path, stops=6)
    model, rows = go(tmp_path)
    assert rows == said
    assert all(torch.equal(one, whole.state_dict()[name]) for name, one in model.state_dict().items())
    with pytest.raises(InputError, match="begun with seed 0, not 1"):
        StageState(tmp_path, {"seed": 1})
