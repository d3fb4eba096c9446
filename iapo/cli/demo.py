"""`iapo demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from iapo.cli.base import Verb, make_app
from iapo.cli.options import Json, Quiet, at_least, folder, write_json

app = make_app()


@app.command(cls=Verb)
def demo(
    out: Annotated[
        Path | None, typer.Option(callback=folder, help="Parent of the run folders; runs/demo if not given.")
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(callback=at_least(1), help="Optimiser steps of each run; the demo's own if not given."),
    ] = None,
    samples: Annotated[
        int | None,
        typer.Option(callback=at_least(1), help="Held-out charts; the demo's own, 1,000, if not given."),
    ] = None,
    seed: Annotated[int, typer.Option(callback=at_least(0), help="Seed of data order, sampling and evaluation.")] = 0,
    controls: Annotated[
        bool, typer.Option(help="Whether distill, the form name_odds, and shuffled controls of both are trained, too.")
    ] = False,
    json: Json = None,
    quiet: Quiet = False,
) -> None:
    """Train the tiny student with GRPO and with IAPO from one start, and compare them on held-out charts."""
    from iapo.experiments.demo import run_demo

    write_json(json, run_demo(out, steps=steps, seed=seed, samples=samples, controls=controls))
