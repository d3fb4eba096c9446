"""Attention as an attribution: the model's own weights, collected a layer at a time."""

from __future__ import annotations

import copy

import pytest
import torch
from transformers import PreTrainedModel

from iapo.attribution.attention import attention_scores, attention_token_scores
from iapo.attribution.calls import Attributor
from iapo.attribution.gradient import CallInput, Pictures, call_log_probs
from iapo.attribution.memory import Budget
from iapo.attribution.settings import AttributionSettings
from iapo.records import Sample
from iapo.rollout.prompt import PromptEncoder, build_blocks


def plain_weights(model: PreTrainedModel, call: CallInput, pictures: Pictures) -> torch.Tensor:
    """The mean weight on each position by the model's own forward pass, one unpadded sequence."""
    eager = copy.deepcopy(model)
    eager.set_attn_implementation("eager")
    ids = torch.tensor([[*call.prompt_ids, *call.turn_ids]])
    patches = pictures.grid_thw.prod(1).tolist()
    (picture,) = call.pictures
    start = sum(patches[:picture])
    with torch.no_grad():
        output = eager(
            input_ids=ids,
            pixel_values=pictures.pixel_values[start : start + patches[picture]],
            image_grid_thw=pictures.grid_thw[picture][None],
            mm_token_type_ids=(ids == model.config.image_token_id).long(),
            output_attentions=True,
        )
    queries = [len(call.prompt_ids) + place - 1 for place, scored in enumerate(call.target) if scored]
    return torch.stack(output.attentions)[:, 0, :, queries].mean((0, 1, 2))


def test_weights_are_the_models_own(model: PreTrainedModel, calls: list[CallInput], pictures: Pictures) -> None:
    blocks = attention_scores(model, calls, pictures)
    tokens = attention_token_scores(model, calls, pictures)
    assert blocks.shape == (len(calls), calls[0].blocks)
    for row, call in enumerate(calls[:2]):
        expected = plain_weights(model, call, pictures)[: len(call.prompt_ids)]
        torch.testing.assert_close(tokens[row], expected, rtol=1e-4, atol=1e-6)
        by_block = torch.zeros(call.blocks).index_add_(0, torch.tensor(call.block_of), expected)
        torch.testing.assert_close(blocks[row], by_block, rtol=1e-4, atol=1e-6)
        # The turn itself is attended to as well.
        assert 0.1 < blocks[row].sum() < 1


def test_batches_do_not_matter(model: PreTrainedModel, calls: list[CallInput], pictures: Pictures) -> None:
    together = attention_scores(model, calls, pictures)
    longest = max(len(call.prompt_ids) + len(call.turn_ids) for call in calls)
    torch.testing.assert_close(attention_scores(model, calls, pictures, Budget(longest)), together)


def test_the_model_is_left_as_it_was(model: PreTrainedModel, calls: list[CallInput], pictures: Pictures) -> None:
    configs = [layer.self_attn.config for layer in model.model.language_model.layers]
    before = call_log_probs(model, calls, pictures)
    attention_scores(model, calls, pictures)
    assert all(
        layer.self_attn.config is config
        for layer, config in zip(model.model.language_model.layers, configs, strict=True)
    )
    assert torch.equal(call_log_probs(model, calls, pictures), before)


def test_it_is_a_method_by_name(
    model: PreTrainedModel, encoder: PromptEncoder, samples: list[Sample], calls: list[CallInput]
) -> None:
    attributor = Attributor(model, encoder.pixels, AttributionSettings(method="attention"))
    prompt = encoder.encode(build_blocks(samples[0]))
    ids = calls[0].turn_ids
    shares = attributor.distributions([prompt], [(ids, [True] * len(ids))])
    assert shares.sum().item() == pytest.approx(1, abs=1e-5)
    assert attributor.patches([prompt], [(ids, [True] * len(ids))])[0][0].ndim == 2
