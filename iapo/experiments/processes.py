"""Processes side by side: each writes a log, and the first that fails ends the others.

A terminal shows progress bars; elsewhere there is a line where a process starts, and one where it is done.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from iapo.experiments.endings import error_of
from iapo.experiments.parent import GRACE, PARENT
from iapo.stopping import STOPPED, Stopped, Stopping, stoppable
from iapo.storage import make_folder

LOOK = 0.5
"""Seconds between two looks at the processes."""


class JobError(RuntimeError):
    """A process failed; the message ends with the last lines of its log."""


@dataclass(frozen=True, slots=True)
class Job:
    """One process.

    Attributes:
        name: Name that people read.
        command: Its command line; called with the number of threads it may use.
        log: File that its output goes to.
        steps: Number of steps it has.
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
        together: Number of jobs at a time; the machine's cores are shared out among them.

    Raises:
        InputError, NumberError, EndpointError or PlaceError: If one ends with a sentence; the others are ended.
        JobError: If one fails otherwise; the message ends with the last lines of its log.
        Stopped: If this process or one of them was asked to stop; the others are stopped as well.
    """
    threads = max(1, (os.cpu_count() or 1) // max(1, together))
    # Stopped from outside, this process stops the others too.
    with stoppable() as stop, _shown(jobs) as shown:
        waiting = list(jobs)
        running: list[tuple[Job, subprocess.Popen[bytes], IO[bytes]]] = []
        try:
            while waiting or running:
                while waiting and len(running) < together:
                    job = waiting.pop(0)
                    shown.start(job)
                    running.append((job, *_start(job, threads)))
                for one in list(running):
                    job, process, log = one
                    # Asked first, so that the count of an ended job is its last.
                    ended = process.poll() is not None
                    shown.update(job, job.done())
                    if ended:
                        log.close()
                        running.remove(one)
                        _check(job, process.returncode, stop)
                        shown.end(job)
                if running:
                    time.sleep(LOOK)
        finally:
            for _, process, _ in running:
                process.terminate()
            for _, process, log in running:
                _wait(process)
                log.close()


class _Lines:
    """Says of each job when it starts and when it is done: what a log or a pipe can use."""

    def __init__(self, jobs: Sequence[Job], console: Console) -> None:
        self.places = {job.name: place for place, job in enumerate(jobs, 1)}
        self.started: dict[str, float] = {}
        self.console = console

    def start(self, job: Job) -> None:
        self.started[job.name] = time.perf_counter()
        self._say(job, f"started; log: {job.log}")

    def update(self, job: Job, done: int) -> None:
        """Says nothing: steps are in the log."""

    def end(self, job: Job) -> None:
        self._say(job, f"done in {time.perf_counter() - self.started[job.name]:.0f} s")

    def _say(self, job: Job, what: str) -> None:
        line = f"[{self.places[job.name]}/{len(self.places)}] {job.name}: {what}"
        self.console.print(line, soft_wrap=True, markup=False, highlight=False)


class _Bars:
    """Shows each job as a progress bar, for a terminal."""

    def __init__(self, jobs: Sequence[Job], progress: Progress) -> None:
        self.progress = progress
        self.tasks = {job.name: progress.add_task(f"{job.name}: waiting", total=job.steps, start=False) for job in jobs}

    def start(self, job: Job) -> None:
        self.progress.start_task(self.tasks[job.name])

    def update(self, job: Job, done: int) -> None:
        self.progress.update(self.tasks[job.name], completed=done, description=f"{job.name}: {job.phase(done)}")

    def end(self, job: Job) -> None:
        self.progress.update(self.tasks[job.name], description=f"{job.name}: done")
        self.progress.stop_task(self.tasks[job.name])


@contextlib.contextmanager
def _shown(jobs: Sequence[Job]) -> Iterator[_Lines | _Bars]:
    console = Console()
    if not console.is_terminal:
        yield _Lines(jobs, console)
        return
    columns = (TextColumn("{task.description:34s}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        yield _Bars(jobs, progress)


def count_lines(path: Path) -> int:
    """Returns the lines of a file, 0 where there is none."""
    return path.read_bytes().count(b"\n") if path.exists() else 0


def _start(job: Job, threads: int) -> tuple[subprocess.Popen[bytes], IO[bytes]]:
    # Thread pools that are sized for the whole machine slow each other down tenfold.
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false"}
    environment[PARENT] = str(os.getpid())
    make_folder(job.log.parent)
    log = job.log.open("ab")
    return subprocess.Popen(list(job.command(threads)), stdout=log, stderr=subprocess.STDOUT, env=environment), log


def run_child(command: Sequence[str], log: IO[bytes], environment: Mapping[str, str]) -> int:
    """Runs one process to its end, which is stopped where this one is, and returns its exit code.

    Raises:
        Stopped: If this process or the child was asked to stop.
    """
    process = subprocess.Popen(list(command), stdout=log, stderr=subprocess.STDOUT, env=dict(environment))
    try:
        code = process.wait()
    finally:
        if process.poll() is None:
            process.terminate()
            _wait(process)
    if code == STOPPED:
        with stoppable() as stop:
            raise Stopped(f"the training was stopped; {stop.ending}")
    return code


def _wait(process: subprocess.Popen[bytes]) -> None:
    """Waits for a process that was asked to end, and kills it where it does not."""
    try:
        process.wait(GRACE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _check(job: Job, code: int, stop: Stopping) -> None:
    if code == STOPPED:
        raise Stopped(f"the run {job.name} was stopped; {stop.ending}")
    if code != 0:
        if (error := error_of(job.name, code, job.log)) is not None:
            raise error
        tail = "\n".join(job.log.read_text(errors="replace").splitlines()[-15:])
        raise JobError(f"the run {job.name} ended with exit code {code}; the end of {job.log}:\n{tail}")
