"""Processes side by side, with progress: each writes a log, and the first that fails ends the others."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from iapo.experiments.parent import PARENT

GRACE = 20.0
"""Seconds that a process has to end by itself before it is killed."""


class JobError(RuntimeError):
    """A process failed; the message ends with the last lines of its log."""


@dataclass(frozen=True, slots=True)
class Job:
    """One process.

    Attributes:
        name: What people read.
        command: Its command line; called with the number of threads it may use.
        log: Where its output goes.
        steps: How many steps it has.
        done: Counts the steps done so far.
        phase: Says in a word or two what happens after so many steps.
    """

    name: str
    command: Callable[[int], Sequence[str]]
    log: Path
    steps: int
    done: Callable[[], int]
    phase: Callable[[int], str]


def run_jobs(jobs: Sequence[Job], together: int) -> None:
    """Runs jobs in order, some at a time.

    Args:
        jobs: The jobs.
        together: How many at a time; the machine's cores are shared out among them.

    Raises:
        JobError: If one fails; the message ends with the last lines of its log. The others are ended.
    """
    threads = max(1, (os.cpu_count() or 1) // max(1, together))
    columns = (TextColumn("{task.description:34s}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns) as progress:
        tasks = {job.name: progress.add_task(f"{job.name}: waiting", total=job.steps, start=False) for job in jobs}
        waiting = list(jobs)
        # Ended from outside, this process ends the others too; main thread only, as signals are.
        before = signal.signal(signal.SIGTERM, _end)
        running: list[tuple[Job, subprocess.Popen[bytes], IO[bytes]]] = []
        try:
            while waiting or running:
                while waiting and len(running) < together:
                    job = waiting.pop(0)
                    progress.start_task(tasks[job.name])
                    running.append((job, *_start(job, threads)))
                for one in list(running):
                    job, process, log = one
                    done = job.done()
                    text = f"{job.name}: {job.phase(done)}"
                    if process.poll() is not None:
                        log.close()
                        running.remove(one)
                        _check(job, process.returncode)
                        text = f"{job.name}: done"
                        progress.stop_task(tasks[job.name])
                    progress.update(tasks[job.name], completed=done, description=text)
                time.sleep(0.5)
        finally:
            signal.signal(signal.SIGTERM, before)
            for _, process, _ in running:
                process.terminate()
            for _, process, log in running:
                _wait(process)
                log.close()


def count_lines(path: Path) -> int:
    """The lines of a file, 0 where there is none."""
    return path.read_bytes().count(b"\n") if path.exists() else 0


def _end(*_: object) -> None:
    raise SystemExit(143)


def _start(job: Job, threads: int) -> tuple[subprocess.Popen[bytes], IO[bytes]]:
    # Thread pools that are sized for the whole machine slow each other down tenfold.
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false"}
    environment[PARENT] = str(os.getpid())
    job.log.parent.mkdir(parents=True, exist_ok=True)
    log = job.log.open("ab")
    return subprocess.Popen(list(job.command(threads)), stdout=log, stderr=subprocess.STDOUT, env=environment), log


def _wait(process: subprocess.Popen[bytes]) -> None:
    """Waits for a process that was asked to end, and kills it where it does not."""
    try:
        process.wait(GRACE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _check(job: Job, code: int) -> None:
    if code != 0:
        tail = "\n".join(job.log.read_text(errors="replace").splitlines()[-15:])
        raise JobError(f"the run {job.name} ended with exit code {code}; the end of {job.log}:\n{tail}")
