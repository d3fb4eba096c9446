"""Length limits in training: rollouts that are left out, data that are refused."""

from __future__ import annotations

import copy
import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from scripted import Scripted, batch, four_ways, scripted, settings

from iapo.data.synthetic import generate
from iapo.errors import InputError
from iapo.records import Sample, Trace
from iapo.rollout.budget import Budget, lengths
from iapo.rollout.policy import load_processor
from iapo.rollout.prompt import PromptEncoder
from iapo.tools import TOOLS, define
from iapo.tools.edits import focus_on_columns_with_mask as mask
from iapo.training.batches import to_dataset
from iapo.training.config import IAPOConfig
from iapo.training.settings import check
from iapo.training.trainer import IAPOTrainer


@pytest.fixture(scope="module")
def charts() -> list[Sample]:
    return list(generate("vbar", 4, seed=11, question_types=("value",)))


def longest(processor: Any, charts: list[Sample]) -> int:
    """The longest sequence that the settings of these tests allow on the charts, with edits of the same size."""
    return max(one.needed(Budget(40, 128)) for one in lengths(charts, PromptEncoder(processor)))


class Cut(Scripted):
    """Only the last of the rollouts that called something may go on, the first ones' images being too large."""

    def _generate_single_turn(self, prompt_ids: Any, *rest: Any, has_tool_images: bool = False, **more: Any) -> Any:
        if not has_tool_images:
            return super()._generate_single_turn(prompt_ids, *rest, **more)
        called = [index for index, sample in enumerate(self._batch.samples) if self.script(sample, index)[1]]
        turns = [self.script(self._batch.samples[index], index)[1] for index in called[-len(prompt_ids) :]]
        tokenizer = self.encoder.tokenizer
        return [[*tokenizer(turn)["input_ids"], tokenizer.eos_token_id] for turn in turns], None


def with_larger(tmp_path: Path, model: Any, processor: Any, charts: list[Sample], side: int, **more: Any) -> Cut:
    """A trainer whose tool for columns returns an image of `side` pixels."""

    def focus_on_columns_with_mask(image: Image.Image, names: Any, boxes: Any) -> Image.Image:
        """Returns a larger image."""
        return mask(image, names, boxes).resize((side, side))

    on_rollouts = more.pop("on_rollouts", None)
    tool = define(focus_on_columns_with_mask, axis="columns", style="mask")
    trainer = Cut(
        copy.deepcopy(model),
        args=settings(tmp_path, **more),
        train_dataset=to_dataset(charts),
        processing_class=processor,
        tools={**TOOLS, tool.name: tool},
        on_rollouts=on_rollouts,
    )
    trainer.script = four_ways
    return trainer


def test_rollout_that_does_not_fit_is_left_out(
    tmp_path: Path, model: Any, processor: Any, charts: list[Sample]
) -> None:
    """Neither the loss nor the mean of its group counts it; the others are as they would be without it."""
    found = {}
    for side in (112, 560):
        trainer = with_larger(
            tmp_path / str(side), model, processor, charts, side, max_sequence_length=longest(processor, charts) + 50
        )
        found[side] = batch(trainer, charts), trainer._batch, trainer._metrics["train"]
    fits, cut = found[112][0], found[560][0]
    assert [one.trace.observation_cut for one in found[560][1].rollouts] == [True, False, False, False]
    assert found[112][2]["tools/observation_cut"] == [0.0]
    assert found[560][2]["tools/observation_cut"] == [0.25]
    assert found[112][2]["tools/success_rate"] == [pytest.approx(2 / 3)]
    assert found[560][2]["tools/success_rate"] == [pytest.approx(1 / 3)]
    assert found[560][2]["tools/call_ratio"] == [0.75]
    # Right, right, wrong, wrong; without the first: right, wrong, wrong.
    group = torch.tensor([1.0, 0.0, 0.0])
    expected = (group - group.mean()) / (group.std() + 1e-4)
    assert torch.allclose(cut["advantages"], torch.tensor([0.0, *expected]), atol=1e-5)
    assert fits["advantages"][0] > 0.5
    assert cut["tool_mask"][0][cut["completion_mask"][0].bool()].sum() == 0
    assert (cut["tool_mask"] * cut["completion_mask"])[1:].sum(1).min() > 0
    assert cut["num_items_in_batch"] == (cut["tool_mask"] * cut["completion_mask"]).sum()
    assert cut["num_images"] == [1, 2, 1, 1]
    assert math.isnan(found[560][1].rewards[0, 0])
    assert found[560][2]["rewards/outcome_reward/mean"] == [pytest.approx(1 / 3)]


