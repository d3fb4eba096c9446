"""The user's own code that settings name is compared by its contents."""

from __future__ import annotations

from pathlib import Path

import pytest

from iapo.own_files import by_contents, changed_file, code_digests


def test_files_and_modules_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("a.py", "b.py", "named_by_tools.py"):
        (tmp_path / name).write_text(f"def f():\n    return {name!r}\n")
    (tmp_path / "rows.csv").write_text("")
    found = code_digests(
        {
            "tools": "standard, a.py,b.py:f,named_by_tools:f",
            "reward": "iapo+b.py:f",
            "sets": ("vbar", "a.py:f@rows.csv", "rows.csv"),
            "data": "b.py:f@rows.csv,vbar",
            "eval_data": "vwtq@hub",
            "attribution_method": "iapo.attribution:gradient",
            "model": "b.py",
        }
    )
    assert {name: list(places) for name, places in found.items()} == {
        "tools": ["a.py", "b.py", "named_by_tools"],
        "reward": ["b.py"],
        "sets": ["a.py"],
        "data": ["b.py"],
    }
    assert found["tools"]["b.py"] == found["reward"]["b.py"] != found["tools"]["a.py"]


def test_a_file_is_the_same_wherever_it_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    for name in ("a.py", "there/a.py"):
        (tmp_path / name).write_text("def f(): pass\n")
    here, there = {"reward": "iapo+a.py:f"}, {"reward": "iapo+there/a.py:f"}
    before = code_digests(here)
    assert by_contents("reward", here["reward"], before) == by_contents("reward", there["reward"], code_digests(there))
    assert changed_file(before, code_digests(here)) is None
    (tmp_path / "a.py").write_text("def f(): return 1\n")
    assert changed_file(before, code_digests(here)) == "a.py (reward)"
    # A manifest of an earlier version has none, a damaged one something else.
    for none in (None, {}, {"reward": 5}, []):
        assert changed_file(none, code_digests(here)) is None
        assert by_contents("reward", here["reward"], none) == here["reward"]


def test_a_teachers_table_is_compared_as_code_is(tmp_path: Path) -> None:
    table = tmp_path / "a, table of mine"
    table.write_bytes(b"1")
    before = code_digests({"teacher_table": str(table)})
    assert list(before["teacher_table"]) == [str(table)]
    moved = tmp_path / "moved.parquet"
    moved.write_bytes(b"1")
    now = code_digests({"teacher_table": str(moved)})
    assert by_contents("teacher_table", str(table), before) == by_contents("teacher_table", str(moved), now)
    table.write_bytes(b"2")
    assert changed_file(before, code_digests({"teacher_table": str(table)})) == f"{table} (teacher_table)"
    assert code_digests({"teacher_table": str(tmp_path / "gone"), "data": None}) == {}
