"""One forward pass right after loading: what a configuration breaks is said then, and not amid an evaluation."""

from __future__ import annotations

from typing import Any

import torch
from PIL import Image
from transformers import PreTrainedModel, ProcessorMixin

from iapo.errors import InputError
from iapo.models import bare_model
from iapo.rollout.files import DAMAGED, first_line


def check_runs(name: str, model: PreTrainedModel, processor: ProcessorMixin) -> None:
    """Has a model read the smallest image and a few tokens.

    Args:
        name: Name of the checkpoint.
        model: The model; used in evaluation mode for the time of the call. One on the meta device is not run.
        processor: Its processor.

    Raises:
        InputError: If it cannot.
    """
    if any(weight.is_meta for weight in model.parameters()):
        return
    training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            _ = model(**_inputs(model, processor)).logits
    except torch.OutOfMemoryError:
        raise
    except DAMAGED as error:
        raise InputError(f"{name} cannot be run as its config.json says: {first_line(error)}") from error
    finally:
        model.train(training)


def _inputs(model: PreTrainedModel, processor: ProcessorMixin) -> dict[str, Any]:
    images, tokenizer = processor.image_processor, processor.tokenizer
    side = 2 * images.patch_size * images.merge_size
    seen = images(
        images=[Image.new("RGB", (side, side))],
        size={"shortest_edge": side * side, "longest_edge": side * side},
        return_tensors="pt",
    )
    count = int(seen["image_grid_thw"].prod()) // images.merge_size**2
    names = ["<|vision_start|>", *["<|image_pad|>"] * count, "<|vision_end|>", tokenizer.eos_token]
    ids = torch.tensor([tokenizer.convert_tokens_to_ids(names)])
    inputs = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "mm_token_type_ids": (ids == tokenizer.convert_tokens_to_ids("<|image_pad|>")).long(),
        **dict(seen),
    }
    device = bare_model(model).device
    return {key: value.to(device) for key, value in inputs.items()}
