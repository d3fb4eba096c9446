"""How a checkpoint is brought into memory: its settings, its weights checked by name, its adapter."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, cast

import torch
from safetensors import SafetensorError
from transformers import AutoModelForImageTextToText, BitsAndBytesConfig, PreTrainedModel
from transformers.utils import cached_file

from iapo.errors import InputError

ADAPTER = "adapter_config.json"
"""The file by which an adapter's folder is known."""

_NAMED = 3


@dataclass(frozen=True, slots=True)
class LoadSettings:
    """How a checkpoint is loaded; names as in TRL's `ModelConfig` where it has them.

    Code that a checkpoint brings along is never run: there is no `trust_remote_code`.

    Args:
        dtype: Type of the weights in memory; `auto` takes the files'. None is float32 on the CPU, bfloat16 elsewhere.
        device: Device of the whole model; None is the CPU.
        device_map: Accelerate's placement of its layers instead, for example `auto`.
        attn_implementation: Attention of Transformers, for example `sdpa`; None leaves it the choice.
        model_revision: Branch, tag or commit of a hub id.
        min_pixels: Fewest pixels that the model sees of an image; smaller ones are enlarged. None: the checkpoint's.
        max_pixels: Most pixels that the model sees of an image; larger ones are shrunk. None: the checkpoint's.
        load_in_8bit: Quantises to 8 bits (bitsandbytes).
        load_in_4bit: Quantises to 4 bits (bitsandbytes).
        bnb_4bit_quant_type: Type of the 4 bits.
        use_bnb_nested_quant: Quantises the quantisation's constants, too.
        merge_adapter: Adds an adapter to its base's weights; otherwise the model is a `PeftModel`, its adapter
            trainable.

    Raises:
        InputError: If two settings exclude each other, a value cannot be, or a package is missing.
    """

    dtype: Literal["auto", "bfloat16", "float16", "float32"] | None = field(
        default=None, metadata={"help": "Type of the weights; float32 on the CPU, bfloat16 elsewhere."}
    )
    device: str | None = field(default=None, metadata={"help": "Device of the whole model; the CPU."})
    device_map: str | None = field(default=None, metadata={"help": "Placement of the layers, for example auto."})
    attn_implementation: str | None = field(default=None, metadata={"help": "Attention, for example sdpa."})
    model_revision: str | None = field(default=None, metadata={"help": "Branch, tag or commit of a hub id."})
    min_pixels: int | None = field(default=None, metadata={"help": "Fewest pixels seen of an image."})
    max_pixels: int | None = field(default=None, metadata={"help": "Most pixels seen of an image."})
    load_in_8bit: bool = field(default=False, metadata={"help": "Quantisation to 8 bits (bitsandbytes)."})
    load_in_4bit: bool = field(default=False, metadata={"help": "Quantisation to 4 bits (bitsandbytes)."})
    bnb_4bit_quant_type: Literal["fp4", "nf4"] = field(default="nf4", metadata={"help": "Type of the 4 bits."})
    use_bnb_nested_quant: bool = field(default=False, metadata={"help": "Quantisation of the constants, too."})
    merge_adapter: bool = field(default=True, metadata={"help": "Adds an adapter to its base's weights."})

    def __post_init__(self) -> None:
        for name, values in (("dtype", (None, "auto", "bfloat16", "float16", "float32")), _QUANT_TYPES):
            if getattr(self, name) not in values:
                known = ", ".join(value for value in values if value is not None)
                raise InputError(f"{name} is {getattr(self, name)!r}; use one of {known}")
        if self.device is not None:
            if self.device_map is not None:
                raise InputError("device and device_map both place the model; give one of them")
            try:
                torch.device(self.device)
            except RuntimeError as error:
                raise InputError(f"device is {self.device!r}; use a name such as cpu or cuda:0") from error
        for name in ("min_pixels", "max_pixels"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name} is {value}; give a positive number of pixels")
        if self.min_pixels is not None and self.max_pixels is not None and self.min_pixels > self.max_pixels:
            raise InputError(f"min_pixels {self.min_pixels} is more than max_pixels {self.max_pixels}")
        if self.load_in_4bit and self.load_in_8bit:
            raise InputError("load_in_4bit and load_in_8bit exclude each other; set one of them")
        if self.quantised and find_spec("bitsandbytes") is None:
            raise InputError("load_in_4bit and load_in_8bit need bitsandbytes; pip install bitsandbytes, or unset them")

    @property
    def quantised(self) -> bool:
        """Whether the weights are quantised."""
        return self.load_in_4bit or self.load_in_8bit

    @property
    def torch_dtype(self) -> torch.dtype | Literal["auto"]:
        """The type of the weights in memory, with the default filled in."""
        if self.dtype == "auto":
            return "auto"
        if self.dtype is not None:
            return cast(torch.dtype, getattr(torch, self.dtype))
        if self.device is None and self.device_map is None:
            return torch.float32
        on_cpu = self.device_map == "cpu" if self.device is None else torch.device(self.device).type == "cpu"
        return torch.float32 if on_cpu else torch.bfloat16


