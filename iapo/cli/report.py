"""`iapo report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from iapo.cli.base import Verb, make_app
from iapo.cli.options import Json, Quiet, at_least, one_of, place, write_json

app = make_app()


@app.command(cls=Verb)
def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders, or folders that hold some.")],
    out: Annotated[
        Path | None, typer.Option(callback=place, help="Page to write; report.html in the folder if not given.")
    ] = None,
    pictures: Annotated[
        str, typer.Option(callback=one_of("embed", "folder"), help="embed (in the page) or folder (beside it).")
    ] = "embed",
    max_traces: Annotated[
        int, typer.Option(callback=at_least(0), help="Traces at most, evenly from all runs; 0: all.")
    ] = 2000,
    open: Annotated[bool, typer.Option("--open", help="Show it in the browser.")] = False,
    json: Json = None,
    quiet: Quiet = False,
) -> None:
    """Write one HTML page about runs: configurations, results, curves and a browser of traces (docs/report.md).

    For example: iapo report runs/demo
    """
    from iapo.display.terminal import say
    from iapo.report.command import describe, open_report, write_report

    written = write_report(runs, out, pictures=pictures, max_traces=max_traces)
    for line in describe(written):
        say(line)
    write_json(json, written)
    if open:
        open_report(written.path)