def test_training_goes_on_where_nothing_fits(tmp_path: Path, model: Any, processor: Any, charts: list[Sample]) -> None:
    seen: list[Trace] = []
    trainer = with_larger(
        tmp_path,
        model,
        processor,
        charts,
        560,
        max_sequence_length=longest(processor, charts) + 50,
        on_rollouts=lambda step, some: seen.extend(some),
    )
    trainer.script = lambda sample, index: four_ways(sample, 0)
    before = [parameter.detach().clone() for parameter in trainer.model.parameters()]
    trainer.train()
    (logged,) = [row for row in trainer.state.log_history if "loss" in row]
    assert logged["tools/observation_cut"] == 1.0
    assert logged["loss"] == pytest.approx(0.0)
    assert all(one.observation_cut and not one.scores for one in seen)
    assert len(seen) == 4
    assert all((new == old).all() for new, old in zip(trainer.model.parameters(), before, strict=True))


def test_image_longer_than_the_limit_of_writing(
    tmp_path: Path, model: Any, processor: Any, charts: list[Sample]
) -> None:
    """256 tokens of image after turn 1, and an answer, where the model may write 80."""
    trainer = with_larger(tmp_path, model, processor, charts, 560, max_completion_length=80, max_turn_tokens=40)
    output = batch(trainer, charts)
    assert output["completion_ids"].shape[1] > 256
    assert [one.trace.observation_cut for one in trainer._batch.rollouts] == [False] * 4
    assert trainer._batch.rewards is not None
    assert trainer._batch.rewards[:, 0].tolist() == [1.0, 1.0, 0.0, 0.0]
    written = (output["tool_mask"] * output["completion_mask"]).sum(1)
    assert written.max() <= 80
    trainer.train()
    (loss,) = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    assert math.isfinite(loss)


def test_data_that_do_not_fit_are_refused_before_anything_is_written(
    tmp_path: Path, model: Any, processor: Any, charts: list[Sample]
) -> None:
    large = dataclasses.replace(charts[1], id="large", image=charts[1].image.resize((896, 896)))
    with pytest.raises(InputError, match=r"sample 'large' of .*max_sequence_length to \d+ or more"):
        scripted(tmp_path, model, processor, [charts[0], large], max_sequence_length=longest(processor, charts) + 50)
    with pytest.raises(InputError, match=r"max_sequence_length is \d+, but the model takes"):
        scripted(tmp_path, model, processor, charts, max_sequence_length=10_000_000)
    assert not (tmp_path / "run").exists()
    trainer = scripted(tmp_path, model, processor, charts)
    assert trainer.budget == Budget(40, 128, model.config.text_config.max_position_embeddings)


@pytest.mark.parametrize("name", ["max_completion_length", "max_turn_tokens", "max_sequence_length"])
def test_limits_without_tokens_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=f"{name} is 0; give at least 1"):
        settings(tmp_path, **{name: 0})


def test_first_turn_is_never_longer_than_both(tmp_path: Path, model: Any, processor: Any, charts: list[Sample]) -> None:
    trainer = IAPOTrainer(
        copy.deepcopy(model),
        args=settings(tmp_path, max_turn_tokens=40, max_completion_length=6),
        train_dataset=to_dataset(charts),
        processing_class=processor,
    )
    output = trainer._generate_and_score_completions(list(to_dataset(charts[:1])) * 4)
    assert output["completion_ids"].shape[1] <= 6


def test_published_configurations_never_reach_the_limits(charts: list[Sample]) -> None:
    """Where both turns at full length and every edit fit into what earlier versions allowed the completion, counting
    it otherwise changes no rollout.
    """
    encoder = PromptEncoder(load_processor("tiny-student"))
    for config in ("demo-grpo", "demo-iapo", "compare", "tiny-teacher"):
        _, given = check(config)
        budget = Budget(given["max_turn_tokens"], given["max_completion_length"])
        assert budget.all == 2 * given["max_turn_tokens"]
        for one in lengths(charts, encoder):
            assert one.observation + budget.all <= given["max_completion_length"]


def test_default_is_what_the_model_takes() -> None:
    assert IAPOConfig.__dataclass_fields__["max_sequence_length"].default is None
