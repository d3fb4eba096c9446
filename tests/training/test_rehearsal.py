"""What Transformers and TRL would refuse in the midst of a training is refused before anything is loaded."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path
from typing import Any

import pytest
import trl.generation.vllm_generation as vllm_generation
import trl.trainer.grpo_trainer as grpo_trainer
from huggingface_hub import constants
from huggingface_hub.errors import OfflineModeIsEnabled

from iapo.errors import InputError
from iapo.training.checks import check_functions, check_settings
from iapo.training.config import IAPOConfig
from iapo.training.rehearsal import made, refused_by_libraries, rehearse
from iapo.training.trl_settings import CHOICES, GENERATION_TAKEN

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "loss": ({"loss_type": "foo"}, "no loss_type 'foo'; use one of grpo, "),
    "tracker": ({"report_to": ["foo"]}, "no tracker 'foo' for report_to; use one of .*wandb, none"),
    "best": ({"save_strategy": "best", "metric_for_best_model": "loss"}, "save_strategy is best, but nothing is"),
    "optimiser's words": ({"optim": "sgd", "optim_args": "foo"}, "optim sgd with optim_args foo cannot be used: Value"),
    "optimiser's names": ({"optim": "sgd", "optim_args": "foo=1"}, "optim sgd does nothing with optim_args foo=1"),
    "missing": ({"optim": "adamw_8bit"}, "optim adamw_8bit .* cannot be used: ImportError: .*bitsandbytes"),
    "schedule": (
        {"lr_scheduler_type": "cosine_with_restarts", "lr_scheduler_kwargs": {"num_cycles": "x"}},
        "lr_scheduler_type cosine_with_restarts with .* cannot be used: ValueError",
    ),
    "schedule without": (
        {"lr_scheduler_type": "constant", "lr_scheduler_kwargs": {"a": 1}},
        "lr_scheduler_type constant does nothing with lr_scheduler_kwargs",
    ),
    "level": ({"importance_sampling_level": "nosuch"}, "no importance_sampling_level 'nosuch'; use one of token, seq"),
    "scale": ({"scale_rewards": "foo"}, "no scale_rewards 'foo'; use one of group, batch, none"),
    "aggregation": ({"multi_objective_aggregation": "x"}, "no multi_objective_aggregation 'x'; use one of sum_then_"),
    "vllm": ({"vllm_importance_sampling_mode": "x"}, "no vllm_importance_sampling_mode 'x'; use one of token_trunc"),
    "a tracker and none": ({"report_to": ["none", "none"]}, "report_to is none, none; give none alone"),
    "no trackers": ({"report_to": None}, "no tracker 'None' for report_to; .*use one of .*, none"),
    "layer by layer": ({"optim": "lomo"}, "optim is lomo, which steps within the backward pass"),
    "layer by layer, adaptive": ({"optim": "adalomo"}, "optim is adalomo, which steps within the backward pass"),
    "workers kept": ({"dataloader_persistent_workers": True}, "dataloader_persistent_workers is True, which needs wor"),
    "workers' start": (
        {"dataloader_multiprocessing_context": "fork"},
        "dataloader_multiprocessing_context is 'fork', which needs workers; set dataloader_num_workers",
    ),
    "some layers": (
        {"gradient_checkpointing_kwargs": {"every_n_layers": 2}},
        "no key 'every_n_layers' for gradient_checkpointing_kwargs; use one of use_reentrant",
    ),
    "offloaded": ({"gradient_checkpointing_kwargs": {"offload": True}}, "no key 'offload' for gradient_checkpointing_"),
    "checked by nothing": (
        {"gradient_checkpointing_kwargs": {"use_reentrant": False, "determinism_check": "x"}},
        "(activation|gradient)_checkpointing_kwargs .* cannot be used: ",
    ),
    "half on the CPU": ({"fp16": True}, "fp16 is true, but the training runs on the CPU"),
    "generation": ({"generation_kwargs": {"foo": 1}}, "no key 'foo' for generation_kwargs; use one of typical_p"),
    "guidance": ({"generation_kwargs": {"guidance_scale": 1.5}}, "no key 'guidance_scale' for generation_kwargs"),
    "lookup": ({"generation_kwargs": {"prompt_lookup_num_tokens": 3}}, "no key 'prompt_lookup_num_tokens'"),
    "words": ({"generation_kwargs": {"bad_words_ids": 3}}, "generation_kwargs .* cannot be used: ValueError: .*bad_wo"),
    "words for numbers": ({"generation_kwargs": {"typical_p": "x"}}, "generation_kwargs .* cannot be used: TypeError"),
    "nothing cut": ({"generation_kwargs": {"typical_p": 1.0}}, "generation_kwargs has typical_p 1.0, which changes"),
    "no time": ({"generation_kwargs": {"max_time": -1}}, "max_time of generation_kwargs is -1"),
    "schedule's names": (
        {"lr_scheduler_type": "cosine", "lr_scheduler_kwargs": {"foo": 1}},
        "lr_scheduler_type cosine with .*foo.* cannot be used: TypeError",
    ),
}


def settings(path: Path, **given: Any) -> IAPOConfig:
    values = {"output_dir": str(path), "use_cpu": True, "bf16": False, "report_to": "none", "reward": "grpo"}
    return made(IAPOConfig, {**values, **given})


@pytest.mark.parametrize("name", list(REFUSED))
def test_what_a_library_would_refuse_later(name: str, tmp_path: Path):
    given, sentence = REFUSED[name]
    with pytest.raises(InputError, match=sentence):
        check_settings(settings(tmp_path / "run", **given))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "given",
    [
        {"optim": "sgd", "optim_args": "momentum=0.9, nesterov=True"},
        {"optim": "adafactor"},
        {"lr_scheduler_type": "cosine_with_min_lr", "lr_scheduler_kwargs": {"min_lr": 1e-7}},
        {"optim": "galore_adamw", "optim_target_modules": ["mlp"]},
    ],
)
def test_what_they_take(given: dict[str, Any], tmp_path: Path):
    rehearse(settings(tmp_path, **given))


TAKEN = {
    "typical_p": 0.9,
    "epsilon_cutoff": 0.01,
    "eta_cutoff": 0.01,
    "top_h": 0.4,
    "min_length": 9,
    "min_new_tokens": 9,
    "max_time": 60.0,
    "no_repeat_ngram_size": 3,
    "encoder_no_repeat_ngram_size": 9,
    "encoder_repetition_penalty": 1.1,
    "bad_words_ids": [[3, 4]],
    "sequence_bias": [[[5], 2.0]],
    "begin_suppress_tokens": [3],
    "exponential_decay_length_penalty": [1, 1.1],
    "renormalize_logits": True,
    "remove_invalid_values": True,
    "watermarking_config": {"greenlist_ratio": 0.25, "bias": 5.0},
}


def test_what_generation_takes(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    assert set(TAKEN) == set(GENERATION_TAKEN)
    check_settings(settings(tmp_path, generation_kwargs=TAKEN))
    # Without sampling, Transformers says that some of them may be ignored.
    assert "may be ignored" not in caplog.text
    check_settings(settings(tmp_path, gradient_checkpointing_kwargs={"use_reentrant": True}))


def test_settings_that_cannot_be_made(tmp_path: Path):
    with pytest.raises(InputError, match=r"the settings cannot be used: TypeError: .*'foo'"):
        settings(tmp_path, accelerator_config={"foo": 1})


COMPARED = {
    "loss_type": grpo_trainer,
    "importance_sampling_level": grpo_trainer,
    "multi_objective_aggregation": grpo_trainer,
    "scale_rewards": grpo_trainer,
    "vllm_importance_sampling_mode": grpo_trainer,
    "vllm_mode": vllm_generation,
}
"""Where TRL compares a setting with its values."""


@pytest.mark.parametrize("name", list(COMPARED))
def test_choices_are_trls(name: str):
    """Every text that its code compares the setting with."""
    found = set()
    own = {f"{one}.{name}" for one in ("self", "args", "self.args")} | {f"self.{name.removeprefix('vllm_')}"}
    for node in ast.walk(ast.parse(inspect.getsource(COMPARED[name]))):
        if isinstance(node, ast.Compare) and ast.unparse(node.left) in own:
            value = ast.literal_eval(node.comparators[0])
            found |= {value} if isinstance(value, str) else set(value)
    assert found == {one for one in CHOICES[name] if isinstance(one, str)}


def test_weights_are_those_of_the_functions():
    check_functions([len, max], (), [1.0, 0.5])
    with pytest.raises(InputError, match=r"reward_weights has 2 numbers for 1 reward function\(s\)"):
        check_functions([len], (), [1.0, 0.5])


def test_a_hub_that_cannot_be_pushed_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="mine cannot be pushed to: the hub is switched off"):
        check_settings(settings(tmp_path / "mine", push_to_hub=True))
    said = "the settings cannot be used: the hub says: no network"
    with pytest.raises(InputError, match=said), refused_by_libraries("the settings"):
        raise OfflineModeIsEnabled("no network")


def test_our_own_errors_stay_errors():
    with pytest.raises(TypeError), refused_by_libraries("the settings"):
        check_functions([len], (), 3)  # type: ignore[arg-type]
