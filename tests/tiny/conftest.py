"""What the tests of the tiny world share: the packaged models' own processor, and pictures."""

from __future__ import annotations

import itertools

import pytest

from iapo.data.synthetic import TRAINED_FAMILIES, Chart, draw
from iapo.rollout.policy import load_processor
from iapo.rollout.prompt import PromptEncoder


@pytest.fixture(scope="session")
def tiny_encoder() -> PromptEncoder:
    return PromptEncoder(load_processor("tiny-student"))


@pytest.fixture(scope="session")
def charts() -> list[Chart]:
    """24 of each trained family, families in turn."""
    streams = [draw(family, 24, seed=2, question_types=("value",)) for family in TRAINED_FAMILIES]
    return list(itertools.chain.from_iterable(zip(*streams, strict=True)))
