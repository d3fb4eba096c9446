"""The case study of saved runs: which policies, which pictures, what is written."""

from __future__ import annotations

import csv
import dataclasses
import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from iapo.data.convert import make
from iapo.runs import RunFolder
from iapo.studies import misuse
from iapo.studies.case_study import CaseStudyPlan
from iapo.studies.folders import Run, find_runs
from iapo.studies.misuse import misuse_csv, misuse_table, plan_of, policies, run_misuse, write_misuse
from iapo.training.settings import parse


def saved_run(path: Path, *checkpoints: int, steps: int = 0, **more: Any) -> Run:
    """A run folder as training leaves it, but for the weights."""
    arguments, settings = parse("demo-iapo", [])
    run_settings = {**dataclasses.asdict(arguments), "case_study_samples": 4, **more}
    folder = RunFolder(path)
    folder.write_manifest({"run": run_settings, "training": settings.to_dict()}, seeds={"training": 0}, data={})
    for step in range(1, steps + 1):
        folder.append_metrics({"step": step})
    for step in checkpoints:
        (path / f"checkpoint-{step}").mkdir()
        (path / f"checkpoint-{step}" / "trainer_state.json").touch()
    (run,) = find_runs([str(path)])
    return run


def estimate(value: float) -> dict[str, Any]:
    return {"value": value, "low": value - 0.1, "high": value + 0.1, "count": 4}


STUDY = {
    "points": [
        {"step": 0, "samples": 4, "misuse": estimate(0.5), "right_tools": estimate(0.2), "wrong_tools": None},
        {"step": 5, "samples": 4, "misuse": None, "right_tools": estimate(0.3), "wrong_tools": estimate(0.1)},
    ],
    "teacher": {"misuse": estimate(0.1), "right_tools": estimate(0.4), "wrong_tools": estimate(0.05)},
    "settings": {"samples": 4},
}


def test_policies_of_a_run(tmp_path: Path) -> None:
    run = saved_run(tmp_path / "run", 5, 10, steps=12)
    (tmp_path / "run" / "checkpoint-99").mkdir()
    assert policies(run) == {
        0: "tiny-student",
        5: str(tmp_path / "run" / "checkpoint-5"),
        10: str(tmp_path / "run" / "checkpoint-10"),
    }
    # Once it has ended its policy is the last step's.
    (tmp_path / "run" / "policy").mkdir()
    (tmp_path / "run" / "policy" / "config.json").touch()
    assert list(policies(run)) == [0, 5, 10, 12]
    assert policies(run)[12] == str(tmp_path / "run" / "policy")


def test_the_runs_own_plan_and_changes(tmp_path: Path) -> None:
    run = saved_run(tmp_path / "run", steps=1, eval_seed=3)
    plan = plan_of(run, {"samples": None})
    assert (plan.samples, plan.families, plan.seed, plan.data, plan.teacher) == (
        4,
        ("vbar", "hbar"),
        3,
        None,
        "tiny-teacher",
    )
    assert (plan.generation.temperature, plan.generation.max_turn_tokens, plan.generation.seed) == (1.0, 24, 3)
    assert plan_of(run, {"data_damage": "quarantine"}).leave_out_damage
    changed = plan_of(run, {"samples": 7, "families": ("hbar",), "temperature": 0.0, "teacher": "other"})
    assert (changed.samples, changed.families, changed.generation.temperature, changed.teacher) == (
        7,
        ("hbar",),
        0.0,
        "other",
    )
    with pytest.raises(ValueError, match="both given"):
        plan_of(run, {"data": "x", "families": ("hbar",)})
    trained_on_data = saved_run(tmp_path / "other", steps=1, data="mine.parquet", eval_split="validation")
    assert (plan_of(trained_on_data, {}).data, plan_of(trained_on_data, {}).split) == ("mine.parquet", "validation")
    synthetic = plan_of(trained_on_data, {"families": ("vbar",)})
    assert (synthetic.data, synthetic.split) == (None, "test")


def test_data_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Points and the teacher's level are measured on the data, and the level once for runs that share it."""
    asked: list[tuple[str, list[str]]] = []

    def observe(policy: Any, samples: Any, plan: CaseStudyPlan, progress: Any) -> list[Any]:
        asked.append((policy.name, [one.source for one in samples]))
        return []

    monkeypatch.setattr(misuse, "load_policy", lambda name, how: SimpleNamespace(name=name, processor=None))
    monkeypatch.setattr(misuse, "see_alike", lambda processor, other, how: None)
    monkeypatch.setattr(misuse, "observe", observe)
    make("hbar", 3, tmp_path / "test.parquet", seed=0, size=112, split="test")
    runs = [saved_run(tmp_path / name, 5, steps=1) for name in ("a", "b")]
    found = run_misuse(runs, {"data": str(tmp_path / "test.parquet")})
    assert [name.rpartition("/")[2] for name, _ in asked] == [
        "tiny-teacher",
        *("tiny-student", "checkpoint-5") * 2,
    ]
    assert all(sources == ["synthetic/hbar"] * 3 for _, sources in asked)
    assert [list(one) for one in found.values()] == [["format", "kind", "points", "teacher", "settings"]] * 2
    with pytest.raises(ValueError, match=r"was made with data .*test\.parquet"):
        run_misuse(runs, {})


def test_csv_and_table() -> None:
    rows = list(csv.DictReader(io.StringIO(misuse_csv({"grpo, seed 0": STUDY}))))
    assert len(rows) == 9
    assert rows[0] == {
        **{"run": "grpo, seed 0", "policy": "student", "step": "0", "samples": "4", "measure": "misuse"},
        **{"value": "0.5", "low": "0.4", "high": "0.6", "count": "4"},
    }
    assert rows[2]["value"] == rows[3]["value"] == ""
    assert (rows[-1]["policy"], rows[-1]["step"], rows[-1]["value"]) == ("teacher", "", "0.05")
    other = {**STUDY, "teacher": {**STUDY["teacher"], "misuse": estimate(0.2)}}
    # One row for a level that runs share.
    assert misuse_table({"a": STUDY, "b": STUDY}).row_count == 5
    assert misuse_table({"a": STUDY, "b": other}).row_count == 6
    assert misuse_table({"a": {**STUDY, "teacher": None}}).row_count == 2


@pytest.mark.slow(1)
@pytest.mark.parametrize("count", [1, 2, 6])
def test_figures(tmp_path: Path, count: int) -> None:
    found: dict[str, Any] = {f"run {index}": STUDY for index in range(count)}
    found["run 0"] = {**STUDY, "teacher": None}
    assert [path.name for path in write_misuse(found, tmp_path)] == ["misuse.csv", "misuse.svg", "misuse.png"]
    drawn = (tmp_path / "misuse.svg").read_text()
    assert drawn.count("Attribution: run") == count
    assert "4 clearly divisible pictures; bands: 95% intervals" in drawn
    assert ("right tools, teacher" in drawn) == (count > 1)
    assert (tmp_path / "misuse.png").stat().st_size > 10_000
