"""Tangents give the reference's scores wherever they replace products, and stand back where they are not sure."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import pytest
import torch
from calls import make_call
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.cache_utils import DynamicLayer
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLRMSNorm
from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLTextRMSNorm

from iapo.attribution import prefix, tangent
from iapo.attribution.gradient import CallInput, Pictures, block_scores
from iapo.attribution.prefix import prefix_block_scores
from iapo.records import Sample
from iapo.rollout.prompt import PromptEncoder, build_blocks
from iapo.training.shared_prefix import add_shared_prefix


def _norm(self: Qwen2_5_VLRMSNorm | Qwen3VLTextRMSNorm, x: Tensor) -> Tensor:
    """Without the model's own rounding to single precision, which hides small errors."""
    return self.weight * x * (x.square().mean(-1, keepdim=True) + self.variance_epsilon).rsqrt()


@pytest.fixture
def double(other_model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch) -> PreTrainedModel:
    """Double precision, grouped queries, and no bias or weight of a norm that is 0 or 1 throughout."""
    for norm in (Qwen2_5_VLRMSNorm, Qwen3VLTextRMSNorm):
        monkeypatch.setattr(norm, "forward", _norm)
    config = copy.deepcopy(other_model.config)
    config.text_config.num_key_value_heads = 1
    torch.manual_seed(5)
    model = type(other_model)(config).double().eval()
    with torch.no_grad():
        for name, parameter in model.model.language_model.named_parameters():
            if name.endswith("bias") or "norm" in name:
                parameter += 0.5 * torch.randn_like(parameter)
    return model


@pytest.fixture(scope="module")
def pictures(encoder: PromptEncoder, samples: list[Sample]) -> Pictures:
    pixels = encoder.pixels([sample.image for sample in samples[:2]])
    return Pictures(pixels["pixel_values"], pixels["image_grid_thw"])


@pytest.fixture(scope="module")
def calls(encoder: PromptEncoder, samples: list[Sample]) -> list[CallInput]:
    """Three prompts, two of one length, whose blocks begin elsewhere; four calls to each, one of them twice."""
    turns = ["display(image_1)", "display(focus_on_rows_with_mask(image_1, ['B'], rows_bbox))", "display(1)", "x"]
    first = [make_call(encoder, build_blocks(samples[0]), turn, "I look.\n" * (i % 3)) for i, turn in enumerate(turns)]
    shifted = [first[0].block_of[max(0, i - 3)] for i in range(len(first[0].block_of))]
    # A block in two parts.
    shifted[-6:-3] = [1, 1, 1]
    twin = [
        dataclasses.replace(one, block_of=shifted, prompt_ids=[41, *one.prompt_ids[1:]], pictures=(1,)) for one in first
    ]
    other = [make_call(encoder, build_blocks(samples[0])[::-1], turn) for turn in turns]
    longer = [
        dataclasses.replace(one, prompt_ids=[42, 43, *one.prompt_ids], block_of=[0, 0, *one.block_of]) for one in other
    ]
    return [*first, *twin, *longer, first[1]]


@pytest.fixture(scope="module")
def known() -> dict[Any, Any]:
    """What several cases are compared with, computed once: `double` is the same model in each."""
    return {}


@pytest.fixture(autouse=True)
def _always_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefix, "LEAST_SAVED", -1)


@pytest.fixture
def cut_at(monkeypatch: pytest.MonkeyPatch):
    """Sets where tangents end; a fraction of the prompt. What was run is recorded."""
    shapes: list[tuple[int, ...]] = []
    run = tangent.run_tangents

    def recorded(model: PreTrainedModel, inputs: Tensor, *args: Tensor) -> tangent.Tangents:
        shapes.append(tuple(inputs.shape[1:3]))
        return run(model, inputs, *args)

    def set_cut(fraction: float) -> list[tuple[int, ...]]:
        monkeypatch.setattr(tangent, "best_cut", lambda block_of, calls: int(fraction * block_of.shape[1]))
        monkeypatch.setattr(tangent, "run_tangents", recorded)
        return shapes

    return set_cut


def assert_equal(actual: Tensor, expected: Tensor, tolerance: float = 3e-6) -> None:
    """Equality relative to the largest score of each call; all sums are in fp32, whatever the model's type."""
    scale = expected.abs().amax(-1, keepdim=True)
    torch.testing.assert_close(actual / scale, expected / scale, rtol=0, atol=tolerance)


