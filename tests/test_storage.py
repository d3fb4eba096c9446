"""Files that are written whole or not at all, and lines that are read whole or left out."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from types import NoneType
from typing import Any

import pytest
from processes import started

from iapo.errors import InputError
from iapo.storage import (
    append_record,
    check_place,
    create_json,
    make_folder,
    read_json,
    read_lines,
    read_records,
    take,
    take_list,
    together,
    whole_file,
    without_empty,
    write_all,
    write_json,
    write_records,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def write_half(path: Path) -> None:
    with whole_file(path) as part:
        part.write_text("half")
        raise RuntimeError("broke off")


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"a": "ü"})
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    with pytest.raises(RuntimeError, match="broke off"):
        write_half(path)
    assert read_json(path) == {"a": "ü"}
    with whole_file(tmp_path / "never"):
        pass
    assert names(tmp_path) == ["a.json"]


def test_the_file_appears_at_the_end(tmp_path: Path) -> None:
    with whole_file(tmp_path / "a") as first, whole_file(tmp_path / "a") as second:
        assert first != second
        first.write_text("first")
        second.write_text("second")
        assert not (tmp_path / "a").exists()
    assert (tmp_path / "a").read_text() == "first"
    assert names(tmp_path) == ["a"]


WRITES = (
    "import pathlib, sys\nfrom iapo.storage import write_text\n"
    "for _ in range(50): write_text(pathlib.Path(sys.argv[1]), sys.argv[2] * 100_000)"
)


def test_processes_do_not_race(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with contextlib.ExitStack() as stack:
        commands = [[sys.executable, "-c", WRITES, str(path), letter] for letter in "xyz"]
        writers = [stack.enter_context(started(command)) for command in commands]
        while any(writer.poll() is None for writer in writers):
            if path.exists():
                text = path.read_text()
                assert len(text) == 100_000
                assert len(set(text)) == 1
        assert [writer.returncode for writer in writers] == [0, 0, 0]
    assert names(tmp_path) == ["a"]


def test_half_a_line_is_left_out_and_dropped(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    records: list[dict[str, Any]] = [{"step": 1, "text": "a\nb\u2028c"}, {"step": 2}]
    for record in records:
        append_record(path, record)
    whole = path.read_bytes()
    for half in (b'{"step"', b'{"step": 3}'):
        path.write_bytes(whole + half)
        assert read_records(path) == records
        assert read_lines(path)[1] == half
        append_record(path, {"step": 4})
        assert read_records(path) == [*records, {"step": 4}]
    path.write_bytes(b"{")
    append_record(path, {"step": 4})
    assert read_records(path) == [{"step": 4}]
    write_records(path, iter(records))
    assert path.read_bytes() == whole


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"a": 1}\n{"a"\n{}\n', "line 2 is not JSON"),
        (b'{"a": 1}\n\n', "line 2 is not JSON"),
        (b"[1]\n", "line 1 is no record"),
        (b'"\xff"\n', "line 1 is not JSON"),
        (b"[" * 100_000 + b"\n", "line 1 is not JSON"),
    ],
)
def test_a_damaged_line_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)
    with pytest.raises(InputError, match=f"{path} is damaged: {message}"):
        read_records(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "is damaged: it is not JSON"),
        (b"[" * 100_000, "is damaged: it is not JSON"),
        (b"\xff", "is damaged: it is not JSON"),
        (b"[1]", "is damaged: it holds no record"),
        (None, r"No such file or directory\); restore it"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "a.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=rf"{path}.*{message}"):
        read_json(path)


def test_where_nothing_can_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    check_place(tmp_path / "folder" / "new")
    with pytest.raises(InputError, match=r"lies below .*/file, which is a file"):
        check_place(tmp_path / "file" / "new")
    with pytest.raises(InputError, match="cannot be written: File name too long"):
        check_place(tmp_path / ("x" * 300))
    with pytest.raises(InputError, match=r"/proc/iapo/new cannot be made: .*; choose another place"):
        check_place(Path("/proc/iapo/new"))
    # It was looked at alone.
    assert [one.name for one in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("value", "kinds"),
    [
        ("a", (str,)),
        (None, (str, NoneType)),
        (True, (bool,)),
        (1, (int,)),
        (1, (float,)),
        (0.5, (float,)),
        ([], (list,)),
    ],
)
def test_a_field_of_its_kind_is_taken(value: object, kinds: tuple[type, ...]) -> None:
    assert take({"x": value}, "x", *kinds) is value
    assert take({}, "x", *kinds, default=7) == 7


@pytest.mark.parametrize(
    ("value", "kinds"),
    [(5, (str,)), (None, (str,)), (True, (int,)), (True, (float,)), (1, (bool,)), (10**400, (float,)), (0.5, (int,))],
)
def test_a_field_of_another_kind_is_named(value: object, kinds: tuple[type, ...]) -> None:
    with pytest.raises(InputError, match="the field x is of the type"):
        take({"x": value}, "x", *kinds)
    with pytest.raises(InputError, match="the field x is missing"):
        take({}, "x", *kinds)
    with pytest.raises(InputError, match="in the place of the record of x"):
        take(value, "x", *kinds)


def test_a_list_is_taken_whole() -> None:
    assert take_list({"x": ["a", "b"]}, "x", str) == ["a", "b"]
    with pytest.raises(InputError, match="a list of other things"):
        take_list({"x": ["a", 5]}, "x", str)


def test_a_file_that_is_there_is_not_created(tmp_path: Path) -> None:
    create_json(tmp_path / "one.json", {"a": [1]})
    with pytest.raises(FileExistsError):
        create_json(tmp_path / "one.json", {"a": [2]})
    assert (tmp_path / "one.json").read_text() == '{\n  "a": [\n    1\n  ]\n}\n'
    assert [path.name for path in tmp_path.iterdir()] == ["one.json"]


def test_only_folders_of_ones_own_are_taken_away(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    with without_empty():
        make_folder(tmp_path / "kept" / "deep")

    def fail() -> None:
        with without_empty():
            make_folder(tmp_path / "a" / "b" / "c")
            make_folder(tmp_path / "there" / "new")
            make_folder(tmp_path / "full" / "part")
            (tmp_path / "full" / "file").write_text("")
            # Another process's.
            (tmp_path / "other").mkdir()
            make_folder(tmp_path / "other")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")) == [
        *("full", "full/file", "kept", "kept/deep", "other", "there"),
    ]
    with pytest.raises(FileExistsError):
        make_folder(tmp_path / "full" / "file")


def test_files_that_belong_together_are_written_together(tmp_path: Path) -> None:
    write_all({tmp_path / "a": b"1", tmp_path / "b": b"2"})
    with pytest.raises(FileNotFoundError):
        write_all({tmp_path / "a": b"3", tmp_path / "gone" / "b": b"4"})
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a": b"1", "b": b"2"}


def test_files_that_belong_together_go_together(tmp_path: Path) -> None:
    (tmp_path / "old").write_text("kept")
    files = [tmp_path / name for name in ("old", "one", "two")]

    def write() -> None:
        with together(files):
            (tmp_path / "one").write_text("new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write()
    assert [path.name for path in tmp_path.iterdir()] == ["old"]
    with together(files):
        (tmp_path / "one").write_text("new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["old", "one"]
