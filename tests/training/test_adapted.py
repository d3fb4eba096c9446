"""Adapters of the output layer and of embeddings that are tied to it, past which weights are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

from iapo.errors import InputError
from iapo.rollout.policy import load_policy
from iapo.training.adapted import check_apart, check_head, check_shared


def tied(name: str = "tiny-student") -> Any:
    model = load_policy(name).model
    for part in (model.config, model.config.get_text_config()):
        part.tie_word_embeddings = True
    model.lm_head.weight = model.get_input_embeddings().weight
    return model


def adapted(model: Any, *targets: str, **more: Any) -> Any:
    return get_peft_model(model, LoraConfig(r=2, target_modules=list(targets), **more))


def test_an_adapter_of_the_output_layer_is_not_trained() -> None:
    check_head(load_policy("tiny-student").model)
    check_head(adapted(load_policy("tiny-student").model, "q_proj", "embed_tokens"))
    with pytest.raises(InputError, match=r"an adapter on its output layer .* `iapo export` adds it"):
        check_head(adapted(load_policy("tiny-student").model, "lm_head"))


@pytest.mark.parametrize(
    ("targets", "more", "refused"),
    [
        (["q_proj"], {}, False),
        (["embed_tokens"], {}, True),
        (["lm_head"], {}, True),
        (["q_proj"], {"modules_to_save": ["embed_tokens"]}, True),
    ],
)
def test_vllm_keeps_tied_embeddings_as_one(targets: list[str], more: dict[str, Any], refused: bool) -> None:
    apart = load_policy("tiny-student").model
    apart.config.tie_word_embeddings = False
    check_shared(adapted(apart, *targets, **more))
    model = adapted(tied(), *targets, **more)
    if not refused:
        check_shared(model)
        return
    with pytest.raises(InputError, match="vLLM keeps the two as one; leave use_vllm out"):
        check_shared(model)


@pytest.mark.parametrize("target", ["q_proj", "embed_tokens"])
def test_vllm_is_not_made_of_a_base_that_has_no_output_layer_of_its_own(tmp_path: Path, target: str) -> None:
    check_apart(load_policy("tiny-student").model)
    base = tied()
    base.save_pretrained(tmp_path / "base")
    load_policy("tiny-student").processor.save_pretrained(tmp_path / "base")
    torch.manual_seed(0)
    model = get_peft_model(
        load_policy(str(tmp_path / "base")).model, LoraConfig(r=2, target_modules=[target], init_lora_weights=False)
    )
    model.save_pretrained(tmp_path / "adapter")
    student = load_policy(str(tmp_path / "adapter")).model
    if target == "q_proj":
        check_apart(student)
        return
    with pytest.raises(InputError, match="write a whole checkpoint by `iapo export`, and give that as model"):
        check_apart(student)
