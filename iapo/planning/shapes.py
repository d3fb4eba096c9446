"""The shape of a checkpoint's model, from `config.json` alone: built on the meta device, no weight is read or made."""

from __future__ import annotations

import dataclasses
import json
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForImageTextToText

from iapo.errors import InputError
from iapo.models import dtype_of
from iapo.rollout.configuration import read_config
from iapo.rollout.loading import adapter_base
from iapo.rollout.policy import find_checkpoint
from iapo.standins.shapes import PUBLISHED, config_of

LANGUAGE_MODEL = r".*\.language_model\..*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
"""The modules that get an adapter where none are named."""


@dataclass(frozen=True, slots=True)
class Linear:
    """A linear layer: its name, and its sizes."""

    name: str
    inner: int
    outer: int

    @property
    def parameters(self) -> int:
        """The number of its weights, without the bias."""
        return self.inner * self.outer


@dataclass(frozen=True, slots=True)
class Shape:
    """What the memory of a model depends on.

    Attributes:
        name: Name of the checkpoint.
        config: Configuration of the whole model.
        parameters: Number of parameters, tied ones once.
        vision: Number of those in the vision tower with its merger.
        head: Number of those in the output layer.
        tied: Whether the embeddings are the output layer.
        block: Number of those in one decoder layer.
        linears: Its linear layers but the output layer.
        file_dtype: Type of the weights in its files; None where they do not tell.
    """

    name: str
    config: Any
    parameters: int
    vision: int
    head: int
    tied: bool
    block: int
    linears: tuple[Linear, ...]
    file_dtype: torch.dtype | None

    @property
    def text(self) -> Any:
        """Configuration of the language model."""
        return self.config.get_text_config()

    @property
    def head_units(self) -> int:
        """Units of one attention head."""
        return getattr(self.text, "head_dim", None) or self.text.hidden_size // self.text.num_attention_heads

    @property
    def queries(self) -> int:
        """Units of all queries."""
        return int(self.text.num_attention_heads * self.head_units)

    @property
    def states(self) -> int:
        """Units of keys and values together."""
        return int(2 * self.text.num_key_value_heads * self.head_units)

    def with_adapter(self, targets: str | Sequence[str] | None, vision: bool) -> tuple[Linear, ...]:
        """Returns the linear layers that get an adapter.

        Args:
            targets: Ends of their names, a pattern of whole names, or `all-linear`; None is `LANGUAGE_MODEL`.
            vision: Whether those of the vision tower may be among them.

        Raises:
            InputError: If a name or the pattern fits none.
        """
        if targets == "all-linear":
            found = self.linears
        elif targets is None or isinstance(targets, str):
            found = tuple(one for one in self.linears if re.fullmatch(targets or LANGUAGE_MODEL, one.name))
            if not found and isinstance(targets, str):
                found = self.with_adapter([targets], vision)
        else:
            fit = {end: [one for one in self.linears if f".{one.name}".endswith(f".{end}")] for end in targets}
            for end, some in fit.items():
                if not some:
                    raise InputError(f"lora_target_modules names {end!r}, which is no linear layer of {self.name}")
            found = tuple(one for one in self.linears if any(one in some for some in fit.values()))
        return tuple(one for one in found if vision or ".visual." not in f".{one.name}")


def shape_of(name: str, revision: str | None = None) -> Shape:
    """Reads the shape of a checkpoint's model.

    Args:
        name: A packaged checkpoint, a folder with `config.json`, or a hub id; of an adapter the base's shape is given.
            The shapes of `iapo.standins.shapes.PUBLISHED` are known without the hub.
        revision: Its branch, tag or commit on the hub.

    Raises:
        InputError: If there is no such configuration, or it is of another model type.
    """
    if name in PUBLISHED and revision is None:
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "config.json").write_text(json.dumps(config_of(PUBLISHED[name], "full")))
            return dataclasses.replace(shape_of(folder), name=name)
    path = find_checkpoint(name, revision)
    base = adapter_base(path, revision)
    if base is not None:
        return shape_of(*base)
    config = read_config(path, revision)
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(config)
    head = model.get_output_embeddings()
    linears = tuple(
        Linear(key, module.in_features, module.out_features)
        for key, module in model.named_modules()
        if isinstance(module, nn.Linear) and module is not head
    )
    return Shape(
        name=name,
        config=config,
        parameters=_count(model),
        vision=_count(model.model.visual),
        head=head.weight.numel(),
        # On the meta device the two are not tied.
        tied=bool(getattr(config, "tie_word_embeddings", False)),
        block=_count(model.model.language_model.layers[0]),
        linears=linears,
        file_dtype=dtype_of(config),
    )


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
