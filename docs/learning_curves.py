"""Draws how the packaged tiny models learnt, from their manifests: python docs/learning_curves.py

Writes docs/images/tiny-learning.png: the losses of each kind of lesson, and the teachers' reinforcement learning.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter
from PIL import Image

from iapo.display.figures import GREY, line_style, new_figure, plain_axes, save_figure, step_axis
from iapo.rollout.policy import PACKAGED

STEM = Path(__file__).parent / "images" / "tiny-learning"
MODELS = ("tiny-student", "tiny-teacher", "tiny-qwen3-vl-teacher")
LESSONS = ("names", "questions", "verdict", "content", "sight", "call", "episode")
REWARDS = {"reward/outcome": "outcome", "tools/success_rate": "calls that execute", "tools/misuse_rate": "misuse"}


def draw_lessons(axes: Axes, name: str, stages: dict[str, Any]) -> None:
    """Losses over the supervised steps, one line a kind of lesson; a dotted line where a part begins."""
    rows = [row for stage in ("sight", "protocol") for row in stages[stage]["history"]]
    points: dict[str, list[tuple[int, float]]] = {kind: [] for kind in LESSONS}
    start = 0
    for part, some in itertools.groupby(rows, key=lambda row: row["stage"]):
        history = list(some)
        for row in history:
            for kind in LESSONS:
                if kind in row:
                    points[kind].append((start + row["step"], max(row[kind], 1e-3)))
        axes.axvline(start, color=GREY, linewidth=0.7, linestyle=":")
        axes.text(start + 12, 11, part, fontsize=7, color=GREY, rotation=90, va="top")
        start += history[-1]["step"]
    for index, (kind, line) in enumerate(points.items()):
        style: dict[str, Any] = {"label": kind, "marker": ".", "markersize": 3, **line_style(index)}
        axes.plot([step for step, _ in line], [loss for _, loss in line], **style)
    axes.set(title=f"{name}: lessons", yscale="log", ylim=(9e-4, 12))
    axes.set_ylabel("nats a learnt token, mean of 50 steps")
    plain_axes(axes)
    step_axis(axes)


def draw_rewards(axes: Axes, name: str, stages: dict[str, Any]) -> None:
    """What a teacher's rollouts did in its reinforcement learning."""
    rows = stages["teacher"]["history"]
    for index, (key, label) in enumerate(REWARDS.items()):
        style: dict[str, Any] = {"label": label, **line_style(index)}
        axes.plot([row["step"] for row in rows], [row[key] for row in rows], **style)
    axes.set(title=f"{name}: GRPO", ylim=(-0.02, 1.02))
    axes.set_ylabel("share of a step's rollouts or calls")
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    plain_axes(axes)
    step_axis(axes)


def main() -> None:
    """Writes the picture."""
    figure = new_figure(12, 6.6, gap=0.06)
    top, bottom = figure.subplots(2, 3)
    for place, name in enumerate(MODELS):
        stages = json.loads((PACKAGED / name / "manifest.json").read_text())["stages"]
        draw_lessons(top[place], name, stages)
        if "teacher" in stages:
            draw_rewards(bottom[place], name, stages)
    # The student has no reinforcement learning of its own; its place holds the legends.
    bottom[0].axis("off")
    bottom[0].legend(*top[0].get_legend_handles_labels(), title="lessons", loc="upper left", frameon=False)
    bottom[1].legend(loc="center right", frameon=False)
    (path,) = save_figure(figure, STEM, svg=False)
    with Image.open(path) as drawn:
        drawn.convert("RGB").resize((1440, 792)).quantize(64).save(path, optimize=True)
    print(path)


if __name__ == "__main__":
    main()
