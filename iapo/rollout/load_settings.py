"""`LoadSettings`: how a checkpoint is to be loaded; without torch, so that what cannot be is refused at once."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from iapo.bounds import COUNT, check_number
from iapo.errors import InputError
from iapo.kinds import check_kinds

if TYPE_CHECKING:
    import torch

DEVICE = re.compile(r"cpu(:0)?|(cuda|mps|xpu|npu|hpu|mlu|musa|mtia)(:\d+)?")
"""Names of devices on which a model can run, as PyTorch has them: there is one CPU, and `meta` holds no weights."""

_HUB_ID = re.compile(r"(?!.*(--|\.\.))[A-Za-z0-9][\w.-]*/[A-Za-z0-9_][\w.-]*(?<![-.])", re.ASCII)
_LONGEST_ID = 96

PLACEMENTS = ("auto", "balanced", "balanced_low_0", "sequential")
"""Accelerate's ways of placing layers by itself."""


def is_hub_id(name: str) -> bool:
    """Tells whether a name has the form of a hub id, `owner/name`; the hub's client raises at any other."""
    return len(name) <= _LONGEST_ID and _HUB_ID.fullmatch(name) is not None and not name.endswith(".git")


def comes_from_hub(name: str) -> bool:
    """Tells whether a model of that name would be fetched from the hub, and so may have a revision."""
    return is_hub_id(name) and not Path(name).is_dir()


@dataclass(frozen=True, slots=True)
class LoadSettings:
    """How a checkpoint is loaded; names as in TRL's `ModelConfig` where it has them.

    Code that a checkpoint brings along is never run: there is no `trust_remote_code`.

    Args:
        dtype: Type of the weights in memory; `auto` takes that of `config.json`, or the files' where it names none.
            None is float32 on the CPU, bfloat16 elsewhere.
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
        merge_adapter: What becomes of an adapter. True: it is added to its base's weights. False: the model is a
            `PeftModel`, its adapter trainable. None: it is added, or where the base is quantised, it is left in the
            base's layers, frozen.

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
    merge_adapter: bool | None = field(default=None, metadata={"help": "Adds an adapter to its base's weights."})

    def __post_init__(self) -> None:
        check_kinds(self)
        if self.device is not None:
            if self.device_map is not None:
                raise InputError("device and device_map both place the model; give one of them")
            if not isinstance(self.device, str) or not DEVICE.fullmatch(self.device):
                raise InputError(f"device is {self.device!r}; use a name such as cpu or cuda:0")
        if self.device_map is not None and self.device_map not in PLACEMENTS and not DEVICE.fullmatch(self.device_map):
            raise InputError(f"device_map is {self.device_map!r}; use one of {', '.join(PLACEMENTS)} or a device")
        if "|" in (self.attn_implementation or ""):
            raise InputError(
                f"attn_implementation is {self.attn_implementation!r}, a form for another way to generate, of which "
                "Transformers would take a part; name the attention alone, for example sdpa"
            )
        for name in ("min_pixels", "max_pixels"):
            check_number(name, getattr(self, name), COUNT)
        if self.min_pixels is not None and self.max_pixels is not None and self.min_pixels > self.max_pixels:
            raise InputError(f"min_pixels {self.min_pixels} is more than max_pixels {self.max_pixels}")
        self._check_quantisation()

    def _check_quantisation(self) -> None:
        if self.load_in_4bit and self.load_in_8bit:
            raise InputError("load_in_4bit and load_in_8bit exclude each other; set one of them")
        if not self.load_in_4bit:
            for name, value in (("bnb_4bit_quant_type", "nf4"), ("use_bnb_nested_quant", False)):
                if getattr(self, name) != value:
                    raise InputError(f"{name} is {getattr(self, name)} without load_in_4bit; set that, or unset {name}")
        if not self.quantised:
            return
        if self.dtype == "auto":
            raise InputError("dtype is auto with quantised weights, whose products need one type; name it")
        if self.merge_adapter:
            raise InputError("an adapter cannot be added to quantised weights without loss; set merge_adapter to false")

    def check_packages(self) -> None:
        """Refuses what this machine has no package for; a plan for another machine does not ask.

        Raises:
            InputError: If bitsandbytes is missing and the weights are to be quantised.
        """
        if self.quantised and find_spec("bitsandbytes") is None:
            raise InputError("load_in_4bit and load_in_8bit need bitsandbytes; pip install bitsandbytes, or unset them")

    @property
    def quantised(self) -> bool:
        """Whether the weights are quantised."""
        return self.load_in_4bit or self.load_in_8bit

    @property
    def torch_dtype(self) -> torch.dtype | Literal["auto"]:
        """The type of the weights in memory, with the default filled in."""
        import torch

        if self.dtype == "auto":
            return "auto"
        if self.dtype is not None:
            return cast("torch.dtype", getattr(torch, self.dtype))
        place = self.device or self.device_map or "cpu"
        on_cpu = place.partition(":")[0] == "cpu" or (place in PLACEMENTS and not torch.accelerator.is_available())
        return torch.float32 if on_cpu else torch.bfloat16


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


def settings_in(holder: object, prefix: str = "", defaults: LoadSettings | None = None) -> LoadSettings:
    """Makes the loading settings of one model out of an object's attributes, as `load_settings` out of a mapping."""
    return load_settings({name: getattr(holder, name, None) for name in prefixed_names(prefix)}, prefix, defaults)


def check_view(values: Mapping[str, Any]) -> None:
    """Refuses that a teacher sees images otherwise than the student; settings by name, others are passed over.

    Raises:
        InputError: If so.
    """
    for name in ("min_pixels", "max_pixels"):
        own, teacher = values.get(name), values.get(f"teacher_{name}")
        if None not in (own, teacher) and own != teacher:
            raise InputError(
                f"teacher_{name} is {teacher}, but {name} is {own}; student and teacher are compared on one view of "
                f"an image, so leave teacher_{name} out"
            )


def check_vllm(settings: LoadSettings | None = None) -> None:
    """Refuses vLLM where it is not installed, or with settings of a loading that are Transformers'.

    Raises:
        InputError: If so.
    """
    if find_spec("vllm") is None:
        raise InputError("vLLM is not installed; `pip install 'iapo[vllm]'`, or `make vllm` on a machine without a GPU")
    for name in ("device", "device_map", "attn_implementation", "load_in_8bit", "load_in_4bit"):
        if settings is not None and getattr(settings, name) not in (None, False):
            raise InputError(f"{name} is Transformers' own, and vLLM generates; leave one of them out")


def placed(settings: LoadSettings, device: str | None) -> LoadSettings:
    """Returns settings with a device, where they place the model nowhere themselves."""
    if device is None or settings.device is not None or settings.device_map is not None:
        return settings
    return dataclasses.replace(settings, device=device)
