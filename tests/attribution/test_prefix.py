"""The fast path gives the reference's scores, whatever the calls share and whatever state the model is in."""

from __future__ import annotations

import copy
import dataclasses
import logging
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from calls import make_call
from torch import Tensor
from transformers import PreTrainedModel
from transformers.cache_utils import DynamicLayer

from iapo.attribution import clusters, prefix
from iapo.attribution.gradient import CallInput, Pictures, block_scores
from iapo.attribution.prefix import prefix_block_scores
from iapo.records import Sample
from iapo.rollout.prompt import PromptEncoder, build_blocks

CALL = '```python\ndisplay(focus_on_{axis}_with_{style}(image_1, ["{name}"], {axis}_bbox))\n```'
THOUGHTS = ("", "I want to see row B.\n", "Let me look: the question asks for a single bar, so I hide the others.\n")


@dataclasses.dataclass(frozen=True)
class Batch:
    """Calls and the pictures that they name."""

    calls: list[CallInput]
    pictures: Pictures


@pytest.fixture(scope="module")
def batch(encoder: PromptEncoder, samples: list[Sample]) -> Batch:
    """Four prompts of different lengths, their pictures of three sizes, calls mixed, some of them equal."""
    sizes = [(112, 112), (168, 112), (112, 168), (112, 112)]
    resized = [dataclasses.replace(one, image=one.image.resize(size)) for one, size in zip(samples, sizes, strict=True)]
    calls = []
    for picture, sample in enumerate(resized):
        blocks = build_blocks(sample)
        turns = [
            CALL.format(axis="rows", style=style, name=name) for style in ("mask", "draw") for name in ("B", "Cat")
        ]
        calls += [make_call(encoder, blocks, turn, THOUGHTS[index % 3], picture) for index, turn in enumerate(turns)]
        # Much longer than the others, so that the group is run in two chunks.
        calls.append(make_call(encoder, blocks, turns[0] + turns[1] * 3, THOUGHTS[2], picture))
    calls += calls[1:9:3]
    random.Random(0).shuffle(calls)
    pixels = encoder.pixels([one.image for one in resized])
    return Batch(calls, Pictures(pixels["pixel_values"], pixels["image_grid_thw"]))


