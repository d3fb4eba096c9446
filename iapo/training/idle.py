"""Settings that do nothing as long as another one is as it is: one table, from which refusals, tests and docs come.

Without torch and TRL. Only what a user wrote for this training is looked at: a packaged configuration, the shared
settings of a study, and `IAPOConfig` in Python may carry what one of their variants does not use.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from iapo.attribution.forms import form_values
from iapo.endpoints.address import hide_credentials
from iapo.errors import InputError
from iapo.plugins import is_reference
from iapo.rollout.load_settings import LoadSettings, comes_from_hub
from iapo.training.declared import Setting

Values = Mapping[str, Any]
"""A training's settings by name; what is not given has its default."""

REWARDS = {"verify": ("trm",), "log_probs": ("distill",), "divergences": ("iapo",), "overlaps": ("overlap",)}
"""Rewards that draw on each source, as `iapo.rewards.presets.PRESETS` declare, whose code needs torch."""

_CLIPPED = ("grpo", "bnpo", "dr_grpo", "dapo", "luspo")


@dataclass(frozen=True, slots=True)
class Idle:
    """Settings that act under a condition alone.

    Attributes:
        names: Their names, with blanks between.
        switches: Names of the settings that the condition reads, with blanks between.
        acts: Condition.
        needs: What they need, as the sentence goes on after `does nothing without`.
    """

    names: str
    switches: str
    acts: Callable[[Values], bool]
    needs: str


def _draws(values: Values, *sources: str) -> bool:
    """Tells whether the reward draws on one of the sources; one of the user's own may."""
    names = [name for source in sources for name in REWARDS[source]]
    return any(part in names or is_reference(part) for part in str(values["reward"]).split("+"))


def _from_hub(name: Any) -> bool:
    return isinstance(name, str) and comes_from_hub(name)


def _trackers(values: Values) -> list[str]:
    given = values["report_to"]
    names = [given] if isinstance(given, str) else list(given or ())
    return [name for name in names if name != "none"]


def _asks_live_teacher(values: Values) -> bool:
    return values["teacher"] is not None and values["teacher_table"] is None


def _loads_teacher(values: Values) -> bool:
    return _asks_live_teacher(values) or values["eval_teacher"] is not None


def _verifies(values: Values) -> bool:
    return _draws(values, "verify")


def _loading(prefix: str) -> str:
    """Returns the names of a model's loading settings, without the revision, and what needs 4 bits anyway."""
    own = {"device", "merge_adapter", "model_revision", "bnb_4bit_quant_type", "use_bnb_nested_quant"}
    return " ".join(f"{prefix}_{one.name}" for one in fields(LoadSettings) if one.name not in own)


def _set(names: str, switch: str) -> Idle:
    """Returns settings that need one other to be set or true."""
    return Idle(names, switch, lambda values: bool(values[switch]), switch)