# In the first block, within the picture of the first two prompts, behind it, everything.
@pytest.mark.parametrize("fraction", [0.02, 0.4, 0.6, 1.0])
@pytest.mark.parametrize("queries", [23, 4096])
def test_equals_the_reference(double, calls, pictures, known, cut_at, monkeypatch, fraction, queries) -> None:
    monkeypatch.setattr(tangent, "QUERIES", {"cpu": queries})
    kind = double.config.model_type
    if kind not in known:
        known[kind] = block_scores(double, calls, pictures)
    shapes = cut_at(fraction)
    scores, log_probs = prefix_block_scores(double, calls, pictures, with_log_probs=True)
    assert_equal(scores, known[kind])
    lengths = [len(calls[index].prompt_ids) - 1 for index in (0, 8)]
    assert shapes == [(2, int(fraction * lengths[0])), (1, int(fraction * lengths[1]))]
    cut_at(0)
    if (kind, queries) not in known:
        known[kind, queries] = prefix_block_scores(double, calls, pictures, with_log_probs=True)[1]
    for actual, one in zip(log_probs, known[kind, queries], strict=True):
        torch.testing.assert_close(actual, one, rtol=1e-5, atol=1e-5)


def test_single_precision(model, calls, pictures, cut_at) -> None:
    expected = block_scores(model, calls, pictures)
    shapes = cut_at(1.0)
    assert_equal(prefix_block_scores(model, calls, pictures), expected, tolerance=1e-5)
    assert len(shapes) == 2


def test_bfloat16(model, calls, pictures, cut_at) -> None:
    """As close to the scores of the same weights in double precision as products are."""
    half = copy.deepcopy(model).to(torch.bfloat16)
    with torch.no_grad():
        for name, parameter in half.model.language_model.named_parameters():
            if name.endswith("k_proj.bias"):
                # As large as in trained models; it must not cost the tangents their digits.
                parameter += 20
    rounded = Pictures(pictures.pixel_values.to(torch.bfloat16), pictures.grid_thw)
    exact = block_scores(copy.deepcopy(half).double(), calls, Pictures(rounded.pixel_values.double(), rounded.grid_thw))
    errors = []
    for fraction in (0.0, 1.0):
        cut_at(fraction)
        scores = prefix_block_scores(half, calls, rounded)
        assert scores.dtype == torch.float32
        errors.append(((scores - exact).abs().amax(-1) / exact.abs().amax(-1)).mean())
    assert errors[1] < 1.5 * errors[0]


@pytest.mark.parametrize("merged", [False, True])
def test_lora(double, calls, pictures, cut_at, merged) -> None:
    layers = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "down_proj"]
    config = LoraConfig(r=2, target_modules=layers, init_lora_weights=False, lora_dropout=0.5)
    adapted = get_peft_model(double, config)
    if merged:
        adapted.merge_adapter()
    inner = adapted.get_base_model().double().eval()
    expected = block_scores(inner, calls, pictures)
    adapted.train()
    shapes = cut_at(1.0)
    # Sums of products thousands of times as large: either path is 1e-5 away from the truth.
    assert_equal(prefix_block_scores(inner, calls, pictures), expected, tolerance=3e-5)
    assert len(shapes) == 2


def test_leaves_parameters_alone(double, calls, pictures, cut_at) -> None:
    double.train()
    before = dict(double.named_parameters())
    for index, parameter in enumerate(before.values()):
        parameter.requires_grad_(index % 3 > 0)
    shapes = cut_at(0.6)
    scores = prefix_block_scores(double, calls, pictures)
    assert shapes
    assert not scores.requires_grad
    after = dict(double.named_parameters())
    assert list(after) == list(before)
    for index, (name, parameter) in enumerate(after.items()):
        assert parameter is before[name]
        assert parameter.requires_grad is (index % 3 > 0)
        assert parameter.grad is None


