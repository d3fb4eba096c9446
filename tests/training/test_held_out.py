"""What an evaluation loads."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import PreTrainedModel

from iapo.records import Sample
from iapo.rollout.policy import Policy, load_processor
from iapo.training import held_out
from iapo.training.arguments import RunArguments
from iapo.training.config import IAPOConfig


def test_no_teacher_is_loaded_where_nothing_is_evaluated(
    model: PreTrainedModel, samples: list[Sample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[str] = []
    policy = Policy(model, load_processor("tiny-student"))

    def load(name: str, *_: object) -> Policy:
        loaded.append(name)
        return policy

    monkeypatch.setattr(held_out, "load_teacher", load)
    arguments = RunArguments(model="tiny-student", eval_teacher="tiny-teacher", eval_samples=0)
    settings = IAPOConfig(str(tmp_path / "run"), use_cpu=True, bf16=False)
    assert held_out.HeldOut(arguments, settings, policy, None, None, []).teacher is None
    assert loaded == []
    assert held_out.HeldOut(arguments, settings, policy, None, None, samples[:1]).teacher is policy
    assert loaded == ["tiny-teacher"]