IDLE = (
    Idle(
        "warmup_steps",
        "lr_scheduler_type",
        lambda values: values["lr_scheduler_type"] not in ("constant", "reduce_lr_on_plateau", "greedy"),
        "an lr_scheduler_type that warms up (constant_with_warmup, cosine and others)",
    ),
    Idle(
        "optim_target_modules",
        "optim",
        lambda values: str(values["optim"]).startswith(("galore", "apollo")),
        "an optim of GaLore's or APOLLO's",
    ),
    Idle("num_train_epochs", "max_steps", lambda values: values["max_steps"] <= 0, "max_steps -1"),
    Idle("save_steps", "save_strategy", lambda values: values["save_strategy"] == "steps", "save_strategy steps"),
    Idle(
        "logging_steps",
        "logging_strategy",
        lambda values: values["logging_strategy"] == "steps",
        "logging_strategy steps",
    ),
    Idle(
        "sapo_temperature_neg sapo_temperature_pos",
        "loss_type",
        lambda values: values["loss_type"] == "sapo",
        "loss_type sapo",
    ),
    Idle(
        "vespo_k_pos vespo_lambda_pos vespo_k_neg vespo_lambda_neg",
        "loss_type",
        lambda values: values["loss_type"] == "vespo",
        "loss_type vespo",
    ),
    Idle(
        "delta",
        "loss_type",
        lambda values: values["loss_type"] in _CLIPPED,
        f"a loss_type that clips on two sides ({', '.join(_CLIPPED)})",
    ),
    Idle(
        "epsilon epsilon_high",
        "loss_type",
        lambda values: values["loss_type"] in (*_CLIPPED, "cispo"),
        f"a loss_type that clips ({', '.join((*_CLIPPED, 'cispo'))})",
    ),
    _set("entropy_coef_min entropy_coef_max entropy_coef_delta entropy_target", "use_adaptive_entropy"),
    _set("ref_model_mixup_alpha ref_model_sync_steps", "sync_ref_model"),
    Idle("use_bias_correction_kl sync_ref_model", "beta", lambda values: values["beta"] != 0, "a beta above 0"),
    _set(
        "vllm_mode vllm_model_impl vllm_enable_sleep_mode vllm_structured_outputs_regex vllm_server_base_url "
        "vllm_server_host vllm_server_port vllm_server_timeout vllm_group_port vllm_gpu_memory_utilization "
        "vllm_max_model_length vllm_tensor_parallel_size vllm_importance_sampling_correction "
        "vllm_importance_sampling_mode vllm_importance_sampling_clip_max vllm_importance_sampling_clip_min "
        "vllm_importance_sampling_cap",
        "use_vllm",
    ),
    Idle(
        "activation_checkpointing_kwargs gradient_checkpointing_kwargs",
        "activation_checkpointing gradient_checkpointing",
        lambda values: bool(
            values["gradient_checkpointing"]
            if values["activation_checkpointing"] is None
            else values["activation_checkpointing"]
        ),
        "activation_checkpointing",
    ),
    Idle(
        "dataloader_persistent_workers dataloader_prefetch_factor dataloader_multiprocessing_context "
        "dataloader_in_order",
        "dataloader_num_workers",
        lambda values: values["dataloader_num_workers"] > 0,
        "dataloader_num_workers above 0",
    ),
    _set("num_completions_to_print log_unique_prompts log_multimodal", "log_completions"),
    Idle("report_traces", "report_to", lambda values: bool(_trackers(values)), "a tracker in report_to"),
    Idle(
        "trackio_space_id trackio_bucket_id trackio_static_space_id",
        "report_to",
        lambda values: bool({"trackio", "all"} & set(_trackers(values))),
        "trackio in report_to",
    ),
    _set("hub_private_repo hub_model_id hub_strategy hub_always_push hub_revision", "push_to_hub"),
    Idle(
        "local_rank",
        "",
        lambda values: os.environ.get("LOCAL_RANK") == str(values["local_rank"]),
        "a launcher that sets LOCAL_RANK to it, which alone counts",
    ),
    Idle("traces_per_step", "trace_every", lambda values: values["trace_every"] > 0, "a trace_every above 0"),
    Idle(
        "dynamic_sampling_by",
        "dynamic_sampling",
        lambda values: values["dynamic_sampling"] > 0,
        "a dynamic_sampling above 0",
    ),
    _set("judge_url judge_served_as", "judge_model"),
    Idle(
        "judge_key judge_on_error judge_timeout judge_retries judge_concurrency judge_cache",
        "judge_model verifier_url reward",
        lambda values: values["judge_model"] is not None or (_verifies(values) and values["verifier_url"] is not None),
        "judge_model, or a reward with a verifier at verifier_url",
    ),
    Idle(f"verifier verifier_url {_loading('verifier')}", "reward", _verifies, "a reward that asks a verifier (trm)"),
    Idle(
        "verifier_served_as",
        "reward verifier_url",
        lambda values: _verifies(values) and values["verifier_url"] is not None,
        "a reward that asks a verifier (trm) at verifier_url",
    ),
    Idle("distill_weight", "reward", lambda values: _draws(values, "log_probs"), "a reward that distils (distill)"),
    Idle(
        "penalty_weight",
        "reward",
        lambda values: _draws(values, "divergences"),
        "a reward that measures the divergence (iapo)",
    ),
    Idle(
        "penalty_scope",
        "reward",
        lambda values: _draws(values, "divergences", "log_probs", "overlaps"),
        "a reward of the teacher's (iapo, distill, overlap)",
    ),
    Idle(
        "penalty_decay",
        "reward token_distill_weight",
        lambda values: _draws(values, "divergences", "log_probs", "overlaps") or values["token_distill_weight"] > 0,
        "a reward of the teacher's (iapo, distill, overlap) or a token_distill_weight",
    ),
    Idle(_loading("teacher"), "teacher teacher_table eval_teacher", _loads_teacher, "a teacher that is loaded"),
    Idle("teacher_shards", "teacher teacher_table", _asks_live_teacher, "a live teacher"),
    Idle("model_revision", "model", lambda values: _from_hub(values["model"]), "a model from the hub"),
    Idle(
        "teacher_model_revision",
        "teacher eval_teacher",
        lambda values: _from_hub(values["teacher"]) or _from_hub(values["eval_teacher"]),
        "a teacher from the hub",
    ),
    Idle(
        "verifier_model_revision",
        "reward verifier verifier_url",
        lambda values: _verifies(values) and _from_hub(values["verifier"]) and values["verifier_url"] is None,
        "a reward that asks a verifier (trm) from the hub",
    ),
    Idle(
        "attribution_temperature",
        "attribution_form attribution_normalization",
        lambda values: form_values(values)["attribution_normalization"] == "softmax",
        "attribution_normalization softmax",
    ),
    Idle(
        "attribution_floor",
        "attribution_form attribution_normalization",
        lambda values: form_values(values)["attribution_normalization"] == "floored",
        "attribution_normalization floored",
    ),
    Idle(
        "alignment_control_seed",
        "alignment_control",
        lambda values: values["alignment_control"] != "none",
        "an alignment_control",
    ),
    _set("data_split", "data"),
    Idle(
        "data_damage eval_split",
        "data eval_data",
        lambda values: values["data"] is not None or values["eval_data"] is not None,
        "data or eval_data",
    ),
    Idle(
        "eval_greedy eval_traces case_study_steps",
        "eval_samples",
        lambda values: values["eval_samples"] > 0,
        "eval_samples above 0",
    ),
)
"""tests/training/test_idle.py gives each of them where it does nothing, and where it acts."""


