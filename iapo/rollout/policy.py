"""Student, teacher, processor: real Qwen2.5-VL and Qwen3-VL checkpoints, and the packaged tiny ones by name."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForImageTextToText, PreTrainedModel, ProcessorMixin, Qwen2_5_VLProcessor

from iapo.errors import InputError
from iapo.models import MODEL_FAMILIES

PACKAGED = Path(str(resources.files("iapo"))) / "checkpoints"
"""Where the packaged tiny checkpoints lie, one folder each."""


class ImageTextProcessor(Qwen2_5_VLProcessor):
    """The processor of Qwen2.5-VL and Qwen3-VL with the video part left out, since that part needs torchvision.

    The two families treat text and pictures alike, but for numbers that each checkpoint's image processor holds: the
    patch size (14 and 16), the mean and the deviation of pixels. Only videos are written into the text differently.
    """

    def __init__(self, image_processor: Any = None, tokenizer: Any = None, chat_template: str | None = None) -> None:
        self.image_token = "<|image_pad|>"
        self.video_token = "<|video_pad|>"
        self.image_token_id = tokenizer.convert_tokens_to_ids(self.image_token)
        self.video_token_id = tokenizer.convert_tokens_to_ids(self.video_token)
        ProcessorMixin.__init__(self, image_processor, tokenizer, chat_template=chat_template)


@dataclass(frozen=True, slots=True)
class Policy:
    """A model and the processor that belongs to it."""

    model: PreTrainedModel
    processor: ProcessorMixin


def resolve(name: str) -> str:
    """Turns the name of a packaged checkpoint into its folder; any other name is returned as it is."""
    folder = PACKAGED / name
    return str(folder) if (folder / "config.json").is_file() else name


def packaged() -> list[str]:
    """Names of the packaged checkpoints."""
    return sorted(path.parent.name for path in PACKAGED.glob("*/config.json"))


def load_processor(name: str) -> ProcessorMixin:
    """Loads the processor of a checkpoint, without torchvision.

    Args:
        name: A packaged checkpoint, a local folder or a hub id.
    """
    return ImageTextProcessor.from_pretrained(resolve(name))


def find_checkpoint(name: str) -> str:
    """Says where a checkpoint is, reading its configuration alone.

    Args:
        name: A packaged checkpoint (`tiny-student`, `tiny-teacher`), a local folder or a hub id.

    Returns:
        Its folder, or the hub id.

    Raises:
        InputError: If there is no such checkpoint (the message names what is packaged), or it is of another model type.
    """
    path = resolve(name)
    unknown = f"no checkpoint {name!r}: neither packaged ({', '.join(packaged()) or 'none'}) nor a local folder"
    # A hub id is an owner and a name; what cannot be one is refused without asking the hub.
    if not Path(path).is_dir() and (name.count("/") != 1 or name.startswith((".", "/"))):
        raise InputError(unknown)
    try:
        config = AutoConfig.from_pretrained(path)
    except OSError as error:
        raise InputError(f"{unknown}, nor to be had from the hub ({str(error).splitlines()[0]})") from error
    if config.model_type not in MODEL_FAMILIES:
        titles = " or ".join(f"a {family.title}" for family in MODEL_FAMILIES.values())
        raise InputError(f"{name!r} is a {config.model_type!r} model; use {titles} checkpoint")
    return path


def load_policy(name: str, *, dtype: torch.dtype = torch.float32, device: str | None = None) -> Policy:
    """Loads a vision-language model and its processor.

    Args:
        name: A packaged checkpoint (`tiny-student`, `tiny-teacher`), a local folder or a hub id.
        dtype: The weights' type in memory; packaged files are stored in bf16.
        device: Where to put the model; the CPU if None.

    Raises:
        InputError: As `find_checkpoint`.
    """
    path = find_checkpoint(name)
    model = AutoModelForImageTextToText.from_pretrained(path, dtype=dtype)
    if device is not None:
        model.to(torch.device(device))
    return Policy(model, load_processor(path))
