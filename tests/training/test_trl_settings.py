"""Each setting of TRL's `GRPOConfig` acts, is refused in a sentence, or is TRL's own business: no other is left."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from scripted import scripted, settings
from trl import GRPOConfig

from iapo.data.synthetic import generate
from iapo.errors import InputError
from iapo.records import Sample
from iapo.rollout.policy import Policy, load_policy
from iapo.supervised.trl_settings import supervised_page
from iapo.training.idle import idle_page
from iapo.training.settings import check
from iapo.training.trl_settings import (
    GENERATION,
    IN_PYTHON,
    PASSED,
    REFUSED,
    USED,
    check_trl,
    names_of,
    settings_page,
)

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"
OFFERED = {field.name: field for field in dataclasses.fields(GRPOConfig) if field.init}

OTHER: dict[str, Any] = {
    "model_init_kwargs": {"dtype": "bfloat16"},
    "chat_template_kwargs": {"tools": []},
    "transformers_continuous_batching_config": {"num_blocks": 4},
    "liger_kernel_config": {"rope": True},
    "cache_implementation": "static",
    "max_tool_calling_iterations": 3,
    "router_aux_loss_coef": 0.1,
    "neftune_noise_alpha": 5.0,
    "label_smoothing_factor": 0.1,
    "label_names": ["labels"],
    "include_for_metrics": ["loss"],
    "eval_accumulation_steps": 2,
    "data_seed": 4,
    "train_sampling_strategy": "group_by_length",
    "length_column_name": "words",
    "parallelism_config": {"tp_size": 2},
}
"""A value that is refused; of switches it is the other one."""

RUNS: dict[str, dict[str, Any]] = {
    "rollouts": {
        "temperature": 0.9,
        "top_p": 0.95,
        "top_k": 40,
        "min_p": 0.01,
        "repetition_penalty": 1.1,
        "generation_kwargs": {"no_repeat_ngram_size": 9},
        "max_completion_length": 24,
        "mask_truncated_completions": True,
        "pad_to_multiple_of": 8,
        "num_generations": 2,
        "steps_per_generation": 2,
        "num_iterations": 2,
        "gradient_accumulation_steps": 2,
        "per_device_train_batch_size": 2,
        "shuffle_dataset": False,
        "max_steps": 3,
    },
    "batches": {"generation_batch_size": 8, "num_train_epochs": 1.0, "full_determinism": True, "seed": 7},
    "sums": {"reward_weights": [2.0], "scale_rewards": "batch", "multi_objective_aggregation": "normalize_then_sum"},
    "bounds": {
        "loss_type": "grpo",
        "importance_sampling_level": "sequence",
        "epsilon": 0.1,
        "epsilon_high": 0.3,
        "delta": 4.0,
        "off_policy_mask_threshold": 0.5,
        "top_entropy_quantile": 0.5,
        "steps_per_generation": 2,
        "num_iterations": 2,
    },
    "entropy": {
        "entropy_coef": 0.01,
        "use_adaptive_entropy": True,
        "entropy_coef_min": 0.001,
        "entropy_coef_max": 0.1,
        "entropy_coef_delta": 0.01,
        "entropy_target": 5.0,
    },
    "reference": {
        "beta": 0.1,
        "use_bias_correction_kl": False,
        "sync_ref_model": True,
        "ref_model_mixup_alpha": 0.5,
        "ref_model_sync_steps": 1,
    },
    "sapo": {"loss_type": "sapo", "sapo_temperature_neg": 1.2, "sapo_temperature_pos": 0.9},
    "vespo": {
        "loss_type": "vespo",
        "vespo_k_pos": 2.5,
        "vespo_lambda_pos": 2.0,
        "vespo_k_neg": 2.0,
        "vespo_lambda_neg": 3.0,
    },
    "optimiser's own": {"optim": "rmsprop", "optim_args": "momentum=0.5"},
    "optimiser": {
        "learning_rate": 2e-4,
        "lr_scheduler_type": "cosine",
        "lr_scheduler_kwargs": {"num_cycles": 1.5},
        "warmup_steps": 1,
        "optim": "adamw_torch",
        "weight_decay": 0.1,
        "adam_beta1": 0.8,
        "adam_beta2": 0.9,
        "adam_epsilon": 1e-6,
        "max_grad_norm": 0.5,
        "disable_dropout": True,
    },
    "memory": {
        "activation_checkpointing": True,
        "activation_checkpointing_kwargs": {"use_reentrant": False},
        "torch_empty_cache_steps": 1,
        "bf16": True,
        "use_cpu": True,
    },
    "memory, old names": {
        "gradient_checkpointing": True,
        "gradient_checkpointing_kwargs": {"use_reentrant": False},
    },
    "shown": {
        "logging_strategy": "steps",
        "logging_steps": 1,
        "logging_first_step": True,
        "logging_nan_inf_filter": False,
        "log_level": "error",
        "log_level_replica": "error",
        "log_on_each_node": False,
        "disable_tqdm": True,
        "report_to": "tensorboard",
        "run_name": "mine",
        "log_completions": True,
        "log_multimodal": False,
        "num_completions_to_print": 1,
        "log_unique_prompts": True,
        "include_num_input_tokens_seen": "all",
        "skip_memory_metrics": False,
        "debug": "underflow_overflow",
    },
    "saved": {
        "save_strategy": "steps",
        "save_steps": 1,
        "save_total_limit": 1,
        "save_on_each_node": True,
        "save_only_model": True,
        "restore_callback_states_from_checkpoint": True,
    },
    "read": {
        "dataloader_num_workers": 1,
        "dataloader_pin_memory": False,
        "dataloader_persistent_workers": True,
        "dataloader_prefetch_factor": 1,
        "dataloader_multiprocessing_context": "fork",
        "dataloader_in_order": False,
        "dataloader_drop_last": True,
    },
    "evaluated": {
        "eval_strategy": "steps",
        "eval_steps": 1,
        "eval_delay": 0,
        "eval_on_start": True,
        "per_device_eval_batch_size": 2,
        "num_generations_eval": 2,
        "save_strategy": "steps",
        "save_steps": 1,
        "load_best_model_at_end": True,
        "metric_for_best_model": "eval_reward",
        "greater_is_better": True,
    },
}
"""Two steps each; what a run changes beside `scripted.settings`."""

ELSEWHERE = {"output_dir", "max_steps", "resume_from_checkpoint"}
"""Settings that every run has, or whose own tests are in test_resume.py."""


@pytest.fixture(scope="module")
def charts() -> list[Sample]:
    return list(generate("vbar", 8, seed=11, question_types=("value",)))


def test_every_setting_has_its_place() -> None:
    known = [*names_of(USED), *names_of(PASSED), *REFUSED]
    new = sorted(set(OFFERED) - set(known))
    assert not new, f"this TRL has settings that iapo/training/trl_settings.py does not know: {', '.join(new)}"
    gone = sorted(set(known) - set(OFFERED))
    assert not gone, f"iapo/training/trl_settings.py names settings that this TRL has no more: {', '.join(gone)}"
    assert len(known) == len(set(known))


def test_the_page_says_what_the_table_says() -> None:
    lines = PAGE.read_text().splitlines()
    start = lines.index("## Used")
    written = [*settings_page(), "", *idle_page(), "", *supervised_page()]
    assert lines[start:] == written, "write docs/settings.md anew from `settings_page()` and the other two pages"


def test_every_used_setting_is_tried() -> None:
    tried = {name for run in RUNS.values() for name in run}
    assert tried | ELSEWHERE == set(names_of(USED))
    assert not tried & ELSEWHERE - {"max_steps"}


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_is_refused_says_what_to_do(name: str, tmp_path: Path) -> None:
    field = OFFERED[name]
    default = field.default_factory() if callable(field.default_factory) else field.default
    assert default in REFUSED[name].allowed
    value = OTHER.get(name, not default)
    with pytest.raises(InputError, match=f"^{name} is ") as early:
        check("demo-iapo", {name: value})
    with pytest.raises(InputError, match=f"^{name} is "):
        settings(tmp_path, **{name: value})
    assert "\n" not in str(early.value)
    check("demo-iapo", {name: default} if default is not None else {})


def test_what_two_turns_need_of_generation_is_refused() -> None:
    for key in GENERATION:
        with pytest.raises(InputError, match=f"generation_kwargs has '{key}'; leave it out and set "):
            check("demo-iapo", {"generation_kwargs": {key: 1}})
    check_trl({"generation_kwargs": {"typical_p": 0.9}, "cache_implementation": "static", "share_prefix": False})


@pytest.mark.parametrize("name", sorted(IN_PYTHON))
def test_a_run_has_no_evaluation_in_the_middle(name: str) -> None:
    value = RUNS["evaluated"][name]
    with pytest.raises(InputError, match=rf"{name} is set, but a run has no data for.*case_study_steps"):
        check("demo-iapo", {name: value})
    check("demo-iapo", {"eval_strategy": "no"})


@pytest.mark.slow(2)
@pytest.mark.parametrize("run", RUNS)
def test_two_steps_with_each(run: str, tmp_path: Path, charts: list[Sample], model: Any, processor: Any) -> None:
    given = {"max_steps": 2, **RUNS[run]}
    evaluated = given.get("eval_strategy") == "steps"
    # The hand-written turns are of groups of four; what says how turns are written needs the model's own.
    own = "temperature" in given or evaluated
    more = {"eval_charts": charts[:2]} if evaluated else {}
    # The reference policy is loaded by the student's name.
    start = load_policy("tiny-student") if run == "reference" else Policy(model, processor)
    trainer = scripted(tmp_path, start.model, start.processor, charts, **given, **more)
    if own:
        trainer.__class__ = trainer.__class__.__mro__[1]
    before = {name: one.clone() for name, one in trainer.model.state_dict().items()}
    try:
        trainer.train()
    finally:
        torch.use_deterministic_algorithms(False)
    assert trainer.state.global_step == given["max_steps"]
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    assert losses
    assert all(map(math.isfinite, losses))
    if not own:
        assert any(not torch.equal(one, before[name]) for name, one in trainer.model.state_dict().items())
    check_effect(run, trainer, tmp_path / "run")


def check_effect(run: str, trainer: Any, folder: Path) -> None:
    """What can be seen of a run's settings from outside."""
    rows = [row for row in trainer.state.log_history if "loss" in row]
    if run == "rollouts":
        assert trainer.generation_config.no_repeat_ngram_size == 9
        assert trainer.generation_config.top_k == 40
        assert all(row.get("completions/max_length", 0) <= 24 for row in rows)
    if run == "sums":
        assert trainer.reward_weights.tolist() == [2.0]
    if run == "entropy":
        assert trainer.entropy_coef != 0.01
    if run == "reference":
        assert all(math.isfinite(row["kl"]) for row in rows)
    if run == "optimiser":
        assert rows[0]["learning_rate"] == 0.0
        assert trainer.optimizer.param_groups[0]["betas"] == (0.8, 0.9)
    if run == "optimiser's own":
        assert trainer.optimizer.param_groups[0]["momentum"] == 0.5
    if run == "shown":
        assert list(folder.glob("runs/**/events.*"))
        assert list(folder.glob("completions/*.parquet"))
        assert rows[-1]["num_tokens"] > 0
    if run == "saved":
        assert [path.name for path in folder.glob("checkpoint-*")] == ["checkpoint-2"]
    if run == "evaluated":
        assert len([row for row in trainer.state.log_history if "eval_reward" in row]) == 3
        assert trainer.state.best_model_checkpoint
