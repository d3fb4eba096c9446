"""`iapo attribute`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from iapo.cli.base import Verb, make_app
from iapo.cli.checks import checkpoint
from iapo.cli.options import Json, Quiet, at_least, between, folder, one_of, write_json
from iapo.errors import InputError

app = make_app()


@app.command(cls=Verb)
def attribute(
    out: Annotated[
        Path, typer.Option(callback=folder, help="Folder to write attribution.png and attribution.json to.")
    ],
    model: Annotated[
        str, typer.Option(callback=checkpoint, help="Student: a packaged name, a folder or a hub id.")
    ] = "tiny-student",
    teacher: Annotated[
        str | None, typer.Option(callback=checkpoint, help="Model that explains the same call, if given.")
    ] = None,
    family: Annotated[
        str, typer.Option(help="Family of the synthetic image; the packaged models know vbar and hbar.")
    ] = "vbar",
    index: Annotated[int, typer.Option(callback=at_least(0), help="Which chart of the family, from 0.")] = 0,
    seed: Annotated[int, typer.Option(callback=at_least(0), help="Seed of the charts.")] = 0,
    size: Annotated[
        int, typer.Option(callback=between(112, 1000), help="Side of the chart in pixels, 112 to 1000.")
    ] = 112,
    sample: Annotated[Path | None, typer.Option(help="Sample as a JSON file, instead of a chart.")] = None,
    call: Annotated[str | None, typer.Option(help="First turn, or @file; the model's own if not given.")] = None,
    method: Annotated[
        str,
        typer.Option(
            callback=one_of("gradient", "integrated", "occlusion"), help="Method: gradient, integrated or occlusion."
        ),
    ] = "gradient",
    steps: Annotated[
        int, typer.Option(callback=at_least(1), help="Points of the path, with --method integrated.")
    ] = 32,
    max_turn_tokens: Annotated[int, typer.Option(callback=at_least(1), help="Longest turn in tokens.")] = 512,
    device: Annotated[str | None, typer.Option(help="Device of the models; the CPU if not given.")] = None,
    json: Json = None,
    quiet: Quiet = False,
) -> None:
    """Show which part of the prompt one tool call came from, for a student and beside it for a teacher.

    For example: iapo attribute --teacher tiny-teacher --family hbar --out runs/attribute
    """
    from iapo.data.synthetic.families import find_family

    find_family(family)
    if sample is not None and not sample.is_file():
        raise InputError(f"cannot read the sample {sample}: there is no such file")
    if call is not None and call.startswith("@") and not Path(call[1:]).is_file():
        raise InputError(f"cannot read the turn {call[1:]}: there is no such file")
    for name in ("attribution.json", "attribution.png"):
        if (out / name).exists():
            raise InputError(f"{out / name} already exists; choose another --out or remove it")
    from iapo.studies.attribute import chart_sample, read_call, read_sample, run_attribute

    numbers = run_attribute(
        model,
        out,
        teacher=teacher,
        sample=chart_sample(family, index, seed=seed, size=size) if sample is None else read_sample(sample),
        call=None if call is None else read_call(call),
        method=method,
        steps=steps,
        max_turn_tokens=max_turn_tokens,
        device=device,
    )
    write_json(json, numbers)