class _Scaled(nn.Linear):
    """A linear layer of a type of its own."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).tanh()


def _other_linear(model: PreTrainedModel) -> None:
    layer = model.model.language_model.layers[1].mlp
    layer.up_proj = _Scaled(*reversed(layer.up_proj.weight.shape), bias=False).double()


def _other_activation(model: PreTrainedModel) -> None:
    model.model.language_model.layers[0].mlp.act_fn = nn.GELU()


def _hook(model: PreTrainedModel) -> None:
    model.model.language_model.layers[1].register_forward_hook(lambda _module, _args, output: output * 1.5)


def _patched(model: PreTrainedModel) -> None:
    norm = model.model.language_model.layers[2].input_layernorm
    norm.forward = lambda x, own=norm.forward: own(x) * x.sigmoid()


def _other_norm_of_heads(model: PreTrainedModel) -> None:
    """In Qwen3-VL; elsewhere a norm of the layer."""
    layer = model.model.language_model.layers[1]
    owner, name = (layer.self_attn, "k_norm") if hasattr(layer.self_attn, "k_norm") else (layer, "input_layernorm")
    setattr(owner, name, nn.RMSNorm(len(getattr(owner, name).weight), eps=0.1).double())


def _dora(model: PreTrainedModel) -> None:
    get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False, use_dora=True))
    model.double().eval()


CHANGES = [_other_linear, _other_activation, _other_norm_of_heads, _hook, _patched, _dora]


@pytest.mark.parametrize("change", CHANGES)
def test_other_layers_are_left_to_autograd(double, calls, pictures, cut_at, change) -> None:
    assert tangent.is_known(double)
    change(double)
    shapes = cut_at(1.0)
    assert_equal(prefix_block_scores(double, calls, pictures), block_scores(double, calls, pictures))
    assert shapes == []


def test_shared_prefixes_do_not_stand_in_the_way(double) -> None:
    model = copy.deepcopy(double)
    add_shared_prefix(model)
    assert tangent.is_known(model)


def test_autocast_is_left_to_autograd(double) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        assert not tangent.is_known(double)


@pytest.mark.parametrize("fraction", [0.6, 1.0])
def test_caches_without_gradients_are_left_to_the_reference(
    model, calls, pictures, cut_at, monkeypatch, caplog, fraction
) -> None:
    """Also where tangents serve the whole prompt, so that it never goes through the model's own pass."""
    update = DynamicLayer.update
    monkeypatch.setattr(
        DynamicLayer,
        "update",
        lambda self, keys, values, *args, **kwargs: update(self, keys.detach(), values.detach(), *args, **kwargs),
    )
    monkeypatch.setattr(prefix, "_warned", set())
    expected = block_scores(model, calls, pictures)
    shapes = cut_at(fraction)
    assert_equal(prefix_block_scores(model, calls, pictures), expected)
    assert shapes
    assert "holds no gradients" in caplog.text


BLOCK_OF = [[0] * 500 + [1] * 2500 + [2] * 400 + [3] * 400 + [2, 3] * 100 + [4] * 400]
TWO_PROMPTS = [[0] * 2000 + [1] * 3000, [0, 1, 2, 3] + [4] * 1996 + [5] * 3000]


@pytest.mark.parametrize(
    ("block_of", "calls", "cut"),
    [
        # One call: a tangent is hardly cheaper than a product.
        (BLOCK_OF, 1, 0),
        # Two calls: two tangents are, three are not.
        (BLOCK_OF, 2, 3000),
        (BLOCK_OF, 3, 3400),
        (BLOCK_OF, 8, 4400),
        # The rest is too short for another pass.
        ([[0] * 3000 + [1] * 20 + [2] * 30], 2, 3050),
        # Too short altogether.
        ([[0] * 10 + [1] * 20], 8, 0),
        # Prompts of one batch are cut at one place: first three tangents on average, then four.
        (TWO_PROMPTS, 4, 5000),
        (TWO_PROMPTS, 3, 2000),
        # Many short prompts are many small operations.
        ([[block for block in range(9) for _ in range(7)]] * 16, 8, 0),
    ],
)
def test_cut_is_the_cheapest(block_of, calls, cut) -> None:
    assert tangent.best_cut(torch.tensor(block_of), calls) == cut


def test_long_prompts_take_tangents_by_themselves(model, calls, pictures, monkeypatch) -> None:
    """Nothing but the thresholds is changed."""
    cuts = []
    best = tangent.best_cut
    monkeypatch.setattr(tangent, "LEAST_SAVED", 1)
    monkeypatch.setattr(tangent, "BLOCK_PRICE", 0)
    monkeypatch.setattr(tangent, "best_cut", lambda *args: cuts.append(best(*args)) or cuts[-1])
    assert_equal(prefix_block_scores(model, calls, pictures), block_scores(model, calls, pictures), 1e-5)
    assert all(0 < cut < len(calls[0].prompt_ids) for cut in cuts)
