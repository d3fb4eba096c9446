"""What Transformers and TRL would refuse in the midst of a training is refused before anything is loaded."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path
from typing import Any

import pytest
import trl.trainer.grpo_trainer as grpo_trainer
from huggingface_hub import constants
from huggingface_hub.errors import OfflineModeIsEnabled

from iapo.errors import InputError
from iapo.training.checks import LOSSES, check_functions, check_settings
from iapo.training.config import IAPOConfig
from iapo.training.rehearsal import made, refused_by_libraries, rehearse

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
    "generation": ({"generation_kwargs": {"foo": 1}}, "generation_kwargs has 'foo', which Transformers does not know"),
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


def test_settings_that_cannot_be_made(tmp_path: Path):
    with pytest.raises(InputError, match=r"the settings cannot be used: TypeError: .*'foo'"):
        settings(tmp_path, accelerator_config={"foo": 1})


def test_losses_are_trls():
    """Every name that its trainer compares the setting with."""
    found = set()
    for node in ast.walk(ast.parse(inspect.getsource(grpo_trainer))):
        if isinstance(node, ast.Compare) and ast.unparse(node.left) in ("self.loss_type", "args.loss_type"):
            found |= (
                set(ast.literal_eval(node.comparators[0]))
                if isinstance(node.comparators[0], ast.List)
                else {ast.literal_eval(node.comparators[0])}
            )
    assert found == set(LOSSES)


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
