"""What is tested here is tested for both families of models, Qwen2.5-VL and Qwen3-VL."""

from __future__ import annotations

import pytest
from transformers import PreTrainedModel

from iapo.rollout.prompt import PromptEncoder


@pytest.fixture(scope="session")
def model(family: str, model: PreTrainedModel, qwen3_model: PreTrainedModel) -> PreTrainedModel:
    return qwen3_model if family == "qwen3_vl" else model


@pytest.fixture(scope="session")
def other_model(family: str, other_model: PreTrainedModel, other_qwen3_model: PreTrainedModel) -> PreTrainedModel:
    return other_qwen3_model if family == "qwen3_vl" else other_model


@pytest.fixture(scope="session")
def encoder(family: str, encoder: PromptEncoder, qwen3_encoder: PromptEncoder) -> PromptEncoder:
    return qwen3_encoder if family == "qwen3_vl" else encoder
