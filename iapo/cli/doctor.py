"""`iapo doctor`."""

from __future__ import annotations

from typing import Annotated

import typer

from iapo.cli.base import SETTINGS, Verb, make_app, options_of
from iapo.cli.checks import check_checkpoint, check_training_data
from iapo.cli.options import Json, Quiet, at_least, write_json
from iapo.errors import InputError

app = make_app()


@app.command(cls=Verb, context_settings=SETTINGS)
def doctor(
    context: typer.Context,
    config: Annotated[str | None, typer.Option(help="YAML file, or the name of a packaged one; needed.")] = None,
    samples: Annotated[
        int,
        typer.Option(callback=at_least(0), help="Samples on which tools are called, taken evenly; 0: all."),
    ] = 200,
    no_step: Annotated[bool, typer.Option("--no-step", help="Load no model: no rollouts, no step.")] = False,
    json: Json = None,
    quiet: Quiet = False,
) -> None:
    """Look for what would go wrong in a training before hours are spent; takes what `iapo train` takes.

    It exits with 0 if nothing is wrong but for warnings, and with 2 if something is. Nothing is written to output_dir.
    For example: iapo doctor --config demo-iapo --train_samples 64
    """
    from iapo.training import settings

    if config is None:
        raise InputError("iapo doctor needs --config, a YAML file or the name of a packaged one; for example demo-iapo")
    arguments, given = settings.check(config, context.args, options=options_of(context))
    settings.check_written(config, context.args)
    for name in (arguments.model, arguments.eval_teacher, given.get("teacher")):
        if name is not None:
            check_checkpoint(name)
    check_training_data(arguments)
    parsed = settings.parse(config, context.args)
    from iapo.results import stamp
    from iapo.training.doctor.run import examine

    found = examine(*parsed, given, samples=samples, with_step=not no_step)
    write_json(json, stamp("doctor", found.to_json()))
    raise typer.Exit(2 if found.errors else 0)
