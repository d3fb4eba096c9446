"""Which numbers settings may have; without torch, so that what cannot be is refused before anything is loaded."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from iapo.errors import InputError

MOST = 2**32 - 1
"""Largest count, size or seed: NumPy takes no larger seed."""


@dataclass(frozen=True, slots=True)
class Bound:
    """An interval of finite numbers.

    Attributes:
        low: Smallest number.
        high: Largest number.
        whole: Whether a number with a fraction is none of them.
        above: Whether `low` itself is not allowed.
        below: Whether `high` itself is not allowed.
        also: Numbers outside of the interval that have a meaning of their own.
    """

    low: float = 0
    high: float = MOST
    whole: bool = False
    above: bool = False
    below: bool = False
    also: tuple[float, ...] = ()

    def allows(self, value: Any) -> bool:
        """Tells whether a value is a number that may be."""
        kind: Any = numbers.Integral if self.whole else numbers.Real
        if isinstance(value, bool) or not isinstance(value, kind):
            return False
        if value in self.also:
            return True
        # Whatever is compared with NaN is false.
        return (value > self.low if self.above else value >= self.low) and (
            value < self.high if self.below else value <= self.high
        )

    def __str__(self) -> str:
        one = "a whole number" if self.whole else "a number"
        low = f"above {self.low}" if self.above else f"from {self.low}"
        also = "".join(f", or {number}" for number in self.also)
        if self.high == MOST:
            return (f"{one} above {self.low}" if self.above else f"at least {self.low}") + also
        high = str(self.high) if self.whole else f"{self.high:g}"
        if not (self.above or self.below):
            return f"{self.low} to {high}{also}"
        return f"{one} {low}{' and below' if self.below else ', up to'} {high}{also}"


COUNT = Bound(1, whole=True)
COUNT_OR_NONE = Bound(0, whole=True)
SEED = Bound(0, whole=True)
POSITIVE = Bound(above=True)
NOT_NEGATIVE = Bound()
SHARE = Bound(0, 1)
PART = Bound(0, 1, above=True)
"""A share that is not nothing."""
DECAY = Bound(0, 1, below=True)
LEAST_HEAT = 1e-4
"""Lowest temperature but 0: no score of a model becomes infinite by it, and it is greedy to all intents."""
HEAT = Bound(LEAST_HEAT, 1000, also=(0,))
"""A temperature; 0 is greedy."""
ASKED_HEAT = Bound(LEAST_HEAT, 100, also=(0,))
"""The same, of a question that somebody asks."""
ENDPOINT_HEAT = Bound(0, 1000)
"""The same, of an endpoint, which divides by it itself."""
WEIGHT = Bound(0, 1e6)
PORT = Bound(1, 65535, whole=True)
SECONDS = Bound(0, 1e7, above=True)
SIDE = Bound(112, 1000, whole=True)
"""Side of synthetic images in pixels."""
TURNS = Bound(2, 8, whole=True)
"""Two are the paper's; each observation brings an image's tokens into the sequence."""
CELLS = Bound(1, 16, whole=True)
"""Cells along each side of an image."""
CHART = Bound(0, 100_000, whole=True)
"""Number of a synthetic image, before which all others are made."""
TRIES = Bound(0, 1000, whole=True)
TOGETHER = Bound(1, 1024, whole=True)
ANY = Bound(-1e6, 1e6)

SETTINGS: Mapping[str, Bound] = {
    # What is trained on what.
    **dict.fromkeys(
        ("train_samples", "eval_batch_size", "case_study_samples", "min_pixels", "max_pixels", "lora_alpha"),
        COUNT,
    ),
    # Beyond any model's width, where an adapter is larger than what it adapts.
    "lora_r": Bound(1, 8192, whole=True),
    **dict.fromkeys(("data_samples", "eval_samples", "eval_traces", "case_study_steps", "held_out"), COUNT_OR_NONE),
    **dict.fromkeys(("charts_seed", "eval_seed", "seed", "data_seed", "alignment_control_seed"), SEED),
    **dict.fromkeys((f"{who}_{what}_pixels" for who in ("teacher", "verifier") for what in ("min", "max")), COUNT),
    # More than any machine has; each takes memory.
    "threads": Bound(0, 1024, whole=True),
    "lora_dropout": DECAY,
    "picture_size": SIDE,
    "eval_temperature": HEAT,
    # IAPO's own.
    **dict.fromkeys(
        ("penalty_weight", "penalty_decay", "distill_weight", "token_distill_weight", "no_call_divergence"), WEIGHT
    ),
    "attribution_temperature": Bound(0, 1e6, above=True),
    "attribution_floor": WEIGHT,
    "attribution_image_cells": CELLS,
    "attribution_eps": Bound(0, 1, above=True, below=True),
    "attribution_steps": Bound(1, 10_000, whole=True),
    **dict.fromkeys(
        ("attribution_batch_size", "attribution_tokens", "max_turn_tokens", "max_sequence_length", "max_prompt_length"),
        COUNT,
    ),
    **dict.fromkeys(("trace_every", "traces_per_step", "report_traces", "dynamic_sampling"), COUNT_OR_NONE),
    "max_turns": TURNS,
    **dict.fromkeys(("judge_timeout", "tool_timeout"), SECONDS),
    "judge_retries": TRIES,
    "judge_concurrency": TOGETHER,
    # Transformers'.
    **dict.fromkeys(
        (
            *("per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps"),
            *("torch_empty_cache_steps", "eval_accumulation_steps", "save_total_limit", "dataloader_prefetch_factor"),
            *("ddp_bucket_cap_mb", "ddp_timeout"),
        ),
        COUNT,
    ),
    "num_train_epochs": Bound(0, 1e6, above=True),
    # Of what is not positive, Transformers takes the number of epochs instead.
    "max_steps": Bound(1, whole=True, also=(-1,)),
    "learning_rate": Bound(0, 100),
    "weight_decay": Bound(0, 100),
    **dict.fromkeys(("adam_beta1", "adam_beta2", "label_smoothing_factor"), DECAY),
    "adam_epsilon": PART,
    **dict.fromkeys(("warmup_steps", "eval_delay", "max_grad_norm", "neftune_noise_alpha"), NOT_NEGATIVE),
    **dict.fromkeys(("logging_steps", "eval_steps", "save_steps"), POSITIVE),
    "dataloader_num_workers": Bound(0, 4096, whole=True),
    "local_rank": Bound(-1, whole=True),
    "router_aux_loss_coef": WEIGHT,
    # TRL's.
    **dict.fromkeys(
        (
            *("num_generations_eval", "max_completion_length", "pad_to_multiple_of"),
            *("generation_batch_size", "steps_per_generation", "num_iterations", "ref_model_sync_steps"),
            *("vllm_max_model_length", "max_tool_calling_iterations", "dataset_num_proc", "max_length"),
        ),
        COUNT,
    ),
    # A group of one has no advantage.
    "num_generations": Bound(2, whole=True),
    "temperature": Bound(LEAST_HEAT, 1000),
    "top_p": PART,
    "top_k": COUNT_OR_NONE,
    "min_p": SHARE,
    "repetition_penalty": Bound(1e-4, 1000),
    **dict.fromkeys(("vllm_server_port", "vllm_group_port"), PORT),
    "vllm_server_timeout": Bound(0, 1e7),
    "vllm_gpu_memory_utilization": PART,
    "vllm_tensor_parallel_size": TOGETHER,
    **dict.fromkeys(
        (
            *("beta", "epsilon", "epsilon_high", "vespo_k_pos", "vespo_lambda_pos", "vespo_k_neg", "vespo_lambda_neg"),
            *("entropy_coef", "entropy_coef_min", "entropy_coef_max", "entropy_coef_delta", "entropy_target"),
            "vllm_importance_sampling_clip_min",
        ),
        WEIGHT,
    ),
    **dict.fromkeys(
        (
            *("delta", "sapo_temperature_neg", "sapo_temperature_pos"),
            *("vllm_importance_sampling_clip_max", "vllm_importance_sampling_cap", "off_policy_mask_threshold"),
        ),
        Bound(0, 1e6, above=True),
    ),
    "ref_model_mixup_alpha": SHARE,
    "top_entropy_quantile": PART,
    "num_completions_to_print": COUNT_OR_NONE,
}
"""Every numeric setting of `iapo train` and `iapo sft`, those of TRL and Transformers among them, by name."""

CHOICES = {"pad_to_multiple_of": ("auto",)}
"""Words that settings may be instead of a number."""

_SAMPLING = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")


def read_number(text: str, kind: type[int] | type[float]) -> float | None:
    """Reads a number that was given as a text: in a command line, or in a YAML file where YAML takes it for none.

    Args:
        text: The text. Its digits are ASCII's, without `_` between them; a whole number has no dot and no exponent.
        kind: Whether it is a whole number.

    Returns:
        The number, which may be infinite or not-a-number; None where the text is none.
    """
    if not text.isascii() or "_" in text:
        return None
    try:
        return kind(text)
    except ValueError:
        return None


def check_number(name: str, value: Any, bound: Bound) -> None:
    """Refuses a number that cannot be; None is a setting that is not given.

    Args:
        name: Setting that has it.
        value: The value.
        bound: Its interval.

    Raises:
        InputError: If it is not in the interval, not finite, or no number.
    """
    if value is not None and not bound.allows(value):
        large = isinstance(value, int | float) and value > bound.high == MOST
        shown = repr(value) if isinstance(value, str) else value
        raise InputError(f"{name} is {shown}; give {f'at most {MOST}' if large else bound}")


def split_list(what: str, text: str) -> tuple[str, ...]:
    """Returns the parts of a list with commas between.

    Args:
        what: Name of the list.
        text: The list; empty as a whole, it has no parts.

    Raises:
        InputError: If a part is empty, as where a name is missing.
    """
    parts = tuple(part.strip() for part in text.split(",")) if text.strip() else ()
    if not all(parts):
        raise InputError(f"{what} is {text[:100]!r}, where nothing stands before or behind a comma; remove the comma")
    return parts


def check_repeats(repeats: int, temperature: float) -> None:
    """Refuses greedy repeats.

    Raises:
        InputError: If there are any.
    """
    if repeats > 1 and temperature == 0:
        raise InputError(f"{repeats} greedy repeats are all the same; set a temperature, or repeats to 1")


def read_seeds(texts: Sequence[str]) -> tuple[int, ...]:
    """Reads seeds.

    Raises:
        InputError: If one is no whole number from 0 that a generator takes, there is none, or one comes twice.
    """
    # A longer one is no seed, and Python reads no number of thousands of digits.
    if not all(text.isascii() and text.isdecimal() and len(text) < 20 for text in texts):
        raise InputError(f"seeds are {', '.join(texts)[:200]}; give whole numbers from 0, with commas between")
    found = tuple(map(int, texts))
    check_seeds(found)
    return found


def check_seeds(seeds: Sequence[Any]) -> None:
    """Refuses seeds that cannot be, or are none, or hold one twice.

    Raises:
        InputError: If so.
    """
    if isinstance(seeds, str) or not isinstance(seeds, Sequence):
        raise InputError(f"seeds is {seeds!r}; give a list of whole numbers")
    for seed in seeds:
        check_number("a seed", seed, SEED)
    if not seeds or len(set(seeds)) < len(seeds):
        raise InputError(f"seeds are {', '.join(map(str, seeds)) or 'none'}; name each one once, and at least one")


def check_numbers(values: Mapping[str, Any], bounds: Mapping[str, Bound] = SETTINGS) -> None:
    """Refuses the first number that cannot be.

    Args:
        values: Settings by name. Numbers within lists and mappings must be finite, and those of `generation_kwargs`
            as the settings of the same names.
        bounds: Intervals by name; other settings are not looked at, but for what they hold within.

    Raises:
        InputError: As `check_number`.
    """
    for name, value in values.items():
        if isinstance(value, str) and value in CHOICES.get(name, ()):
            continue
        if name in bounds:
            check_number(name, value, bounds[name])
        elif isinstance(value, Mapping | list | tuple):
            if name == "generation_kwargs" and isinstance(value, Mapping):
                for key in _SAMPLING:
                    check_number(f"{key} of {name}", value.get(key), bounds.get(key, ANY))
            _check_finite(name, value)


def _check_finite(name: str, value: Any) -> None:
    waiting, seen = [value], set()
    while waiting:
        one = waiting.pop()
        # A text of YAML may hold one list in many places.
        if id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, float) and not math.isfinite(one):
            raise InputError(f"{name} holds {one}; give finite numbers alone")
        waiting.extend(one.values() if isinstance(one, Mapping) else one if isinstance(one, list | tuple) else ())