@pytest.fixture(autouse=True)
def _always_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prompts this short are otherwise shared by large groups only."""
    monkeypatch.setattr(prefix, "LEAST_SAVED", -1)


@contextmanager
def recorded_runs(model: PreTrainedModel) -> Iterator[list[dict[str, Any]]]:
    """The keyword arguments of each run of the language model, caches by their length."""
    runs: list[dict[str, Any]] = []

    def record(_module: Any, _args: Any, kwargs: dict[str, Any]) -> None:
        cache = kwargs.get("past_key_values")
        runs.append({**kwargs, "cached": 0 if cache is None else cache.get_seq_length()})

    handle = model.model.language_model.register_forward_pre_hook(record, with_kwargs=True)
    try:
        yield runs
    finally:
        handle.remove()


def assert_equal(actual: Tensor, expected: Tensor, tolerance: float = 1e-5) -> None:
    """Equality relative to the largest score of each call."""
    assert actual.shape == expected.shape
    assert actual.dtype == torch.float32
    scale = expected.abs().amax(-1, keepdim=True)
    torch.testing.assert_close(actual / scale, expected / scale, rtol=0, atol=tolerance)


def plain_log_probs(model: PreTrainedModel, call: CallInput, pictures: Pictures) -> Tensor:
    """Log-probabilities of a turn from pixels and token ids, as anyone would compute them."""
    ids = torch.tensor([[*call.prompt_ids, *call.turn_ids]])
    (picture,) = call.pictures
    patches = pictures.grid_thw.prod(-1).tolist()
    with torch.no_grad():
        logits = model(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            mm_token_type_ids=(ids == model.config.image_token_id).long(),
            pixel_values=pictures.pixel_values.split(patches)[picture],
            image_grid_thw=pictures.grid_thw[picture][None],
        ).logits
    start = len(call.prompt_ids)
    every = logits[0, start - 1 : -1].log_softmax(-1).gather(1, ids[0, start:, None]).squeeze(1)
    return every[: max(index for index, scored in enumerate(call.target) if scored) + 1]


def test_equals_the_reference(model: PreTrainedModel, batch: Batch) -> None:
    expected = block_scores(model, batch.calls, batch.pictures)
    assert_equal(prefix_block_scores(model, batch.calls, batch.pictures), expected)
    assert len(expected.unique(dim=0)) == len(batch.calls) - 3


def test_equals_the_reference_in_double_precision(other_model: PreTrainedModel, batch: Batch) -> None:
    # This model's scores are small sums of large products: in fp32 either path is 2e-5 away from the truth.
    double = copy.deepcopy(other_model).double()
    expected = block_scores(double, batch.calls, batch.pictures)
    assert_equal(prefix_block_scores(double, batch.calls, batch.pictures), expected, tolerance=1e-6)


def test_eager_attention(model: PreTrainedModel, batch: Batch) -> None:
    eager = copy.deepcopy(model)
    eager.set_attn_implementation("eager")
    some = batch.calls[:8]
    assert_equal(prefix_block_scores(eager, some, batch.pictures), block_scores(model, some, batch.pictures))


def test_grouped_queries(model: PreTrainedModel, batch: Batch) -> None:
    config = copy.deepcopy(model.config)
    config.text_config.num_key_value_heads = 1
    torch.manual_seed(3)
    grouped = type(model)(config).eval()
    some = batch.calls[:8]
    assert_equal(prefix_block_scores(grouped, some, batch.pictures), block_scores(grouped, some, batch.pictures))


def test_one_call_alone(model: PreTrainedModel, batch: Batch) -> None:
    some = batch.calls[3:4]
    assert_equal(prefix_block_scores(model, some, batch.pictures), block_scores(model, some, batch.pictures))


def test_prompts_alike_run_as_one_batch(model: PreTrainedModel, batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two prompts of one length with as many calls each are one batch, unless that is too large to hold."""
    first = batch.calls[0]
    twin = [41, *first.prompt_ids[1:]]
    calls = [
        dataclasses.replace(first, prompt_ids=ids, turn_ids=[40 + number, *first.turn_ids[1:]])
        for ids in (first.prompt_ids, twin)
        for number in range(3)
    ]
    for tokens, sizes in ((8192, [2]), (1, [1, 1])):
        monkeypatch.setattr(clusters, "CLUSTER_TOKENS", tokens)
        with recorded_runs(model) as runs:
            scores, log_probs = prefix_block_scores(model, calls, batch.pictures, with_log_probs=True)
        assert [len(run["inputs_embeds"]) for run in runs if run["cached"] == 0] == sizes
        assert_equal(scores, block_scores(model, calls, batch.pictures))
        for call, actual in zip(calls, log_probs, strict=True):
            torch.testing.assert_close(actual, plain_log_probs(model, call, batch.pictures), rtol=1e-5, atol=1e-5)


