"""`iapo new`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from iapo.cli.base import Verb, make_app
from iapo.cli.options import Quiet, one_of
from iapo.cli.scaffold import KINDS, check_name, write

app = make_app()


@app.command(cls=Verb)
def new(
    kind: Annotated[str, typer.Argument(metavar="KIND", callback=one_of(*KINDS), help="What: tool, reward or data.")],
    name: Annotated[str, typer.Argument(metavar="NAME", help="Its name, as Python has it: letters, digits and _.")],
    out: Annotated[Path, typer.Option(help="Folder to write into; the current one if not given.")] = Path(),
    quiet: Quiet = False,
) -> None:
    """Write a part of your own to begin with: its file, a test of it, and three lines of configuration.

    For example: iapo new tool sharpen
    """
    check_name(kind, name)
    made = write(kind, name, out)
    for path in made.files:
        typer.echo(str(path))
    typer.echo("\nWhat can be run now:")
    for command in made.commands:
        typer.echo(f"  {command}")
