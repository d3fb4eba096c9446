"""A setting that does nothing as others are is refused where the user wrote it, and taken where it acts."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import yaml

from iapo.cli.main import main
from iapo.errors import InputError
from iapo.rewards.presets import PRESETS
from iapo.training.config import IAPOConfig
from iapo.training.files import CONFIGS
from iapo.training.idle import IDLE, REWARDS, default_of
from iapo.training.settings import check_written, run_settings, trainer_settings

KNOWN = trainer_settings() | run_settings()

ACTS: dict[str, dict[str, Any]] = {
    "warmup_steps": {"lr_scheduler_type": "constant_with_warmup"},
    "optim_target_modules": {"optim": "galore_adamw"},
    "num_train_epochs": {"max_steps": -1},
    "save_steps": {"save_strategy": "steps"},
    "logging_steps": {},
    "sapo_temperature_neg": {"loss_type": "sapo"},
    "vespo_k_pos": {"loss_type": "vespo"},
    "delta": {"loss_type": "grpo"},
    "epsilon": {},
    "entropy_coef_min": {"use_adaptive_entropy": True},
    "ref_model_mixup_alpha": {"sync_ref_model": True, "beta": 0.1},
    "use_bias_correction_kl": {"beta": 0.1},
    "vllm_mode": {"use_vllm": True},
    "activation_checkpointing_kwargs": {"gradient_checkpointing": True},
    "dataloader_persistent_workers": {"dataloader_num_workers": 1},
    "num_completions_to_print": {"log_completions": True},
    "report_traces": {"report_to": "tensorboard"},
    "trackio_space_id": {"report_to": ["trackio"]},
    "hub_private_repo": {"push_to_hub": True},
    "local_rank": {},
    "traces_per_step": {},
    "dynamic_sampling_by": {"dynamic_sampling": 2},
    "judge_url": {"judge_model": "asked"},
    "judge_key": {"reward": "trm", "verifier": "asked", "verifier_url": "http://localhost:1/v1"},
    "verifier": {"reward": "trm"},
    "verifier_served_as": {"reward": "grpo+trm", "verifier": "asked", "verifier_url": "http://localhost:1/v1"},
    "distill_weight": {"reward": "iapo+distill"},
    "penalty_weight": {},
    "penalty_scope": {"reward": "overlap"},
    "penalty_decay": {"reward": "grpo", "token_distill_weight": 0.1},
    "teacher_dtype": {"teacher": "tiny-teacher"},
    "teacher_shards": {"teacher": "tiny-teacher"},
    "model_revision": {"model": "owner/name"},
    "teacher_model_revision": {"teacher": "owner/name"},
    "verifier_model_revision": {"reward": "trm", "verifier": "owner/name"},
    "attribution_temperature": {"attribution_form": "softmax"},
    "attribution_floor": {"attribution_normalization": "floored"},
    "alignment_control_seed": {"alignment_control": "student_shuffled"},
    "data_split": {"data": "vbar"},
    "data_damage": {"eval_data": "vbar"},
    "eval_greedy": {"eval_samples": 8},
}
"""By the first name of each row: where it acts."""

STILL: dict[str, dict[str, Any]] = {
    "num_train_epochs": {"max_steps": 3},
    "warmup_steps": {"lr_scheduler_type": "constant"},
    "save_steps": {"save_strategy": "no"},
    "logging_steps": {"logging_strategy": "no"},
    "delta": {"loss_type": "cispo"},
    "epsilon": {"loss_type": "sapo"},
    "use_bias_correction_kl": {"beta": 0.0},
    "activation_checkpointing_kwargs": {"gradient_checkpointing": False},
    "traces_per_step": {"trace_every": 0},
    "penalty_weight": {"reward": "grpo"},
    "penalty_scope": {"reward": "grpo"},
    "penalty_decay": {"reward": "grpo"},
    "eval_greedy": {"eval_samples": 0},
    "judge_key": {"reward": "iapo", "verifier_url": None},
}
"""Where it does nothing, if that takes more than defaults."""

VALUES: dict[str, Any] = {
    "optim_target_modules": ["mlp"],
    "delta": 4.0,
    "activation_checkpointing_kwargs": {"use_reentrant": False},
    "gradient_checkpointing_kwargs": {"use_reentrant": False},
    "dataloader_prefetch_factor": 2,
    "dataloader_multiprocessing_context": "fork",
    "vllm_mode": "server",
    "vllm_model_impl": "auto",
    "vllm_importance_sampling_mode": "token_mask",
    "hub_strategy": "end",
    "judge_on_error": "wait",
    "judge_url": "http://localhost:1/v1",
    "dynamic_sampling_by": "outcome",
    "penalty_scope": "call",
    "data_damage": "quarantine",
    "verifier_device_map": "auto",
    "teacher_device_map": "auto",
    "verifier_url": "http://localhost:1/v1",
    "vllm_gpu_memory_utilization": 0.5,
}


def other(name: str) -> Any:
    """A value that is not the default."""
    if name in VALUES:
        return VALUES[name]
    default, kind = default_of(KNOWN[name]), str(KNOWN[name].annotation)
    if isinstance(default, bool) or (default is None and "bool" in kind):
        return not default
    if isinstance(default, int | float):
        return default + 1 if default >= 1 or "int" in kind else default / 3 + 0.01
    if "Literal" in kind:
        return "float32"
    return 7 if "int" in kind else 0.5 if "float" in kind else "text"


def test_rewards_declare_what_the_table_says() -> None:
    for source, names in REWARDS.items():
        assert {name for name, reward in PRESETS.items() if source in reward.uses} == set(names)


def test_every_row_is_tried_and_no_name_stands_in_two() -> None:
    assert [idle.names.split()[0] for idle in IDLE] == list(ACTS)
    names = [name for idle in IDLE for name in idle.names.split()]
    assert len(names) == len(set(names))
    assert {*names, *(name for idle in IDLE for name in idle.switches.split())} <= KNOWN.keys()


def test_defaults_are_those_of_the_class() -> None:
    fields = {one.name: one.default for one in dataclasses.fields(IAPOConfig)}
    for idle in IDLE:
        for name in (*idle.names.split(), *idle.switches.split()):
            if name in fields and name != "optim":
                assert default_of(KNOWN[name]) == fields[name], name


@pytest.mark.parametrize("name", [name for idle in IDLE for name in idle.names.split()])
def test_a_setting_that_does_nothing(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = next(idle.names.split()[0] for idle in IDLE if name in idle.names.split())
    file = tmp_path / "own.yaml"
    still, acts, value = STILL.get(first, {}), ACTS[first], other(name)
    file.write_text(yaml.safe_dump({**still, name: value}))
    with pytest.raises(
        InputError, match=rf"^{name} is .*, which does nothing without .*; set that, or leave {name} out"
    ):
        check_written(str(file))
    # Of the command line, below which a file decides.
    file.write_text(yaml.safe_dump(still))
    with pytest.raises(InputError, match=rf"^{name} is .*, which does nothing without "):
        check_written(str(file), {name: value})
    if name == "local_rank":
        monkeypatch.setenv("LOCAL_RANK", str(value))
    file.write_text(yaml.safe_dump({**acts, name: value}))
    check_written(str(file))
    # What is switched off later is no mistake.
    if still:
        file.write_text(yaml.safe_dump({name: value}))
        check_written(str(file), still)


@pytest.mark.parametrize("name", ["demo-iapo", "compare", "qwen2.5-vl/chart/iapo-live,qwen2.5-vl/1x24-3b"])
def test_packaged_files_may_hold_what_a_variant_does_not_use(name: str) -> None:
    check_written(name, {"reward": "grpo", "eval_samples": 0, "save_strategy": "no"})
    check_written(name, {"reward": "trm", "verifier": "rules"})


def test_every_packaged_file_is_its_own_authors() -> None:
    for path in CONFIGS.glob("*.yaml"):
        check_written(path.stem)


def test_a_password_is_not_repeated(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="judge_url is ") as error:
        check_written("demo-iapo", {"judge_url": "http://me:secret@localhost/v1"})
    assert "secret" not in str(error.value)


def test_a_run_that_goes_on_may_keep_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without it, it would be another run."""
    words = ["train", "--config", "demo-grpo", "--output_dir", str(tmp_path), "--warmup_steps", "3"]
    said = []
    for begun in (False, True):
        if begun:
            (tmp_path / "manifest.json").write_text('{"format": 1, "kind": "evaluation"}')
        with pytest.raises(SystemExit):
            main(words)
        said.append(capsys.readouterr().err)
    assert "warmup_steps is 3, which does nothing without" in said[0]
    assert "warmup_steps" not in said[1]
