"""What each vision token of a tiny image shows: direct supervision of the vision tower.

A tiny image is 4 x 4 vision tokens, and each shows one thing: a cell or a name of a table, a label or a piece of one
bar. Asked for it by name, through the language model's own final norm and head, the tower learns to read within about
a hundred steps; from the answers alone it had not learnt to read tables in a thousand.
"""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from iapo.data.synthetic import Chart
from iapo.rollout.prompt import PromptEncoder
from iapo.tiny.lessons import program_text
from iapo.tools import TOOLS, execute

SIDE = 4
"""Vision tokens along each side of a tiny image."""

_VISIBLE = tuple(tool for tool in TOOLS.values() if tool.style != "mask")
"""Tools that leave all of the image to be seen."""


def content(chart: Chart) -> list[str | None]:
    """Returns what each vision token of a bar chart or table shows, row by row; None where it is empty.

    Returns:
        SIDE * SIDE entries: names and digits; every token over a bar's slot has the bar's value.
    """
    grid: list[list[str | None]] = [[None] * SIDE for _ in range(SIDE)]
    if chart.cells:
        grid[0][1:] = chart.columns
        for line, (name, cells) in enumerate(zip(chart.rows, chart.cells, strict=True), start=1):
            grid[line] = [name, *map(str, cells)]
        return [entry for line in grid for entry in line]
    for place, (label, value) in enumerate(zip(chart.labels, chart.values, strict=True)):
        grid[place] = [label, *[str(value)] * (SIDE - 1)]
    if "columns" in chart.focus:
        grid = [list(line) for line in zip(*(line[::-1] for line in grid), strict=True)]
    return [entry for line in grid for entry in line]


def marked(chart: Chart, rng: np.random.Generator) -> Image.Image:
    """Returns the image, in half of the cases marked by a tool that hides nothing."""
    if rng.random() < 0.5:
        return chart.sample.image
    axes = list(chart.focus)
    axis = axes[rng.integers(len(axes))]
    tools = [tool for tool in _VISIBLE if tool.axis == axis]
    result = execute(program_text([(tools[rng.integers(len(tools))], chart.focus[axis])]), chart.sample)
    assert result.image is not None, result.error
    return result.image


def content_loss(
    model: PreTrainedModel, encoder: PromptEncoder, charts: list[Chart], rng: np.random.Generator
) -> Tensor:
    """Returns the mean negative log-likelihood of what the vision tokens show, read off the vision tower's output.

    Args:
        model: The model.
        encoder: Its encoder.
        charts: Tiny bar charts and tables.
        rng: Draws the marks.
    """
    pixels = encoder.pixels([marked(chart, rng) for chart in charts])
    found = model.model.get_image_features(pixels["pixel_values"], pixels["image_grid_thw"]).pooler_output
    features = found if isinstance(found, Tensor) else torch.cat(list(found))
    words = [word for chart in charts for word in content(chart)]
    shown = torch.tensor([word is not None for word in words])
    ids = encoder.tokenizer([word for word in words if word is not None], add_special_tokens=False)["input_ids"]
    logits = model.lm_head(model.model.language_model.norm(features[shown]))
    return cross_entropy(logits.float(), torch.tensor([one for (one,) in ids]))
