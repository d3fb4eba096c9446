"""Images as pixel patches, each read once: also for several models that see it alike, one after the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from PIL import Image

from iapo.grouping import distinct
from iapo.images import to_rgb

if TYPE_CHECKING:
    from torch import Tensor

_Known = dict[int, tuple[Image.Image, "Tensor", "Tensor"]]
"""Patches and grid by the identity of the image, which stays beside them so that no other one gets it."""


class PixelReader:
    """Reads images as a vision tower takes them.

    Args:
        image_processor: The image processor of a Qwen-VL style processor.
    """

    def __init__(self, image_processor: Any) -> None:
        self._processor = image_processor
        self._kept: _Known | None = None

    def __call__(self, images: Sequence[Image.Image]) -> dict[str, Tensor]:
        """Returns the pixel patches of images; one object that comes several times is read once.

        Args:
            images: The images.

        Returns:
            `pixel_values` of shape (sum of patches, patch features) and `image_grid_thw` of shape (images, 3).
        """
        import torch

        known: _Known = {} if self._kept is None else self._kept
        different, order = distinct(images)
        missing = [image for image in different if id(image) not in known]
        if missing:
            rgb = [to_rgb(image) for image in missing]
            found = dict(self._processor(images=rgb, return_tensors="pt"))
            patches = found["pixel_values"].split(found["image_grid_thw"].prod(-1).tolist())
            for image, own, grid in zip(missing, patches, found["image_grid_thw"], strict=True):
                known[id(image)] = (image, own, grid)
            if len(missing) == len(images):
                return found
        rows = [known[id(different[place])] for place in order]
        return {
            "pixel_values": torch.cat([patches for _, patches, _ in rows]),
            "image_grid_thw": torch.stack([grid for _, _, grid in rows]),
        }

    @contextmanager
    def remembering(self) -> Iterator[None]:
        """Keeps what is read while it is open, so that it is not read again; one inside another keeps on."""
        if self._kept is not None:
            yield
            return
        self._kept = {}
        try:
            yield
        finally:
            self._kept = None
