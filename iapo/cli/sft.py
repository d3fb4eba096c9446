"""`iapo sft`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from iapo.cli.base import SETTINGS, Known, Resumable, make_app, options_of, refuse_more
from iapo.cli.checks import check_checkpoint, check_output
from iapo.cli.options import Quiet
from iapo.errors import InputError

app = make_app()


@app.command(cls=Resumable, context_settings=SETTINGS)
def sft(
    context: typer.Context,
    config: Annotated[
        str | None, typer.Option(help="YAML files or packaged names, with commas between; a later one wins.")
    ] = None,
    list_settings: Annotated[
        bool, typer.Option("--list-settings", help="List every setting that can be given, and stop.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Train on transcripts before reinforcement learning; any setting is a flag of its name.

    For example: iapo sft --model tiny-student --transcripts runs/teacher --output_dir runs/sft --max_steps 50
    """
    from iapo.data.sources import source_names
    from iapo.supervised import settings
    from iapo.training.settings import list_settings as listed

    if list_settings:
        refuse_more(context)
        groups = {"The run": settings.run_settings(), "The trainer (TRL's)": settings.trainer_settings()}
        typer.echo("\n".join(listed(groups)))
        return
    arguments, given = settings.check(config, context.args, options=options_of(context))
    arguments.loading.check_packages()
    check_checkpoint(arguments.model)
    for source in source_names(arguments.transcripts or "", "transcripts"):
        if not Path(source).exists():
            raise InputError(f"there is no file or folder {source!r} of transcripts")
    Known.folder = check_output(given, arguments.resume, [arguments.model])
    parsed = settings.parse(given)
    from iapo.supervised.run import run

    run(arguments, parsed, quiet=quiet)
