"""What models take that lie in memory the whole time: weights, gradients, the optimiser's states."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from transformers.training_args import OptimizerNames

from iapo.errors import InputError, did_you_mean
from iapo.planning.given import Given
from iapo.planning.shapes import Shape

SHARDINGS = ("none", "zero2", "zero3")
"""What is split over processes: nothing; gradients and optimiser states; weights as well (FSDP's full shard, too)."""

_QUANTISED: Mapping[str, float] = MappingProxyType({"load_in_4bit": 0.5 + 4 / 64, "load_in_8bit": 1.0})
"""Bytes of a quantised weight: of 4 bits, with one scale in fp32 for 64 of them. The scales of 8 bits are no matter."""

_NESTED = 0.5 + 1 / 64 + 4 / (64 * 256)


@dataclass(frozen=True, slots=True)
class Student:
    """The trained model.

    Attributes:
        shape: Its shape.
        weights: Bytes of its weights, an adapter's among them.
        trainable: Number of trained parameters.
        gradients: Bytes of their gradients.
        states: Bytes of the optimiser's states, and with DeepSpeed of its own copy of the weights.
        itemsize: Bytes of an unquantised weight.
        compute: Bytes of a number in products.
        residual: Bytes of a number between the layers in the loss.
        cast: Bytes of the copies of the weights that mixed precision holds while the loss is computed.
        adapted: Inputs of the layers with an adapter in one decoder layer, in units; 0 where the weights are trained.
        adapts_mlp: Whether the layers of the MLP have an adapter.
        dropout: Whether the adapter's inputs are dropped out.
        trains_base: Whether the language model's own weights are trained.
        trains_vision: Whether something in the vision tower is.
    """

    shape: Shape
    weights: int
    trainable: int
    gradients: int
    states: int
    itemsize: int
    compute: int
    residual: int
    cast: int
    adapted: int
    adapts_mlp: bool
    dropout: bool
    trains_base: bool
    trains_vision: bool

    def mask(self, device: str) -> int:
        """Returns the bytes that dropout keeps of an input of an adapter: kernels of accelerators keep one."""
        return (4 if device == "cpu" else 1) if self.dropout else 0

    def adding(self, device: str) -> int:
        """Returns the bytes that adding an adapter's output to its layer's takes of a unit, beside the layer's own.

        PEFT computes the output, scaled, and the sum in the adapter's type, fp32. The CPU's kernel, which takes
        operands of one type, has a copy of the layer's own output in it as well; those of accelerators read either.
        """
        return 12 if device == "cpu" and self.itemsize < 4 else 8


def itemsize_of(given: Given, shape: Shape, prefix: str, device: str) -> int:
    """Returns the bytes of a weight as the loading settings say.

    Args:
        given: Settings.
        shape: Shape of the model.
        prefix: `teacher_` and the like; empty for the student.
        device: Type of the device.
    """
    name = given.get(f"{prefix}dtype")
    if name == "auto":
        return (shape.file_dtype or torch.float32).itemsize
    if name is None:
        name = "float32" if device == "cpu" else "bfloat16"
    dtype = getattr(torch, str(name), None)
    if not isinstance(dtype, torch.dtype):
        raise InputError(f"{prefix}dtype is {name!r}; use auto, bfloat16, float16 or float32")
    return dtype.itemsize


def weight_bytes(given: Given, shape: Shape, prefix: str, itemsize: int) -> int:
    """Returns the bytes of a model's weights: of quantised ones only the linear layers are."""
    for name, each in _QUANTISED.items():
        if given.get(f"{prefix}{name}"):
            if name == "load_in_4bit" and given.get(f"{prefix}use_bnb_nested_quant"):
                each = _NESTED
            quantised = sum(one.parameters for one in shape.linears)
            return int(quantised * each) + (shape.parameters - quantised) * itemsize
    return shape.parameters * itemsize


def student_of(given: Given, shape: Shape, device: str, sharding: str = "none") -> Student:
    """Says what the student takes, before it is split over processes.

    Args:
        given: Settings.
        shape: Its shape.
        device: Type of the device.
        sharding: One of `SHARDINGS`; DeepSpeed trains in mixed precision with a copy of the weights in fp32.
    """
    itemsize = itemsize_of(given, shape, "", device)
    weights = weight_bytes(given, shape, "", itemsize)
    mixed = bool(given.get("fp16")) or given.get("bf16") is not False
    frozen = bool(given.get("freeze_vision_tower"))
    adapted = bool(given.get("use_peft"))
    cast, inputs, mlp = 0, 0, False
    if adapted:
        linears = shape.with_adapter(given.get("lora_target_modules"), not frozen)
        trainable = given.number("lora_r") * sum(one.inner + one.outer for one in linears)
        # PEFT keeps new adapters of half-precision models in fp32.
        gradients, states = 4 * trainable, _state_bytes(given, 4) * trainable
        weights += 4 * trainable
        decoder = sum(one.inner for one in linears if ".visual." not in f".{one.name}")
        inputs = decoder // shape.text.num_hidden_layers
        mlp = any(".mlp." in one.name and ".visual." not in f".{one.name}" for one in linears)
        vision = any(".visual." in f".{one.name}" for one in linears)
        residual = itemsize
    else:
        trainable = shape.parameters - (shape.vision if frozen else 0)
        gradients, states = itemsize * trainable, _state_bytes(given, itemsize) * trainable
        vision, residual = not frozen, itemsize
        if sharding != "none" and mixed:
            weights, gradients = 2 * shape.parameters, 2 * trainable
            states, residual = trainable * (4 + _state_bytes(given, 4)), 2
            itemsize = 2
    if mixed and itemsize == 4:
        cast = 2 * sum(one.parameters for one in shape.linears)
    return Student(
        shape=shape,
        weights=weights,
        trainable=trainable,
        gradients=gradients,
        states=states,
        itemsize=itemsize,
        compute=2 if mixed else itemsize,
        residual=residual,
        cast=cast,
        adapted=inputs,
        adapts_mlp=mlp,
        dropout=bool(given.get("lora_dropout")),
        trains_base=not adapted,
        trains_vision=vision,
    )


def _state_bytes(given: Given, itemsize: int) -> int:
    """Returns the bytes of the optimiser's states for one trained parameter."""
    name = str(given.get("optim") or "adamw_torch_fused")
    known = [one.value for one in OptimizerNames]
    if name not in known:
        guess = did_you_mean(name, known)
        raise InputError(f"optim is {name!r}, which is no optimiser of Transformers{guess and '; ' + guess}")
    if name.startswith("paged"):
        # They move to the host where memory runs short.
        return 0
    if "8bit" in name:
        return 2
    if name.startswith(("adafactor", "sgd")):
        return 0
    if name.startswith(("lion", "rmsprop", "adagrad")):
        return itemsize
    return 2 * itemsize
