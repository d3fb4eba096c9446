"""Cells of an image: an explanation that says where in it a call looks, and that sums up to the whole image's."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from PIL import Image
from transformers import PreTrainedModel

from iapo.attribution.calls import Attributor
from iapo.attribution.cells import cell_names, cut_images
from iapo.attribution.gradient import CallInput
from iapo.attribution.settings import AttributionSettings
from iapo.errors import InputError
from iapo.records import Sample
from iapo.rollout.prompt import PromptEncoder, build_blocks

IMAGE = 9


def whole_images(shares: dict[str, float]) -> dict[str, float]:
    """Sums up what `cell_names` told apart: shares by name, of the cells' names -> of the images'."""
    found: dict[str, float] = {}
    for name, share in shares.items():
        name = name.partition(":")[0] if name.startswith("image_") else name
        found[name] = found.get(name, 0.0) + share
    return found


def test_names_stand_in_the_images_place() -> None:
    assert cell_names(("context", "image_1", "query"), 1) == ("context", "image_1", "query")
    found = cell_names(("context", "image_1", "tool:image_tool", "image_2"), 2)
    assert found[:6] == ("context", "image_1:1,1", "image_1:1,2", "image_1:2,1", "image_1:2,2", "tool:image_tool")
    assert found[6:] == ("image_2:1,1", "image_2:1,2", "image_2:2,1", "image_2:2,2")
    assert whole_images(dict.fromkeys(found, 1.0)) == {
        "context": 1.0, "image_1": 4.0, "tool:image_tool": 1.0, "image_2": 4.0
    }  # fmt: skip


def test_positions_lie_where_their_pixels_do() -> None:
    # A mark, three rows of four tokens, a mark; another image of one token behind a word.
    ids = [1, *[IMAGE] * 12, 2, 3, IMAGE]
    block_of = [0, *[0] * 12, 0, 1, 2]
    names = ("image_1", "query", "image_2")
    found = cut_images(block_of, names, ids, IMAGE, [(3, 4), (1, 1)], 2)
    assert found == [0, 0, 0, 1, 1, 0, 0, 1, 1, 2, 2, 3, 3, 3, 4, 5]
    assert cut_images(block_of, names, ids, IMAGE, [(3, 4), (1, 1)], 1) == block_of
    for grids in ([(4, 4), (1, 1)], [(3, 4)]):
        with pytest.raises(ValueError, match="but grids of"):
            cut_images(block_of, names, ids, IMAGE, grids, 2)


@pytest.mark.parametrize("method", ["gradient", "attention"])
@pytest.mark.parametrize("cells", [2, 3])
def test_cells_sum_up_to_the_image(
    model: PreTrainedModel,
    encoder: PromptEncoder,
    samples: list[Sample],
    calls: list[CallInput],
    method: str,
    cells: int,
) -> None:
    # Images of several sizes in one batch.
    wide = dataclasses.replace(samples[1], image=samples[1].image.resize((224, 112), Image.Resampling.NEAREST))
    prompts = [encoder.encode(build_blocks(sample)) for sample in (samples[0], wide)]
    turns = [(call.turn_ids, call.target) for call in calls[:2]]
    whole = AttributionSettings(method=method)
    cut = dataclasses.replace(whole, image_cells=cells)
    expected = Attributor(model, encoder.pixels, whole).scores(prompts, turns)
    found = Attributor(model, encoder.pixels, cut).scores(prompts, turns)
    names = cut.names(prompts[0].block_names)
    assert found.shape == (2, len(names)) == (2, expected.shape[1] + cells**2 - 1)
    for row in range(2):
        by_name = whole_images(dict(zip(names, found[row].tolist(), strict=True)))
        assert list(by_name) == list(prompts[0].block_names)
        assert list(by_name.values()) == pytest.approx(expected[row].tolist(), rel=2e-3, abs=2e-5)


def test_a_cell_holds_the_scores_of_its_tokens(
    model: PreTrainedModel, encoder: PromptEncoder, samples: list[Sample], calls: list[CallInput]
) -> None:
    prompt, turn = encoder.encode(build_blocks(samples[0])), (calls[0].turn_ids, calls[0].target)
    attributor = Attributor(model, encoder.pixels, AttributionSettings(image_cells=2))
    scores = attributor.scores([prompt], [turn])[0]
    (call,), pictures = attributor.prepare([prompt], [turn])
    (tokens,) = attributor.token_scores([call], pictures)
    places = [index for index, token in enumerate(prompt.ids) if token == encoder.image_token_id]
    grid = tokens[places].reshape(4, 4)
    second = attributor.settings.names(prompt.block_names).index("image_1:1,2")
    torch.testing.assert_close(scores[second], grid[:2, 2:].sum().cpu(), rtol=1e-3, atol=1e-6)


def test_what_removes_an_image_as_a_whole_is_refused(model: PreTrainedModel, encoder: PromptEncoder) -> None:
    with pytest.raises(InputError, match="attribution_image_cells is 2, but attribution method 'occlusion'"):
        Attributor(model, encoder.pixels, AttributionSettings(method="occlusion", image_cells=2))


def test_compared_blocks_are_cells() -> None:
    names = ("context", "image_1", "tool:a", "query")
    settings = AttributionSettings(blocks="tools+image", image_cells=2)
    assert settings.compared(names) == ("image_1:1,1", "image_1:1,2", "image_1:2,1", "image_1:2,2", "tool:a")
    assert settings.places(names) == [1, 2, 3, 4, 5]
