"""A checkpoint's `config.json`: looked at before Transformers makes what it counts, and for what it leaves out."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import AutoConfig, PreTrainedConfig

from iapo.bounds import COUNT, Bound
from iapo.errors import InputError
from iapo.rollout.files import optional_file
from iapo.storage import read_json

FILE = "config.json"

_COUNTED = ("num_hidden_layers", "depth", "num_labels")
_COUNT = Bound(0, 1000, whole=True)

_TEXT = ("num_attention_heads", "num_key_value_heads", "rms_norm_eps")
_NEEDED = {
    "qwen2_5_vl": (_TEXT, ("num_heads", "window_size", "fullatt_block_indexes")),
    "qwen3_vl": (_TEXT, ("num_heads", "deepstack_visual_indexes")),
}
"""By model type, what the language model's part and the vision tower's need to tell: no shape of a weight shows it, all
published files have it, and Transformers would take that of one published size, or of none.
"""

_WITHOUT_DEFAULTS = re.compile(r"4\.(49|50)\.")
"""Versions of Transformers that leave out of a vision tower's part what is as in all published files of Qwen2.5-VL, and
what later versions fill in."""


def read_config(path: str, revision: str | None) -> PreTrainedConfig:
    """Reads a checkpoint's configuration.

    Args:
        path: Its folder or hub id.
        revision: Its branch, tag or commit on the hub.

    Raises:
        InputError: If the file is damaged, or counts more layers than any model has; Transformers would list them all.
        OSError: If there is none; or another of `iapo.rollout.files.DAMAGED`, as Transformers has it.
    """
    found = optional_file(path, FILE, revision)
    if found is not None:
        told = read_json(Path(found))
        for part in (told, *(one for one in told.values() if isinstance(one, dict))):
            _refuse_many(path, part)
    return AutoConfig.from_pretrained(path, revision=revision, trust_remote_code=False)


def _refuse_many(path: str, part: dict[str, Any]) -> None:
    for name in _COUNTED:
        value = part.get(name)
        # Of another kind it is Transformers' to refuse.
        if type(value) is int and not _COUNT.allows(value):
            raise InputError(
                f"the {FILE} of {path!r} has the {name} {str(value)[:80]}; give {_COUNT}, or take the file from its "
                "source anew"
            )


def told_in(path: str, revision: str | None) -> dict[str, Any]:
    """Returns a checkpoint's `config.json` as it is, without what Transformers fills in; empty where it has none.

    Args:
        path: Its folder or hub id.
        revision: Its branch, tag or commit on the hub.

    Raises:
        InputError: If the file is damaged.
    """
    found = optional_file(path, FILE, revision)
    return {} if found is None else read_json(Path(found))


def check_complete(name: str, told: Mapping[str, Any]) -> None:
    """Refuses a configuration of a known family that lacks a number which its weights do not show: Transformers fills
    in another, and the model answers otherwise, without a word.

    Args:
        name: Name of the checkpoint.
        told: Its `config.json`.

    Raises:
        InputError: If so.
    """
    kind = told.get("model_type")
    if kind not in _NEEDED:
        return
    text, vision = told.get("text_config"), told.get("vision_config")
    if text is None and kind == "qwen2_5_vl":
        # Early files have the language model's part at the top.
        text = told
    needed, of_vision = _NEEDED[kind]
    if kind == "qwen2_5_vl" and vision and _WITHOUT_DEFAULTS.match(str(told.get("transformers_version"))):
        of_vision = ()
    for part, keys, where in (
        (text if isinstance(text, Mapping) else {}, needed, "text_config"),
        (vision if isinstance(vision, Mapping) else {}, of_vision, "vision_config"),
    ):
        lacking = [key for key in keys if key not in part]
        if where == "text_config":
            rope = [part, *(part.get(one) for one in ("rope_parameters", "rope_scaling"))]
            if not any(isinstance(one, Mapping) and one.get("rope_theta") is not None for one in rope):
                lacking.append("rope_theta")
        if lacking:
            at = "" if part is told else f" in its {where}"
            raise InputError(
                f"the config.json of {name!r} has no {lacking[0]}{at}, and no weight shows it, so that Transformers "
                "would take a number of its own; take the file from its source anew"
            )


def check_deepstack(name: str, config: PreTrainedConfig) -> None:
    """Refuses `deepstack_visual_indexes` that are no different layers of the vision tower: what is read at others
    never reaches the language model.

    Args:
        name: Name of the checkpoint.
        config: Its configuration.

    Raises:
        InputError: If so.
    """
    vision = getattr(config, "vision_config", None)
    places, depth = getattr(vision, "deepstack_visual_indexes", None), getattr(vision, "depth", 0)
    if places is None:
        return
    if (
        not isinstance(places, list | tuple)
        or not all(type(one) is int and 0 <= one < depth for one in places)
        or len(set(places)) < len(places)
    ):
        raise InputError(
            f"the config.json of {name!r} has the deepstack_visual_indexes {str(places)[:80]}; give different layers "
            f"of its vision tower, from 0 to {depth - 1}"
        )


def check_kind_of_model(name: str, config: PreTrainedConfig) -> None:
    """Refuses a configuration of a model that gives tuples, has an encoder and a decoder, or has no heads.

    Args:
        name: Name of the checkpoint.
        config: Its configuration.

    Raises:
        InputError: If so.
    """
    for part in (config, config.get_text_config()):
        if not getattr(part, "return_dict", True):
            raise InputError(f"the config.json of {name!r} has return_dict false; leave it out")
        if getattr(part, "is_encoder_decoder", False):
            raise InputError(f"the config.json of {name!r} has is_encoder_decoder true, which it is not; leave it out")
    for key in ("hidden_size", "num_attention_heads"):
        value = getattr(config.get_text_config(), key, 1)
        if not COUNT.allows(value):
            raise InputError(
                f"the config.json of {name!r} has the {key} {str(value)[:80]}; give a whole number above 0"
            )


def check_positions(name: str, config: PreTrainedConfig) -> None:
    """Refuses a `mrope_section` that does not share out the positions' part of a head.

    Args:
        name: Name of the checkpoint.
        config: Its configuration.

    Raises:
        InputError: If so.
    """
    text = config.get_text_config()
    rope = getattr(text, "rope_parameters", None)
    section = rope.get("mrope_section") if isinstance(rope, dict) else None
    # Transformers takes that of published sizes where there is none, and the base of the angles with it.
    if section is None and config.model_type not in ("qwen2_5_vl", "qwen3_vl"):
        return
    size = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    fits = (
        isinstance(section, Sequence)
        and len(section) == 3
        and all(type(one) is int and one >= 0 for one in section)
        and 2 * sum(section) == size
    )
    if not fits:
        raise InputError(
            f"the config.json of {name!r} has the mrope_section {str(section)[:80]}; give three whole numbers that sum "
            f"to {size // 2}, half of the size of a head"
        )
