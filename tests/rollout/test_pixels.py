"""Images are read once where they come again, and are the same patches then."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from PIL import Image

from iapo.records import Sample
from iapo.rollout.pixels import PixelReader
from iapo.rollout.policy import ImageTextProcessor


@pytest.fixture
def images(samples: list[Sample]) -> list[Image.Image]:
    """Three images of two sizes."""
    return [samples[0].image, samples[1].image.resize((168, 112)), samples[2].image]


@pytest.fixture
def counted(processor: ImageTextProcessor) -> tuple[PixelReader, list[int]]:
    """A reader, and how many images each of its readings had."""
    seen: list[int] = []

    def count(images: list[Image.Image], **kwargs: Any) -> Any:
        seen.append(len(images))
        return processor.image_processor(images=images, **kwargs)

    return PixelReader(count), seen


def assert_same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in found)


def test_an_image_that_comes_several_times_is_read_once(
    counted: tuple[PixelReader, list[int]], images: list[Image.Image], processor: ImageTextProcessor
) -> None:
    reader, seen = counted
    rows = [images[1], images[0], images[1], images[2]]
    assert_same(reader(rows), dict(processor.image_processor(images=rows, return_tensors="pt")))
    reader(rows)
    assert seen == [3, 3], "outside of `remembering` nothing is kept"


def test_remembering(counted: tuple[PixelReader, list[int]], images: list[Image.Image]) -> None:
    reader, seen = counted
    expected = [reader(images[:2]), reader(images), reader(images[::-1])]
    seen.clear()
    with reader.remembering():
        assert_same(reader(images[:2]), expected[0])
        with reader.remembering():
            assert_same(reader(images), expected[1])
        assert_same(reader(images[::-1]), expected[2])
        # Equal pixels of another object are another image.
        reader([images[0].copy()])
    assert seen == [2, 1, 1]
    reader(images)
    assert seen[-1] == 3
