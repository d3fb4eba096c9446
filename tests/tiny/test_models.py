"""Where the tiny models start."""

from __future__ import annotations

import pytest
import torch

from iapo.rollout.prompt import PromptEncoder
from iapo.tiny.models import make_model, make_qwen3_model, start_with_lookups

WIDTHS = {"hidden": 64, "heads": 2, "layers": 2, "vision_hidden": 48, "vision_layers": 1, "mlp": 2}


@pytest.mark.parametrize("make", [make_model, make_qwen3_model])
def test_the_start_attends_to_like_and_passes_it_on(make, tiny_encoder: PromptEncoder) -> None:  # type: ignore[no-untyped-def]
    torch.manual_seed(0)
    model = make(tiny_encoder.tokenizer, **WIDTHS)
    start_with_lookups(model)
    text = model.model.language_model
    assert text.embed_tokens.weight.std().item() == pytest.approx(1, rel=0.02)
    assert torch.equal(model.lm_head.weight, text.embed_tokens.weight)
    first, second = (layer.self_attn for layer in text.layers)
    assert not torch.equal(first.q_proj.weight, first.k_proj.weight)
    assert torch.equal(second.q_proj.weight, second.k_proj.weight)
    for attention in (first, second):
        passed_on = attention.o_proj.weight @ attention.v_proj.weight
        torch.testing.assert_close(passed_on, torch.eye(64), rtol=0, atol=1e-5)
    assert text.layers[0].mlp.gate_proj.out_features == 128
