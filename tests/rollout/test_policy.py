"""Policies load by name without torchvision; what is packaged is what its manifest says."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    GPT2Config,
    Qwen2_5_VLForConditionalGeneration,
    Qwen3VLForConditionalGeneration,
    Qwen3VLMoeConfig,
)

from iapo.data.synthetic import TRAINED_FAMILIES
from iapo.errors import InputError
from iapo.models import features_of_images
from iapo.records import Sample
from iapo.rollout.names import PACKAGED, packaged
from iapo.rollout.policy import ImageTextProcessor, Policy, load_policy, load_processor
from iapo.tiny.evaluate import behaviour, roll_out, samples_of
from iapo.tiny.models import CHAT_TEMPLATE


def test_real_classes_without_torchvision(student: Policy) -> None:
    assert isinstance(student.model, Qwen2_5_VLForConditionalGeneration)
    assert isinstance(student.processor, ImageTextProcessor)
    assert "torchvision" not in sys.modules


def read(processor: Any, sample: Sample) -> dict[str, torch.Tensor]:
    text = "<|vision_start|><|image_pad|><|vision_end|>What?"
    return dict(processor(text=[text], images=[sample.image], return_tensors="pt"))


def assert_same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.fixture
def own(
    family: str, model: Any, qwen3_model: Any, processor: ImageTextProcessor, qwen3_processor: ImageTextProcessor
) -> Policy:
    """An untrained policy of either family."""
    return Policy(qwen3_model, qwen3_processor) if family == "qwen3_vl" else Policy(model, processor)


def test_round_trip(tmp_path: Path, own: Policy, samples: list[Sample]) -> None:
    own.model.save_pretrained(tmp_path)
    own.processor.save_pretrained(tmp_path)
    again = load_policy(str(tmp_path))
    assert type(again.model) is type(own.model)
    assert isinstance(again.processor, ImageTextProcessor)
    inputs = read(own.processor, samples[0])
    assert_same(inputs, read(again.processor, samples[0]))
    assert again.processor.chat_template == own.processor.chat_template
    assert again.model.generation_config.eos_token_id == own.processor.tokenizer.eos_token_id
    with torch.no_grad():
        assert torch.equal(again.model.eval()(**inputs).logits, own.model(**inputs).logits)
    assert "torchvision" not in sys.modules


def test_files_as_the_hub_has_them(tmp_path: Path, qwen3_processor: ImageTextProcessor, samples: list[Sample]) -> None:
    """Published checkpoints name classes that need torchvision, and keep settings in other files than ours do."""
    qwen3_processor.tokenizer.save_pretrained(tmp_path)
    (tmp_path / "chat_template.json").write_text(json.dumps({"chat_template": CHAT_TEMPLATE}))
    pixels = {
        "patch_size": 16,
        "temporal_patch_size": 2,
        "merge_size": 2,
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
    }
    files = {
        "preprocessor_config.json": {
            **pixels,
            "size": {"longest_edge": 448 * 448, "shortest_edge": 64 * 64},
            "image_processor_type": "Qwen2VLImageProcessorFast",
        },
        "video_preprocessor_config.json": {**pixels, "video_processor_type": "Qwen3VLVideoProcessor"},
    }
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps({**content, "processor_class": "Qwen3VLProcessor"}))
    found = load_processor(str(tmp_path))
    assert found.chat_template == CHAT_TEMPLATE
    assert_same(read(found, samples[0]), read(qwen3_processor, samples[0]))
    assert read(found, samples[0])["pixel_values"].shape == (8 * 8, 3 * 2 * 16 * 16)
    assert "torchvision" not in sys.modules


def test_qwen3_models_feed_the_picture_in_again(qwen3_model: Any, qwen3_processor: Any, samples: list[Sample]) -> None:
    assert isinstance(qwen3_model, Qwen3VLForConditionalGeneration)
    pixels = dict(qwen3_processor.image_processor(images=[samples[0].image], return_tensors="pt"))
    with torch.no_grad():
        features = features_of_images(qwen3_model.model, pixels["pixel_values"], pixels["image_grid_thw"])
    assert [[one.shape for one in layer] for layer in features] == [[(16, 64)], [(16, 64)], [(16, 64)]]


@pytest.mark.parametrize("name", ["./no/such/folder", "tiny-studnet", "./folder", "/no/folder"])
def test_unknown_checkpoint_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(*_: Any, **__: Any) -> None:
        raise AssertionError("the hub was asked")

    monkeypatch.setattr("iapo.rollout.configuration.AutoConfig.from_pretrained", ask)
    with pytest.raises(ValueError, match="tiny-student"):
        load_policy(name)


def test_what_the_hub_does_not_have_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(*_: Any, **__: Any) -> None:
        raise OSError("not there\nmore")

    # The files beside a checkpoint are asked for before it; without a network, each is waited for through retries.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("iapo.rollout.configuration.AutoConfig.from_pretrained", ask)
    with pytest.raises(ValueError, match=r"nor to be had from the hub \(not there\)"):
        load_policy("owner/name")


@pytest.mark.parametrize(("config", "kind"), [(GPT2Config, "gpt2"), (Qwen3VLMoeConfig, "qwen3_vl_moe")])
def test_foreign_model_is_refused(tmp_path: Path, config: Any, kind: str) -> None:
    config().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=rf"'{kind}' model; use a Qwen2\.5-VL or a dense Qwen3-VL checkpoint"):
        load_policy(str(tmp_path))


NAMES = ["tiny-qwen3-vl-teacher", "tiny-student", "tiny-teacher"]
"""Whole checkpoints; an adapter is packaged, too."""


def test_packaged_files_are_small() -> None:
    assert packaged() == sorted([*NAMES, "tiny-student-causes"])
    assert sum(path.stat().st_size for path in PACKAGED.rglob("*") if path.is_file()) < 10_000_000


@pytest.mark.parametrize("name", NAMES)
def test_manifest_keeps_its_promises(name: str) -> None:
    """The student calls validly, often wrongly, and gets away with it; teachers do better."""
    manifest = json.loads((PACKAGED / name / "manifest.json").read_text())
    found = {key: value["value"] for key, value in manifest["metrics"]["canonical"].items()}
    assert found["valid"] >= 0.8
    if name == "tiny-student":
        assert 0.3 <= found["misuse"] <= 0.5
        assert 0.25 <= found["accuracy"] <= 0.6
        assert found["after_misuse"] > found["after_right"] - 0.15
    else:
        assert found["misuse"] <= 0.02
        assert found["accuracy"] >= 0.9
        assert list(manifest["stages"]) == ["sight", "protocol", "teacher"]
    assert sum(stage["seconds"] for stage in manifest["stages"].values()) <= 3600


def test_the_teacher_is_twice_the_student() -> None:
    student, teacher = (
        json.loads((PACKAGED / name / "manifest.json").read_text())["parameters"]
        for name in ("tiny-student", "tiny-teacher")
    )
    assert 2 <= teacher / student <= 3


@pytest.mark.slow(4)
@pytest.mark.parametrize("name", NAMES)
def test_packaged_model_does_what_its_manifest_says(name: str) -> None:
    """Measured again on other charts, within five standard errors of what is written down."""
    samples = [sample for family in TRAINED_FAMILIES for sample in samples_of(family, 24, seed=77)]
    found = behaviour(roll_out(load_policy(name), samples, "canonical", seed=1, temperature=1.0))
    written = json.loads((PACKAGED / name / "manifest.json").read_text())["metrics"]["canonical"]
    for key in ("accuracy", "valid", "misuse"):
        share = min(max(written[key]["value"], 0.02), 0.98)
        assert abs(found[key].value - written[key]["value"]) <= 5 * (share * (1 - share) / found[key].count) ** 0.5  # type: ignore[operator]


@pytest.mark.parametrize("load", [load_policy, load_processor])
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "model is empty; give the name of a policy, a folder or a hub id"),
        ("  ", "model is empty"),
        (None, "model is of type NoneType"),
        (5, "model is of type int"),
        (b"tiny-student", "model is of type bytes"),
    ],
)
def test_names_that_are_none(load: Any, name: Any, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        load(name)


def test_settings_that_are_none() -> None:
    wrong: Any = {"dtype": "float32"}
    for load in (load_policy, load_processor):
        with pytest.raises(InputError, match=r"settings are of type dict; give iapo\.LoadSettings"):
            load("tiny-student", wrong)
    device: Any = 0
    with pytest.raises(InputError, match="device is 0; it takes none or a text"):
        load_policy("tiny-student", device=device)


def test_a_path_is_a_name() -> None:
    assert load_processor(Path("tiny-student")).tokenizer.get_vocab()  # type: ignore[attr-defined]
