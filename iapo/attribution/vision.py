"""What the vision tower makes of images, a few at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from iapo.models import features_of_images

if TYPE_CHECKING:
    from transformers import PreTrainedModel

PATCHES = 16_384
"""Patches that the vision tower sees at once; an image with more is seen alone."""


def image_places(ids: Sequence[int], image_token: int) -> list[range]:
    """Returns the places of each image's tokens in a sequence; other tokens stand between two images.

    Args:
        ids: The token ids.
        image_token: The id of an image token.
    """
    found: list[range] = []
    for place, token in enumerate(ids):
        if token != image_token:
            continue
        if found and found[-1].stop == place:
            found[-1] = range(found[-1].start, place + 1)
        else:
            found.append(range(place, place + 1))
    return found


@torch.no_grad()
def image_features(
    model: PreTrainedModel, pixel_values: Tensor, grid_thw: Tensor, order: Sequence[int]
) -> list[list[Tensor]]:
    """Runs the vision tower on some of the given images, each once.

    Args:
        model: The model.
        pixel_values: Patches of all images, shape (patches, features).
        grid_thw: Time, height and width of each image in patches, shape (images, 3).
        order: The images wanted, by their place.

    Returns:
        What enters the language model, a list for the embeddings and one for each deepstack layer: tensors of shape
        (tokens, hidden units), one an image, in order.
    """
    sizes: list[int] = grid_thw.prod(-1).tolist()
    patches = pixel_values.split(sizes)
    batches: list[list[int]] = [[]]
    for index in order:
        if batches[-1] and sum(sizes[one] for one in batches[-1]) + sizes[index] > PATCHES:
            batches.append([])
        batches[-1].append(index)
    layers: list[list[Tensor]] = []
    for some in batches:
        pixels = torch.cat([patches[index] for index in some]).to(model.device)
        found = features_of_images(model.model, pixels, grid_thw[some].to(model.device))
        layers = layers or [[] for _ in found]
        for layer, features in zip(layers, found, strict=True):
            layer += features
    return layers
