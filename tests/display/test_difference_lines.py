"""Lines of the comparison on the terminal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from iapo.display.tables import difference_lines
from iapo.runs import RunFolder


def folder(path: Path, after: list[float], change: dict[str, Any]) -> RunFolder:
    path.mkdir()
    evaluation = {"after_minus_before": {"outcome": change}, "outcomes": {"after": after}}
    (path / "evaluation.json").write_text(json.dumps(evaluation))
    return RunFolder(path)


def test_differences_are_to_the_start_and_to_the_first_run(tmp_path: Path) -> None:
    change = {"value": 0.25, "low": 0.125, "high": 0.5, "count": 4}
    folders = {
        "A": folder(tmp_path / "a", [1.0, 0.0, 0.0, 1.0], change),
        "B": folder(tmp_path / "b", [0.0, 1.0, 1.0, 1.0], change | {"value": 0.375}),
        "C": folder(tmp_path / "c", [1.0, 0.0, 0.0, 1.0], change),
    }
    lines = difference_lines(folders)
    assert lines[:3] == [
        "A - before, accuracy, paired: 0.250 [0.125, 0.500]",
        "B - before, accuracy, paired: 0.375 [0.125, 0.500]",
        "C - before, accuracy, paired: 0.250 [0.125, 0.500]",
    ]
    assert lines[3].startswith("B - A, accuracy, paired: 0.250 [")
    # None of four pairs differs.
    assert lines[4:] == ["C - A, accuracy, paired: 0.000 [-0.490, 0.490]"]
