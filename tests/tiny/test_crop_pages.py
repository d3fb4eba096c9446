"""Pages of the crop world: what stands on them, and what of it can be seen."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from iapo.rollout.prompt import PromptEncoder
from iapo.tiny.crop.lessons import TOOLS, program_text
from iapo.tiny.crop.pages import COLUMNS, PANELS, ROWS, SIDE, VIEW, draw, panel, screen_of
from iapo.tiny.crop.start import make_start_processor
from iapo.tools import execute


@pytest.fixture(scope="module")
def encoder() -> PromptEncoder:
    return PromptEncoder(make_start_processor())


def test_pages_are_repeatable_and_a_longer_run_starts_with_the_shorter() -> None:
    pages = list(draw(5, seed=3, split="train"))
    again = list(itertools.islice(draw(50, seed=3, split="train"), 5))
    assert [one.sample.image.tobytes() for one in pages] == [one.sample.image.tobytes() for one in again]
    assert [one.sample.question for one in pages] == [one.sample.question for one in again]
    other = next(draw(1, seed=4, split="train"))
    assert other.sample.image.tobytes() != pages[0].sample.image.tobytes()


def test_the_answer_is_the_number_of_the_panel_asked_for() -> None:
    for page in draw(20, seed=0, split="test"):
        sample = page.sample
        column, row = COLUMNS[page.asked % PANELS], ROWS[page.asked // PANELS]
        assert sample.image.size == (SIDE, SIDE)
        assert sample.question == f"number in column {column}, row {row}?"
        assert sample.answers == (str(page.numbers[page.asked]),)
        x1, _, x2, _ = sample.column_boxes[column]
        _, y1, _, y2 = sample.row_boxes[row]
        assert (x1, y1, x2, y2) == panel(page.asked)


def test_panels_and_answers_are_asked_for_alike() -> None:
    pages = list(draw(400, seed=0, split="train"))
    places = np.bincount([page.asked for page in pages], minlength=PANELS**2)
    answers = np.bincount([int(page.sample.answers[0]) for page in pages], minlength=10)
    # Five standard deviations of a count.
    assert abs(places - 400 / PANELS**2).max() < 5 * np.sqrt(400 / PANELS**2)
    assert abs(answers - 40).max() < 5 * np.sqrt(40)


def test_a_square_of_a_screen_has_as_much_of_either() -> None:
    for digit in range(10):
        screen = screen_of(digit)
        squares = screen.reshape(screen.shape[0] // 2, 2, screen.shape[1] // 2, 2)
        assert not squares.sum((1, 3)).any()
        assert screen.any()


@pytest.mark.slow(2)
def test_the_numbers_cannot_be_seen_on_the_page_and_can_in_a_crop(encoder: PromptEncoder) -> None:
    """Ridge regression on the pixels: ten digits at chance where the page is seen whole, all right in a crop."""
    right = {}
    for kind in ("page", "crop"):
        (inputs, digits), (held_out, wanted) = (plates(encoder, kind, count, split) for count, split in SETS)
        mean, spread = inputs.mean(0), inputs.std() + 1e-6
        features, asked = (with_products((some - mean) / spread) for some in (inputs, held_out))
        weights = np.linalg.solve(
            features.T @ features + len(features) * 0.01 * np.eye(features.shape[1]), features.T @ np.eye(10)[digits]
        )
        right[kind] = float(((asked @ weights).argmax(1) == wanted).mean())
    # 640 plates: five standard deviations round 0.1.
    assert right["page"] < 0.16
    assert right["crop"] > 0.9


SETS = ((120, "train"), (40, "test"))


def plates(
    encoder: PromptEncoder, kind: str, count: int, split: str
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """What the student gets of each panel's plate, from the page or from a crop of the panel, and the digits."""
    found, digits = [], []
    for page in draw(count, seed=0, split=split):
        whole = seen(encoder, page.sample.image)
        for place, number in enumerate(page.numbers):
            box = tuple(int(edge) for edge in panel(place))
            if kind == "page":
                x, y = box[0] * VIEW // SIDE, box[1] * VIEW // SIDE
                found.append(whole[y + 20 : y + 28, x + 20 : x + 28].ravel())
            else:
                # The digit may stand anywhere on its plate: its screen's strength in each of 13 x 13 squares.
                cut = seen(encoder, page.sample.image.crop(box))[85:111, 85:111]
                found.append(np.abs(cut - np.median(cut)).reshape(13, 2, 13, 2).mean((1, 3)).ravel())
            digits.append(number)
    return np.array(found), np.array(digits)


def with_products(inputs: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Pixels, and random features of them, so that a linear classifier is more than one."""
    weights = np.random.default_rng(0).normal(size=(inputs.shape[1], 1000)) / np.sqrt(inputs.shape[1])
    return np.hstack([inputs, np.maximum(inputs @ weights, 0), np.ones((len(inputs), 1))])


def test_a_crop_shows_the_panel_as_it_is_drawn_and_the_page_a_sixteenth_of_its_pixels(encoder: PromptEncoder) -> None:
    page = next(draw(1, seed=0, split="test"))
    result = execute(program_text(panel(page.asked)), page.sample, TOOLS)
    assert result.image is not None
    # Both are seen through as many tokens, of 28 x 28 pixels.
    assert encoder.image_token_counts([page.sample.image, result.image]) == [(VIEW // 28) ** 2] * 2
    left, top, right, bottom = (int(edge) for edge in panel(page.asked))
    drawn = np.asarray(page.sample.image)[top:bottom, left:right]
    assert (np.asarray(result.image)[..., 0] == drawn).all()
    assert (seen(encoder, result.image) == drawn).all()


def seen(encoder: PromptEncoder, image: Image.Image) -> npt.NDArray[np.float64]:
    """What a model gets of a picture: one channel of the processor's patches, laid out as an image again."""
    found = encoder.pixels([image])
    images = encoder.processor.image_processor
    (_, rows, columns), patch, merge = found["image_grid_thw"][0].tolist(), images.patch_size, images.merge_size
    values = (
        found["pixel_values"]
        .numpy()
        .reshape(rows // merge, columns // merge, merge, merge, 3, images.temporal_patch_size, patch, patch)[
            ..., 0, 0, :, :
        ]
    )
    plain = values.transpose(0, 2, 4, 1, 3, 5).reshape(rows * patch, columns * patch)
    return np.rint((plain * images.image_std[0] + images.image_mean[0]) * 255)
