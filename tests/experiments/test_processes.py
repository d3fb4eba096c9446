"""Processes side by side."""

from __future__ import annotations

import io
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from processes import started, wait_for

from iapo.endpoints.chat import EndpointError
from iapo.errors import InputError, NumberError, PlaceError
from iapo.experiments import processes as job_processes
from iapo.experiments.processes import Job, JobError, count_lines, run_jobs

# Notes when it begins and ends.
NOTE = """
import os, sys, time
with open(sys.argv[1], "a") as file:
    file.write("begin\\n"); file.flush(); time.sleep(0.3); file.write("end\\n")
print("threads", os.environ["OMP_NUM_THREADS"])
"""


@pytest.fixture(autouse=True)
def _looked_at_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_processes, "LOOK", 0.02)


def job(name: str, folder: Path, code: str, *words: str) -> Job:
    return Job(
        name,
        lambda threads: [sys.executable, "-c", code, *words],
        log=folder / name / "log.txt",
        steps=1,
        done=lambda: 0,
        phase=lambda done: "at work",
    )


@pytest.mark.slow(3)
@pytest.mark.parametrize("together", [1, 2])
def test_so_many_at_a_time(tmp_path: Path, together: int):
    notes = tmp_path / "notes"
    run_jobs([job(str(index), tmp_path, NOTE, str(notes)) for index in range(3)], together)
    running, most = 0, 0
    for word in notes.read_text().split():
        running += 1 if word == "begin" else -1
        most = max(most, running)
    assert notes.read_text().split().count("end") == 3
    assert most <= together
    assert all("threads" in (tmp_path / str(index) / "log.txt").read_text() for index in range(3))


def test_the_next_one_starts_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def start(job: Job, threads: int) -> tuple[Any, Any]:
        return SimpleNamespace(poll=lambda: 0, returncode=0), io.BytesIO()

    def never(seconds: float) -> None:
        raise AssertionError("it waits for nothing")

    monkeypatch.setattr(job_processes, "_start", start)
    monkeypatch.setattr(job_processes.time, "sleep", never)
    run_jobs([job(str(index), tmp_path, "pass") for index in range(3)], 1)


@pytest.mark.slow(2)
def test_without_a_terminal_there_is_a_line_for_start_and_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    run_jobs([job(str(index), tmp_path / str(index), "pass") for index in range(2)], 1)
    out = capsys.readouterr().out
    expected = "".join(
        rf"\[{index + 1}/2\] {index}: started; log: .*log\.txt\n\[{index + 1}/2\] {index}: done in \d+ s\n"
        for index in range(2)
    )
    assert re.fullmatch(expected, out)


def test_a_failure_ends_the_others_and_shows_its_log(tmp_path: Path):
    slow = job("slow", tmp_path, "import time; time.sleep(800)")
    bad = job("bad", tmp_path, "raise SystemExit('out of luck')")
    never = job("never", tmp_path, "print('ran')")
    before = time.monotonic()
    with pytest.raises(JobError, match=r"the run bad ended with exit code 1(.|\n)*out of luck"):
        run_jobs([slow, bad, never], 2)
    # The slow one would have gone on.
    assert time.monotonic() - before < 700
    assert not (tmp_path / "never").exists()


def test_lines_are_counted(tmp_path: Path):
    assert count_lines(tmp_path / "none") == 0
    (tmp_path / "some").write_text("a\nb\nhalf")
    assert count_lines(tmp_path / "some") == 2


CHILD = (
    "import os, pathlib, sys, time\nfrom iapo.experiments.parent import end_with_parent\n"
    "end_with_parent(every=0.05)\npathlib.Path(sys.argv[1]).write_text(str(os.getpid()))\ntime.sleep(800)"
)


@pytest.mark.slow(2)
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_ended_from_outside_its_processes_end(tmp_path: Path, how: signal.Signals):
    """A child that outlived its parent would write into the folder of the run that goes on."""
    parent = (
        "import pathlib, sys\nfrom iapo.experiments.processes import Job, run_jobs\n"
        f"command = [sys.executable, '-c', {CHILD!r}, sys.argv[1] + '/pid']\n"
        "log = pathlib.Path(sys.argv[1]) / 'log.txt'\n"
        "run_jobs([Job('one', lambda threads: command, log, 1, lambda: 0, lambda done: 'at work')], 1)\n"
    )
    with started([sys.executable, "-c", parent, str(tmp_path)], stdout=subprocess.DEVNULL) as process:
        wait_for(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
        child = psutil.Process(int((tmp_path / "pid").read_text()))
        process.send_signal(how)
        assert process.wait(400) == (75 if how == signal.SIGTERM else -signal.SIGKILL)
        assert not psutil.wait_procs([child], timeout=400)[1]


def test_a_process_that_will_not_end_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(job_processes, "GRACE", 0.2)
    deaf = "import pathlib, signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    deaf += "pathlib.Path(sys.argv[1]).touch(); time.sleep(800)"
    mark = tmp_path / "deaf"
    fails = (
        f"import pathlib, time\nwhile not pathlib.Path({str(mark)!r}).exists(): time.sleep(0.05)\nraise SystemExit(1)"
    )
    jobs = [
        Job(name, lambda threads, code=code: [sys.executable, "-c", code, str(mark)], tmp_path / name, 1, int, str)
        for name, code in (("one", deaf), ("two", fails))
    ]
    with pytest.raises(JobError, match="the run two ended with exit code 1"):
        run_jobs(jobs, 2)


@pytest.mark.slow(3)
@pytest.mark.parametrize(
    ("raised", "kind", "said"),
    [
        ("InputError('no checkpoint x; name one')", InputError, "no checkpoint x; name one"),
        ("NumberError('a NaN')", NumberError, "a NaN"),
        ("PlaceError('no room')", PlaceError, "no room"),
        ("EndpointError('no answer')", EndpointError, "no answer"),
        (
            "OSError(errno.ENOSPC, 'No space left on device', 'there/a.bin')",
            PlaceError,
            "there/a.bin could not be written: No space left on device; make room there and start the same command",
        ),
    ],
)
def test_what_ends_with_a_sentence_ends_the_whole_with_it(
    tmp_path: Path, raised: str, kind: type[Exception], said: str
) -> None:
    code = (
        "import errno\nfrom iapo.endpoints.chat import EndpointError\nfrom iapo.errors import *\n"
        f"from iapo.experiments.endings import ending\nprint('begun')\nwith ending():\n    raise {raised}"
    )
    with pytest.raises(kind, match=f"^the run a: {re.escape(said)}") as caught:
        run_jobs([job("a", tmp_path, code)], 1)
    assert type(caught.value) is kind


def test_an_exit_code_alone_says_nothing(tmp_path: Path) -> None:
    """A process that is no `iapo` may end with 2, too."""
    with pytest.raises(JobError, match=r"ended with exit code 2; the end of .*\n.*what"):
        run_jobs([job("a", tmp_path, "print('what'); raise SystemExit(2)")], 1)
