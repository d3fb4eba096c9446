"""Token scores against block scores, and patches against the picture."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import PreTrainedModel

from iapo.attribution.gradient import CallInput, Pictures, block_scores
from iapo.attribution.tokens import all_token_scores, patch_map, picture_shares, token_scores
from iapo.records import Sample
from iapo.rollout.prompt import Block, PromptEncoder, build_blocks

PROGRAM = '```python\ndisplay(focus_on_rows_with_draw(image_1, ["B"], rows_bbox))\n```'
MERGE = 2


def make_call(encoder: PromptEncoder, blocks: tuple[Block, ...]) -> tuple[CallInput, Pictures]:
    prompt = encoder.encode(blocks)
    ids = encoder.tokenizer(PROGRAM, add_special_tokens=False)["input_ids"]
    pixels = encoder.pixels(prompt.images)
    call = CallInput(prompt.ids, prompt.block_of, len(blocks), ids, [True] * len(ids), (0,))
    return call, Pictures(pixels["pixel_values"], pixels["image_grid_thw"])


@pytest.mark.parametrize("steps", [1, 3])
def test_tokens_sum_to_blocks(
    model: PreTrainedModel, encoder: PromptEncoder, samples: list[Sample], steps: int
) -> None:
    call, pictures = make_call(encoder, build_blocks(samples[0]))
    tokens = token_scores(model, call, pictures, steps)
    assert tokens.shape == (len(call.prompt_ids),)
    assert tokens.dtype == torch.float32
    sums = torch.zeros(call.blocks).index_add_(0, torch.tensor(call.block_of), tokens)
    expected = block_scores(model, [call], pictures, steps)[0]
    torch.testing.assert_close(sums, expected, rtol=1e-4, atol=1e-5 * expected.abs().max().item())
    assert tokens.abs().min() > 0


@pytest.mark.parametrize("steps", [1, 2])
def test_many_calls_at_once(model: PreTrainedModel, encoder: PromptEncoder, samples: list[Sample], steps: int) -> None:
    """Prompts of different lengths, and several calls to one of them."""
    prompts = [encoder.encode(build_blocks(sample)) for sample in (samples[0], samples[2])]
    longer = encoder.encode((*build_blocks(samples[0]), Block("query", "more", "QUESTION: and of all the others?")))
    pixels = encoder.pixels([samples[0].image, samples[2].image])
    pictures = Pictures(pixels["pixel_values"], pixels["image_grid_thw"])
    texts = [PROGRAM, PROGRAM.replace("rows", "columns"), PROGRAM.replace("draw", "mask")]
    turns = [encoder.tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    asked = [(prompts[0], turns[0], 0), (prompts[0], turns[1], 0), (prompts[1], turns[2], 1), (longer, turns[0], 0)]
    calls = [
        CallInput(prompt.ids, prompt.block_of, len(prompt.block_names), turn, [True] * len(turn), (picture,))
        for prompt, turn, picture in asked
    ]
    found = all_token_scores(model, calls, pictures, steps)
    for call, scores in zip(calls, found, strict=True):
        expected = token_scores(model, call, pictures, steps)
        torch.testing.assert_close(scores, expected, rtol=1e-3, atol=1e-5 * expected.abs().max().item())


def test_shares_are_of_the_whole_prompt(encoder: PromptEncoder) -> None:
    """The picture's four tokens among eight: their part is what their scores have of all, with their signs."""
    scores = torch.tensor([3.0, 1.0, -1.0, 0.0, 2.0, -3.0, 0.0, 0.0])
    shares = picture_shares(scores, [1, 7, 7, 7, 7, 1, 1, 1], 7, [1, 4, 4], MERGE)
    assert shares.tolist() == pytest.approx(np.array([[0.1, -0.1], [0.0, 0.2]]))
    assert picture_shares(torch.zeros(4), [7] * 4, 7, [1, 4, 4], MERGE).tolist() == [[0, 0], [0, 0]]


def test_patches_of_a_wide_picture(model: PreTrainedModel, encoder: PromptEncoder, samples: list[Sample]) -> None:
    side = MERGE * encoder.processor.image_processor.patch_size
    blocks = (
        *build_blocks(samples[0])[:1],
        Block("image", "image_1", image=Image.new("RGB", (5 * side, 3 * side), "red")),
    )
    call, pictures = make_call(encoder, blocks)
    tokens = token_scores(model, call, pictures)
    patches = patch_map(tokens, call.prompt_ids, encoder.image_token_id, pictures.grid_thw[0], MERGE)
    assert patches.shape == (3, 5)
    in_picture = torch.tensor(call.prompt_ids) == encoder.image_token_id
    assert patches.sum() == pytest.approx(tokens[in_picture].sum().item(), rel=1e-4)
    # The first row of the picture comes first, from the left.
    assert np.array_equal(patches[0], tokens[in_picture][:5].numpy())


def test_a_spot_is_where_it_is(encoder: PromptEncoder) -> None:
    """The processor orders patches by token; a square of the picture that differs is found in its row and column."""
    side = MERGE * encoder.processor.image_processor.patch_size
    plain = Image.new("RGB", (4 * side, 4 * side), "white")
    spot = plain.copy()
    spot.paste("black", (2 * side, side, 3 * side, 2 * side))
    features = []
    for image in (plain, spot):
        pixels = encoder.pixels([image])
        features.append(pixels["pixel_values"])
    changed = (features[0] != features[1]).any(-1)
    tokens = changed.view(-1, MERGE**2).any(-1).float()
    patches = patch_map(tokens, [7] * 16, 7, pixels["image_grid_thw"][0], MERGE)
    assert np.argwhere(patches).tolist() == [[1, 2]]


def test_refuses_another_number_of_tokens() -> None:
    with pytest.raises(ValueError, match="3 image tokens"):
        patch_map([0.5] * 4, [7, 7, 7, 1], 7, [1, 4, 4], MERGE)


def test_shares_of_large_scores() -> None:
    """Their sum is more than float32 holds; the shares are those of the same scores in another unit."""
    ids, grid = [7, 9, 9, 9, 9], torch.tensor([1, 4, 4])
    scores = torch.tensor([3.0, -3.0, 1.0, 2.0, 3.0])
    found = picture_shares(scores * 1e38, ids, 9, grid, 2)
    np.testing.assert_allclose(found, picture_shares(scores, ids, 9, grid, 2), rtol=1e-6)
    assert float(np.abs(found).sum()) == pytest.approx(9 / 12)
