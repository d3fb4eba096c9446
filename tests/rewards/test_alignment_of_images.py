"""Attributions and divergences of samples with one, two and three images in one batch."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from calls import call_text
from PIL import Image
from several import mixed
from transformers import PreTrainedModel

from iapo.attribution.calls import Attributor
from iapo.attribution.divergence import block_distribution
from iapo.attribution.gradient import CallInput, Pictures, block_scores
from iapo.attribution.methods import METHODS
from iapo.attribution.reading import ReadPrompts
from iapo.attribution.settings import AttributionSettings
from iapo.endpoints.chat import EndpointSettings
from iapo.records import Sample, ToolCall
from iapo.rewards.alignment import Alignment
from iapo.rewards.verifier import EndpointVerifier, LocalVerifier
from iapo.rollout.policy import ImageTextProcessor, Policy
from iapo.rollout.prompt import PromptEncoder
from iapo.rollout.turns import Rollout, encode_prompts, finish
from iapo.studies.explanations import explain
from iapo.teachers.asking import attribute_samples
from iapo.teachers.references import OwnCall, make_reference
from iapo.tools import TOOLS, offered_tools

FREE = {**TOOLS, **offered_tools("crop")}
SETTINGS = AttributionSettings(max_turn_tokens=80, batch_size=3)


def call(sample: Sample, name: str) -> str:
    if name != "image_1":
        return f"```python\ndisplay(crop({name}, [0, 0, 50, 40]))\n```"
    return call_text("focus_on_columns_with_mask", next(iter(sample.column_boxes)), "columns")


def rollouts_of(encoder: PromptEncoder, samples: Sequence[Sample], turns: Sequence[str]) -> list[Rollout]:
    tokenizer = encoder.tokenizer
    ids = [[*tokenizer(turn)["input_ids"], tokenizer.eos_token_id] for turn in turns]

    def answer(rows: list[list[int]], images: list[list[Image.Image]]) -> list[list[int]]:
        return [tokenizer("FINAL ANSWER: 1. TERMINATE")["input_ids"] for _ in rows]

    return finish(samples, encode_prompts(samples, encoder, FREE), ids, encoder, answer, tools=FREE)


@pytest.fixture
def rollouts(encoder: PromptEncoder) -> list[Rollout]:
    pair, single, triple = mixed()
    asked = [(pair, "image_1"), (single, "image_1"), (triple, "image_3"), (pair, "image_2"), (triple, "image_1")]
    found = rollouts_of(encoder, [one for one, _ in asked], [call(one, name) for one, name in asked])
    assert [one.trace.result.status for one in found] == ["edited"] * 5
    return found


def test_a_batch_is_as_its_rollouts_alone(
    model: PreTrainedModel, other_model: Any, processor: ImageTextProcessor, encoder: Any, rollouts: list[Rollout]
) -> None:
    alignment = Alignment(Policy(copy.deepcopy(other_model), processor), encoder, SETTINGS, FREE)
    together = alignment.measure(model, rollouts)
    alone = [alignment.measure(model, [one])[0] for one in rollouts]
    for one, other, of in zip(together, alone, rollouts, strict=True):
        assert one.divergence == pytest.approx(other.divergence, abs=1e-5)
        assert one.divergence > 0
        assert dict(one.student) == pytest.approx(dict(other.student), abs=1e-5)
        assert dict(one.teacher) == pytest.approx(dict(other.teacher), abs=1e-5)
        assert list(one.student) == list(of.prompt.block_names)
    # Without anything that calls share.
    for one, of in zip(together, rollouts, strict=True):
        pixels = encoder.pixels(of.trace.sample.images)
        plain = CallInput(
            prompt_ids=of.prompt.ids,
            block_of=of.prompt.block_of,
            blocks=len(of.prompt.block_names),
            turn_ids=of.first.ids,
            target=of.first.target,
            pictures=tuple(range(len(of.trace.sample.images))),
        )
        scores = block_scores(model, [plain], Pictures(pixels["pixel_values"], pixels["image_grid_thw"]))
        assert list(one.student.values()) == pytest.approx(block_distribution(scores)[0].tolist(), abs=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_takes_several(method: str, model: Any, encoder: Any, rollouts: list[Rollout]) -> None:
    steps = 2 if METHODS[method].takes_steps else 1
    settings = dataclasses.replace(SETTINGS, method=method, steps=steps)
    attributor = Attributor(model, encoder.pixels, settings, tokenizer=encoder.tokenizer)
    alike = [rollouts[0], rollouts[3]]
    turns = [(one.first.ids, one.first.target) for one in alike]
    found = attributor.distributions([one.prompt for one in alike], turns)
    for row, one, turn in zip(found, alike, turns, strict=True):
        (own,) = attributor.distributions([one.prompt], [turn])
        torch.testing.assert_close(row, own, rtol=0, atol=1e-5)
        assert len(row) == len(one.prompt.block_names)


@pytest.mark.slow(1)
def test_heat_maps_are_of_each_image(
    model: Any, other_model: Any, processor: ImageTextProcessor, encoder: PromptEncoder, rollouts: list[Rollout]
) -> None:
    alignment = Alignment(Policy(copy.deepcopy(other_model), processor), encoder, SETTINGS, FREE)
    measured = alignment.add_patches(model, rollouts, alignment.measure(model, rollouts), 5)
    side = encoder.processor.image_processor.patch_size * encoder.processor.image_processor.merge_size
    assert {len(of.trace.sample.images) for one, of in zip(measured, rollouts, strict=True) if one.patches} == {1, 2, 3}
    for one, of in zip(measured, rollouts, strict=True):
        sizes = [(image.height // side, image.width // side) for image in of.trace.sample.images]
        for grids in one.patches.values():
            assert [(len(grid), len(grid[0])) for grid in grids] == sizes
            assert sum(abs(share) for grid in grids for row in grid for share in row) < 1
        if one.patches:
            policy = Policy(model, processor)
            turn = of.first.ids, of.first.target
            maps = explain("student", policy, encoder, of.prompt, turn, SETTINGS).maps.values()
            for grid, own in zip(one.patches["student"], maps, strict=True):
                assert np.array(grid) == pytest.approx(own, rel=6e-3, abs=1e-6)


def test_own_calls_stored_and_live_are_the_same(
    model: PreTrainedModel,
    other_model: PreTrainedModel,
    processor: ImageTextProcessor,
    encoder: PromptEncoder,
    rollouts: list[Rollout],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def write(read: ReadPrompts, greedy: Any) -> list[list[int]]:
        """The teacher looks at the last image that it is shown."""
        texts = [f"```python\ndisplay(crop(image_{len(one.images)}, [0, 0, 30, 30]))\n```" for one in read.prompts]
        return [processor.tokenizer(text)["input_ids"] for text in texts]

    monkeypatch.setattr(ReadPrompts, "write", write)
    teacher = Policy(copy.deepcopy(other_model), processor)
    samples = mixed()
    table = attribute_samples(teacher, iter(samples), SETTINGS, FREE)
    assert [row.call for row in table.rows.values()] == [
        f"```python\ndisplay(crop(image_{count}, [0, 0, 30, 30]))\n```" for count in (2, 1, 3)
    ]
    table.write(tmp_path / "teacher.parquet")
    own = OwnCall(teacher, SETTINGS, FREE)
    stored = make_reference(
        dataclasses.replace(SETTINGS, teacher_table=str(tmp_path / "teacher.parquet")), None, encoder, FREE
    )
    live, read = (Alignment(one, encoder, SETTINGS, FREE).measure(model, rollouts) for one in (own, stored))
    for one, other in zip(live, read, strict=True):
        # Explained among other samples, shares differ by roundings.
        assert one.divergence == pytest.approx(other.divergence, abs=3e-5)
        assert dict(one.teacher) == pytest.approx(dict(other.teacher), abs=3e-6)
        assert one.divergence > 0


def test_verifiers_see_all_images(model: Any, processor: ImageTextProcessor) -> None:
    pair = mixed()[0]
    other = dataclasses.replace(pair, more_images=(pair.more_images[0].rotate(180),))
    asked = ToolCall("crop", (), "", None, (("image", "image_2"), ("box", (0, 0, 30, 30))))
    scores = LocalVerifier(Policy(copy.deepcopy(model), processor), FREE)(
        [(pair, asked), (other, asked), (pair, asked)]
    )
    assert scores[0] == scores[2] != scores[1]
    verifier = EndpointVerifier(EndpointSettings("m", "http://127.0.0.1:9/v1"), FREE)
    first, second = (verifier._question(one, asked) for one in (pair, other))
    assert [part["type"] for part in first.content] == ["image_url", "image_url", "text"]
    assert first.content[0] == second.content[0]
    assert first.content[1] != second.content[1]
    assert first.about != second.about
