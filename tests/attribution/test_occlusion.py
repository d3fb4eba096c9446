"""Occlusion against prompts without the block, written down by hand."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from iapo.attribution.gradient import CallInput, Pictures, _Batch, call_log_probs
from iapo.attribution.occlusion import occlusion_scores, without_block
from iapo.rollout.prompt import PromptEncoder

IMAGE = -1


class Bigram(nn.Module):
    """The next token depends on the last one alone; its table of logits is all there is."""

    device = torch.device("cpu")
    config = SimpleNamespace(image_token_id=IMAGE)

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.table = nn.Embedding(6, 6)
        self.lm_head = nn.Identity()
        self.model = self

    @property
    def language_model(self) -> Bigram:
        return self

    def get_input_embeddings(self) -> nn.Embedding:
        return self.table

    def forward(self, inputs_embeds: Tensor, **_: Any) -> SimpleNamespace:
        return SimpleNamespace(last_hidden_state=inputs_embeds)

    def get_rope_index(self, ids: Tensor, types: Tensor, **_: Any) -> tuple[Tensor, None]:
        return torch.zeros(3, *ids.shape, dtype=torch.long), None


def test_closed_form() -> None:
    """With a bigram model only the block before the call matters, and what then comes before the call."""
    toy = Bigram()
    log_p = toy.table.weight.detach().log_softmax(-1)
    calls = [
        # Block 3 has no position.
        CallInput([1, 2, 3, 2], [0, 0, 1, 2], 4, [4, 5], [True, True]),
        # A thought stands between the prompt and the call.
        CallInput([1, 2], [0, 2], 4, [3, 5], [False, True]),
    ]
    scores = occlusion_scores(toy, calls)  # type: ignore[arg-type]
    expected = torch.zeros(2, 4)
    expected[0, 2] = log_p[2, 4] - log_p[3, 4]
    torch.testing.assert_close(scores, expected, rtol=1e-6, atol=1e-6)


def by_hand(call: CallInput, block: int, pictures: tuple[int, ...]) -> CallInput:
    kept = [i for i in range(len(call.prompt_ids)) if call.block_of[i] != block]
    ids, owners = ([column[i] for i in kept] for column in (call.prompt_ids, call.block_of))
    return CallInput(ids, owners, call.blocks, call.turn_ids, call.target, pictures)


def test_score_is_a_difference(model: PreTrainedModel, calls: list[CallInput], pictures: Pictures) -> None:
    """Each shorter prompt alone, not in a batch; that without the picture is run without any picture."""
    scores = occlusion_scores(model, calls, pictures)
    assert scores.shape == (len(calls), 9)
    assert scores.dtype == torch.float32
    assert not scores.requires_grad
    for row in (0, 1):
        call = calls[row]
        whole = call_log_probs(model, [call], pictures)
        for block in range(call.blocks):
            removed = by_hand(call, block, () if block == 1 else call.pictures)
            expected = whole - call_log_probs(model, [removed], None if block == 1 else pictures)
            torch.testing.assert_close(scores[row, block], expected[0], rtol=1e-4, atol=1e-4)
    assert scores.abs().min() > 0


def test_the_picture_goes_with_its_features_and_positions(
    model: PreTrainedModel, encoder: PromptEncoder, calls: list[CallInput], pictures: Pictures
) -> None:
    call = calls[0]
    without = without_block(call, 1, encoder.image_token_id)
    assert not without.pictures
    assert encoder.image_token_id in call.prompt_ids
    assert encoder.image_token_id not in without.prompt_ids
    # In one batch with a prompt that keeps its picture.
    batch = _Batch.build(model, [call, without], pictures)
    length = len(without.prompt_ids) + len(without.turn_ids)
    assert torch.equal(batch.position_ids[:, 1, :length], torch.arange(length).expand(3, -1))
    # The picture's 4 x 4 tokens take 4 positions of the whole prompt.
    whole = len(call.prompt_ids) + len(call.turn_ids)
    assert batch.position_ids[:, 0, whole - 1].tolist() == [whole - 1 - 16 + 4] * 3
    # A text block removed: the picture moves up with what follows.
    shorter = without_block(call, 0, encoder.image_token_id)
    assert shorter.pictures == call.pictures
    alone = _Batch.build(model, [shorter], pictures)
    last = len(shorter.prompt_ids) + len(shorter.turn_ids) - 1
    assert alone.position_ids[:, 0, [0, last]].tolist() == [[0, last - 16 + 4]] * 3


def test_independent_of_batching(model: PreTrainedModel, calls: list[CallInput], pictures: Pictures) -> None:
    together = occlusion_scores(model, calls, pictures)
    alone = torch.cat([occlusion_scores(model, [call], pictures, batch_size=3) for call in reversed(calls)]).flip(0)
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)


def test_refusals(model: PreTrainedModel, calls: list[CallInput], pictures: Pictures) -> None:
    with pytest.raises(ValueError, match="no calls"):
        occlusion_scores(model, [], pictures)
    with pytest.raises(ValueError, match="same number of blocks"):
        occlusion_scores(model, [calls[0], replace(calls[1], blocks=10)], pictures)
    with pytest.raises(ValueError, match="batch_size must be at least 1"):
        occlusion_scores(model, calls, pictures, batch_size=0)
    with pytest.raises(ValueError, match="cannot lose it"):
        occlusion_scores(model, [CallInput([1, 2], [0, 0], 1, [3], [True])])
    middle = list(calls[0].prompt_ids).index(model.config.image_token_id) + 3
    cut = [0 if place < middle else 1 for place in range(len(calls[0].prompt_ids))]
    with pytest.raises(ValueError, match="several blocks"):
        occlusion_scores(model, [replace(calls[0], block_of=cut)], pictures)
