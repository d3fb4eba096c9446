"""What many tests share: a small tokenizer, small untrained models of both families, a few charts.

A plugin rather than a part of conftest.py: its imports take seconds, and the process that shares out the tests among
others needs none of them.
"""

from __future__ import annotations

import copy
import functools
import itertools
import os
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import accelerate.utils.modeling
import pytest
import torch
from calls import call_text
from transformers import PreTrainedModel

from iapo.data.synthetic import generate
from iapo.records import Sample
from iapo.rollout.policy import ImageTextProcessor, Policy, load_policy
from iapo.rollout.prompt import PromptEncoder, build_blocks
from iapo.rollout.template import TINY, find_prompt
from iapo.tiny.models import make_model, make_processor, make_qwen3_model, make_qwen3_processor, train_tokenizer

# A quarter of what it takes to make a trainer: each time it reads a package's metadata.
accelerate.utils.modeling.is_peft_available = functools.cache(accelerate.utils.modeling.is_peft_available)


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """What a test, or a library for it, sets for the whole process is as it was for the next one.

    The models are so small that more threads cost more than they give; a command that is tested chooses its own.
    """
    environment, kind = _environment(), torch.get_default_dtype()
    deterministic = torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(1)
    torch.set_default_dtype(kind)
    torch.use_deterministic_algorithms(deterministic)
    if (now := _environment()) != environment:
        for name in now.keys() - environment.keys():
            del os.environ[name]
        os.environ.update(environment)


def _environment() -> dict[str, str]:
    """The environment without what pytest itself says in it of each test."""
    return {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}


_made: list[PreTrainedModel] = []


@pytest.fixture(scope="module", autouse=True)
def _as_made() -> Iterator[None]:
    """The models that all share are to the tests of the next file as they were made: being a teacher freezes one.

    What a trainer does to a model of its own stays, so that tests give it a copy.
    """
    yield
    for one in _made:
        one.eval().requires_grad_(True)
        assert not any("forward" in vars(module) for module in one.modules()), "a test trained a model that all share"


def _shared(model: PreTrainedModel) -> PreTrainedModel:
    _made.append(model.eval())
    return model


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that clients of endpoints would have waited between attempts; none of them is waited."""
    found: list[float] = []
    clock = SimpleNamespace(sleep=found.append, time=time.time)
    for module in ("openai._base_client", "iapo.endpoints.chat"):
        monkeypatch.setattr(f"{module}.time", clock)
    return found


def corpus() -> Iterator[str]:
    """Parts of prompts and turns, for training tokenizers."""
    charts = itertools.chain.from_iterable(generate(family, 40, seed=0, split="tokenizer") for family in FAMILIES)
    for sample in charts:
        blocks = build_blocks(sample)
        yield f"<|im_start|>system\n{blocks[0].text}<|im_end|>\n"
        yield "".join(block.text for block in blocks[1:])
        for axis in ("columns", "rows"):
            for style in ("highlight", "mask", "draw"):
                yield call_text(f"focus_on_{axis}_with_{style}", next(iter(sample.column_boxes)), axis)
        yield f"FINAL ANSWER: {sample.answers[0]}. TERMINATE"
        yield find_prompt(TINY).observation_edited
        yield from ("system\n", "user\n", "assistant\n")


FAMILIES = ("vbar", "hbar")


@pytest.fixture(scope="session")
def processor() -> ImageTextProcessor:
    return make_processor(train_tokenizer(corpus()))


@pytest.fixture(scope="session")
def other_processor() -> ImageTextProcessor:
    """A processor whose tokenizer cuts texts into other, shorter tokens."""
    return make_processor(train_tokenizer(corpus(), vocab_size=330))


@pytest.fixture(scope="session")
def encoder(processor: ImageTextProcessor) -> PromptEncoder:
    return PromptEncoder(processor)


@pytest.fixture(scope="session")
def model(processor: ImageTextProcessor) -> PreTrainedModel:
    torch.manual_seed(0)
    return _shared(make_model(processor.tokenizer, hidden=64, heads=2, layers=2, vision_hidden=48, vision_layers=1))


@pytest.fixture(scope="session")
def other_model(processor: ImageTextProcessor) -> PreTrainedModel:
    """A larger model with the vocabulary of `model`."""
    torch.manual_seed(1)
    return _shared(make_model(processor.tokenizer, hidden=96, heads=3, layers=3, vision_hidden=72, vision_layers=2))


@pytest.fixture(scope="session", params=["qwen2_5_vl", "qwen3_vl"])
def family(request: pytest.FixtureRequest) -> str:
    """For tests that both families of models must pass."""
    return request.param


@pytest.fixture(scope="session")
def foreign(family: str, other_processor: ImageTextProcessor) -> Policy:
    """A teacher of either family with a tokenizer of its own; being one freezes it."""
    torch.manual_seed(2)
    tokenizer = other_processor.tokenizer
    widths = {"hidden": 64, "heads": 2, "layers": 2, "vision_hidden": 48, "vision_layers": 1}
    if family == "qwen3_vl":
        return Policy(make_qwen3_model(tokenizer, **widths), make_qwen3_processor(tokenizer))
    return Policy(make_model(tokenizer, **widths), other_processor)


@pytest.fixture(scope="session")
def qwen3_processor(processor: ImageTextProcessor) -> ImageTextProcessor:
    """The tokenizer of `processor` with pictures in patches of 16 pixels."""
    return make_qwen3_processor(processor.tokenizer)


@pytest.fixture(scope="session")
def qwen3_encoder(qwen3_processor: ImageTextProcessor) -> PromptEncoder:
    return PromptEncoder(qwen3_processor)


@pytest.fixture(scope="session")
def qwen3_model(processor: ImageTextProcessor) -> PreTrainedModel:
    """Features of two vision layers enter the language model behind its first two of three layers."""
    torch.manual_seed(2)
    return _shared(
        make_qwen3_model(processor.tokenizer, hidden=64, heads=2, layers=3, vision_hidden=48, vision_layers=2)
    )


@pytest.fixture(scope="session")
def other_qwen3_model(processor: ImageTextProcessor) -> PreTrainedModel:
    """A larger model with the vocabulary of `qwen3_model`."""
    torch.manual_seed(3)
    return _shared(
        make_qwen3_model(processor.tokenizer, hidden=96, heads=3, layers=4, vision_hidden=72, vision_layers=3)
    )


@pytest.fixture(scope="session")
def samples() -> list[Sample]:
    """Two vertical and two horizontal bar charts of 112 pixels."""
    return [sample for family in FAMILIES for sample in generate(family, 2, seed=7)]


@pytest.fixture(scope="session")
def _loaded() -> Policy:
    return load_policy("tiny-student")


@pytest.fixture
def student(_loaded: Policy) -> Policy:
    """The packaged student, fresh for each test: being a teacher freezes a model."""
    return copy.deepcopy(_loaded)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """The one Chromium of all tests with a page."""
    from report_browser import FLAGS, find_browser, playwright

    with playwright.sync_playwright() as driver:
        one = driver.chromium.launch(executable_path=find_browser(), args=FLAGS)
        yield one
        one.close()
