"""What the tests of the tiny world share: the packaged models' own processor, and pictures."""

from __future__ import annotations

import itertools

import pytest

from iapo.policy import load_processor
from iapo.prompt import PromptEncoder
from iapo.tasks.synthetic import TRAINED_FAMILIES, Chart, draw


@pytest.fixture(scope="session")
def tiny_encoder() -> PromptEncoder:
    return PromptEncoder(load_processor("tiny-student"))


@pytest.fixture(scope="session")
def charts() -> list[Chart]:
    """24 of each trained family, families in turn."""
    streams = [draw(family, 24, seed=2, question_types=("value",)) for family in TRAINED_FAMILIES]
    return list(itertools.chain.from_iterable(zip(*streams, strict=True)))
