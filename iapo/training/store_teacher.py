"""What `iapo teacher attribute` does: a teacher's attribution of its own calls, written once for a training."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from iapo.attribution.settings import alignment_settings
from iapo.display.quiet import quiet_libraries
from iapo.errors import InputError
from iapo.locks import hold_file
from iapo.rewards.alignment import OWN_CALL
from iapo.rollout.load_settings import settings_in
from iapo.rollout.names import check_teacher
from iapo.rollout.policy import find_checkpoint, load_processor
from iapo.stopping import stoppable
from iapo.teachers.asking import attribute_samples
from iapo.tools import offered_tools
from iapo.training.arguments import RunArguments
from iapo.training.config import IAPOConfig
from iapo.training.loaded import load_teacher
from iapo.training.run import run_samples
from iapo.training.settings import Changes, parse


def store_teacher(config: str, changes: Changes, out: Path, *, model: str | None, split: str) -> tuple[int, int]:
    """Attributes a teacher's own greedy call to every sample of a training and writes the table.

    Args:
        config: Settings of the training: a YAML file, or the name of a packaged one.
        changes: Settings that win over the file's.
        out: The parquet file to write.
        model: The teacher; the configuration's if None.
        split: Split whose samples: `train`, `test` or `both`.

    Returns:
        How many samples the table has, and how many of them are without a call of the teacher.

    Raises:
        InputError: If the split is unknown, `out` exists or is in use, no teacher is named, or the settings are of a
            training that could not use a table.
        iapo.stopping.Stopped: If the process was asked to stop; the same call goes on.
    """
    if split not in ("train", "test", "both"):
        raise InputError(f"no split {split!r}; use train, test or both")
    if out.exists():
        raise InputError(f"{out} already exists; choose another --out or remove it")
    if out.suffix not in ("", ".parquet"):
        raise InputError(f"--out is {out}, but the table is a parquet file; end its name in .parquet")
    # Read as by the training that will use it, which may say that no table can serve it.
    arguments, training = parse(config, changes, teacher_table=str(out))
    if training.max_turns > 2:
        raise InputError(f"{OWN_CALL}; max_turns is {training.max_turns}")
    name = model or training.teacher
    if name is None:
        raise InputError("there is no teacher to attribute; give --model, or `teacher` in the configuration")
    teacher_revision = settings_in(training, "teacher").model_revision
    check_teacher(arguments.model, name, arguments.model_revision, teacher_revision)
    find_checkpoint(arguments.model, arguments.model_revision)
    find_checkpoint(name, teacher_revision)
    with quiet_libraries(), stoppable(), hold_file(out):
        return _store(arguments, training, name, out, split)


def _store(arguments: RunArguments, training: IAPOConfig, name: str, out: Path, split: str) -> tuple[int, int]:
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    samples = []
    if split != "test":
        samples += run_samples(arguments, "train")
    if split != "train":
        samples += run_samples(arguments, "test")
    # As long as the student's turns may be.
    turn = training.max_turn_tokens or training.max_completion_length
    settings = dataclasses.replace(alignment_settings(training), max_turn_tokens=turn)
    # The teacher is asked as the student will be, and sees images as it will.
    student = load_processor(arguments.model, arguments.loading, prompt=arguments.prompt)
    policy = load_teacher(name, training, student, arguments.loading)
    console = Console()
    columns = (TextColumn(name), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=len(samples))
        table = attribute_samples(
            policy,
            samples,
            settings,
            offered_tools(arguments.tools, arguments.tool_timeout),
            progress=lambda done: progress.advance(task, done),
            template=policy.template,
            out=out,
        )
    silent = sum(row.distribution is None for row in table.rows.values())
    console.print(f"{out}: {len(table.rows)} samples, {silent} of them without a call of the teacher", soft_wrap=True)
    return len(table.rows), silent
