"""A forked process is to its caller what one of its own is."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from processes import run, run_ranks, started, wait_for

SAYS = """
import atexit, os, sys, threading, time
atexit.register(lambda: print("at the end"))
threading.Thread(target=lambda: (time.sleep(0.1), print("in a thread"))).start()
print(__name__, sys.argv[1:], os.environ.get("SAID"), os.environ.get("PYTEST_CURRENT_TEST"), os.getcwd(), flush=True)
print("unwell", file=sys.stderr)
import beside
beside.end(sys.argv[1])
"""

ENDS = """
import sys

def end(how):
    if how == "raise":
        raise ValueError("boom")
    sys.exit({"none": None, "three": 3, "text": "so it ends"}[how])
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    (tmp_path / "beside.py").write_text(ENDS)
    (tmp_path / "says.py").write_text(SAYS)
    return tmp_path / "says.py"


@pytest.mark.parametrize(
    ("how", "code", "errors"),
    [("none", 0, "unwell"), ("three", 3, "unwell"), ("text", 1, "so it ends"), ("raise", 1, "ValueError: boom")],
)
@pytest.mark.parametrize("fork", [False, True])
def test_it_runs_and_ends_as_one_of_its_own(script: Path, how: str, code: int, errors: str, fork: bool) -> None:
    done = run([sys.executable, str(script), how, "2"], fork=fork, env={"SAID": "yes"}, cwd=script.parent)
    assert done.returncode == code
    first, *rest = done.stdout.splitlines()
    assert first == f"__main__ {[how, '2']} yes None {script.parent}"
    assert rest == ["in a thread", "at the end"]
    assert done.stderr.rstrip().endswith(errors)


def test_modules_limits_and_both_outputs_as_one(tmp_path: Path) -> None:
    (tmp_path / "writes.py").write_text("print('out')\nwith open('file', 'wb') as file: file.write(bytes(2000))")
    command = [sys.executable, "-m", "writes"]
    with started(command, fork=True, cwd=tmp_path, largest=1000, stderr=subprocess.STDOUT) as process:
        assert process.wait(400) == 1
        printed = process.stdout.read()
    assert printed.startswith(("out\n", "Traceback"))
    assert "File too large" in printed
    assert (tmp_path / "file").stat().st_size == 1000


def test_it_can_be_killed(tmp_path: Path) -> None:
    (tmp_path / "waits.py").write_text("import pathlib, time\npathlib.Path('there').touch()\ntime.sleep(2000)")
    with started([sys.executable, str(tmp_path / "waits.py")], fork=True, cwd=tmp_path) as process:
        wait_for((tmp_path / "there").exists)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.05)
    assert process.returncode == -signal.SIGKILL


def test_a_rank_that_fails_fails_all(tmp_path: Path) -> None:
    (tmp_path / "rank.py").write_text("import os\nif os.environ['RANK'] == '1': raise SystemExit('no')\nprint('yes')")
    with pytest.raises(AssertionError, match="rank 1: no"):
        run_ranks(tmp_path / "rank.py")
    (tmp_path / "rank.py").write_text("import os\nprint(os.environ['RANK'], os.environ['WORLD_SIZE'])")
    assert run_ranks(tmp_path / "rank.py") == ["0 2\n", "1 2\n"]
