"""Training curves by hand: means and bands over seeds, running means, files."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from written_runs import write_run

from iapo.errors import InputError
from iapo.report.command import write_report
from iapo.runs import RunFolder
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


def _changed(path: Path, **changes: Any) -> RunFolder:
    folder = write_run(path, [0.5, 0.4])
    first, second = map(json.dumps, folder.read_metrics())
    changed = {**json.loads(second), **changes}
    if changes.get("step") == "gone":
        del changed["step"]
    (path / "metrics.jsonl").write_text(f"{first}\n{json.dumps(changed)}\n")
    return folder


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"step": 1}, "lines 1 and 2 are both of step 1, as those of two runs are"),
        ({"step": -1}, "the step of line 2 is -1"),
        ({"step": 1.5}, r"the step of line 2 is 1\.5"),
        ({"step": True}, "the step of line 2 is True"),
        ({"step": 10**30}, "the step of line 2 is 1000"),
        ({"step": "gone"}, "line 2 has no step"),
        ({"reward/outcome": "x"}, "the value of reward/outcome in line 2 is no number, 'x'"),
        ({"reward/outcome": True}, "the value of reward/outcome in line 2 is no number"),
        ({"tools/call_ratio": [1]}, "the value of tools/call_ratio in line 2 is no number"),
        ({"attribution/divergence": 1e308}, "in line 2 is too large for a measurement, 1e"),
        ({"attribution/divergence": 10**400}, "in line 2 is too large for a measurement, 1000"),
    ],
)
def test_a_damaged_line_is_named(tmp_path: Path, changes: dict[str, Any], sentence: str) -> None:
    folder = _changed(tmp_path / "0", **changes)
    with pytest.raises(InputError, match=sentence) as refused:
        make_curves({"grpo": [folder]})
    assert str(tmp_path / "0" / "metrics.jsonl") in str(refused.value)
    # The report reads it with the same eyes.
    with pytest.raises(InputError, match=sentence) as reported:
        write_report([folder.path], tmp_path / "page.html")
    assert str(reported.value) == str(refused.value)


def test_lines_of_white_space_are_passed_over_and_counted(tmp_path: Path) -> None:
    folder = _changed(tmp_path / "0")
    path = tmp_path / "0" / "metrics.jsonl"
    first, second = path.read_text().splitlines()
    path.write_text(f"{first}\n\n  \n{second}\n")
    assert {one.steps.tolist()[-1] for one in make_curves({"grpo": [folder]})} == {2}
    write_report([folder.path], tmp_path / "page.html")
    path.write_text(f"\n{first}\n\n{second.replace('0.4', 'true')}\n")
    for read in (lambda: make_curves({"grpo": [folder]}), lambda: write_report([folder.path], tmp_path / "page.html")):
        with pytest.raises(InputError, match="the value of tools/misuse_rate in line 4 is no number, True"):
            read()


def test_what_is_no_measurement_of_a_run_may_be_anything(tmp_path: Path) -> None:
    folder = _changed(tmp_path / "0", note="by hand", **{"reward/outcome": math.nan})
    (outcome,) = (one for one in make_curves({"grpo": [folder]}) if one.key == "reward/outcome")
    assert outcome.runs.tolist() == [1, 0]
    write_report([folder.path], tmp_path / "page.html")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        (" \n\n", "is empty"),
        (None, "is missing"),
        ("\nnonsense", r"holds half a line alone \(line 2 has no end\)"),
    ],
)
def test_a_run_that_has_measured_nothing_yet(
    tmp_path: Path, text: str | None, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    """As one is that was killed before its first step; it has a manifest, and perhaps an empty file."""
    begun, measured = write_run(tmp_path / "all" / "begun", [0.5]), write_run(tmp_path / "all" / "done", [0.5])
    path = begun.path / "metrics.jsonl"
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(InputError, match=rf"no step of the run .*begun has been measured: its metrics.jsonl {said}"):
        study_curves([str(begun.path)], tmp_path, smooth=1)
    # Among others it is left out with a line.
    assert study_curves([str(tmp_path / "all")], tmp_path, smooth=1)[0].steps.tolist() == [1]
    assert [one.getMessage() for one in caplog.records] == [
        f"no step of the run {begun.path} has been measured; it is left out."
    ]
    (measured.path / "metrics.jsonl").unlink()
    with pytest.raises(InputError, match=r"begun \(and of 1 more\) has been measured"):
        study_curves([str(tmp_path / "all")], tmp_path, smooth=1)


def test_no_steps_have_no_mean() -> None:
    assert running_mean(np.array([]), 5).tolist() == []


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.sampled_from([10**30, 1e308, 0]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=3,
)


@hypothesis.settings(max_examples=60, deadline=None, derandomize=True)
@hypothesis.given(name=st.sampled_from(["step", *(panel.key for panel in PANELS)]), odd=JSON)
def test_anything_in_a_field_is_drawn_or_one_sentence(
    tmp_path_factory: pytest.TempPathFactory, name: str, odd: Any
) -> None:
    path = tmp_path_factory.mktemp("run")
    folder = _changed(path, **{name: odd})
    said = ""
    try:
        make_curves({"grpo": [folder]})
    except InputError as error:
        said = str(error)
    assert not said or (said.startswith(f"{path}/metrics.jsonl is damaged") and "line" in said)


@pytest.mark.slow(1)
def test_the_largest_value_is_drawn(tmp_path: Path) -> None:
    folders = [_changed(tmp_path / str(sign), **{"attribution/divergence": sign * 1e100}) for sign in (-1, 1)]
    assert plot_curves({"grpo": folders}, tmp_path / "one", smooth=3)
