"""Bounded memory gives the same scores, and says what helps where a sequence does not fit."""

from __future__ import annotations

import copy
import dataclasses
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import pytest
import torch
from calls import make_call
from torch import Tensor
from transformers import PreTrainedModel
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLRMSNorm
from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLTextRMSNorm

from iapo.attribution import memory, prefix, rows, tangent, vision
from iapo.attribution.calls import Attributor
from iapo.attribution.gradient import CallInput, Pictures, block_scores, call_log_probs
from iapo.attribution.memory import Budget, budget_of, free_memory, token_cost
from iapo.attribution.occlusion import occlusion_scores
from iapo.attribution.prefix import prefix_block_scores
from iapo.attribution.settings import AttributionSettings
from iapo.attribution.tokens import all_token_scores
from iapo.errors import InputError
from iapo.records import Sample
from iapo.rollout.prompt import PromptEncoder, build_blocks

TURN = '```python\ndisplay(focus_on_{axis}_with_{style}(image_1, ["{name}"], {axis}_bbox))\n```'


@pytest.fixture(scope="module")
def pictures(encoder: PromptEncoder, samples: list[Sample]) -> Pictures:
    pixels = encoder.pixels([sample.image for sample in samples[:3]])
    return Pictures(pixels["pixel_values"], pixels["image_grid_thw"])


@pytest.fixture(scope="module")
def calls(encoder: PromptEncoder, samples: list[Sample]) -> list[CallInput]:
    """Three prompts with four different calls each, of different lengths, two prompts of one length; mixed."""
    turns = [TURN.format(axis="rows", style=style, name=name) for style in ("mask", "draw") for name in ("B", "Cat")]
    found = []
    for picture in range(3):
        blocks = build_blocks(samples[min(picture, 1)])
        some = [
            make_call(encoder, blocks, turn, "I look.\n" * (index % 3), picture) for index, turn in enumerate(turns)
        ]
        found += some
    random.Random(0).shuffle(found)
    return found


def _norm(self: Any, x: Tensor) -> Tensor:
    """Without the model's own rounding to single precision, which hides small errors."""
    return self.weight * x * (x.square().mean(-1, keepdim=True) + self.variance_epsilon).rsqrt()


@pytest.fixture
def double(model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch) -> PreTrainedModel:
    for norm in (Qwen2_5_VLRMSNorm, Qwen3VLTextRMSNorm):
        monkeypatch.setattr(norm, "forward", _norm)
    return copy.deepcopy(model).double()


@pytest.fixture(scope="module")
def known() -> dict[tuple[Any, ...], Any]:
    """What several cases are compared with, by what it is of; each is computed once."""
    return {}


@pytest.fixture
def expected(double: PreTrainedModel, calls, pictures, known) -> Tensor:
    """The scores of the definition, in double precision and without a budget."""
    key = (double.config.model_type,)
    if key not in known:
        known[key] = block_scores(double, calls, pictures)
    return known[key].clone()


@pytest.fixture(autouse=True)
def _always_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefix, "LEAST_SAVED", -1)


@contextmanager
def tokens_run(model: PreTrainedModel) -> Iterator[list[int]]:
    """The number of tokens of each run of the language model."""
    sizes: list[int] = []

    def record(_module: Any, _args: Any, kwargs: dict[str, Any]) -> None:
        sizes.append(kwargs["inputs_embeds"][..., 0].numel())

    handle = model.model.language_model.register_forward_pre_hook(record, with_kwargs=True)
    try:
        yield sizes
    finally:
        handle.remove()


TANGENTS = 5e-6
"""How far tangents are from products in double precision: their sums over the layers are in single precision."""


def assert_equal(actual: Tensor, expected: Tensor, tolerance: float = 1e-6) -> None:
    """Equality relative to the largest score of each call."""
    scale = expected.abs().amax(-1, keepdim=True)
    torch.testing.assert_close(actual / scale, expected / scale, rtol=0, atol=tolerance)


def longest(calls: list[CallInput]) -> int:
    return max(len(call.prompt_ids) + len(call.turn_ids) for call in calls)


@pytest.mark.slow(1)
@pytest.mark.parametrize("sequences", [0, 1, 2.5, 100])
def test_whole_sequences(double: PreTrainedModel, calls, pictures, expected: Tensor, known, sequences: float) -> None:
    most = max(1, int(sequences * longest(calls)))
    with tokens_run(double) as sizes:
        assert_equal(block_scores(double, calls, pictures, budget=Budget(most)), expected)
    assert max(sizes) <= max(most, longest(calls))
    assert len(sizes) == {0: 12, 1: 12, 2.5: 6, 100: 1}[sequences]
    key = (double.config.model_type, "path")
    if key not in known:
        known[key] = block_scores(double, calls, pictures, 3)
    assert_equal(block_scores(double, calls, pictures, 3, Budget(most)), known[key])


