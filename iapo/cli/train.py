"""`iapo train`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from iapo.cli.base import SETTINGS, Known, Resumable, make_app, options_of, refuse_more
from iapo.cli.checks import check_checkpoint, check_output, check_training_data
from iapo.cli.options import Quiet
from iapo.errors import InputError

app = make_app()


@app.command(cls=Resumable, context_settings=SETTINGS)
def train(
    context: typer.Context,
    config: Annotated[
        str | None, typer.Option(help="YAML files or packaged names, with commas between; a later one wins. Needed.")
    ] = None,
    list_settings: Annotated[
        bool, typer.Option("--list-settings", help="List every setting that can be given, and stop.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Train a policy as a YAML file says; any setting can be overridden by a flag of its name.

    For example: iapo train --config demo-iapo --output_dir runs/mine --learning_rate 1e-4
    """
    from iapo.results import MANIFEST
    from iapo.training import settings
    from iapo.training.launch import check_launch

    if list_settings:
        refuse_more(context)
        typer.echo("\n".join(settings.list_settings()))
        return
    if config is None:
        raise InputError("iapo train needs --config, a YAML file or the name of a packaged one; for example demo-iapo")
    check_launch(os.environ)
    arguments, given = settings.check(config, context.args, options=options_of(context))
    if not (Path(str(given.get("output_dir"))) / MANIFEST).is_file():
        # A run that goes on keeps the settings that it was begun with, whatever they do.
        settings.check_written(config, context.args)
    arguments.loading.check_packages()
    begun_with = (arguments.model, arguments.eval_teacher, given.get("teacher"))
    for name in begun_with:
        if name is not None:
            check_checkpoint(name)
    check_training_data(arguments)
    Known.folder = check_output(given, arguments.resume, begun_with)
    parsed = settings.parse(config, context.args)
    from iapo.training.run import run

    run(*parsed)
