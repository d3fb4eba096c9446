"""Overlap of a call's attribution with the boxes that it names."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scripted import batch, scripted

from iapo.attribution.calls import Attributor
from iapo.attribution.overlap import covered, lift
from iapo.attribution.settings import AttributionSettings
from iapo.data.synthetic import generate
from iapo.rewards.overlap import called_boxes, overlaps


def test_parts_of_cells_by_hand() -> None:
    # Two of three columns of a 2 x 3 grid over 60 x 20 pixels, one of them by half, the other by two boxes.
    found = covered([(0, 0, 10, 20), (20, 0, 35, 10), (30, 0, 40, 10)], (60, 20), (2, 3))
    np.testing.assert_allclose(found, [[0.5, 1.0, 0.0], [0.5, 0.0, 0.0]])
    np.testing.assert_allclose(covered([(-50, -50, 500, 500)], (60, 20), (2, 3)), 1.0)
    np.testing.assert_allclose(covered([], (60, 20), (2, 3)), 0.0)
    # Boxes that overlap within one cell count once.
    np.testing.assert_allclose(covered([(0, 0, 6, 6), (3, 3, 9, 9)], (10, 10), (1, 1)), [[0.36 + 0.36 - 0.09]])


def test_lift_by_hand() -> None:
    grid = np.array([[1.0, -3.0], [0.0, 0.0]], dtype=np.float32)
    assert lift(grid, [(10, 0, 20, 10)], (20, 20)) == pytest.approx(0.75 - 0.25)
    assert lift(grid, [(0, 10, 20, 20)], (20, 20)) == pytest.approx(-0.5)
    # Nothing is gained by naming all, by naming nothing, or where nothing is attributed.
    assert lift(grid, [(0, 0, 20, 20)], (20, 20)) == lift(grid, [], (20, 20)) == 0
    assert lift(np.zeros((2, 2), dtype=np.float32), [(0, 0, 10, 10)], (20, 20)) == 0


def test_it_is_the_calls_attribution_in_its_boxes(tmp_path: Path, model: Any, processor: Any) -> None:
    charts = list(generate("vbar", 4, seed=11, question_types=("value",)))
    trainer = scripted(
        tmp_path, model, processor, charts, reward="overlap", penalty_decay=0.5, attribution_form="paper"
    )
    trainer.state.global_step = 2
    batch(trainer, charts)
    rollouts = trainer._batch.rollouts
    assert trainer.alignment is None
    assert trainer.reward_func_names == ["outcome_reward", "overlap"]
    assert trainer.reward_weights.tolist() == pytest.approx([1.0, 0.1 * np.exp(-1.0)])
    found = trainer._batch.rewards[:, 1].tolist()
    # The last one calls nothing, the third names what has no box.
    assert found[3] == -1
    assert called_boxes(rollouts[2].trace) == []
    assert found[2] == 0
    for one, value in zip(rollouts[:2], found[:2], strict=True):
        attributor = Attributor(model, trainer.encoder.pixels, AttributionSettings())
        (call,), pictures = attributor.prepare([one.prompt], [(one.first.ids, one.first.target)])
        (tokens,) = attributor.token_scores([call], pictures)
        places = [index for index, token in enumerate(one.prompt.ids) if token == trainer.encoder.image_token_id]
        grid = tokens[places].reshape(4, 4).abs().numpy()
        (x1, y1, x2, y2), side = called_boxes(one.trace)[0], one.trace.sample.image.width
        pixels = np.kron(grid, np.ones((side // 4, side // 4)))
        # By pixel centres, as boxes of synthetic charts lie on whole pixels.
        inside = np.zeros_like(pixels)
        inside[round(y1) : round(y2), round(x1) : round(x2)] = 1
        expected = (pixels * inside).sum() / pixels.sum() - inside.mean()
        assert value == pytest.approx(expected, abs=0.02)
    assert found[0] != found[1]


def test_no_call_is_the_worst(model: Any, encoder: Any, tmp_path: Path, processor: Any) -> None:
    charts = list(generate("vbar", 4, seed=11, question_types=("value",)))
    trainer = scripted(tmp_path, model, processor, charts)
    batch(trainer, charts)
    silent = [trainer._batch.rollouts[3]]
    assert overlaps(model, encoder, AttributionSettings(), silent) == [-1.0]
    settings = dataclasses.replace(AttributionSettings(), batch_size=1)
    together = overlaps(model, encoder, AttributionSettings(), trainer._batch.rollouts)
    assert overlaps(model, encoder, settings, trainer._batch.rollouts) == pytest.approx(together, abs=1e-4)
