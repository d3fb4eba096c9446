"""No test hangs or leaves a process behind: what tests start ends, and they start it in one way."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import psutil
import pytest
from processes import run, started, wait_for

TESTS = Path(__file__).parent

SPAWNS = (
    "import pathlib, subprocess, sys, time\n"
    "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(2000)'], start_new_session=True)\n"
    "pathlib.Path(sys.argv[1], 'half').write_text(str(child.pid))\n"
    "pathlib.Path(sys.argv[1], 'half').rename(pathlib.Path(sys.argv[1], 'pid'))\ntime.sleep(2000)"
)
"""Starts a process in a session of its own, as `torch.distributed.run` does."""


@pytest.mark.slow(2)
def test_all_that_a_process_started_ends_with_it(tmp_path: Path) -> None:
    with started([sys.executable, "-c", SPAWNS, str(tmp_path)]) as process:
        wait_for((tmp_path / "pid").exists)
        child = psutil.Process(int((tmp_path / "pid").read_text()))
        assert child.ppid() == process.pid
    assert process.returncode is not None
    assert not psutil.wait_procs([child], timeout=400)[1]


@pytest.mark.slow(1)
def test_a_process_has_a_time_limit() -> None:
    with pytest.raises(AssertionError, match=r"took more than 0.5 s"):
        run([sys.executable, "-c", "import time; time.sleep(2000)"], timeout=0.5)


def test_tests_start_processes_in_one_way() -> None:
    """Through tests/processes.py, which has tests/forks.py fork some; tests/documented.py puts something else in the
    place of the package's own calls.
    """
    calls = re.compile(
        r"subprocess\.(run|Popen|call|check_\w+)\(|os\.(system|popen|fork|spawn\w+)\(|\bmultiprocessing\b"
    )
    found = [path.name for path in TESTS.rglob("*.py") if calls.search(path.read_text())]
    assert sorted(found) == ["forks.py", "processes.py", Path(__file__).name]


@pytest.mark.slow(25)
def test_models_that_are_built_side_by_side_end_with_the_command(tmp_path: Path) -> None:
    """Also where it is killed, and can end nobody."""
    with started([sys.executable, "-m", "iapo", "tiny", "build", "--out", str(tmp_path)], fork=True) as process:
        parent = psutil.Process(process.pid)
        wait_for(lambda: workers(parent))
        those = workers(parent)
        process.kill()
        process.wait(400)
        # Well before the models are built, which takes minutes.
        assert not psutil.wait_procs(those, timeout=400)[1]


def workers(parent: psutil.Process) -> list[psutil.Process]:
    """The processes of a pool, without the one that tracks its resources."""
    children = parent.children()
    return [child for child in children if "resource_tracker" not in " ".join(child.cmdline())]
