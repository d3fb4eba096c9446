"""How a checkpoint is brought into memory: its weights checked by name, its adapter, its images' limits."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from transformers import AutoModelForImageTextToText, BitsAndBytesConfig, PreTrainedModel

from iapo.errors import InputError
from iapo.rollout.adapter_settings import check_adapter
from iapo.rollout.configuration import read_config
from iapo.rollout.files import DAMAGED, first_line, optional_file
from iapo.rollout.generation_file import read_generation
from iapo.rollout.load_settings import PLACEMENTS, LoadSettings, is_hub_id
from iapo.rollout.names import ADAPTER, resolve
from iapo.rollout.unpartitioned import unpartitioned
from iapo.rollout.weights import Weights, check_size, read_weights, refuse_keys
from iapo.storage import read_json

logger = logging.getLogger(__name__)

_UNFIT: tuple[type[Exception], ...] = (ImportError, *DAMAGED)

_WHOLE = ["model.visual", "lm_head"]
"""Modules that are never quantised: the output layer, whose weight is multiplied with directly, and the vision tower, a
small part of the memory on which all boxes depend."""


def adapter_base(path: str, revision: str | None = None) -> tuple[str, str | None] | None:
    """Finds the base of an adapter: its name and its revision; None where the folder or hub id is no adapter.

    Raises:
        InputError: If the adapter names no base.
    """
    found = optional_file(path, ADAPTER, revision)
    if found is None:
        return None
    config = read_json(Path(found))
    base, of = config.get("base_model_name_or_path"), config.get("revision")
    if not base or not isinstance(base, str):
        raise InputError(f"{path}: {ADAPTER} names no base; set base_model_name_or_path to the checkpoint it adapts")
    if of is not None and not isinstance(of, str):
        raise InputError(f"{path}: {ADAPTER} has a revision that is no text")
    _refuse_chain(path, base, of)
    check_adapter(path, config)
    return base, of


def _refuse_chain(path: str, base: str, revision: str | None) -> None:
    place = resolve(base)
    if (os.path.isdir(place) or is_hub_id(place)) and optional_file(place, ADAPTER, revision) is not None:
        raise InputError(
            f"{path}: its base is {base}, which is an adapter itself, and an adapter on an adapter is not loaded; "
            f"`iapo export {base} --output FOLDER` makes a whole checkpoint, to be named in base_model_name_or_path"
        )


def load_model(path: str, settings: LoadSettings) -> PreTrainedModel:
    """Loads the weights of a checkpoint that is no adapter, in evaluation mode.

    Raises:
        InputError: If weights are missing, left over, misshapen or of integers, their files cannot be read, or the
            attention or the device cannot be had.
    """
    settings.check_packages()
    for place in (settings.device, settings.device_map):
        if place not in PLACEMENTS:
            _check_device(place)
    kwargs: dict[str, Any] = {"dtype": settings.torch_dtype, "revision": settings.model_revision}
    if settings.attn_implementation is not None:
        kwargs["attn_implementation"] = settings.attn_implementation
    if settings.device_map is not None:
        kwargs["device_map"] = settings.device_map
    if (generation := read_generation(path, settings.model_revision)) is not None:
        kwargs["generation_config"] = generation
    if settings.quantised:
        kwargs["quantization_config"] = _quantisation(settings)
        # Quantised weights cannot be moved afterwards.
        kwargs.setdefault("device_map", {"": settings.device or "cpu"})
    with unpartitioned():
        held = check_files(path, settings)
    try:
        with unpartitioned():
            model, report = AutoModelForImageTextToText.from_pretrained(
                path,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
                trust_remote_code=False,
                use_safetensors=True,
                **kwargs,
            )
    except (OSError, SafetensorError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"the weights of {path} cannot be read: {first_line(error)}") from error
    except (ImportError, ValueError, RuntimeError) as error:
        # A package that the configuration asks for, or sizes that cannot be.
        raise _unfit(path, settings, error) from error
    _refuse_others(path, report)
    _refuse_untied(path, model)
    refuse_not_finite(path, dict(model.named_parameters()))
    if held.quantised:
        _refuse_mixed(path, model, settings)
    other = [name for name in held.types if name != str(model.dtype).removeprefix("torch.")]
    if settings.torch_dtype == "auto" and other and not held.quantised:
        logger.warning(
            "dtype is auto, which is %s by the config.json of %s; its files hold %s, so name the type to keep that",
            str(model.dtype).removeprefix("torch."),
            path,
            " and ".join(other),
        )
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            # After a first product without gradients, bitsandbytes' fast one for CPUs gives none, and says nothing.
            module.support_avx512bf16_for_cpu = False
    if settings.device is not None and not settings.quantised:
        model.to(torch.device(settings.device))
    return cast(PreTrainedModel, model)


def limit_pixels(processor: Any, settings: LoadSettings) -> None:
    """Sets the fewest and the most pixels that an image is given, in place; a saved processor keeps them.

    Raises:
        InputError: If one of them does not fit the checkpoint's own other limit, or is less than one token's square.
    """
    images = processor.image_processor
    low = settings.min_pixels or images.size["shortest_edge"]
    high = settings.max_pixels or images.size["longest_edge"]
    square = (images.patch_size * images.merge_size) ** 2
    if low > high:
        raise InputError(f"min_pixels {low} is more than max_pixels {high} (the checkpoint's where you gave none)")
    if high < square:
        raise InputError(f"max_pixels is {high}; one token of this model takes {square} pixels")
    if (settings.min_pixels, settings.max_pixels) != (None, None):
        images.size = type(images.size)(**{**dict(images.size), "shortest_edge": low, "longest_edge": high})


def _check_device(name: str | None) -> None:
    device = torch.device(name or "cpu")
    found = torch.accelerator.current_accelerator(check_available=True)
    if device.type == "cpu":
        return
    if found is None or found.type != device.type or (device.index or 0) >= torch.accelerator.device_count():
        have = "none but the CPU" if found is None else f"{torch.accelerator.device_count()} of type {found.type}"
        raise InputError(f"there is no device {name!r} for the model; this machine has {have}")


def _quantisation(settings: LoadSettings) -> BitsAndBytesConfig:
    if settings.load_in_8bit:
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=_WHOLE)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_compute_dtype=settings.torch_dtype,
        bnb_4bit_quant_type=settings.bnb_4bit_quant_type,
        bnb_4bit_use_double_quant=settings.use_bnb_nested_quant,
        llm_int8_skip_modules=_WHOLE,
    )


def check_files(path: str, settings: LoadSettings) -> Weights:
    """Makes the model without memory, by its configuration alone, and compares it with the headers of its files.

    Args:
        path: Folder or hub id of a checkpoint that is no adapter.
        settings: Settings of its loading; its revision and its attention count.

    Returns:
        What the headers tell.

    Raises:
        InputError: As `iapo.rollout.weights.read_weights` and `check_size`, or if there is no such model.
    """
    held = read_weights(path, settings.model_revision)
    given = {"attn_implementation": settings.attn_implementation} if settings.attn_implementation else {}
    try:
        config = read_config(path, settings.model_revision)
        with torch.device("meta"):
            model = AutoModelForImageTextToText.from_config(config, trust_remote_code=False, **given)
    except _UNFIT as error:
        raise _unfit(path, settings, error) from error
    check_size(path, model, held)
    return held


def _unfit(path: str, settings: LoadSettings, error: Exception) -> InputError:
    said = first_line(error)
    if settings.attn_implementation is None:
        return InputError(f"{path} cannot be loaded as its config.json says: {said}")
    return InputError(f"{path} cannot be loaded with attn_implementation {settings.attn_implementation!r}: {said}")


def _refuse_mixed(path: str, model: PreTrainedModel, settings: LoadSettings) -> None:
    """Transformers makes plain numbers of a quantisation that a device cannot compute with, of a type of its choice."""
    plain = (torch.float16, torch.bfloat16, torch.float32)
    found = {one.weight.dtype for one in model.modules() if isinstance(one, torch.nn.Linear)}.intersection(plain)
    names = sorted(str(one).removeprefix("torch.") for one in found)
    if len(names) > 1:
        asked = str(settings.torch_dtype).removeprefix("torch.")
        other = next(name for name in names if name != asked)
        raise InputError(
            f"the quantised weights of {path} become {other} on this device, and the others are {asked}; set dtype to "
            f"{other}"
        )


def _refuse_others(path: str, report: Mapping[str, Any]) -> None:
    """Returns the weights that the files lack would stay random, without a word."""
    misshapen = [f"{key} ({list(saved)} for {list(own)})" for key, saved, own in report["mismatched_keys"]]
    refuse_keys(path, "has", "misshapen weight", misshapen)
    refuse_keys(path, "lacks", "weight", report["missing_keys"])
    refuse_keys(path, "has", "unknown weight", report["unexpected_keys"])


def _refuse_untied(path: str, model: PreTrainedModel) -> None:
    """Transformers keeps an output layer of its own apart, whatever the configuration says, with no more than a
    warning.
    """
    head, embeddings = model.get_output_embeddings(), model.get_input_embeddings()
    if not getattr(model.config, "tie_word_embeddings", False) or head is None or embeddings is None:
        return
    if (
        head.weight is not embeddings.weight
        and not head.weight.is_meta
        and not torch.equal(head.weight, embeddings.weight)
    ):
        raise InputError(
            f"{path} has an output layer of its own, but its config.json says that the embeddings are it "
            "(tie_word_embeddings); set that to false, or leave the output layer out"
        )


def refuse_not_finite(path: str, weights: Mapping[str, torch.Tensor]) -> None:
    """Refuses weights that are no numbers: a model with one answers nonsense, and is graded, without a word.

    Args:
        path: Folder or hub id.
        weights: Weights by name.

    Raises:
        InputError: If there is one.
    """
    odd = [
        name
        for name, weight in weights.items()
        # The smallest and the largest say it without a copy.
        if weight.is_floating_point()
        and weight.dtype.itemsize > 1
        and weight.numel()
        and not weight.is_meta
        and not all(bool(end.isfinite()) for end in weight.detach().aminmax())
    ]
    refuse_keys(path, "holds NaN or infinity in", "weight", odd, "it is damaged")
