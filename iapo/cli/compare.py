"""`iapo compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from iapo.bounds import HEAT
from iapo.cli.base import SETTINGS, Resumable, make_app, options_of
from iapo.cli.checks import check_sets
from iapo.cli.options import Json, Quiet, at_least, between, folder, one_of, within, write_json

app = make_app()


@app.command(cls=Resumable, context_settings=SETTINGS)
def compare(
    context: typer.Context,
    out: Annotated[
        Path, typer.Option(callback=folder, help="Folder of all runs; a comparison that was stopped there goes on.")
    ],
    preset: Annotated[
        str,
        typer.Option(
            callback=one_of("smoke", "full"), help="Preset, smoke or full; what is given beside it counts instead."
        ),
    ] = "smoke",
    methods: Annotated[str | None, typer.Option(help="Rewards by name, with commas between.")] = None,
    seeds: Annotated[str | None, typer.Option(help="Seeds of the trainings, with commas between.")] = None,
    config: Annotated[str | None, typer.Option(help="YAML file or packaged name of what all runs share.")] = None,
    reference: Annotated[str | None, typer.Option(help="Method that differences are taken to.")] = None,
    sets: Annotated[str | None, typer.Option(help="Test sets, with commas between.")] = None,
    samples: Annotated[int | None, typer.Option(callback=at_least(1), help="Samples of each test set.")] = None,
    temperature: Annotated[
        float | None, typer.Option(callback=within(HEAT), help="Temperature of the evaluation; 0 is greedy.")
    ] = None,
    repeats: Annotated[int | None, typer.Option(callback=at_least(1), help="Rollouts of each test sample.")] = None,
    greedy: Annotated[bool | None, typer.Option(help="Whether policies are also measured greedily.")] = None,
    row: Annotated[list[str] | None, typer.Option(help="NAME=FOLDER, a finished iapo evaluate, as a row.")] = None,
    together: Annotated[int, typer.Option(callback=between(1, 2), help="Runs at a time, 1 or 2.")] = 2,
    json: Json = None,
    quiet: Quiet = False,
) -> None:
    """Train methods with several seeds from one start under equal budgets, and write Table 1.

    Any setting of the training can be given by a flag of its name and holds for all runs. For example:
    iapo compare --out runs/mine --methods grpo,iapo --seeds 0,1,2 --max_steps 40
    """
    from iapo.experiments.compare import compare, describe
    from iapo.experiments.trials import check_free
    from iapo.training.settings import typed

    if sets is not None:
        check_sets(sets)
    given: dict[str, object] = {
        "methods": methods,
        "seeds": seeds,
        "config": config,
        "reference": reference,
        "sets": sets,
    }
    given |= {"samples": samples, "temperature": temperature, "repeats": repeats, "greedy": greedy}
    comparison, rows = describe(preset, given, typed(context.args, options=options_of(context)), row or [])
    check_free(out)
    write_json(json, compare(comparison, out, together=together, more_rows=rows))
