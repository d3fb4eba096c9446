"""The verifier without a model."""

from __future__ import annotations

from typing import Any

import pytest
from PIL import Image

from iapo import IAPOConfig
from iapo.errors import InputError
from iapo.records import Sample, ToolCall
from iapo.rewards.presets import local_verifier
from iapo.rewards.rule_verifier import mentioned, rule_score

BOX = (0, 0, 4, 4)


def sample(question: str, axis: Any = "columns") -> Sample:
    names = {"A": BOX, "Aged 65+": BOX, "2,5 to 3": BOX}
    return Sample("s", Image.new("RGB", (8, 8)), question, ("1",), names, {"A": BOX, "Z": BOX}, axis=axis)


def call(axis: Any, *names: str) -> ToolCall:
    return ToolCall(f"focus_on_{axis}_with_mask", names, f"{axis}_bbox", axis)


@pytest.mark.parametrize(
    ("question", "axis", "made", "score"),
    [
        ("value of A?", "columns", call("columns", "A"), 1.0),
        ("value of A?", "columns", call("rows", "A"), 0.5),
        ("value of A?", "columns", call("columns", "Aged 65+"), 0.5),
        ("value of A?", "columns", call("columns", "A", "Aged 65+"), 0.5),
        ("value of A?", "columns", call("rows", "Z"), 0.0),
        ("value of A?", None, call("rows", "A"), 1.0),
        ("A or Aged 65+, which is more?", "columns", call("columns", "Aged 65+", "A"), 1.0),
        ("Which is the largest?", "columns", call("columns", "A"), 1.0),
        ("Which is the largest?", "columns", call("rows", "A"), 0.0),
    ],
)
def test_scores(question: str, axis: Any, made: ToolCall, score: float) -> None:
    assert rule_score(sample(question, axis), made) == score


def test_names_are_whole_words_and_the_longer_one_wins() -> None:
    assert mentioned("AB? Aged 65+ (2,5 to 3)", ["A", "Aged 65+", "2,5 to 3", "65+", ""]) == {"Aged 65+", "2,5 to 3"}
    assert mentioned("anything", []) == set()


def test_it_loads_no_checkpoint_and_is_named_where_none_is_set() -> None:
    given = {"use_cpu": True, "bf16": False, "reward": "trm"}
    assert local_verifier(IAPOConfig("unused", verifier="rules", **given)) is None
    with pytest.raises(InputError, match="rules"):
        IAPOConfig("unused", **given)


def test_rules_and_an_endpoint_are_refused_together() -> None:
    given = {"use_cpu": True, "bf16": False, "reward": "trm", "verifier": "rules"}
    with pytest.raises(InputError, match="which asks nobody"):
        IAPOConfig("unused", verifier_url="http://localhost:1/v1", **given)
