"""Deletion and insertion curves by hand, and the scores behind them against occlusion and single passes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from iapo.attribution.calls import Attributor
from iapo.attribution.curves import areas, curve_sets, mean_areas, random_orders, rank_agreement, ranking
from iapo.attribution.gradient import call_values
from iapo.attribution.memory import Budget
from iapo.attribution.occlusion import occlusion_scores
from iapo.attribution.removal import Removal
from iapo.attribution.settings import AttributionSettings
from iapo.records import Sample
from iapo.rollout.policy import load_policy
from iapo.rollout.prompt import PromptEncoder
from iapo.rollout.turns import encode_prompts, read_turn
from iapo.tools import TOOLS

TURN = 'I want to see row B.\n```python\ndisplay(focus_on_rows_with_draw(image_1, ["B"], rows_bbox))\n```'


def test_curves_and_areas_by_hand() -> None:
    worth = {0: 6.0, 1: 0.0, 2: 3.0}

    def value(kept: frozenset[int]) -> float:
        return 10 + sum(worth[one] for one in kept)

    deletion, insertion = curve_sets([0, 2, 1])
    assert deletion == [frozenset({0, 1, 2}), frozenset({1, 2}), frozenset({1}), frozenset()]
    assert insertion == [frozenset(), frozenset({0}), frozenset({0, 2}), frozenset({0, 1, 2})]
    # Heights 9, 3, 0, 0 and 0, 6, 9, 9 above the empty prompt, each step a third.
    best = areas([0, 2, 1], value)
    assert best.deletion == pytest.approx((9 / 2 + 3) / 3)
    assert best.insertion == pytest.approx((6 + 9 + 9 / 2) / 3)
    worst = areas([1, 2, 0], value)
    assert worst.deletion == pytest.approx(best.insertion)
    assert worst.insertion == pytest.approx(best.deletion)
    mean = mean_areas([best, worst])
    assert mean.deletion == mean.insertion == pytest.approx((best.deletion + best.insertion) / 2)
    with pytest.raises(ValueError, match="no blocks"):
        areas([], value)


def test_orders_and_agreement() -> None:
    assert ranking([1.0, 3.0, 1.0, 9.0], [0, 1, 2]) == (1, 0, 2)
    orders = random_orders([0, 1, 2, 5], 6, (3, 1))
    assert orders == random_orders([0, 1, 2, 5], 6, (3, 1))
    assert len(set(orders)) > 1
    assert all(sorted(one) == [0, 1, 2, 5] for one in orders)
    assert rank_agreement([1, 2, 3], [10, 20, 90]) == pytest.approx(1)
    assert rank_agreement([1, 2, 3], [3, 2, 1]) == pytest.approx(-1)
    assert rank_agreement([1, 1, 1], [3, 2, 1]) is None


@pytest.mark.parametrize("name", ["tiny-teacher", "tiny-qwen3-vl-teacher"])
def test_values_are_those_of_single_passes(name: str, samples: list[Sample]) -> None:
    policy = load_policy(name)
    encoder = PromptEncoder(policy.processor)
    sample = samples[0]
    prompt = encode_prompts([sample], encoder, TOOLS)[0]
    first = read_turn(encoder.tokenizer(TURN, add_special_tokens=False)["input_ids"], sample, encoder, TOOLS)
    kinds = [("call", "log_prob"), ("name", "log_odds"), ("name", "contrast"), ("turn", "logit")]
    views = []
    for target, score in kinds:
        settings = AttributionSettings(target=target, score=score)  # type: ignore[arg-type]
        attributor = Attributor(policy.model, encoder.pixels, settings, tokenizer=encoder.tokenizer)
        calls, pictures = attributor.prepare([prompt], [(first.ids, first.target)])
        views.append(calls[0])
    removal = Removal(policy.model, views, pictures, batch_size=4)
    blocks = removal.blocks
    every = frozenset(blocks)
    sets = [every, *(every - {block} for block in blocks)]
    values = removal.values(sets)
    for place, view in enumerate(views):
        single = occlusion_scores(policy.model, [view], pictures)[0]
        mine = torch.tensor([values[every][place] - values[every - {block}][place] for block in blocks])
        torch.testing.assert_close(mine, single, rtol=1e-3, atol=1e-3)
    # Of an empty prompt its last token stays, without an image.
    empty = removal.values([frozenset()])[frozenset()]
    for view, value in zip(views, empty, strict=True):
        bare = replace(view, prompt_ids=view.prompt_ids[-1:], block_of=view.block_of[-1:], pictures=())
        assert value == pytest.approx(call_values(policy.model, [bare]).item(), rel=1e-3, abs=1e-3)
    # Batches and token budgets do not matter.
    tight = Removal(policy.model, views, pictures, 64, Budget(tokens=1))
    for some, row in tight.values(sets[:3]).items():
        assert row == pytest.approx(values[some], rel=1e-3, abs=1e-3)


def test_a_set_is_computed_once(monkeypatch: pytest.MonkeyPatch, samples: list[Sample]) -> None:
    policy = load_policy("tiny-teacher")
    encoder = PromptEncoder(policy.processor)
    sample = samples[0]
    prompt = encode_prompts([sample], encoder, TOOLS)[0]
    first = read_turn(encoder.tokenizer(TURN, add_special_tokens=False)["input_ids"], sample, encoder, TOOLS)
    attributor = Attributor(policy.model, encoder.pixels, AttributionSettings())
    calls, pictures = attributor.prepare([prompt], [(first.ids, first.target)])
    removal = Removal(policy.model, calls, pictures)
    computed: list[frozenset[int]] = []
    compute = removal._compute

    def counted(sets: Sequence[frozenset[int]]) -> Tensor:
        computed.extend(sets)
        return compute(sets)

    monkeypatch.setattr(removal, "_compute", counted)
    one, two = frozenset({0, 1}), frozenset({1, 2})
    assert removal.values([one, one, two])[one] == removal.values([two, one])[one]
    assert sorted(computed, key=sorted) == [one, two]
    with pytest.raises(ValueError, match="the same prompt"):
        Removal(policy.model, [calls[0], replace(calls[0], prompt_ids=[*calls[0].prompt_ids[:-1], 1])], pictures)
    with pytest.raises(ValueError, match="give at least 1"):
        Removal(policy.model, [], pictures)
