"""`iapo teacher`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from iapo.cli.base import SETTINGS, Group, Resumable, make_app, options_of
from iapo.cli.checks import check_checkpoint, checkpoint
from iapo.cli.options import Json, Quiet, free, one_of, write_json
from iapo.errors import InputError

app = make_app(help="What a teacher is asked once, so that training need not load it.")


@app.callback(cls=Group)
def teacher() -> None:
    """What a teacher is asked once, so that training need not load it."""


@app.command("attribute", cls=Resumable, context_settings=SETTINGS)
def teacher_attribute(
    context: typer.Context,
    config: Annotated[str, typer.Option(help="Settings of the training: a YAML file, or a packaged name.")],
    out: Annotated[Path, typer.Option(callback=free, help="Parquet file to write; `teacher_table` of the training.")],
    model: Annotated[
        str | None, typer.Option(callback=checkpoint, help="Teacher; the configuration's if not given.")
    ] = None,
    split: Annotated[
        str, typer.Option(callback=one_of("train", "test", "both"), help="Samples: train, test or both.")
    ] = "train",
    json: Json = None,
    quiet: Quiet = False,
) -> None:
    """Store a teacher's attribution of its own greedy call to every sample of a training.

    Any setting can be overridden by a flag of its name. For example:
    iapo teacher attribute --config demo-iapo --model tiny-teacher --out runs/teacher.parquet --train_samples 256
    """
    from iapo.training.settings import check

    arguments, given = check(config, context.args, options=options_of(context))
    name = model or given.get("teacher")
    if name is None:
        raise InputError("there is no teacher to attribute; give --model, or `teacher` in the configuration")
    # The student's processor says how its prompts are cut; `--model` is the teacher here.
    for one in (name, arguments.model):
        check_checkpoint(one)
    from iapo.training.store_teacher import store_teacher

    samples, silent = store_teacher(config, context.args, out, model=model, split=split)
    write_json(json, {"table": str(out), "teacher": name, "samples": samples, "without_call": silent})
