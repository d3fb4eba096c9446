"""What is read of a YAML file twice is parsed once, and belongs to whoever reads it."""

from __future__ import annotations

from pathlib import Path

from iapo.yaml_files import read_yaml


def test_a_reader_may_change_what_it_read(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("first: &one {second: [1]}\nthird: *one\n")
    found = read_yaml(path)
    assert found["third"] is found["first"]
    found["first"]["second"].append(2)
    assert read_yaml(path) == {"first": {"second": [1]}, "third": {"second": [1]}}
    path.write_text("first: 2")
    assert read_yaml(path) == {"first": 2}
