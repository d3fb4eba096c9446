"""What `iapo sft` refuses of TRL's `SFTConfig`: settings that would do nothing here, or something wrong.

Without torch and TRL, so that what is refused is refused at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from iapo.errors import InputError, unknown
from iapo.training.trl_settings import CHECKPOINTING, Refusal, check_tables, refused_rows
from iapo.training.trl_settings import REFUSED as OF_TRAINING

_ROWS = "but rows are transcripts, laid out as rollouts are; leave it out"
_PACKED = "but sequences with images are neither packed nor joined; leave it out"
_TOKENS = "but the checkpoint's own tokenizer is used as it is, as in a rollout; leave it out"
_LIGER = "whose kernels were not tried on sequences with images; leave it out (attn_implementation may be set)"

REFUSED: Mapping[str, Refusal] = {
    **{
        name: OF_TRAINING[name]
        for name in (
            *("model_init_kwargs", "trust_remote_code", "router_aux_loss_coef", "use_cache", "ignore_data_skip"),
            *("enable_jit_checkpoint", "parallelism_config", "do_train", "do_predict"),
        )
    },
    "do_eval": Refusal((False,), "which is of scripts that choose what they do; set held_out and eval_strategy"),
    "use_liger_kernel": Refusal((False,), _LIGER),
    "liger_kernel_config": Refusal((None, {}), _LIGER),
    "completion_only_loss": Refusal((None, True), "but the loss is on what the model writes alone; leave it out"),
    "assistant_only_loss": Refusal((False,), "but the loss is on what the model writes anyway; leave it out"),
    "truncation_mode": Refusal(
        ("keep_start",), "but no transcript is cut: one longer than max_length is damage; leave it out"
    ),
    "packing": Refusal((False,), _PACKED),
    "packing_strategy": Refusal(("bfd",), _PACKED),
    "eval_packing": Refusal((None, False), _PACKED),
    "padding_free": Refusal((False,), _PACKED),
    "dataset_text_field": Refusal(("text",), _ROWS),
    "dataset_kwargs": Refusal((None, {}), _ROWS),
    "dataset_num_proc": Refusal((None,), _ROWS),
    "label_names": Refusal((None, []), _ROWS),
    "length_column_name": Refusal(("length",), _ROWS),
    "remove_unused_columns": Refusal((False,), "but sequences are made of all columns; leave it out"),
    "shuffle_dataset": Refusal((False,), "but an epoch's order is drawn by data_seed or seed; set those"),
    "train_sampling_strategy": Refusal(
        ("random", "sequential"), "but the lengths of sequences are not known beforehand; set random or sequential"
    ),
    "chat_template_path": Refusal((None,), "but the checkpoint's own chat template is used, as in a rollout"),
    "eos_token": Refusal((None,), _TOKENS),
    "pad_token": Refusal((None,), _TOKENS),
}
"""Settings that would do nothing in a supervised run, or something wrong."""

CHOICES: Mapping[str, tuple[str, ...]] = {
    "loss_type": ("nll", "dft"),
    **dict.fromkeys(
        ("log_level", "log_level_replica"), ("detail", "debug", "info", "warning", "error", "critical", "passive")
    ),
}
"""Values of settings that TRL and Transformers take as any text, and look at after the model is loaded."""

MEASURED = ("loss", "mean_token_accuracy", "entropy")
"""What an evaluation of held-out transcripts reports that is better or worse."""


def check_supervised(values: Mapping[str, Any], held_out: int) -> None:
    """Refuses settings of TRL's that a supervised run does not use, or that lack what they need.

    Args:
        values: The trainer's settings by name, those that were given.
        held_out: Number of transcripts that are held out.

    Raises:
        InputError: If there is one.
    """
    check_tables(values, REFUSED, CHOICES, (*CHECKPOINTING, "every_n_layers"))
    measures = values.get("eval_strategy", "no") not in ("no", False)
    for name, asked in (("eval_strategy", measures), ("eval_on_start", values.get("eval_on_start", False))):
        if asked and not held_out:
            raise InputError(
                f"{name} is {values[name]!r}, but no transcript is held out to measure the loss on; set held_out"
            )
    for name in ("load_best_model_at_end", "metric_for_best_model", "greater_is_better", "eval_steps", "eval_delay"):
        if values.get(name) not in (None, False, 0) and not measures:
            raise InputError(
                f"{name} is {values[name]!r}, which does nothing without eval_strategy; set that, and held_out"
            )
    metric = values.get("metric_for_best_model")
    if metric is not None and str(metric).removeprefix("eval_") not in MEASURED:
        raise unknown("metric", str(metric), MEASURED, where=" for metric_for_best_model")


def supervised_page() -> Iterator[str]:
    """Yields the lines of docs/settings.md on `iapo sft`."""
    yield "## Of `iapo sft`"
    yield ""
    yield "Settings of TRL's `SFTConfig` that a supervised run does not use are refused in the same way; all others are"
    yield f"TRL's and Transformers'. `metric_for_best_model` is one of {', '.join(MEASURED)}, measured on held-out"
    yield "transcripts (`held_out`, `eval_strategy`)."
    yield ""
    yield "| setting of `iapo sft` | stays | else the sentence goes |"
    yield from refused_rows(REFUSED)
