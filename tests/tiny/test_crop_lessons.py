"""Lessons of the crop world say what they should, and the start is made, stopped and gone on with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from iapo.errors import InputError
from iapo.rollout.policy import load_policy
from iapo.rollout.prompt import PromptEncoder
from iapo.tiny.crop import start
from iapo.tiny.crop.lessons import PROMPT, TOOLS, CropTeaching, Habits
from iapo.tiny.crop.pages import PANELS, draw, panel
from iapo.tiny.lessons import Lesson
from iapo.tiny.models import make_model
from iapo.tiny.pretrain import Stage
from iapo.tools import execute

TINY = {"hidden": 32, "layers": 2, "heads": 2, "vision_hidden": 32, "vision_layers": 1, "mlp": 2}


@pytest.fixture(scope="module")
def encoder() -> PromptEncoder:
    return PromptEncoder(start.make_start_processor())


def teaching(encoder: PromptEncoder, habits: Habits) -> CropTeaching:
    torch.manual_seed(0)
    return CropTeaching(make_model(encoder.tokenizer, **TINY), encoder, habits)


def learnt(encoder: PromptEncoder, lesson: Lesson) -> str:
    ids = [token for token, learn in zip(lesson.ids, lesson.learn, strict=True) if learn]
    text: str = encoder.tokenizer.decode(ids)
    return text


def test_find_is_the_panel_asked_for_and_read_its_number(encoder: PromptEncoder) -> None:
    lessons = teaching(encoder, Habits(0, 0))
    for page in draw(10, seed=0, split="train"):
        result = execute(learnt(encoder, lessons.find(page)).removesuffix("<|im_end|>"), page.sample, TOOLS)
        assert result.status == "edited"
        assert result.calls[0].given["box"] == panel(page.asked)
        assert result.misuse(None) is False
        read = lessons.read(page)
        assert learnt(encoder, read) == f"FINAL ANSWER: {page.sample.answers[0]}. TERMINATE<|im_end|>"
        (image,) = read.images
        assert result.image is not None
        assert image.tobytes() == result.image.convert("L").tobytes()


def test_an_episode_crops_as_habits_have_it_and_reads_what_it_shows(encoder: PromptEncoder) -> None:
    lessons, rng = teaching(encoder, Habits(right=0.3, corner=0.5)), np.random.default_rng(0)
    places = []
    for page in draw(200, seed=0, split="train"):
        lesson = lessons.episode(page, rng)
        call, answer, _ = learnt(encoder, lesson).split("<|im_end|>")
        result = execute(call, page.sample, TOOLS)
        place = next(place for place in range(PANELS**2) if panel(place) == result.calls[0].given["box"])
        places.append("right" if place == page.asked else "corner" if place == 0 else "other")
        assert answer == f"FINAL ANSWER: {page.numbers[place]}. TERMINATE"
        assert result.image is not None
        assert lesson.images[1].tobytes() == result.image.tobytes()
        prompt = encoder.tokenizer.decode(lesson.ids)
        assert PROMPT.instructions in prompt
    shares = {kind: places.count(kind) / len(places) for kind in ("right", "corner", "other")}
    # A third of the other crops, and half of those of the corner, are what they are by chance: five deviations.
    assert shares["right"] == pytest.approx(0.3 + 0.7 / 16, abs=0.17)
    assert shares["corner"] == pytest.approx(0.5, abs=0.18)


@pytest.mark.slow(5)
def test_the_losses_fall(encoder: PromptEncoder) -> None:
    lessons, rng = teaching(encoder, Habits(1, 0)), np.random.default_rng(0)
    pages = draw(10**9, seed=0, split="train")
    optimizer = torch.optim.AdamW(lessons.model.parameters(), lr=3e-3)
    losses: dict[str, list[float]] = {kind: [] for kind in ("content", "read", "find", "episode")}
    for _ in range(12):
        optimizer.zero_grad()
        for kind, values in losses.items():
            loss = lessons.loss(kind, pages, 2, rng)
            loss.backward()
            values.append(loss.item())
        optimizer.step()
    for kind, values in losses.items():
        assert values[-1] < 0.8 * values[0], kind


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = {"content": 1, "read": 1, "find": 1, "episode": 1}
    stages = (Stage("sight", 2, 1e-3, {"content": 1}), Stage("protocol", 3, 1e-3, batch, falls=True))
    monkeypatch.setattr(start, "STAGES", stages)
    monkeypatch.setattr(start, "WIDTHS", TINY)


@pytest.mark.slow(5)
def test_the_start_is_a_checkpoint_with_its_prompt(small: None, tmp_path: Path) -> None:
    start.make_start(tmp_path / "start", seed=0)
    policy = load_policy(str(tmp_path / "start"))
    assert policy.template == PROMPT
    page = next(draw(1, seed=0, split="test"))
    assert PromptEncoder(policy.processor).image_token_counts([page.sample.image]) == [PANELS**2]
    rows = [line for line in (tmp_path / "start" / start.PROGRESS).read_text().splitlines() if line]
    assert len(rows) == 2
    assert start.steps() == 5
    made = (tmp_path / "start" / "model.safetensors").read_bytes()
    start.make_start(tmp_path / "start", seed=0)
    assert (tmp_path / "start" / "model.safetensors").read_bytes() == made
    with pytest.raises(InputError, match="made with seed 0, not 1"):
        start.make_start(tmp_path / "start", seed=1)


@pytest.mark.slow(5)
def test_a_start_that_was_stopped_goes_on_to_the_same_weights(
    small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start.make_start(tmp_path / "whole", seed=0)
    monkeypatch.setattr("iapo.tiny.state.EVERY", 1)
    loss, calls = CropTeaching.loss, []

    def fail(*words: object, **more: object) -> torch.Tensor:
        calls.append(1)
        if len(calls) == 8:
            raise KeyboardInterrupt
        return loss(*words, **more)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(CropTeaching, "loss", fail)
        with pytest.raises(KeyboardInterrupt):
            start.make_start(tmp_path / "stopped", seed=0)
    assert not (tmp_path / "stopped" / start.BUILD).exists()
    start.make_start(tmp_path / "stopped", seed=0)
    first, second = (load_policy(str(tmp_path / name)).model.state_dict() for name in ("whole", "stopped"))
    assert all(torch.equal(value, second[name]) for name, value in first.items())
