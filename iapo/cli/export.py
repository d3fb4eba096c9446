"""`iapo export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from iapo.cli.base import Verb, make_app
from iapo.cli.checks import checkpoint
from iapo.cli.options import Json, Quiet, free, one_of, write_json

app = make_app()


@app.command(cls=Verb)
def export(
    policy: Annotated[
        str,
        typer.Argument(
            metavar="RUN_OR_ADAPTER", callback=checkpoint, help="Run folder, folder of a policy or adapter, or hub id."
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "--out", callback=free, help="Folder to write.")],
    dtype: Annotated[
        str | None,
        typer.Option(
            callback=one_of("bfloat16", "float16", "float32"),
            help="Type of the written weights: bfloat16, float16 or float32; the policy's own, or its base's.",
        ),
    ] = None,
    model_revision: Annotated[str | None, typer.Option(help="Branch, tag or commit of a hub id.")] = None,
    json: Json = None,
    quiet: Quiet = False,
) -> None:
    """Write a trained policy as a checkpoint of the published form, a LoRA adapter added to its base.

    For example: iapo export runs/mine --output exported --dtype bfloat16
    """
    from iapo.display.quiet import quiet_libraries
    from iapo.rollout.export import export as write

    with quiet_libraries():
        found = write(policy, output, dtype, model_revision)
    typer.echo(f"{output}: {found['parameters']:,} parameters, {found['dtype']}; of {found['source']}")
    write_json(json, {"output": str(output), **found})
