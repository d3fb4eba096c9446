"""What a training says while it runs: a line or a row of a live table for each logged step."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from iapo.runs import metric_name

ROWS = 12
"""Steps that the live table shows, the last ones."""

COLUMNS: Mapping[str, tuple[str, Callable[[float], str]]] = {
    "reward/outcome": ("outcome", "{:.3f}".format),
    "tools/misuse_rate": ("misuse", "{:.1%}".format),
    "attribution/divergence": ("divergence", "{:.3f}".format),
}
"""What is said of a step: key in `metrics.jsonl` -> heading and format."""


class StepProgress(TrainerCallback):
    """Says what each logged step came to.

    Args:
        console: Console that it is said on.
        live: Whether one table is kept up to date; else each step is a line.
    """

    def __init__(self, console: Console, *, live: bool) -> None:
        self.console = console
        self._live = Live(console=console, auto_refresh=False) if live else None
        self._rows: deque[tuple[str, ...]] = deque(maxlen=ROWS)
        self._started = self._last = 0.0
        self._first_step = self._last_step = 0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Takes up the trainer's call before the first step, also where a training goes on."""
        self._started = self._last = time.perf_counter()
        self._first_step = self._last_step = state.global_step
        if self._live is not None and state.is_world_process_zero:
            self._live.start()

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Takes up each line of the trainer's log."""
        if not state.is_world_process_zero or not logs or "loss" not in logs:
            return
        now = time.perf_counter()
        seconds = (now - self._last) / max(1, state.global_step - self._last_step)
        pace = (now - self._started) / max(1, state.global_step - self._first_step)
        left = duration(pace * (state.max_steps - state.global_step))
        self._last, self._last_step = now, state.global_step
        values = {metric_name(name): value for name, value in logs.items()}
        cells = ["-" if values.get(key) is None else text(values[key]) for key, (_, text) in COLUMNS.items()]
        step = f"{state.global_step}/{state.max_steps}"
        if self._live is None:
            said = [f"{heading} {cell}" for (heading, _), cell in zip(COLUMNS.values(), cells, strict=True)]
            line = "  ".join([f"step {step}", *said, f"{seconds:.1f} s", f"{left} left"])
            self.console.print(line, soft_wrap=True, highlight=False)
            return
        self._rows.append((step, *cells, f"{seconds:.1f}", left))
        self._live.update(self._table(), refresh=True)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Takes up the trainer's call after the last step."""
        self.close()

    def close(self) -> None:
        """Leaves the live table as it is; also after an error, so that the terminal is as it was."""
        if self._live is not None:
            self._live.stop()

    def _table(self) -> Table:
        table = Table()
        for heading in ("step", *(heading for heading, _ in COLUMNS.values()), "seconds", "time left"):
            table.add_column(heading, justify="right")
        for row in self._rows:
            table.add_row(*row)
        return table


@contextmanager
def step_progress(trainer: Any, console: Console, *, live: bool) -> Iterator[None]:
    """Has a trainer say its steps in our way instead of Transformers', which prints dictionaries.

    Args:
        trainer: The trainer.
        console: Console that its steps are said on.
        live: Live as in `StepProgress`.
    """
    for theirs in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(theirs)
    ours = StepProgress(console, live=live)
    trainer.add_callback(ours)
    try:
        yield
    finally:
        ours.close()


@contextmanager
def bar(console: Console, what: str, total: int | None, *, live: bool) -> Iterator[Callable[[int], None]]:
    """Shows a bar while something is done, and one line when it is done.

    Args:
        console: Console that it is shown on.
        what: Noun for what is done.
        total: Number of it there are; None where that is not known before.
        live: Whether there is a bar.

    Yields:
        What is called with the number of new ones done.
    """
    started = time.perf_counter()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not live) as progress:
        task = progress.add_task(what, total=total)
        yield lambda done: progress.advance(task, done)
        count = int(progress.tasks[task].completed) if total is None else total
    console.print(f"{what}: {count} in {duration(time.perf_counter() - started)}", soft_wrap=True, highlight=False)


def duration(seconds: float) -> str:
    """Returns a time as people say it, to the second up to two minutes, then to the minute."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