@pytest.mark.parametrize("tangents", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("sequences", [0, 0.5, 1.2, 2.3, 100])
def test_shared_prompts(
    double: PreTrainedModel, calls, pictures, expected: Tensor, known, monkeypatch, sequences: float, tangents: float
) -> None:
    monkeypatch.setattr(tangent, "best_cut", lambda block_of, calls: int(tangents * block_of.shape[1]))
    key = (double.config.model_type, tangents)
    if key not in known:
        known[key] = prefix_block_scores(double, calls, pictures, with_log_probs=True)
    whole, whole_log_probs = known[key]
    most = max(1, int(sequences * longest(calls)))
    budget = dataclasses.replace(budget_of(double, most), possible=None)
    scores, log_probs = prefix_block_scores(double, calls, pictures, budget=budget, with_log_probs=True)
    # Where a prompt is over the budget, tangents replace products.
    assert_equal(scores, whole, 1e-6 if sequences > 1 else TANGENTS)
    assert_equal(scores, expected, TANGENTS)
    for one, other in zip(log_probs, whole_log_probs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)


def test_a_graph_is_no_larger_than_asked_for(model: PreTrainedModel, calls, pictures, monkeypatch) -> None:
    """What the prompt's graph and a pass of calls hold together, where tangents stand aside."""
    monkeypatch.setattr(tangent, "is_known", lambda model: False)
    prompt, turn = max(len(call.prompt_ids) for call in calls), max(len(call.turn_ids) for call in calls)
    most = prompt + 2 * turn
    with tokens_run(model) as sizes:
        prefix_block_scores(model, calls, pictures, budget=Budget(most))
    prompts = {len(call.prompt_ids) - 1 for call in calls}
    assert sum(size in prompts for size in sizes) == 3
    assert max(size for size in sizes if size not in prompts) <= 2 * (turn + 1)


def test_long_prompts_take_tangents(double: PreTrainedModel, calls, pictures, monkeypatch) -> None:
    """Their price in memory is small; products would need the prompt's whole graph."""
    monkeypatch.setattr(tangent, "best_cut", lambda block_of, calls: 0)
    with tokens_run(double) as sizes:
        found = prefix_block_scores(double, calls[:2], pictures, budget=Budget(50, cached=0.01, tangent=0.01))
    assert max(sizes) < 50
    assert_equal(found, block_scores(double, calls[:2], pictures), TANGENTS)
    # Tangents of single tokens would take more.
    monkeypatch.setattr(tangent, "run_tangents", None)
    all_token_scores(double, calls[:2], pictures, budget=Budget(50, tangent=0.1))


def test_other_methods(model: PreTrainedModel, calls, pictures) -> None:
    budget = Budget(2 * longest(calls))
    expected = call_log_probs(model, calls, pictures)
    torch.testing.assert_close(call_log_probs(model, calls, pictures, budget), expected, rtol=1e-5, atol=1e-5)
    with tokens_run(model) as sizes:
        found = occlusion_scores(model, calls[:2], pictures, budget=budget)
    assert max(sizes) <= budget.tokens
    torch.testing.assert_close(found, occlusion_scores(model, calls[:2], pictures), rtol=1e-4, atol=1e-4)
    for one, other in zip(
        all_token_scores(model, calls, pictures, budget=budget), all_token_scores(model, calls, pictures), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5 * float(other.abs().max()))


def test_pieces_of_everything_else(double: PreTrainedModel, calls, pictures, monkeypatch) -> None:
    """Logits, images, and the MLP of tangents in pieces."""
    expected = block_scores(double, calls, pictures)
    for fraction in (0.0, 1.0):
        monkeypatch.setattr(tangent, "best_cut", lambda block_of, calls, f=fraction: int(f * block_of.shape[1]))
        monkeypatch.setattr(memory, "HEAD_LOGITS", 7 * double.lm_head.out_features)
        monkeypatch.setattr(vision, "PATCHES", 1)
        monkeypatch.setattr(rows, "MOST_ROWS", 40)
        assert_equal(prefix_block_scores(double, calls, pictures), expected, TANGENTS)
    assert_equal(block_scores(double, calls, pictures), expected)


def test_parameters_are_left_as_they_were(model: PreTrainedModel, calls, pictures) -> None:
    trained = copy.deepcopy(model).train()
    frozen = next(trained.model.visual.parameters()).requires_grad_(False)
    before = [parameter.requires_grad for parameter in trained.parameters()]
    block_scores(trained, calls[:2], pictures)
    assert [parameter.requires_grad for parameter in trained.parameters()] == before
    assert not frozen.requires_grad
    assert trained.training


def test_what_a_token_takes(model: PreTrainedModel, calls, pictures) -> None:
    """The count of a layer's saved tensors is what autograd saves."""
    for dtype in (torch.float32, torch.bfloat16):
        saved = {}
        for layers in (2, 4):
            config = copy.deepcopy(model.config)
            config.text_config.num_hidden_layers = layers
            config.text_config.layer_types = ["full_attention"] * layers
            one = type(model)(config).to(dtype).eval()
            storages: dict[int, int] = {}

            def pack(tensor: Tensor, storages: dict[int, int] = storages, one: PreTrainedModel = one) -> Tensor:
                storage = tensor.untyped_storage()
                if storage.data_ptr() not in {p.untyped_storage().data_ptr() for p in one.parameters()}:
                    storages[storage.data_ptr()] = storage.nbytes()
                return tensor

            pixels = Pictures(pictures.pixel_values.to(dtype), pictures.grid_thw)
            with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
                block_scores(one, calls[:1], pixels)
            saved[layers] = sum(storages.values())
        length = len(calls[0].prompt_ids) + 1 + max(i for i, scored in enumerate(calls[0].target) if scored)
        config.text_config.num_hidden_layers = 2
        expected = token_cost(config.text_config, dtype.itemsize).graph * length
        assert saved[4] - saved[2] == pytest.approx(expected, rel=0.03)


def test_default_is_a_part_of_the_free_memory(model: PreTrainedModel, monkeypatch) -> None:
    free = 10**9
    monkeypatch.setattr(memory, "free_memory", lambda device: free)
    cost = token_cost(model.config.get_text_config(), 4).graph
    assert budget_of(model).tokens == int(free * memory.SHARE / cost)
    assert budget_of(model, 77).tokens == 77
    assert budget_of(model, 77).possible == int(free / cost)
    monkeypatch.setattr(memory, "free_memory", lambda device: None)
    assert budget_of(model).tokens == memory.UNKNOWN_TOKENS
    assert budget_of(model).possible is None


def test_free_memory_of_the_cpu(monkeypatch, tmp_path) -> None:
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    free = free_memory(torch.device("cpu"))
    assert free is not None
    assert 0 < free <= psutil.virtual_memory().total + psutil.swap_memory().total
    monkeypatch.setattr(memory, "_group_memory", lambda: iter([4096]))
    assert free_memory(torch.device("cpu")) == 4096
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert free_memory(torch.device("cpu")) == 1024


def test_control_groups(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(memory, "GROUPS", [(tmp_path, *memory.GROUPS[0][1:])])
    assert list(memory._group_memory()) == []
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("700\n")
    (tmp_path / "memory.stat").write_text("anon 400\ninactive_file 250\n")
    assert list(memory._group_memory()) == [550]
    (tmp_path / "memory.max").write_text("max\n")
    assert list(memory._group_memory()) == []


def test_one_sequence_that_cannot_fit(model: PreTrainedModel, encoder, samples, monkeypatch) -> None:
    monkeypatch.setattr(tangent, "is_known", lambda model: False)
    monkeypatch.setattr(memory, "free_memory", lambda device: 10 * token_cost(model.config.text_config, 4).graph)
    prompts, turns = one_turn(encoder, samples)
    with pytest.raises(InputError, match="the free memory holds 10 at most; set a smaller max_pixels"):
        Attributor(model, encoder.pixels, AttributionSettings()).distributions(prompts, turns)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:116] err == 0. DefaultCPUAllocator: can't allocate memory: you tried"
        ),
    ],
)
def test_running_out_says_what_helps(model: PreTrainedModel, encoder, samples, monkeypatch, error) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    for module in ("methods", "tokens"):
        monkeypatch.setattr(f"iapo.attribution.{module}.prefix_block_scores", fail)
    prompts, turns = one_turn(encoder, samples)
    for tokens, text in ((None, r"now chosen from the free memory\) to \d+"), (100_000, r"now 100000\) to 50000;")):
        attributor = Attributor(model, encoder.pixels, AttributionSettings(tokens=tokens))
        for run in (attributor.distributions, attributor.patches):
            with pytest.raises(InputError, match=f"ran out of memory on cpu.*attribution_tokens .{text}"):
                run(prompts, turns)


def test_other_errors_stay_as_they_are(model: PreTrainedModel, encoder, samples, monkeypatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("shapes differ")

    monkeypatch.setattr("iapo.attribution.methods.prefix_block_scores", fail)
    with pytest.raises(RuntimeError, match="shapes differ"):
        Attributor(model, encoder.pixels, AttributionSettings()).distributions(*one_turn(encoder, samples))


def one_turn(encoder: PromptEncoder, samples: list[Sample]) -> Any:
    prompt = encoder.encode(build_blocks(samples[0]))
    return [prompt], [([40, 41, 42], [False, True, True])]