def test_one_batch_where_little_would_be_saved(
    model: PreTrainedModel, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    some = list({call.pictures: call for call in batch.calls}.values())
    with recorded_runs(model) as runs:
        actual = prefix_block_scores(model, [*some, some[0]], batch.pictures)
    assert [len(run["inputs_embeds"]) for run in runs] == [4]
    assert_equal(actual, block_scores(model, [*some, some[0]], batch.pictures))


def test_prompts_without_pictures(model: PreTrainedModel) -> None:
    def call(turn: list[int]) -> CallInput:
        return CallInput([21, 22, 23, 24, 25, 26], [0, 0, 1, 2, 2, 1], 3, turn, [True] * len(turn))

    calls = [call([31, 32, 33]), call([34, 35]), call([31])]
    assert_equal(prefix_block_scores(model, calls), block_scores(model, calls))


def test_prompts_that_end_in_their_picture(model: PreTrainedModel, encoder: PromptEncoder, batch: Batch) -> None:
    """The last token of a prompt runs with the calls, here with what the picture feeds in."""
    tokens = int(batch.pictures.grid_thw[0].prod()) // encoder.merge_area
    prompt = [21, 22, *[encoder.image_token_id] * tokens]
    turns = ([31, 32, 33], [34, 35])
    calls = [CallInput(prompt, [0, 0, *[1] * tokens], 2, turn, [True] * len(turn), (0,)) for turn in turns]
    assert_equal(prefix_block_scores(model, calls, batch.pictures), block_scores(model, calls, batch.pictures))


def test_no_cache_for_a_prompt_of_one_token(model: PreTrainedModel) -> None:
    calls = [CallInput([21], [0], 1, turn, [True] * len(turn)) for turn in ([31, 32], [33])]
    assert_equal(prefix_block_scores(model, calls), block_scores(model, calls))


def test_bfloat16(model: PreTrainedModel, batch: Batch) -> None:
    half = copy.deepcopy(model).to(torch.bfloat16)
    pictures = Pictures(batch.pictures.pixel_values.to(torch.bfloat16), batch.pictures.grid_thw)
    actual, log_probs = prefix_block_scores(half, batch.calls, pictures, with_log_probs=True)
    # As far from the truth as the reference is in this type.
    assert_equal(actual, block_scores(half, batch.calls, pictures), tolerance=0.1)
    assert all(one.dtype == torch.float32 for one in log_probs)


def test_training_mode_and_gradient_checkpointing(model: PreTrainedModel, batch: Batch) -> None:
    trained = copy.deepcopy(model)
    trained.gradient_checkpointing_enable()
    trained.train()
    trained.model.visual.eval()
    modes = [module.training for module in trained.modules()]
    some = batch.calls[:8]
    assert_equal(prefix_block_scores(trained, some, batch.pictures), block_scores(model, some, batch.pictures))
    assert [module.training for module in trained.modules()] == modes
    assert any(getattr(module, "gradient_checkpointing", False) for module in trained.modules())


@pytest.mark.parametrize("fails", [False, True])
def test_leaves_parameters_alone(
    model: PreTrainedModel, batch: Batch, fails: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = copy.deepcopy(model).train()
    for index, parameter in enumerate(trained.parameters()):
        parameter.requires_grad_(index % 3 > 0)
    before = [parameter.requires_grad for parameter in trained.parameters()]
    with recorded_runs(trained) as runs:
        if fails:
            monkeypatch.setattr(trained.lm_head, "forward", lambda hidden: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                prefix_block_scores(trained, batch.calls[:4], batch.pictures)
        else:
            prefix_block_scores(trained, batch.calls[:4], batch.pictures)
    assert runs
    assert [parameter.requires_grad for parameter in trained.parameters()] == before
    assert all(parameter.grad is None for parameter in trained.parameters())
    assert all(module.training for module in trained.modules())
    assert not any("forward" in vars(module) for name, module in trained.named_modules() if name != "lm_head")


def test_a_loss_computed_before_can_still_be_differentiated(model: PreTrainedModel, batch: Batch) -> None:
    trained = copy.deepcopy(model)
    ids = torch.arange(20, 60)[None]
    trained(input_ids=ids, labels=ids).loss.backward()
    expected = {
        name: parameter.grad.clone() for name, parameter in trained.named_parameters() if parameter.grad is not None
    }
    trained.zero_grad()
    loss = trained(input_ids=ids, labels=ids).loss
    prefix_block_scores(trained, batch.calls[:2], batch.pictures)
    loss.backward()
    assert expected
    for name, parameter in trained.named_parameters():
        if name in expected:
            assert torch.equal(parameter.grad, expected[name])


def test_works_where_gradients_are_off(model: PreTrainedModel, batch: Batch) -> None:
    expected = block_scores(model, batch.calls[:4], batch.pictures)
    with torch.no_grad():
        scores, log_probs = prefix_block_scores(model, batch.calls[:4], batch.pictures, with_log_probs=True)
    assert_equal(scores, expected)
    assert not scores.requires_grad
    assert not any(one.requires_grad for one in log_probs)


def test_log_probs_are_those_of_a_plain_forward(model: PreTrainedModel, batch: Batch) -> None:
    scores, log_probs = prefix_block_scores(model, batch.calls, batch.pictures, with_log_probs=True)
    assert torch.equal(scores, prefix_block_scores(model, batch.calls, batch.pictures))
    for call, actual in zip(batch.calls, log_probs, strict=True):
        torch.testing.assert_close(actual, plain_log_probs(model, call, batch.pictures), rtol=1e-5, atol=1e-5)


def test_positions_are_the_models_own(model: PreTrainedModel, batch: Batch) -> None:
    model.model.rope_deltas = torch.tensor([[1000]])  # What an earlier call would have left behind.
    for call in batch.calls[:6]:
        with recorded_runs(model) as plain:
            plain_log_probs(model, call, batch.pictures)
        with recorded_runs(model) as runs:
            prefix_block_scores(model, [call], batch.pictures)
        assert [run["cached"] for run in runs] == [0, len(call.prompt_ids) - 1]
        positions = torch.cat([run["position_ids"] for run in runs], -1)
        assert positions.shape[0] == 3
        # Neither the last scored token nor the end of the turn after it predicts anything that is scored.
        assert torch.equal(positions, plain[0]["position_ids"][..., :-2])
        assert (positions[0] != positions[1]).any()


def test_each_prompt_runs_once_and_equal_calls_once(model: PreTrainedModel, batch: Batch) -> None:
    seen: list[int] = []
    handle = model.model.visual.register_forward_pre_hook(lambda *_: seen.append(1))
    with recorded_runs(model) as runs:
        prefix_block_scores(model, batch.calls, batch.pictures)
    handle.remove()
    assert len(seen) == 1
    assert sum(len(run["inputs_embeds"]) for run in runs if run["cached"] == 0) == 4
    assert sum(len(run["inputs_embeds"]) for run in runs if run["cached"]) == len(batch.calls) - 3


def test_equal_turns_with_other_targets_differ(model: PreTrainedModel, batch: Batch) -> None:
    call = batch.calls[0]
    first = next(index for index, scored in enumerate(call.target) if scored)
    other = dataclasses.replace(call, target=[index != first and scored for index, scored in enumerate(call.target)])
    blocks = dataclasses.replace(call, block_of=[0] * len(call.block_of))
    longer = dataclasses.replace(call, turn_ids=[*call.turn_ids, 5], target=[*call.target, False])
    some = [call, other, blocks, longer]
    scores = prefix_block_scores(model, some, batch.pictures)
    assert_equal(scores, block_scores(model, some, batch.pictures))
    assert torch.equal(scores[0], scores[3])
    assert not torch.equal(scores[0], scores[1])


def test_falls_back_where_the_cache_holds_no_gradients(
    model: PreTrainedModel, batch: Batch, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    update = DynamicLayer.update

    def detached(self: DynamicLayer, keys: Tensor, values: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        return update(self, keys.detach(), values.detach(), *args, **kwargs)

    expected, expected_log_probs = prefix_block_scores(model, batch.calls, batch.pictures, with_log_probs=True)
    monkeypatch.setattr(DynamicLayer, "update", detached)
    monkeypatch.setattr(prefix, "_warned", set())
    with caplog.at_level(logging.WARNING, logger=prefix.__name__):
        for _ in range(2):
            scores, log_probs = prefix_block_scores(model, batch.calls, batch.pictures, with_log_probs=True)
    assert_equal(scores, expected)
    for actual, one in zip(log_probs, expected_log_probs, strict=True):
        torch.testing.assert_close(actual, one, rtol=1e-5, atol=1e-5)
    assert [record.name for record in caplog.records] == [prefix.__name__]


def test_refuses_what_the_reference_refuses(model: PreTrainedModel, batch: Batch) -> None:
    with pytest.raises(ValueError, match="no calls"):
        prefix_block_scores(model, [])
    with pytest.raises(ValueError, match="same number of blocks"):
        prefix_block_scores(model, [batch.calls[0], dataclasses.replace(batch.calls[1], blocks=20)], batch.pictures)
    with pytest.raises(ValueError, match="no pictures were given"):
        prefix_block_scores(model, batch.calls)
