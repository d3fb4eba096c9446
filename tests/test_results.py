"""Files of results: their format and kind, those of earlier and of later versions, and what is none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from iapo.errors import InputError
from iapo.estimates import Estimate
from iapo.results import (
    FORMAT,
    Manifest,
    SetsEvaluation,
    TrainingEvaluation,
    read_evaluation,
    read_result,
    write_result,
)

HALF = {"value": 0.5, "low": 0.4, "high": 0.6, "count": 10}

BEFORE_AFTER = {
    "settings": {"temperature": 1.0},
    "samples": 2,
    "before": {"accuracy": HALF},
    "after": {"accuracy": HALF},
    "after_minus_before": {"outcome": HALF},
    "attribution": {"before": {"student": {"query": 1.0}}},
    "outcomes": {"before": [0.0, 1.0], "after": [1.0, 1.0]},
}
TEST_SETS = {
    "model": "m",
    "settings": {"repeats": 1},
    "sets": {"vbar": {"samples": 2, "data": "abc", "accuracy": HALF, "outcomes": [[0.0, 1.0]]}},
    "average": HALF,
}


def written(path: Path, data: Any) -> Path:
    path.write_text(json.dumps(data))
    return path


@pytest.mark.parametrize("stamp", [{}, {"format": 1, "kind": "before_after"}])
def test_a_trainings_evaluation(tmp_path: Path, stamp: dict[str, Any]) -> None:
    found = read_evaluation(written(tmp_path / "e.json", stamp | BEFORE_AFTER))
    assert isinstance(found, TrainingEvaluation)
    half = Estimate(0.5, 0.4, 0.6, 10)
    assert (found.samples, found.before, found.differences) == (2, {"accuracy": half}, {"outcome": half})
    assert found.outcomes["after"] == [1.0, 1.0]


@pytest.mark.parametrize("stamp", [{}, {"format": 1, "kind": "test_sets"}])
def test_an_evaluation_on_sets(tmp_path: Path, stamp: dict[str, Any]) -> None:
    found = read_evaluation(written(tmp_path / "e.json", stamp | TEST_SETS))
    assert isinstance(found, SetsEvaluation)
    assert found.sets["vbar"].measures == {"accuracy": Estimate(0.5, 0.4, 0.6, 10)}
    assert found.to_json() == TEST_SETS


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": FORMAT + 1, "kind": "test_sets"}, f"has the format {FORMAT + 1}, but this iapo reads up to"),
        ({"format": "2", "kind": "test_sets"}, "has the format '2'"),
        ({"format": 1, "kind": "table"}, "is of the kind 'table', not before_after or test_sets"),
        ({"sets": {"vbar": {"data": "abc"}}}, "is damaged .*outcomes"),
        ({"average": 0.5}, "is damaged"),
        # What a file holds may be long; it is quoted by its beginning.
        ({"format": "x" * 100_000, "kind": "test_sets"}, r"has the format 'x{196}\.\.\., but this iapo"),
        ({"format": 1, "kind": "x" * 100_000}, r"is of the kind 'x{196}\.\.\., not"),
        ({"average": {"value": "x" * 100_000}}, r"is damaged \(.{,200}\); restore"),
    ],
)
def test_what_is_no_evaluation(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = written(tmp_path / "e.json", TEST_SETS | change)
    with pytest.raises(InputError, match=f"{path} {message}"):
        read_evaluation(path)


@pytest.mark.parametrize("stamped", [True, False])
@pytest.mark.parametrize(
    ("kind", "config"), [("training", {"run": {}, "training": {}}), ("evaluation", {"evaluation": {"model": "m"}})]
)
def test_manifests(tmp_path: Path, stamped: bool, kind: Any, config: dict[str, Any]) -> None:
    counted = {"test": "abc", "shared_pictures": {"exact": 0, "near": 1}, "rows": {"train": {"expected": 3}}}
    manifest = Manifest(kind, config, {"python": "3"}, {"training": 1}, counted, "head")
    path = tmp_path / "manifest.json"
    manifest.write(path)
    if not stamped:
        data = json.loads(path.read_text())
        assert (data.pop("format"), data.pop("kind")) == (1, kind)
        written(path, data)
    assert Manifest.read(path) == manifest


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"config": {}}, "is not the manifest of a run"),
        ({"config": [1]}, "is not the manifest of a run"),
        ({"name": "tiny-student", "stages": {}}, "is not the manifest of a run"),
        ({"format": 1, "kind": "training", "config": {"evaluation": {}}}, "is not the manifest of a run"),
        ({"format": 1, "kind": "tiny_model"}, "is of the kind 'tiny_model'"),
        ({"format": 9, "kind": "training", "config": {"training": {}}}, "has the format 9"),
        ({"config": {"training": {}}, "seeds": [1]}, "is damaged"),
        ({"config": {"training": {}}, "data": {"test": [1]}}, "is damaged"),
    ],
)
def test_what_is_no_manifest(tmp_path: Path, data: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Manifest.read(written(tmp_path / "manifest.json", data))


def test_a_result_written_anew_has_one_stamp(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_result(path, "table", {"rows": []})
    write_result(path, "table", read_result(path, "table") | {"format": 7, "rows": [1]})
    assert path.read_text() == '{\n  "format": 1,\n  "kind": "table",\n  "rows": [\n    1\n  ]\n}\n'
