"""What each vision token shows."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from iapo.data.synthetic import Chart
from iapo.rollout.prompt import PromptEncoder
from iapo.tiny.content import SIDE, content, content_loss, marked
from iapo.tiny.models import make_model, start_with_lookups


def test_every_name_and_value_stands_where_its_box_is(charts: list[Chart]) -> None:
    for chart in charts:
        shown = content(chart)
        assert len(shown) == SIDE * SIDE
        side = chart.sample.image.width / SIDE
        for boxes, axis in ((chart.sample.column_boxes, 0), (chart.sample.row_boxes, 1)):
            if (chart.focus.keys() == {"rows"} and axis == 0) or (chart.focus.keys() == {"columns"} and axis == 1):
                continue
            for name, box in boxes.items():
                place = round(box[axis] / side)
                line = shown[place::SIDE] if axis == 0 else shown[place * SIDE : (place + 1) * SIDE]
                assert name in line or name == "header"
                if chart.values:
                    assert line.count(str(chart.values[chart.labels.index(name)])) >= SIDE - 1
        if chart.cells:
            assert [int(word or 0) for word in shown[5:8]] == list(chart.cells[0])


def test_marks_are_drawn_in_half_of_the_cases_and_hide_nothing(charts: list[Chart]) -> None:
    rng = np.random.default_rng(0)
    images = [marked(chart, rng) for chart in charts]
    share = np.mean([image is chart.sample.image for image, chart in zip(images, charts, strict=True)])
    assert 0.35 < share < 0.65


def test_the_loss_falls_as_the_tower_learns_to_read(tiny_encoder: PromptEncoder, charts: list[Chart]) -> None:
    torch.manual_seed(0)
    widths = {"hidden": 64, "heads": 2, "layers": 1, "vision_hidden": 48, "vision_layers": 1}
    model = make_model(tiny_encoder.tokenizer, **widths)  # type: ignore[arg-type]
    start_with_lookups(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(12):
        loss = content_loss(model, tiny_encoder, charts[:10], np.random.default_rng(0))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
    assert model.model.language_model.layers[0].self_attn.q_proj.weight.grad is None


def test_all_tables_and_bars_have_content(charts: list[Chart]) -> None:
    assert [content(chart).count(None) for chart in charts[:5]] == pytest.approx([0, 0, 1, 1, 1])
