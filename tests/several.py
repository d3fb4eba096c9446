"""Samples of one, two and three images of different sizes, for tests."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from PIL import Image, ImageDraw

from iapo.data.synthetic import generate
from iapo.records import Sample


def photo(width: int, height: int, colour: str = "#3377aa") -> Image.Image:
    """An image of a square on a ground of a colour."""
    image = Image.new("RGB", (width, height), colour)
    ImageDraw.Draw(image).rectangle((width // 4, height // 4, width // 2, height // 2), fill="#ffee88")
    return image


def chart(family: str = "vbar", size: int = 112, seed: int = 6) -> Sample:
    """A drawn chart with boxes."""
    return next(iter(generate(family, 1, seed=seed, size=size, question_types=("value",))))


def with_more(sample: Sample, *sizes: tuple[int, int], colours: Sequence[str] = ("#3377aa", "#aa3377")) -> Sample:
    """The sample with further images of these sizes."""
    more = tuple(photo(*size, colour) for size, colour in zip(sizes, colours, strict=False))
    return dataclasses.replace(sample, id=f"{sample.id}+{len(more)}", more_images=more)


def mixed() -> list[Sample]:
    """One of two images, one of a single one, one of three."""
    return [
        with_more(chart(), (84, 140)),
        chart(size=168, seed=7),
        with_more(chart("hbar", 140, seed=8), (56, 56), (112, 84)),
    ]
