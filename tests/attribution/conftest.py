"""What is tested here is tested for both families of models, Qwen2.5-VL and Qwen3-VL."""

from __future__ import annotations

import pytest
from transformers import PreTrainedModel

from iapo.attribution.gradient import CallInput, Pictures
from iapo.records import Sample
from iapo.rollout.prompt import PromptEncoder, build_blocks

PROGRAM = '```python\ndisplay(focus_on_rows_with_draw(image_1, ["B"], rows_bbox))\n```'
THOUGHT = "I want to see row B.\n"


@pytest.fixture(scope="session")
def model(family: str, model: PreTrainedModel, qwen3_model: PreTrainedModel) -> PreTrainedModel:
    return qwen3_model if family == "qwen3_vl" else model


@pytest.fixture(scope="session")
def other_model(family: str, other_model: PreTrainedModel, other_qwen3_model: PreTrainedModel) -> PreTrainedModel:
    return other_qwen3_model if family == "qwen3_vl" else other_model


@pytest.fixture(scope="session")
def encoder(family: str, encoder: PromptEncoder, qwen3_encoder: PromptEncoder) -> PromptEncoder:
    return qwen3_encoder if family == "qwen3_vl" else encoder


@pytest.fixture(scope="module")
def pictures(encoder: PromptEncoder, samples: list[Sample]) -> Pictures:
    """The images of some samples."""
    pixels = encoder.pixels([sample.image for sample in samples])
    return Pictures(pixels["pixel_values"], pixels["image_grid_thw"])


@pytest.fixture(scope="module")
def calls(encoder: PromptEncoder, samples: list[Sample]) -> list[CallInput]:
    """One program on each of them, the later ones behind words of their own."""
    made = []
    for picture, sample in enumerate(samples):
        prompt = encoder.encode(build_blocks(sample))
        before = encoder.tokenizer(THOUGHT * picture, add_special_tokens=False)["input_ids"]
        scored = encoder.tokenizer(PROGRAM, add_special_tokens=False)["input_ids"]
        target = [False] * len(before) + [True] * len(scored)
        made.append(
            CallInput(prompt.ids, prompt.block_of, len(prompt.block_names), before + scored, target, (picture,))
        )
    return made
