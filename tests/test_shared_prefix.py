"""Running once what rows share gives the loss and the gradient of running every row whole."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig
from scripted import four_ways, scripted

from iapo.batches import picture_ids, to_dataset
from iapo.prompt import PromptEncoder
from iapo.records import Sample
from iapo.rollout import encode_prompts
from iapo.shared_prefix import SharedBatch, add_shared_prefix
from iapo.tasks.synthetic import generate

LOSSES = ["grpo", "bnpo", "dr_grpo", "dapo", "cispo", "sapo", "luspo", "vespo"]


@pytest.fixture(scope="module")
def charts() -> list[Sample]:
    """Pictures of three sizes, on both axes."""
    return [
        next(iter(generate(family, 1, seed=6, size=size, question_types=("value",))))
        for family, size in (("vbar", 112), ("vbar", 168), ("hbar", 140))
    ]


def duplicated(sample: Sample, index: int) -> tuple[str, str]:
    """In a group of four: the same call with two answers, the same rollout twice, and a failed call."""
    first, right = four_ways(sample, 0)
    return (
        (first, right),
        (first, "FINAL ANSWER: 0. TERMINATE"),
        (first, right),
        four_ways(sample, 2),
    )[index]


def loss_and_gradient(trainer: Any, charts: Sequence[Sample]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    trainer.model.train()
    rows = [row for row in to_dataset(charts) for _ in range(4)]
    output = trainer._generate_and_score_completions(rows)
    trainer.current_gradient_accumulation_steps = 1
    # As if the rollouts came from a policy a step ago, so that ratios and clipping matter.
    torch.manual_seed(0)
    shape = output["completion_ids"].shape
    with torch.no_grad():
        ids = torch.cat([output["prompt_ids"], output["completion_ids"]], 1)
        mask = torch.cat([output["prompt_mask"], output["completion_mask"]], 1)
        now, entropy, _ = trainer._get_per_token_logps_and_entropies(
            trainer.model,
            ids,
            mask,
            shape[1],
            compute_entropy=True,
            pixel_values=output["pixel_values"],
            image_grid_thw=output["image_grid_thw"],
            num_images=output["num_images"],
            mm_token_type_ids=output["mm_token_type_ids"],
        )
    assert entropy.shape == shape
    output["old_per_token_logps"] = now + 0.3 * torch.randn(shape)
    trainer.model.zero_grad()
    loss = trainer.compute_loss(trainer.model, output)
    loss.backward()
    named = trainer.model.named_parameters()
    return loss.detach(), {name: one.grad.clone() for name, one in named if one.grad is not None}


def relative(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> float:
    assert first.keys() == second.keys()
    assert first
    apart = sum(float(((first[name] - second[name]) ** 2).sum()) for name in first) ** 0.5
    return apart / sum(float((value**2).sum()) for value in first.values()) ** 0.5


@pytest.mark.parametrize("loss_type", LOSSES)
def test_every_loss_has_the_plain_gradient(
    tmp_path: Path, model: Any, processor: Any, charts: list[Sample], loss_type: str
) -> None:
    level = "sequence" if loss_type == "luspo" else "token"
    found = []
    for share in (False, True):
        trainer = scripted(
            tmp_path / str(share),
            model,
            processor,
            charts,
            script=duplicated,
            share_prefix=share,
            loss_type=loss_type,
            importance_sampling_level=level,
            entropy_coef=0.01,
        )
        assert trainer._shares == share
        found.append(loss_and_gradient(trainer, charts))
    (plain, plain_gradient), (shared, shared_gradient) = found
    assert shared.item() == pytest.approx(plain.item(), rel=1e-5, abs=1e-6)
    assert relative(plain_gradient, shared_gradient) < 1e-5


def never_calls(sample: Sample, index: int) -> tuple[str, str]:
    """Two right answers and two wrong ones, without a tool."""
    return f"FINAL ANSWER: {sample.answers[0] if index < 2 else index * 11}. TERMINATE", ""


@pytest.mark.parametrize("script", [four_ways, never_calls])
def test_calls_and_no_calls_together(
    tmp_path: Path, model: Any, processor: Any, charts: list[Sample], script: Any
) -> None:
    found = [
        loss_and_gradient(
            scripted(tmp_path / str(share), model, processor, charts, script=script, share_prefix=share), charts
        )
        for share in (False, True)
    ]
    assert relative(found[0][1], found[1][1]) < 1e-5


def test_peft_has_the_plain_gradient(tmp_path: Path, model: Any, processor: Any, charts: list[Sample]) -> None:
    found = []
    for share in (False, True):
        torch.manual_seed(0)
        trainer = scripted(
            tmp_path / str(share),
            model,
            processor,
            charts,
            script=duplicated,
            share_prefix=share,
            beta=0.02,
            peft_config=LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False),
        )
        found.append(loss_and_gradient(trainer, charts))
    assert found[0][0].item() == pytest.approx(found[1][0].item(), rel=1e-5)
    assert all("lora" in name for name in found[0][1])
    assert relative(found[0][1], found[1][1]) < 1e-5


def test_bf16_stays_close(tmp_path: Path, model: Any, processor: Any, charts: list[Sample]) -> None:
    found = [
        loss_and_gradient(
            scripted(tmp_path / str(share), model, processor, charts, script=duplicated, share_prefix=share, bf16=True),
            charts,
        )
        for share in (False, True)
    ]
    assert relative(found[0][1], found[1][1]) < 0.05


def test_each_thing_runs_once(tmp_path: Path, model: Any, processor: Any, charts: list[Sample]) -> None:
    """Three prompts, three distinct completions and two distinct pictures each."""
    trainer = scripted(tmp_path, model, processor, charts, script=duplicated)
    backbone = trainer.model.model
    seen: list[tuple[int, ...]] = []
    pictures: list[int] = []
    language = backbone.language_model.forward
    features = backbone.get_image_features

    def watched(**kwargs: Any) -> Any:
        seen.append(tuple(kwargs["inputs_embeds"].shape[:2]))
        return language(**kwargs)

    def counted(pixels: Any, grid: Any, **kwargs: Any) -> Any:
        pictures.append(len(grid))
        return features(pixels, grid, **kwargs)

    backbone.language_model.forward = watched
    backbone.get_image_features = counted
    rows = [row for row in to_dataset(charts) for _ in range(4)]
    output = trainer._generate_and_score_completions(rows)
    trainer.current_gradient_accumulation_steps = 1
    trainer.compute_loss(trainer.model, output)
    prompt, completion = output["prompt_ids"].shape[1], output["completion_ids"].shape[1]
    assert seen == [(3, prompt - 1), (9, completion + 1)]
    assert pictures == [6]


def test_positions_are_the_models_own(tmp_path: Path, model: Any, processor: Any, charts: list[Sample]) -> None:
    trainer = scripted(tmp_path, model, processor, charts, script=duplicated)
    backbone = trainer.model.model
    rows = [row for row in to_dataset(charts) for _ in range(4)]
    output = trainer._generate_and_score_completions(rows)
    language = backbone.language_model.forward
    seen: list[torch.Tensor] = []

    def watched(**kwargs: Any) -> Any:
        seen.append(kwargs["position_ids"])
        return language(**kwargs)

    backbone.language_model.forward = watched
    inputs = {
        "input_ids": torch.cat([output["prompt_ids"], output["completion_ids"]], 1),
        "attention_mask": torch.cat([output["prompt_mask"], output["completion_mask"]], 1),
        "pixel_values": output["pixel_values"],
        "image_grid_thw": output["image_grid_thw"],
        "mm_token_type_ids": output["mm_token_type_ids"],
    }
    backbone(**inputs)
    length = output["completion_ids"].shape[1]
    backbone(**inputs, shared=SharedBatch(length, output["picture_ids"]))
    whole, _, suffix = seen
    # The distinct rows come in another order; each of them is a row of the whole batch.
    own = {tuple(row.flatten().tolist()) for row in whole[:, :, -length - 1 :].transpose(0, 1)}
    assert {tuple(row.flatten().tolist()) for row in suffix.transpose(0, 1)} == own


def test_falls_back_where_it_must(tmp_path: Path, model: Any, processor: Any, charts: list[Sample]) -> None:
    trainer = scripted(tmp_path, model, processor, charts, script=duplicated, gradient_checkpointing=True)
    assert not trainer._shares
    loss, gradient = loss_and_gradient(trainer, charts)
    assert torch.isfinite(loss)
    assert gradient


def test_other_models_are_refused() -> None:
    class Other:
        class config:  # noqa: N801 - stands for an attribute
            model_type = "gpt2"

    with pytest.raises(ValueError, match="no shared prefix for 'gpt2'"):
        add_shared_prefix(Other())  # type: ignore[arg-type]


def test_generation_continues_every_row_as_if_alone(student: Any, charts: list[Sample]) -> None:
    """Greedy turns from shared rows equal those from plain rows, for repeated prompts of different lengths."""
    model = copy.deepcopy(student.model)
    add_shared_prefix(model)
    encoder = PromptEncoder(student.processor)
    prompts = encode_prompts([charts[0], charts[1], charts[0], charts[2], charts[1]], encoder)
    length = max(len(prompt.ids) for prompt in prompts)
    ids = torch.full((len(prompts), length), encoder.tokenizer.pad_token_id)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, length - len(prompt.ids) :] = torch.tensor(prompt.ids)
        mask[row, length - len(prompt.ids) :] = 1
    assert len({len(prompt.ids) for prompt in prompts}) == 3
    pictures = [list(prompt.images) for prompt in prompts]
    inputs = {
        "input_ids": ids,
        "attention_mask": mask,
        "mm_token_type_ids": (ids == encoder.image_token_id).long(),
        **encoder.pixels([image for row in pictures for image in row]),
        "max_new_tokens": 12,
        "do_sample": False,
        "output_scores": True,
        "return_dict_in_generate": True,
    }
    plain = model.generate(**inputs)
    shared = model.generate(**inputs, picture_ids=picture_ids(pictures))
    assert torch.equal(plain.sequences, shared.sequences)
    for first, second in zip(plain.scores, shared.scores, strict=True):
        torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-4)
