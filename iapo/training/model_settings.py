"""How a training's models are loaded and which weights are trained: settings by TRL's names; without torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any, Literal

from iapo.errors import InputError
from iapo.rollout.load_settings import LoadSettings, check_view, load_settings, settings_in

LORA = (
    *("lora_r", "lora_alpha", "lora_dropout", "lora_target_modules", "lora_modules_to_save", "lora_task_type"),
    *("use_rslora", "use_dora"),
)
"""Settings that say something of an adapter alone."""


@dataclass(kw_only=True)
class StudentSettings:
    """How the student is loaded, and which of its weights are trained; names as in TRL's `ModelConfig`.

    Args:
        dtype: Type of the weights in memory: `float32`, `bfloat16`, or `auto`, that of `config.json`, else the files';
            under an adapter `float16`, too. None is float32 on the CPU, bfloat16 elsewhere.
        device_map: Accelerate's placement of the layers, for example `auto`; None puts the model where training runs.
        attn_implementation: Attention of Transformers, for example `sdpa`; None leaves it the choice.
        model_revision: Branch, tag or commit of a hub id.
        min_pixels: Fewest pixels that student and teacher see of an image; None: the checkpoint's.
        max_pixels: Most pixels that student and teacher see of an image; None: the checkpoint's.
        load_in_8bit: Quantises the base under an adapter to 8 bits (bitsandbytes).
        load_in_4bit: Quantises the base under an adapter to 4 bits (bitsandbytes).
        bnb_4bit_quant_type: Type of the 4 bits.
        use_bnb_nested_quant: Quantises the quantisation's constants, too.
        use_peft: Trains a LoRA adapter and leaves the weights as they are; where `model` is an adapter, trains that one
            on.
        lora_r: Rank of the adapter.
        lora_alpha: Scale of the adapter, times 1 / rank.
        lora_dropout: Dropout before the adapter.
        lora_target_modules: Modules that get one, by the ends of their names, or `all-linear`; None: the linear
            layers of the language model.
        lora_modules_to_save: Modules that are trained and saved whole beside the adapter.
        lora_task_type: Task that PEFT wraps the model for; None wraps it for none. Both train alike.
        use_rslora: Scales the adapter by 1 / square root of the rank instead.
        use_dora: Trains magnitudes apart from directions (DoRA).
        freeze_vision_tower: Leaves the vision tower with its merger as it is.
    """

    dtype: Literal["auto", "bfloat16", "float16", "float32"] | None = field(
        default=None, metadata={"help": "Type of the student's weights; float32 on the CPU, else bfloat16."}
    )
    device_map: str | None = field(default=None, metadata={"help": "Placement of the layers, for example auto."})
    attn_implementation: str | None = field(default=None, metadata={"help": "Attention, for example sdpa."})
    model_revision: str | None = field(default=None, metadata={"help": "Branch, tag or commit of a hub id."})
    min_pixels: int | None = field(default=None, metadata={"help": "Fewest pixels seen of an image."})
    max_pixels: int | None = field(default=None, metadata={"help": "Most pixels seen of an image."})
    load_in_8bit: bool = field(default=False, metadata={"help": "Base in 8 bits under an adapter (bitsandbytes)."})
    load_in_4bit: bool = field(default=False, metadata={"help": "Base in 4 bits under an adapter (bitsandbytes)."})
    bnb_4bit_quant_type: Literal["fp4", "nf4"] = field(default="nf4", metadata={"help": "Type of the 4 bits."})
    use_bnb_nested_quant: bool = field(default=False, metadata={"help": "Quantisation of the constants, too."})
    use_peft: bool = field(default=False, metadata={"help": "Train a LoRA adapter, not the weights."})
    lora_r: int = field(default=16, metadata={"help": "Rank of the adapter."})
    lora_alpha: int = field(default=32, metadata={"help": "Scale of the adapter, times 1 / rank."})
    lora_dropout: float = field(default=0.05, metadata={"help": "Dropout before the adapter."})
    lora_target_modules: str | list[str] | None = field(
        default=None, metadata={"help": "Modules that get one; None: the language model's linear layers."}
    )
    lora_modules_to_save: list[str] | None = field(default=None, metadata={"help": "Modules trained whole beside it."})
    lora_task_type: Literal["CAUSAL_LM"] | None = field(
        default="CAUSAL_LM", metadata={"help": "Task that PEFT wraps the model for, or none."}
    )
    use_rslora: bool = field(default=False, metadata={"help": "Scale by 1 / square root of the rank."})
    use_dora: bool = field(default=False, metadata={"help": "Train magnitudes apart from directions (DoRA)."})
    freeze_vision_tower: bool = field(default=False, metadata={"help": "Leave the vision tower as it is."})

    @property
    def loading(self) -> LoadSettings:
        """How the student is loaded, but for its device."""
        return settings_in(self)

    def check_student(self) -> None:
        """Refuses what cannot be.

        Raises:
            InputError: If a value cannot be, two settings exclude each other, or a package is missing.
        """
        settings = self.loading
        defaults = {one.name: one.default for one in dataclasses.fields(StudentSettings)}
        if not self.use_peft:
            for name in LORA:
                if getattr(self, name) != defaults[name]:
                    raise InputError(f"{name} is {getattr(self, name)!r} without an adapter; set use_peft, or unset it")
            if settings.quantised:
                raise InputError("quantised weights cannot be trained, only an adapter on them; set use_peft")
            if self.dtype == "float16":
                raise InputError("float16 weights cannot be trained; set dtype to bfloat16 or float32, or use_peft")
            return
        if find_spec("peft") is None:
            raise InputError("use_peft needs peft, which is not installed; pip install peft")
        for name in ("lora_target_modules", "lora_modules_to_save"):
            if getattr(self, name) in ("", []):
                raise InputError(f"{name} is empty; name modules, or unset it")


@dataclass(kw_only=True)
class FrozenModelSettings:
    """How teacher and verifier are loaded: `LoadSettings` with a prefix; None, and no pixels, are as for the student.

    Args:
        teacher_dtype: Of its weights in memory; None is float32 on the CPU, bfloat16 elsewhere.
        teacher_min_pixels: The student's; another value is refused, since the two are compared on one view.
        teacher_max_pixels: The same.
    """

    teacher_dtype: Literal["auto", "bfloat16", "float16", "float32"] | None = field(
        default=None, metadata={"help": "Type of the teacher's weights; float32 on the CPU, else bfloat16."}
    )
    teacher_device_map: str | None = field(
        default=None, metadata={"help": "Placement of the teacher's layers, for example auto."}
    )
    teacher_attn_implementation: str | None = field(
        default=None, metadata={"help": "Attention of the teacher, for example sdpa."}
    )
    teacher_model_revision: str | None = field(
        default=None, metadata={"help": "Branch, tag or commit of the teacher on the hub."}
    )
    teacher_min_pixels: int | None = field(
        default=None, metadata={"help": "Fewest pixels that the teacher sees of an image; the student's."}
    )
    teacher_max_pixels: int | None = field(
        default=None, metadata={"help": "Most pixels that the teacher sees of an image; the student's."}
    )
    teacher_load_in_8bit: bool = field(
        default=False, metadata={"help": "Quantisation of the teacher to 8 bits (bitsandbytes)."}
    )
    teacher_load_in_4bit: bool = field(
        default=False, metadata={"help": "Quantisation of the teacher to 4 bits (bitsandbytes)."}
    )
    teacher_bnb_4bit_quant_type: Literal["fp4", "nf4"] = field(
        default="nf4", metadata={"help": "Type of the teacher's 4 bits."}
    )
    teacher_use_bnb_nested_quant: bool = field(
        default=False, metadata={"help": "Quantisation of the teacher's constants, too."}
    )
    verifier_dtype: Literal["auto", "bfloat16", "float16", "float32"] | None = field(
        default=None, metadata={"help": "Type of the verifier's weights; float32 on the CPU, else bfloat16."}
    )
    verifier_device_map: str | None = field(
        default=None, metadata={"help": "Placement of the verifier's layers, for example auto."}
    )
    verifier_attn_implementation: str | None = field(
        default=None, metadata={"help": "Attention of the verifier, for example sdpa."}
    )
    verifier_model_revision: str | None = field(
        default=None, metadata={"help": "Branch, tag or commit of the verifier on the hub."}
    )
    verifier_min_pixels: int | None = field(
        default=None, metadata={"help": "Fewest pixels that the verifier sees of an image."}
    )
    verifier_max_pixels: int | None = field(
        default=None, metadata={"help": "Most pixels that the verifier sees of an image."}
    )
    verifier_load_in_8bit: bool = field(
        default=False, metadata={"help": "Quantisation of the verifier to 8 bits (bitsandbytes)."}
    )
    verifier_load_in_4bit: bool = field(
        default=False, metadata={"help": "Quantisation of the verifier to 4 bits (bitsandbytes)."}
    )
    verifier_bnb_4bit_quant_type: Literal["fp4", "nf4"] = field(
        default="nf4", metadata={"help": "Type of the verifier's 4 bits."}
    )
    verifier_use_bnb_nested_quant: bool = field(
        default=False, metadata={"help": "Quantisation of the verifier's constants, too."}
    )

    def check_frozen(self) -> None:
        """Refuses what cannot be, as `check_frozen`."""
        check_frozen(vars(self))


def check_frozen(values: Mapping[str, Any]) -> None:
    """Refuses loading settings of teacher or verifier that cannot be; settings by name, others are passed over.

    Raises:
        InputError: If so, or if the teacher shall see images otherwise than the student.
    """
    for prefix in ("teacher", "verifier"):
        load_settings(values, prefix)
    check_view(values)
