"""Training curves by hand: means and bands over seeds, running means, files."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest
from written_runs import write_run

from iapo.studies.curves import PANELS, make_curves, plot_curves, running_mean, study_curves


def test_running_means_by_hand() -> None:
    values = np.array([1.0, 2.0, 6.0, math.nan, 4.0])
    found = running_mean(values, 3)
    # Windows are cut at the ends, and where nothing was measured nothing is made up.
    assert found.tolist()[:3] == [1.5, 3.0, 4.0]
    assert math.isnan(found[3])
    assert found[4] == 4.0
    assert running_mean(values, 1).tolist()[:3] == [1, 2, 6]


def test_means_and_bands_over_seeds(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / "0", [0.5, 0.4, None]), write_run(tmp_path / "1", [0.3, 0.0], seed=1)]
    curves = {curve.key: curve for curve in make_curves({"grpo": runs})}
    assert curves.keys() == {panel.key for panel in PANELS}
    misuse = curves["tools/misuse_rate"]
    assert misuse.steps.tolist() == [1, 2, 3]
    assert misuse.mean[:2].tolist() == pytest.approx([0.4, 0.2])
    assert (misuse.low[:2].tolist(), misuse.high[:2].tolist()) == ([0.3, 0.0], [0.5, 0.4])
    assert misuse.runs.tolist() == [2, 2, 0]
    assert all(math.isnan(one[2]) for one in (misuse.mean, misuse.low, misuse.high))
    assert curves["attribution/divergence"].runs.tolist() == [0, 0, 0]
    # Each run is smoothed before runs are put together.
    (smooth,) = (one for one in make_curves({"grpo": runs}, 3) if one.key == "tools/misuse_rate")
    assert smooth.mean[:2].tolist() == pytest.approx([(0.45 + 0.15) / 2] * 2)
    assert smooth.high[0] == pytest.approx(0.45)


@pytest.mark.slow(1)
def test_files(tmp_path: Path) -> None:
    for seed, misuse in enumerate(([0.5, 0.4], [0.3, 0.0])):
        write_run(tmp_path / "grpo" / f"seed-{seed}", misuse, seed=seed)
    write_run(tmp_path / "iapo" / "seed-0", [0.2, None], penalty_weight=1.0)
    study_curves([str(tmp_path)], None, smooth=3)
    rows = list(csv.DictReader((tmp_path / "curves.csv").open()))
    chosen = [row for row in rows if row["measure"] == "tools/misuse_rate"]
    assert [(row["method"], row["step"], row["runs"]) for row in chosen] == [
        ("grpo", "1", "2"),
        ("grpo", "2", "2"),
        ("iapo", "1", "1"),
    ]
    assert float(chosen[0]["mean"]) == pytest.approx(0.3)
    # The penalty's weight is a setting, and no measurement.
    assert {row["running_mean_steps"] for row in rows if row["measure"] != "attribution/lambda"} == {"3"}
    assert {row["running_mean_steps"] for row in rows if row["measure"] == "attribution/lambda"} == {"1"}
    drawn = (tmp_path / "curves.svg").read_text()
    for words in ("mean of 1 to 2 seeds; bands: lowest to highest seed", "running mean over 3 steps", "not measured"):
        assert f"<!-- {words}" in drawn or words in drawn
    assert (tmp_path / "curves.png").stat().st_size > 10_000
    # The same runs give the same file.
    study_curves([str(tmp_path)], None, smooth=3)
    assert (tmp_path / "curves.svg").read_text() == drawn
    for even in (0, 2):
        with pytest.raises(ValueError, match="give an odd number"):
            study_curves([str(tmp_path)], None, smooth=even)


@pytest.mark.slow(1)
def test_one_run_has_no_band(tmp_path: Path) -> None:
    (path,) = plot_curves({"GRPO": [write_run(tmp_path / "0", [0.5])]}, tmp_path / "training", svg=False)
    assert path == tmp_path / "training.png"
    assert not (tmp_path / "training.svg").exists()
    drawn = plot_curves({"GRPO": [write_run(tmp_path / "1", [0.5, 0.5])]}, tmp_path / "one")[0].read_text()
    assert "one run each; unsmoothed" in drawn
    assert "bands" not in drawn