_QUANT_TYPES = ("bnb_4bit_quant_type", ("fp4", "nf4"))


def prefixed_names(prefix: str = "") -> dict[str, str]:
    """Maps the names that the settings have under a prefix (`teacher_dtype`) to the fields of `LoadSettings`."""
    start = f"{prefix}_" if prefix else ""
    return {f"{start}{one.name}": one.name for one in dataclasses.fields(LoadSettings)}


def load_settings(values: Mapping[str, Any], prefix: str = "", defaults: LoadSettings | None = None) -> LoadSettings:
    """Makes the loading settings of one model out of all settings.

    Args:
        values: All settings by name; what is no loading setting under this prefix is passed over, and so is None.
        prefix: Prefix whose settings are taken: "" for the student's (`dtype`), `teacher` for `teacher_dtype`.
        defaults: Settings that hold where `values` names none.

    Raises:
        InputError: As `LoadSettings`, the names with their prefix.
    """
    names = prefixed_names(prefix)
    given = {names[name]: value for name, value in values.items() if name in names and value is not None}
    try:
        return dataclasses.replace(defaults or LoadSettings(), **given)
    except InputError as error:
        raise InputError(f"{prefix} model: {error}" if prefix else str(error)) from error


def adapter_base(path: str, revision: str | None = None) -> tuple[str, str | None] | None:
    """Finds the base of an adapter: its name and its revision; None where the folder or hub id is no adapter.

    Raises:
        InputError: If the adapter names no base.
    """
    found = optional_file(path, ADAPTER, revision)
    if found is None:
        return None
    config = json.loads(Path(found).read_text(encoding="utf-8"))
    base = config.get("base_model_name_or_path")
    if not base:
        raise InputError(f"{path}: {ADAPTER} names no base; set base_model_name_or_path to the checkpoint it adapts")
    return str(base), config.get("revision")


def load_model(path: str, settings: LoadSettings) -> PreTrainedModel:
    """Loads the weights of a checkpoint that is no adapter, in evaluation mode.

    Raises:
        InputError: If weights are missing, left over or misshapen, their files cannot be read, or the attention or
            the device cannot be had.
    """
    _check_device(settings.device)
    kwargs: dict[str, Any] = {"dtype": settings.torch_dtype, "revision": settings.model_revision}
    if settings.attn_implementation is not None:
        kwargs["attn_implementation"] = settings.attn_implementation
    if settings.device_map is not None:
        kwargs["device_map"] = settings.device_map
    if settings.quantised:
        kwargs["quantization_config"] = _quantisation(settings)
        # Quantised weights cannot be moved afterwards.
        kwargs.setdefault("device_map", {"": settings.device or "cpu"})
    try:
        model, report = AutoModelForImageTextToText.from_pretrained(
            path, output_loading_info=True, ignore_mismatched_sizes=True, trust_remote_code=False, **kwargs
        )
    except (OSError, SafetensorError) as error:
        raise InputError(f"the weights of {path} cannot be read: {first_line(error)}") from error
    except (ImportError, ValueError) as error:
        if settings.attn_implementation is None:
            raise
        raise InputError(
            f"{path} cannot be loaded with attn_implementation {settings.attn_implementation!r}: {first_line(error)}"
        ) from error
    _refuse_others(path, report)
    if settings.device is not None and not settings.quantised:
        model.to(torch.device(settings.device))
    return cast(PreTrainedModel, model)


