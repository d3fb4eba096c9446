"""Policies load by name without torchvision; what is packaged is what its manifest says."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GPT2Config, Qwen2_5_VLForConditionalGeneration

from iapo.evaluation import EvaluationSettings, evaluate, summarize
from iapo.policy import PACKAGED, ImageTextProcessor, Policy, load_policy, load_processor, packaged
from iapo.tasks.synthetic import generate
from iapo.tiny.build import TURN_TOKENS


def test_real_classes_without_torchvision(student: Policy) -> None:
    assert isinstance(student.model, Qwen2_5_VLForConditionalGeneration)
    assert isinstance(student.processor, ImageTextProcessor)
    assert "torchvision" not in sys.modules


def test_processor_round_trip(tmp_path: Path, processor: Any, samples: list[Any]) -> None:
    processor.save_pretrained(tmp_path)
    again = load_processor(str(tmp_path))
    text = "<|vision_start|><|image_pad|><|vision_end|>What?"
    first, second = (one(text=[text], images=[samples[0].image], return_tensors="pt") for one in (processor, again))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert again.chat_template == processor.chat_template


@pytest.mark.parametrize("name", ["./no/such/folder", "tiny-studnet", "./folder", "/no/folder"])
def test_unknown_checkpoint_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(*_: Any, **__: Any) -> None:
        raise AssertionError("the hub was asked")

    monkeypatch.setattr("iapo.policy.AutoConfig.from_pretrained", ask)
    with pytest.raises(ValueError, match="tiny-student"):
        load_policy(name)


def test_what_the_hub_does_not_have_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(*_: Any, **__: Any) -> None:
        raise OSError("not there\nmore")

    monkeypatch.setattr("iapo.policy.AutoConfig.from_pretrained", ask)
    with pytest.raises(ValueError, match=r"nor to be had from the hub \(not there\)"):
        load_policy("owner/name")


def test_foreign_model_is_refused(tmp_path: Path) -> None:
    GPT2Config().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"'gpt2' model; use a Qwen2\.5-VL checkpoint"):
        load_policy(str(tmp_path))


def test_packaged_files_are_small() -> None:
    assert packaged() == ["tiny-student", "tiny-teacher"]
    assert sum(path.stat().st_size for path in PACKAGED.rglob("*") if path.is_file()) < 10_000_000


@pytest.mark.parametrize("name", ["tiny-student", "tiny-teacher"])
def test_manifest_keeps_its_promises(name: str) -> None:
    """The student calls validly and often wrongly, the teacher rightly; both read a rightly marked bar."""
    manifest = json.loads((PACKAGED / name / "manifest.json").read_text())
    metrics = manifest["metrics"]
    assert metrics["reading_right"]["value"] >= 0.95
    assert metrics["sampled"]["call_success"]["value"] >= 0.8
    misuse = metrics["sampled"]["misuse"]["value"]
    assert 0.3 <= misuse <= 0.5 if name == "tiny-student" else misuse <= 0.02
    assert manifest["seconds"] <= 3600


@pytest.mark.parametrize("name", ["tiny-student", "tiny-teacher"])
def test_packaged_model_does_what_its_manifest_says(name: str) -> None:
    """Measured again on other charts, within five standard errors of what is written down."""
    samples = [one for family in ("vbar", "hbar") for one in generate(family, 60, seed=77, question_types=("value",))]
    settings = EvaluationSettings(max_turn_tokens=TURN_TOKENS, temperature=1.0)
    found = summarize(evaluate(load_policy(name), samples, settings))
    written = json.loads((PACKAGED / name / "manifest.json").read_text())["metrics"]["sampled"]
    for key in ("accuracy", "call_ratio", "call_success", "misuse"):
        share = min(max(written[key]["value"], 0.01), 0.99)
        assert abs(found[key].value - written[key]["value"]) <= 5 * (share * (1 - share) / found[key].count) ** 0.5  # type: ignore[operator]
