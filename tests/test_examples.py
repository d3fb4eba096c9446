"""The examples run, and are as short as they are said to be."""

from __future__ import annotations

import difflib
import math
import runpy
import types
from pathlib import Path
from typing import Any

import pytest

from iapo.experiments.ablations import check_variants, read_ablation
from iapo.rollout.policy import find_checkpoint

EXAMPLES = Path(__file__).parent.parent / "examples"


def run(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    # They write to runs/ below the working directory.
    monkeypatch.chdir(folder)
    return runpy.run_path(str(EXAMPLES / name), run_name="__main__")


def test_iapo_is_two_lines_away() -> None:
    stock, iapo = ((EXAMPLES / f"{name}_grpo.py").read_text().splitlines() for name in ("stock", "iapo"))
    changes = [line for line in difflib.ndiff(stock, iapo) if line[0] in "+-"]
    assert [line[0] for line in changes] == ["-", "+", "-", "+"]


@pytest.mark.slow(1)
@pytest.mark.parametrize("name", ["stock", "iapo"])
def test_grpo_scripts_train(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = run(f"{name}_grpo.py", tmp_path, monkeypatch)
    log = [row for row in found["trainer"].state.log_history if "loss" in row]
    assert len(log) == found["SETTINGS"]["max_steps"]
    assert all(math.isfinite(row["loss"]) for row in log)
    # The outcome is a column of both, the penalty of one alone.
    assert all("rewards/right/mean" in row for row in log)
    assert any("alignment" in key for key in log[0]) == (name == "iapo")


def test_the_stock_scripts_reward_is_the_outcome(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = run("stock_grpo.py", tmp_path, monkeypatch)
    from iapo.training.batches import to_dataset

    rows = list(to_dataset(found["charts"][:2]))
    said = [f"FINAL ANSWER: {found['charts'][0].answers[0]}. TERMINATE", "FINAL ANSWER: none. TERMINATE"]
    turns = [[{"role": "assistant", "content": text}] for text in said]
    assert found["right"](turns, sample=[row["sample"] for row in rows]) == [1.0, 0.0]


def test_own_tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = run("own_tool.py", tmp_path, monkeypatch)
    from iapo.data.synthetic import generate
    from iapo.tools import execute

    (chart,) = generate("vbar", 1, seed=3)
    label = next(iter(chart.column_boxes))
    program = f'```python\ndisplay(invert_columns(image_1, ["{label}"], columns_bbox))\n```'
    result = execute(program, chart, {found["invert"].name: found["invert"]})
    assert result.status == "edited"
    x1, y1, x2, y2 = (int(value) for value in chart.column_boxes[label])
    before, after = (image.convert("RGB").crop((x1, y1, x2, y2)) for image in (chart.image, result.image))
    assert after.tobytes() == bytes(255 - value for value in before.tobytes())


def test_own_reward(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = run("own_reward.py", tmp_path, monkeypatch)

    class Misusing:
        misused = True

    class Right:
        misused = False

    assert [found["right_axis"](trace, 1.0) for trace in (Misusing(), Right())] == [0.75, 1.0]


@pytest.mark.parametrize("name", ["own_tool", "own_reward"])
def test_own_parts_are_short(name: str) -> None:
    lines = (EXAMPLES / f"{name}.py").read_text().splitlines()
    assert sum(bool(line.strip()) for line in lines) <= 20


def test_a_misaligned_teachers_students(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its reward prefers the wrong axis; its students' file is accepted where the teacher is."""
    found = run("misaligned.py", tmp_path, monkeypatch)
    calls = (types.SimpleNamespace(misused=misused) for misused in (True, False))
    assert [found["wrong_axis"](trace, 1.0) for trace in calls] == [1.5, 1.0]
    (tmp_path / "runs/misaligned/teacher").mkdir(parents=True)
    (tmp_path / "runs/misaligned/teacher/policy").symlink_to(find_checkpoint("tiny-teacher"))
    monkeypatch.chdir(tmp_path)
    ablation = read_ablation(str(EXAMPLES / "misaligned.yaml"))
    check_variants(ablation)
    assert ablation.reference == "students/GRPO"