class _WithDefaults(dict[str, Any]):
    """Settings by name; one that is not given has the default that its source declares, None where that is code, or
    where this release of TRL or Transformers has no such setting.
    """

    def __init__(self, known: Mapping[str, Setting]) -> None:
        super().__init__()
        self._known = known

    def __missing__(self, name: str) -> Any:
        return default_of(self._known[name]) if name in self._known else None

    def get(self, name: str, default: Any = None) -> Any:
        return self[name] if name in self or name in self._known else default


def default_of(setting: Setting) -> Any:
    """Returns a setting's default where its source has it as a plain value; else None."""
    try:
        return ast.literal_eval(setting.default)
    except (ValueError, SyntaxError):
        return None


def check_idle(layers: Sequence[tuple[Mapping[str, Any], bool]], known: Mapping[str, Setting]) -> None:
    """Refuses a setting that would do nothing, where it is written after all that its condition reads, or beside it.

    What a later layer switches off is no mistake: `--eval_samples 0` may follow a file that says how to evaluate.

    Args:
        layers: Settings by name, lowest first, of which a later layer wins; and whether the user wrote them for this
            training.
        known: All settings.

    Raises:
        InputError: If there is one that differs from its default.
    """
    values, own = _WithDefaults(known), [own for _, own in layers]
    layer_of: dict[str, int] = {}
    for place, (given, _) in enumerate(layers):
        values.update(given)
        layer_of |= dict.fromkeys(given, place)
    for idle in IDLE:
        decided = max((layer_of.get(name, -1) for name in idle.switches.split()), default=-1)
        for name in idle.names.split():
            place = layer_of.get(name, -1)
            if place < max(decided, 0) or not own[place] or values[name] == default_of(known[name]):
                continue
            if not idle.acts(values):
                shown = hide_credentials({name: values[name]})[name]
                # Of a setting that may be a share, too, a whole number was given as one.
                shown = int(shown) if isinstance(shown, float) and shown.is_integer() else shown
                raise InputError(
                    f"{name} is {shown!r}, which does nothing without {idle.needs}; set that, or leave {name} out"
                )


def idle_page() -> Iterator[str]:
    """Yields the lines of docs/settings.md's table of them."""
    yield "## Refused where nothing is done with them"
    yield ""
    yield "| settings | do nothing without |"
    yield "|---|---|"
    for idle in IDLE:
        yield f"| {', '.join(f'`{name}`' for name in idle.names.split())} | {idle.needs} |"
