"""One process at a time in an output folder: who holds it is named, and a dead holder's lock is taken over."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from processes import started, wait_for

from iapo.errors import InputError
from iapo.locks import LOCK, hold_file, hold_folder

HOLDER = """
import sys, time
from pathlib import Path
from iapo.locks import hold_folder
from iapo.storage import whole_file
with hold_folder(Path(sys.argv[1])):
    with whole_file(Path(sys.argv[1]) / "manifest.json") as part:
        part.write_text("half")
        print("held", flush=True)
        time.sleep(2000)
"""


def test_a_second_process_is_refused_until_the_first_is_dead(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "run"
    with started([sys.executable, "-c", HOLDER, str(folder)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(InputError) as refused, hold_folder(folder):
            pass
        assert f"in use by process {process.pid} on {socket.gethostname()}" in str(refused.value)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert json.loads((folder / LOCK).read_text())["pid"] == process.pid
        # What it was writing goes with its lock; what others write stays.
        (half,) = folder.glob("manifest.json.*.part")
        other = half.with_name(f"manifest.json.{os.getpid()}-0123abcd.part")
        other.touch()
        with caplog.at_level(logging.WARNING), hold_folder(folder):
            assert json.loads((folder / LOCK).read_text())["pid"] == os.getpid()
        assert f"was held by process {process.pid}" in caplog.text
    assert list(folder.iterdir()) == [other]


def test_a_holder_goes_on_holding(tmp_path: Path) -> None:
    with hold_folder(tmp_path / "b" / "run"):
        pass
    # What was only made for the lock goes with it.
    assert not (tmp_path / "b").exists()
    with hold_folder(tmp_path / "a" / "run"):
        with hold_folder(tmp_path / "a" / "run"):
            (tmp_path / "a" / "run" / "result").write_text("")
        assert (tmp_path / "a" / "run" / LOCK).exists()
    assert [path.name for path in (tmp_path / "a" / "run").iterdir()] == ["result"]


@pytest.mark.slow(1)
def test_many_at_once_never_hold_together(tmp_path: Path) -> None:
    """Removing a lock's file must not let two processes hold it."""
    script = (
        "import sys, time\nfrom pathlib import Path\nfrom iapo.errors import InputError\n"
        "from iapo.locks import hold_file\nfolder = Path(sys.argv[1])\ntaken = 0\n"
        "for _ in range(300):\n"
        "    try:\n"
        "        with hold_file(folder / 'table'):\n"
        "            (folder / 'inside').open('x').close()\n"
        "            (folder / 'inside').unlink()\n"
        "            taken += 1\n"
        "    except InputError:\n        time.sleep(0.001)\n"
        "print(taken)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    with contextlib.ExitStack() as stack:
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        for process in [stack.enter_context(started(command, **pipes)) for _ in range(3)]:
            out, errors = process.communicate(timeout=400)
            assert process.returncode == 0, errors.decode()
            assert int(out) > 0
    with hold_file(tmp_path / "table"):
        pass
    wait_for(lambda: not list(tmp_path.iterdir()))


@pytest.mark.parametrize(
    "text",
    [
        *(
            b"",
            b"{",
            b"null",
            b"5",
            b"x y",
            b"[1, 2]",
            b'{"a": 1}',
            b'{"pid": "x", "host": 5}',
            b"\xff",
            b"[" * 100_000,
        ),
        *(b'{"pid": 1e400, "host": "h"}', b'{"pid": 10000000000000000000000, "host": "h"}', b"99999999999999999999 h"),
    ],
)
def test_what_a_dead_holder_left_may_be_anything(tmp_path: Path, text: bytes) -> None:
    (tmp_path / LOCK).write_bytes(text)
    with hold_folder(tmp_path):
        assert json.loads((tmp_path / LOCK).read_text())["pid"] == os.getpid()


@pytest.mark.parametrize("kind", ["a folder", "a symbolic link", "a named pipe", "something else than a file"])
def test_what_is_no_file_in_the_place_of_a_lock_is_refused(tmp_path: Path, kind: str) -> None:
    """At once, and nothing is written through a link."""
    folder, precious = tmp_path / "run", tmp_path / "precious"
    folder.mkdir()
    precious.write_text("precious")
    lock = folder / LOCK
    with contextlib.ExitStack() as stack:
        if kind == "a folder":
            lock.mkdir()
        elif kind == "a symbolic link":
            lock.symlink_to(precious)
        elif kind == "a named pipe":
            os.mkfifo(lock)
        else:
            # A socket's path may be short alone.
            stack.enter_context(contextlib.chdir(folder))
            stack.enter_context(socket.socket(socket.AF_UNIX)).bind(LOCK)
        with pytest.raises(InputError) as refused, hold_folder(folder):
            pass
    assert str(refused.value) == f"{folder} cannot be held: {lock} is {kind} and no lock; remove it, then start again"
    assert precious.read_text() == "precious"
    assert [one.name for one in folder.iterdir()] == [LOCK]
