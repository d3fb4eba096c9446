"""`iapo export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from iapo.cli.base import Verb, make_app
from iapo.cli.checks import checkpoint
from iapo.cli.loading import check_revision
from iapo.cli.options import Json, Quiet, free, one_of, write_json
from iapo.errors import InputError

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
    push: Annotated[
        str | None, typer.Option(metavar="OWNER/NAME", help="Repository of the hub to upload the folder to.")
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="A new repository is private.")] = False,
    json: Json = None,
    quiet: Quiet = False,
) -> None:
    """Write a trained policy as a checkpoint of the published form, an adapter added to its base, with a model card.

    For example: iapo export runs/mine --output exported --dtype bfloat16
    """
    from iapo.display.quiet import quiet_libraries
    from iapo.rollout.push import check_repository

    if private and push is None:
        raise InputError("private is of a repository that is pushed to; give --push OWNER/NAME as well")
    check_revision(policy, {"model_revision": model_revision})
    if push is not None:
        check_repository(push)
    from iapo.rollout.export import export as write

    with quiet_libraries():
        found = write(policy, output, dtype, model_revision, push_to=push, private=private)
    typer.echo(f"{output}: {found['parameters']:,} parameters, {found['dtype']}; of {found['source']}")
    if found["pushed"] is not None:
        typer.echo(f"pushed: {found['pushed']}")
    write_json(json, {"output": str(output), **found})