def add_adapter(base: PreTrainedModel, path: str, settings: LoadSettings) -> PreTrainedModel:
    """Puts an adapter on its base.

    Args:
        base: The loaded base; it is changed.
        path: The adapter's folder or hub id.
        settings: The loading settings; `model_revision` is the adapter's.

    Returns:
        The base with the adapter added to its weights, or a `PeftModel` if `merge_adapter` is false.

    Raises:
        InputError: If PEFT is missing, the adapter does not fit the base, or a quantised base shall be merged.
    """
    if find_spec("peft") is None:
        raise InputError(f"{path} is an adapter; pip install peft to load it")
    if settings.quantised and settings.merge_adapter:
        raise InputError("an adapter cannot be added to quantised weights without loss; set merge_adapter to false")
    from peft import PeftModel, get_peft_model_state_dict, load_peft_weights

    revision: dict[str, Any] = {} if settings.model_revision is None else {"revision": settings.model_revision}
    try:
        weights = load_peft_weights(path, device="cpu", **revision)
        model = PeftModel.from_pretrained(base, path, is_trainable=not settings.merge_adapter, **revision)
    except (OSError, SafetensorError) as error:
        raise InputError(f"the weights of the adapter {path} cannot be read: {first_line(error)}") from error
    except (RuntimeError, ValueError) as error:
        # A size or a module that does not fit; PEFT has no exception of its own.
        raise InputError(f"the adapter {path} does not fit its base: {_adapter_reason(error)}") from error
    expected = get_peft_model_state_dict(model)
    _refuse_keys(path, "lacks", "weight", expected.keys() - weights.keys())
    _refuse_keys(path, "has", "unknown weight", weights.keys() - expected.keys())
    return cast(PreTrainedModel, model.merge_and_unload() if settings.merge_adapter else model)


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
    if device.type in ("cpu", "meta"):
        return
    if found is None or found.type != device.type or (device.index or 0) >= torch.accelerator.device_count():
        have = "none but the CPU" if found is None else f"{torch.accelerator.device_count()} of type {found.type}"
        raise InputError(f"there is no device {name!r} for the model; this machine has {have}")


def _quantisation(settings: LoadSettings) -> BitsAndBytesConfig:
    if settings.load_in_8bit:
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_compute_dtype=settings.torch_dtype,
        bnb_4bit_quant_type=settings.bnb_4bit_quant_type,
        bnb_4bit_use_double_quant=settings.use_bnb_nested_quant,
    )


def _refuse_others(path: str, report: Mapping[str, Any]) -> None:
    """Returns the weights that the files lack would stay random, without a word."""
    misshapen = [f"{key} ({list(saved)} for {list(own)})" for key, saved, own in report["mismatched_keys"]]
    _refuse_keys(path, "has", "misshapen weight", misshapen)
    _refuse_keys(path, "lacks", "weight", report["missing_keys"])
    _refuse_keys(path, "has", "unknown weight", report["unexpected_keys"])


def _refuse_keys(path: str, verb: str, what: str, keys: Iterable[str]) -> None:
    names = sorted(keys)
    if not names:
        return
    shown = ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")
    count = f"the {what}" if len(names) == 1 else f"{len(names)} {what}s:"
    raise InputError(
        f"{path} {verb} {count} {shown}; its files do not fit its config.json, take it from its source anew"
    )


def optional_file(path: str, name: str, revision: str | None) -> str | None:
    """Finds a file of a checkpoint, on the hub or in a folder; None where it has none."""
    found = cached_file(
        path,
        name,
        revision=revision,
        _raise_exceptions_for_gated_repo=False,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    return None if found is None else str(found)


def _adapter_reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return next((line for line in lines if "size mismatch" in line), lines[0] if lines else type(error).__name__)


def first_line(error: Exception) -> str:
    """Returns the first line of what an error says, or its name."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
