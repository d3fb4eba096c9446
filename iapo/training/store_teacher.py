"""What `iapo teacher attribute` does: a teacher's attribution of its own calls, written once for a training."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from iapo.attribution.settings import alignment_settings
from iapo.errors import InputError
from iapo.rollout.policy import load_policy
from iapo.teachers.references import attribute_samples
from iapo.tools import offered_tools
from iapo.training.run import parse, run_samples


def store_teacher(config: str, flags: Sequence[str], out: Path, *, model: str | None, split: str) -> None:
    """Attributes a teacher's own greedy call to every sample of a training and writes the table.

    Args:
        config: Of the training: a YAML file, or the name of a packaged one.
        flags: Settings that win over the file's.
        out: The parquet file to write.
        model: The teacher; the configuration's if None.
        split: Whose samples: `train`, `test` or `both`.

    Raises:
        InputError: If the split is unknown, `out` exists, or no teacher is named.
    """
    if split not in ("train", "test", "both"):
        raise InputError(f"no split {split!r}; use train, test or both")
    if out.exists():
        raise InputError(f"{out} already exists; choose another --out or remove it")
    arguments, training = parse(config, flags)
    name = model or training.teacher
    if name is None:
        raise InputError("there is no teacher to attribute; give --model, or `teacher` in the configuration")
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
    policy = load_policy(name, device=str(training.device))
    with Progress(TextColumn(name), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()) as progress:
        task = progress.add_task("", total=len(samples))
        table = attribute_samples(
            policy,
            samples,
            settings,
            offered_tools(arguments.tools),
            progress=lambda done: progress.advance(task, done),
        )
    table.write(out)
    silent = sum(row.distribution is None for row in table.rows.values())
    Console().print(f"{out}: {len(table.rows)} samples, {silent} of them without a call of the teacher", soft_wrap=True)
