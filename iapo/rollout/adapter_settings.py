"""An adapter's `adapter_config.json`, looked at before PEFT reads it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, get_type_hints

from iapo.bounds import SETTINGS, WEIGHT
from iapo.errors import InputError, one_line
from iapo.kinds import expected, fits, members
from iapo.rollout.names import ADAPTER

_UNREPEATABLE = ("pissa_niter", "corda", "lora_ga", "loftq")
"""Beginnings of adapters that change their base when they are made: by a decomposition that is drawn anew, by data that
are not there, or as the packages of the machine have it."""

_LOOKED_AT = ("r", "lora_alpha", "rank_pattern", "alpha_pattern", "init_lora_weights", "task_type", "peft_type")
"""Settings whose values are refused elsewhere, or which PEFT declares otherwise than it takes them."""


def check_adapter(path: str, config: Mapping[str, Any]) -> None:
    """Refuses an adapter that is no LoRA, or whose settings cannot be. Other adapters than LoRA's bring prompts or
    tokenizers along; Megatron's import what they name.

    Args:
        path: Its folder or hub id.
        config: Its `adapter_config.json`.

    Raises:
        InputError: If so.
    """
    if (kind := config.get("peft_type")) != "LORA":
        raise InputError(f"{path} is an adapter of the type {str(kind)[:40]!r}; adapters are LoRA's")
    if config.get("megatron_config") is not None:
        raise InputError(f"{path}: {ADAPTER} has a megatron_config, which would import modules; leave it out")
    if config.get("arrow_config") is not None:
        raise InputError(f"{path}: {ADAPTER} has an arrow_config, which is for several adapters at once; leave it out")
    for name, bound in (("r", SETTINGS["lora_r"]), ("lora_alpha", WEIGHT)):
        if name in config and not bound.allows(config[name]):
            raise InputError(f"{name} in {ADAPTER} of {path} is {config[name]!r:.80}; give {bound}")
    for name, bound in (("alpha_pattern", WEIGHT), ("rank_pattern", SETTINGS["lora_r"])):
        pattern = config.get(name, {})
        if not isinstance(pattern, dict):
            raise InputError(f"{name} in {ADAPTER} of {path} is {_shown(pattern)}; give a table of numbers by module")
        for key, value in pattern.items():
            if not bound.allows(value):
                raise InputError(
                    f"{name} in {ADAPTER} of {path} has {str(value)[:80]!r} for {one_line(key)[:80]}; give {bound}"
                )
    if config.get("alora_invocation_tokens"):
        raise InputError(f"{path} is an activated LoRA (alora_invocation_tokens), which is not loaded; use a plain one")
    start = config.get("init_lora_weights")
    if isinstance(start, str) and start.lower().startswith(_UNREPEATABLE):
        raise InputError(
            f"{path} is an adapter of the init_lora_weights {start[:40]!r}, which changes its base by what no second "
            "loading finds again; where it was trained, make a plain one of it (PEFT's save_pretrained with "
            "path_initial_model_for_weight_conversion), or name the changed base as its base and set "
            "init_lora_weights to true"
        )


def check_kinds_of_settings(path: str, config: Mapping[str, Any], declared: type) -> None:
    """Refuses truth values, texts, numbers and lists of an adapter that are of another kind than PEFT declares: it
    looks at none, so that the text "false" would be true.

    Args:
        path: Its folder or hub id.
        config: Its `adapter_config.json`.
        declared: PEFT's dataclass of such settings.

    Raises:
        InputError: If so.
    """
    for name, kind in get_type_hints(declared).items():
        if name not in config or name in _LOOKED_AT:
            continue
        kinds, value = members(kind), config[name]
        if any(dataclasses.is_dataclass(one) for one in kinds):
            # A file has a table in its place.
            kinds = [*(one for one in kinds if not dataclasses.is_dataclass(one)), dict, type(None)]
        if bool in kinds:
            # Nothing said is no.
            kinds = [*kinds, type(None)]
        if not any(fits(value, one) for one in kinds):
            told = [one for one in kinds if one is not type(None)]
            raise InputError(f"{name} in {ADAPTER} of {path} is {_shown(value)}; it takes {expected(told)}")


def _shown(value: Any) -> str:
    return one_line(repr(value))[:80]
