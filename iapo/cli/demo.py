"""`iapo demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from iapo.cli.base import Verb, make_app
from iapo.cli.options import Json, Quiet, at_least, folder, one_of, write_json
from iapo.errors import InputError

app = make_app()


@app.command(cls=Verb)
def demo(
    world: Annotated[
        str,
        typer.Option(
            callback=one_of("bars", "crop"),
            help="World: bars (charts, right and wrong tools) or crop (pages to zoom into; GRPO alone).",
        ),
    ] = "bars",
    out: Annotated[
        Path | None,
        typer.Option(callback=folder, help="Parent of the run folders; runs/demo or runs/demo-crop if not given."),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(callback=at_least(1), help="Optimiser steps of each run; the demo's own if not given."),
    ] = None,
    samples: Annotated[
        int | None,
        typer.Option(
            callback=at_least(1), help="Held-out charts; the demo's own, 1,000 (crop: 500 pages), if not given."
        ),
    ] = None,
    seed: Annotated[
        int,
        typer.Option(callback=at_least(0), help="Seed of data order, sampling and evaluation; of crop also the start."),
    ] = 0,
    controls: Annotated[
        bool, typer.Option(help="Whether distill, the form name_odds, and shuffled controls of both are trained, too.")
    ] = False,
    json: Json = None,
    quiet: Quiet = False,
) -> None:
    """Train the tiny student with GRPO and with IAPO from one start, and compare them on held-out charts.

    With --world crop: make a student that crops wrongly, train it with GRPO, and compare it with its start.
    """
    if world == "crop":
        if controls:
            raise InputError("--controls are runs of the world bars; leave it out, or leave out --world crop")
        from iapo.experiments.demo_crop import run_crop_demo

        write_json(json, run_crop_demo(out, steps=steps, seed=seed, samples=samples))
        return
    from iapo.experiments.demo import run_demo

    write_json(json, run_demo(out, steps=steps, seed=seed, samples=samples, controls=controls))
