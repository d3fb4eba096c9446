"""Training on samples of one, two and three images in one batch."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from scripted import COLUMNS, loss_and_gradient, relative, scripted, settings
from several import mixed

from iapo.records import Sample
from iapo.rollout.policy import ImageTextProcessor, Policy
from iapo.runs import RunFolder, data_hash
from iapo.tiny.models import make_qwen3_model
from iapo.tools import TOOLS, offered_tools
from iapo.training.batches import dataset_hash, picture_ids, samples_of, to_dataset
from iapo.training.budget import dataset_samples
from iapo.training.trainer import IAPOTrainer

FREE = {**TOOLS, **offered_tools("crop")}
SIZES = {"hidden": 64, "heads": 2, "layers": 2, "vision_hidden": 48, "vision_layers": 1}


def any_image(sample: Sample, index: int) -> tuple[str, str]:
    """A mask of the first image, a part of the last one, a call that fails because of the image, and no call."""
    name, last = next(iter(sample.column_boxes)), list(sample.named_images)[-1]
    right = f"FINAL ANSWER: {sample.answers[0]}. TERMINATE"
    return (
        (COLUMNS.format(names=[name]).replace("'", '"'), right),
        (f"```python\ndisplay(crop({last}, [0, 0, 50, 40]))\n```", "FINAL ANSWER: 0. TERMINATE"),
        (COLUMNS.format(names=[name]).replace("'", '"').replace("image_1", "image_2"), right),
        ("FINAL ANSWER: 0. TERMINATE", ""),
    )[index]


def test_data_sets_hold_all_images() -> None:
    samples = mixed()
    rows = to_dataset(samples)
    again = samples_of(list(rows))
    for one, sample in zip(again, samples, strict=True):
        assert [image.tobytes() for image in one.images] == [image.tobytes() for image in sample.images]
        assert one.to_json() == sample.to_json()
    assert dataset_hash(rows) == data_hash(samples) == data_hash(again)
    unread = dataset_samples(rows)
    assert [[image.size for image in one.images] for one in unread] == [[i.size for i in one.images] for one in samples]
    # A data set of single images is as it was before there were others.
    assert to_dataset(samples[1:2]).column_names == ["prompt", "image", "image_digest", "sample"]
    # Rows that differ in a further image alone are different samples.
    other = dataclasses.replace(samples[0], more_images=(samples[0].more_images[0].rotate(180),))
    plain = to_dataset([samples[0], other]).remove_columns("image_digest")
    for both in (samples_of([*plain, *plain]), samples_of([*to_dataset([samples[0], other])] * 2)):
        assert both[0] is both[2]
        assert both[0] is not both[1]


def test_equal_images_have_equal_numbers() -> None:
    pair, single, triple = mixed()
    found = picture_ids([list(one.images) for one in (pair, single, triple, pair)])
    assert found.tolist() == [[0, 1, -1], [2, -1, -1], [3, 4, 5], [0, 1, -1]]


@pytest.fixture(params=["qwen2_5_vl", "qwen3_vl"])
def either(request: pytest.FixtureRequest, model: Any, processor: ImageTextProcessor, qwen3_processor: Any) -> Policy:
    """An untrained policy of each family."""
    if request.param == "qwen2_5_vl":
        return Policy(model, processor)
    torch.manual_seed(0)
    return Policy(make_qwen3_model(processor.tokenizer, **SIZES).eval(), qwen3_processor)


def test_shared_rows_have_the_plain_gradient(tmp_path: Path, either: Policy) -> None:
    found = []
    for share in (False, True):
        trainer = scripted(
            tmp_path / str(share),
            either.model,
            either.processor,
            mixed(),
            script=any_image,
            share_prefix=share,
            tools=FREE,
            max_turn_tokens=80,
            entropy_coef=0.01,
        )
        assert trainer._shares == share
        found.append(loss_and_gradient(trainer, mixed()))
        traces = [one.trace for one in trainer._batch.rollouts]
        statuses = [[one.result.status for one in traces[start : start + 4]] for start in (0, 4, 8)]
        assert statuses == [["edited", "edited", "failed", "no_call"]] * 3
        assert [one.result.made_of for one in traces[1::4]] == ["image_2", "image_1", "image_3"]
    (plain, plain_gradient), (shared, shared_gradient) = found
    assert shared.item() == pytest.approx(plain.item(), rel=1e-5, abs=1e-6)
    assert relative(plain_gradient, shared_gradient) < 1e-5


@pytest.mark.slow(1)
def test_a_step_with_a_live_teacher(
    tmp_path: Path, model: Any, other_model: Any, processor: ImageTextProcessor
) -> None:
    """Its own turns, the teacher's explanations of the written calls, and a run folder with all images."""
    trainer = scripted(
        tmp_path,
        model,
        processor,
        mixed(),
        script=any_image,
        teacher=Policy(copy.deepcopy(other_model), processor),
        penalty_weight=0.5,
        tools=FREE,
        max_turn_tokens=80,
        max_steps=3,
        trace_every=1,
    )
    trainer.train()
    traces = RunFolder(tmp_path / "run").read_traces()
    assert sorted({len(one.sample.images) for one in traces}) == [1, 2, 3]
    for one in traces:
        assert one.attribution.keys() == ({"student", "teacher"} if one.result.status != "no_call" else set())
        for shares in one.attribution.values():
            assert [name for name in shares if name.startswith("image")] == list(one.sample.named_images)
            assert sum(shares.values()) == pytest.approx(1, abs=1e-4)
        # A heat map of each image, as the report shows them.
        assert one.patches.keys() == one.attribution.keys()
        side = processor.image_processor.patch_size * processor.image_processor.merge_size
        sizes = [(image.height // side, image.width // side) for image in one.sample.images]
        for grids in one.patches.values():
            assert [(len(grid), len(grid[0])) for grid in grids] == sizes
    assert all(one.scores["divergence"].value >= 0 for one in traces)


def test_turns_that_the_model_writes_are_those_of_plain_rows(
    tmp_path: Path, model: Any, processor: ImageTextProcessor
) -> None:
    found = []
    for share in (False, True):
        trainer = IAPOTrainer(
            copy.deepcopy(model),
            args=settings(tmp_path / str(share), share_prefix=share),
            train_dataset=to_dataset(mixed()),
            processing_class=processor,
            keep_run=False,
        )
        trainer.generation_config.do_sample = False
        trainer.model.eval()
        trainer._generate_and_score_completions([row for row in to_dataset(mixed()) for _ in range(4)])
        rollouts = trainer._batch.rollouts
        assert [len(one.prompt.images) for one in rollouts] == [2] * 4 + [1] * 4 + [3] * 4
        found.append([one.completion_ids for one in rollouts])
    assert found[0] == found[1]
    assert found[0][0] == found[0][3]
