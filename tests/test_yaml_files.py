"""What is read of a YAML file twice is parsed once, and is the reader's; numbers are what they look like."""

from __future__ import annotations

from pathlib import Path

import pytest

from iapo.errors import InputError
from iapo.yaml_files import parse_yaml, read_yaml


def test_a_reader_may_change_what_it_read(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("first: &one {second: [1]}\nthird: *one\n")
    found = read_yaml(path)
    assert found["third"] is found["first"]
    found["first"]["second"].append(2)
    assert read_yaml(path) == {"first": {"second": [1]}, "third": {"second": [1]}}
    path.write_text("first: 2")
    assert read_yaml(path) == {"first": 2}


@pytest.mark.parametrize("number", ["010", "-017", "0_7", "1:30", "190:20:30", "1:30.5"])
def test_a_number_that_is_another_one_in_yaml_is_refused(number: str) -> None:
    with pytest.raises(InputError, match=f"x: the number {number} in line 2 is to the base of 8 or 60"):
        parse_yaml(f"a: 1\nseed: {number}\n", "x")
    assert parse_yaml(f"a: '{number}'", "x") == {"a": number}


def test_other_numbers_are_what_they_look_like() -> None:
    text = "[0, -1, 0.5, 1e-6, 1.0e+3, 0x10, 1_000, .inf, 00:a, 08]"
    assert parse_yaml(text, "x") == [0, -1, 0.5, "1e-6", 1000.0, 16, 1000, float("inf"), "00:a", "08"]
