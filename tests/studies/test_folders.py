"""Which folders are runs, and what they are called."""

from __future__ import annotations

from pathlib import Path

import pytest
from written_runs import write_run

from iapo.studies.folders import by_name, common_folder, find_runs


def test_names(tmp_path: Path) -> None:
    write_run(tmp_path / "grpo", [1])
    write_run(tmp_path / "full" / "iapo" / "seed-0", [1])
    write_run(tmp_path / "full" / "iapo" / "seed-1", [1], seed=1)
    write_run(tmp_path / "full" / "penalty" / "weight=1" / "seed-0", [1])
    # The start of a comparison was only evaluated.
    (tmp_path / "full" / "start").mkdir()
    (tmp_path / "full" / "start" / "manifest.json").write_text('{"config": {}}')
    words = [str(tmp_path / "grpo"), f"other={tmp_path}/full/iapo/seed-1"]
    runs = find_runs(words)
    assert [(run.name, run.seed, run.label) for run in runs] == [
        ("grpo", 0, "grpo, seed 0"),
        ("other", 1, "other, seed 1"),
    ]
    assert [run.label for run in find_runs([str(tmp_path / "full")])] == ["iapo, seed 0", "iapo, seed 1"]
    # A name with an equals sign is a folder's where there is one.
    (run,) = find_runs([str(tmp_path / "full" / "penalty" / "weight=1")])
    assert run.name == "weight=1"
    assert common_folder(runs, None) == tmp_path.resolve()
    assert common_folder(runs, Path("x")) == Path("x")
    with pytest.raises(ValueError, match="holds no run; give a run folder"):
        find_runs([str(tmp_path / "full" / "start")])
    with pytest.raises(ValueError, match="grpo is given twice"):
        find_runs([words[0], f"b={words[0]}"])


def test_runs_of_one_name_differ_in_the_seed_alone(tmp_path: Path) -> None:
    write_run(tmp_path / "a", [1], save_steps=5)
    write_run(tmp_path / "b", [1], seed=1, save_steps=9)
    write_run(tmp_path / "c", [1], seed=2, penalty_weight=0.5)
    write_run(tmp_path / "d", [1])

    def grouped(*names: str) -> dict[str, list[str]]:
        groups = by_name(find_runs([f"m={tmp_path}/{name}" for name in names]))
        return {name: [run.path.name for run in some] for name, some in groups.items()}

    assert grouped("a", "b") == {"m": ["a", "b"]}
    with pytest.raises(ValueError, match="are both called 'm' but differ in penalty_weight; name them apart"):
        grouped("a", "c")
    with pytest.raises(ValueError, match="repeats seed 0 of 'm'"):
        grouped("a", "d")
