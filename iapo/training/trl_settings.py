"""What becomes of each setting of TRL's `GRPOConfig`: one table, from which refusals, tests and docs/settings.md come.

Without torch and TRL, so that what is refused is refused at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from iapo.errors import InputError, unknown


@dataclass(frozen=True, slots=True)
class Group:
    """Settings that are treated alike.

    Attributes:
        names: Their names, with blanks between.
        note: What they do here, or where that is written.
    """

    names: str
    note: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """A setting that is refused.

    Attributes:
        allowed: Values that are not.
        reason: Why, and what to do instead, as the sentence goes on after name and value.
    """

    allowed: tuple[Any, ...]
    reason: str


USED = (
    Group("output_dir max_steps num_train_epochs seed full_determinism use_cpu bf16", "The run."),
    Group(
        "per_device_train_batch_size gradient_accumulation_steps num_generations generation_batch_size "
        "steps_per_generation num_iterations shuffle_dataset",
        "How many rollouts of how many prompts make a step, and how often each is used.",
    ),
    Group(
        "temperature top_p top_k min_p repetition_penalty generation_kwargs max_completion_length "
        "mask_truncated_completions pad_to_multiple_of",
        "Rollouts; `max_completion_length` is what the model writes over all turns (docs/real-models.md). "
        "`generation_kwargs` takes what acts on turns sampled token by token and no setting has (`GENERATION_TAKEN`); "
        "with vLLM what that takes.",
    ),
    Group(
        "reward_weights scale_rewards multi_objective_aggregation",
        "Rewards to advantages; `reward_weights` are those of `reward_funcs`, components have `component_weights`.",
    ),
    Group(
        "loss_type beta epsilon epsilon_high delta importance_sampling_level sapo_temperature_neg sapo_temperature_pos "
        "vespo_k_pos vespo_lambda_pos vespo_k_neg vespo_lambda_neg off_policy_mask_threshold use_bias_correction_kl "
        "top_entropy_quantile entropy_coef use_adaptive_entropy entropy_coef_min entropy_coef_max entropy_coef_delta "
        "entropy_target sync_ref_model ref_model_mixup_alpha ref_model_sync_steps",
        "The loss, as TRL's documentation has it.",
    ),
    Group(
        "learning_rate lr_scheduler_type lr_scheduler_kwargs warmup_steps optim optim_args weight_decay adam_beta1 "
        "adam_beta2 adam_epsilon max_grad_norm disable_dropout",
        "The optimiser.",
    ),
    Group(
        "activation_checkpointing activation_checkpointing_kwargs gradient_checkpointing "
        "gradient_checkpointing_kwargs torch_empty_cache_steps",
        "Memory. The `_kwargs` are PyTorch's (`use_reentrant` and so on), without Transformers' `every_n_layers` and "
        "`offload`.",
    ),
    Group(
        "logging_strategy logging_steps logging_first_step logging_nan_inf_filter log_level log_level_replica "
        "log_on_each_node disable_tqdm report_to run_name log_completions log_multimodal num_completions_to_print "
        "log_unique_prompts include_num_input_tokens_seen skip_memory_metrics debug",
        "What is shown, and where (docs/logging.md). `log_unique_prompts` is of the tables that trackers get; "
        "`skip_memory_metrics: false` adds to what `IAPOTrainer.train()` returns where psutil is installed, and to "
        "nothing that a run writes.",
    ),
    Group(
        "save_strategy save_steps save_total_limit save_only_model save_on_each_node resume_from_checkpoint "
        "restore_callback_states_from_checkpoint",
        "Checkpoints (docs/resuming.md). With `save_strategy: no` there are those alone that SIGTERM asks for.",
    ),
    Group(
        "dataloader_num_workers dataloader_pin_memory dataloader_persistent_workers dataloader_prefetch_factor "
        "dataloader_multiprocessing_context dataloader_in_order dataloader_drop_last",
        "Reading data. A last batch that is not full is dropped anyway.",
    ),
    Group(
        "eval_strategy eval_steps eval_delay eval_on_start per_device_eval_batch_size num_generations_eval "
        "load_best_model_at_end metric_for_best_model greater_is_better",
        "With an `eval_dataset` of `IAPOTrainer`, in Python. `iapo train` refuses them: it measures before and after "
        "training, and at points of it with `case_study_steps`. Evaluating draws random numbers, so that the training "
        "after it is another one.",
    ),
)
"""Settings that act here; tests/training/test_trl_settings.py takes two steps with each."""

PASSED = (
    Group(
        "use_vllm vllm_mode vllm_model_impl vllm_enable_sleep_mode vllm_structured_outputs_regex vllm_server_base_url "
        "vllm_server_host vllm_server_port vllm_server_timeout vllm_group_port vllm_gpu_memory_utilization "
        "vllm_max_model_length vllm_tensor_parallel_size vllm_importance_sampling_correction "
        "vllm_importance_sampling_mode vllm_importance_sampling_clip_max vllm_importance_sampling_clip_min "
        "vllm_importance_sampling_cap",
        "TRL's, with vLLM; docs/vllm.md says which were run.",
    ),
    Group(
        "fsdp fsdp_config deepspeed ds3_gather_for_generation ddp_find_unused_parameters ddp_bucket_cap_mb "
        "ddp_broadcast_buffers ddp_static_graph ddp_backend ddp_timeout local_rank accelerator_config "
        "average_tokens_across_devices",
        "Of several processes; docs/scaling.md says which were run.",
    ),
    Group(
        "fp16 tf32 bf16_full_eval fp16_full_eval torch_compile torch_compile_backend torch_compile_mode "
        "optim_target_modules",
        "Transformers', for GPUs; none was run on one. `torch_compile` compiles TRL's pass and the packed one anew for "
        "each shape, and leaves the reference policy's packed pass as it is; with the backend `eager` it gave the same "
        "numbers on the CPU.",
    ),
    Group(
        "push_to_hub hub_token hub_private_repo hub_model_id hub_strategy hub_always_push hub_revision "
        "log_completions_hub_repo",
        "Transformers' and TRL's, with the hub; none was run. They send what is trained to others.",
    ),
    Group(
        "project trackio_space_id trackio_bucket_id trackio_static_space_id",
        "Transformers', with Trackio (docs/logging.md).",
    ),
)
"""Settings that TRL or Transformers get as they are, and that a CPU alone cannot try."""

_NO_LABELS = "which speaks of labels or predictions, and a rollout has neither; leave it out"
_ONE_TOOL_LOOP = "which is of TRL's own tool loop, and rollouts have iapo's; leave it out"
_BATCHING = "TRL's continuous batching takes no images; leave it out, or set use_vllm"
_ORDER = "but TRL's GRPO orders prompts by seed and shuffle_dataset; set those"
_LIGER = (
    "whose kernels replace the passes that attribution and share_prefix are made of; leave it out (attn_implementation "
    "may be set)"
)
_ALWAYS = "which is of scripts that choose what they do; leave it out"

REFUSED: Mapping[str, Refusal] = {
    "model_init_kwargs": Refusal(
        (None, {}),
        "which IAPO does not take; set dtype, attn_implementation, device_map, model_revision, min_pixels, max_pixels, "
        "load_in_4bit or load_in_8bit by name (docs/real-models.md), or in Python load the model with "
        "`load_policy(name, LoadSettings(...))`",
    ),
    "trust_remote_code": Refusal(
        (False,), "but code in a checkpoint is never run (docs/security.md); take a checkpoint of a known family"
    ),
    "router_aux_loss_coef": Refusal(
        (None, 0.0), "but only dense models are trained, which route nothing; leave it out"
    ),
    "cast_lm_head_to_fp32": Refusal(
        (False,), "which TRL cannot do to these models; set dtype to float32, or leave it out"
    ),
    "chat_template_kwargs": Refusal(
        (None, {}), "but prompts are made of iapo's templates; set prompt (docs/prompts.md) instead"
    ),
    "cache_implementation": Refusal(
        (None,), "which cannot be had while rollouts share their prompts; set share_prefix to false, or leave it out"
    ),
    "use_transformers_continuous_batching": Refusal((False,), _BATCHING),
    "use_transformers_paged": Refusal((False,), _BATCHING),
    "transformers_continuous_batching_config": Refusal((None, {}), _BATCHING),
    "max_tool_calling_iterations": Refusal((None,), _ONE_TOOL_LOOP),
    "auto_find_batch_size": Refusal(
        (False,), "but batches hold whole groups; leave it out and lower per_device_train_batch_size (`iapo plan`)"
    ),
    "use_liger_kernel": Refusal((False,), _LIGER),
    "liger_kernel_config": Refusal((None, {}), _LIGER),
    "neftune_noise_alpha": Refusal(
        (None, 0.0), "whose noise would be in the embeddings that are attributed, too; leave it out"
    ),
    "use_cache": Refusal((False,), "but the loss needs no cache, and generation has one anyway; leave it out"),
    "label_smoothing_factor": Refusal((0.0,), _NO_LABELS),
    "label_names": Refusal((None, []), _NO_LABELS),
    "include_for_metrics": Refusal(([],), _NO_LABELS),
    "batch_eval_metrics": Refusal((False,), _NO_LABELS),
    "prediction_loss_only": Refusal((False,), _NO_LABELS),
    "eval_do_concat_batches": Refusal((True,), _NO_LABELS),
    "eval_use_gather_object": Refusal((False,), _NO_LABELS),
    "eval_accumulation_steps": Refusal((None,), _NO_LABELS),
    "data_seed": Refusal((None,), _ORDER),
    "train_sampling_strategy": Refusal(("random",), _ORDER),
    "length_column_name": Refusal(("length",), _ORDER),
    "remove_unused_columns": Refusal((False,), "but rewards need all columns; leave it out"),
    "ignore_data_skip": Refusal(
        (False,), "but a run that goes on must see the data that are next (docs/resuming.md); leave it out"
    ),
    "enable_jit_checkpoint": Refusal(
        (False,), "but a training saves its state on SIGTERM by itself (docs/resuming.md); leave it out"
    ),
    "parallelism_config": Refusal(
        (None,), "but neither sequences nor tensors are split among processes; use FSDP2 or ZeRO-3 (docs/scaling.md)"
    ),
    "do_train": Refusal((False,), _ALWAYS),
    "do_eval": Refusal((False,), f"{_ALWAYS}, and set eval_strategy in Python"),
    "do_predict": Refusal((False,), _ALWAYS),
}
"""Settings that would do nothing here, or something wrong."""

IN_PYTHON = frozenset(USED[-1].names.split())
"""Settings that `iapo train` refuses, since it has no `eval_dataset`."""

GENERATION: Mapping[str, str] = {
    **dict.fromkeys(("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "cache_implementation"), ""),
    **dict.fromkeys(("max_new_tokens", "max_length", "max_tokens"), "max_turn_tokens and max_completion_length"),
    **dict.fromkeys(
        (
            *("suppress_tokens", "eos_token_id", "pad_token_id", "bos_token_id", "stop_strings", "do_sample"),
            *("num_beams", "num_return_sequences", "n", "return_dict_in_generate", "use_cache"),
        ),
        "nothing: the turns are made with it",
    ),
}
"""Keys of `generation_kwargs` that are refused, with what to set instead; empty: the setting of the same name."""

GENERATION_TAKEN = (
    *("typical_p", "epsilon_cutoff", "eta_cutoff", "top_h", "min_length", "min_new_tokens", "max_time"),
    *("no_repeat_ngram_size", "encoder_no_repeat_ngram_size", "encoder_repetition_penalty"),
    *("bad_words_ids", "sequence_bias", "begin_suppress_tokens", "exponential_decay_length_penalty"),
    *("renormalize_logits", "remove_invalid_values", "watermarking_config"),
)
"""Keys of `generation_kwargs` that act on turns sampled token by token; vLLM has its own."""

CHECKPOINTING = ("use_reentrant", "preserve_rng_state", "determinism_check", "early_stop", "debug")
"""Keys of `activation_checkpointing_kwargs`, PyTorch's: Transformers' own do not reach every pass of a step here."""

CHOICES: Mapping[str, tuple[Any, ...]] = {
    "loss_type": ("grpo", "bnpo", "dr_grpo", "dapo", "luspo", "cispo", "sapo", "vespo"),
    "importance_sampling_level": ("token", "sequence"),
    "scale_rewards": ("group", "batch", "none", True, False),
    "multi_objective_aggregation": ("sum_then_normalize", "normalize_then_sum"),
    "vllm_mode": ("server", "colocate"),
    "vllm_model_impl": ("vllm", "transformers", "auto"),
    "vllm_importance_sampling_mode": ("token_truncate", "token_mask", "sequence_truncate", "sequence_mask"),
}
"""Values of settings that TRL takes as any text, and looks at in the midst of a training."""


def check_trl(values: Mapping[str, Any]) -> None:
    """Refuses settings of TRL's that are not used here.

    Args:
        values: Settings by name; others are passed over.

    Raises:
        InputError: If there is one.
    """
    plain = values.get("share_prefix", True) is False
    check_tables(
        {name: value for name, value in values.items() if not (plain and name == "cache_implementation")},
        REFUSED,
        CHOICES,
        CHECKPOINTING,
    )
    given = values.get("generation_kwargs")
    for key in given if isinstance(given, Mapping) else ():
        if key in GENERATION:
            raise InputError(f"generation_kwargs has {key!r}; leave it out and set {GENERATION[key] or key}")
        if not values.get("use_vllm") and key not in GENERATION_TAKEN:
            raise unknown("key", key, GENERATION_TAKEN, where=" for generation_kwargs")


def check_tables(
    values: Mapping[str, Any],
    refused: Mapping[str, Refusal],
    choices: Mapping[str, tuple[Any, ...]],
    checkpointing: Sequence[str],
) -> None:
    """Refuses settings as tables say.

    Args:
        values: Settings by name; others are passed over.
        refused: Settings that are refused, by name.
        choices: Values that settings may have, by name.
        checkpointing: Keys that `activation_checkpointing_kwargs` may have.

    Raises:
        InputError: If there is one.
    """
    for name, refusal in refused.items():
        if name in values and values[name] not in refusal.allowed:
            raise InputError(f"{name} is {values[name]!r}, {refusal.reason}")
    for name, known in choices.items():
        if name in values and values[name] not in known:
            raise unknown(name, str(values[name]), [one for one in known if isinstance(one, str)])
    for name in ("activation_checkpointing_kwargs", "gradient_checkpointing_kwargs"):
        given = values.get(name)
        for key in given if isinstance(given, Mapping) else ():
            if key not in checkpointing:
                raise unknown("key", key, checkpointing, where=f" for {name}")


def check_command(values: Mapping[str, Any]) -> None:
    """Refuses settings that only a trainer with an `eval_dataset` uses.

    Args:
        values: Settings by name, those that were given.

    Raises:
        InputError: If there is one.
    """
    for name in values:
        if name in IN_PYTHON and not (name == "eval_strategy" and values[name] == "no"):
            raise InputError(
                f"{name} is set, but a run has no data for an evaluation in the middle of it; set case_study_steps, or "
                "eval_samples for the evaluation before and after (in Python, IAPOTrainer takes an eval_dataset)"
            )


def names_of(groups: tuple[Group, ...]) -> list[str]:
    """Returns the names in some groups."""
    return [name for group in groups for name in group.names.split()]


def settings_page() -> Iterator[str]:
    """Yields the lines of docs/settings.md's tables."""
    for title, groups in (("Used", USED), ("Passed on", PASSED)):
        yield f"## {title}"
        yield ""
        yield "| settings | |"
        yield "|---|---|"
        for group in groups:
            yield f"| {', '.join(f'`{name}`' for name in group.names.split())} | {group.note} |"
        yield ""
    yield "## Refused"
    yield ""
    yield "| setting | stays | else the sentence goes |"
    yield from refused_rows(REFUSED)


def refused_rows(refused: Mapping[str, Refusal]) -> Iterator[str]:
    """Yields the lines of a table of refused settings, behind its headings."""
    yield "|---|---|---|"
    for name, refusal in refused.items():
        yield f"| `{name}` | {', '.join(f'`{value}`' for value in refusal.allowed)} | {refusal.reason} |"
