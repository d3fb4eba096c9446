"""The command line of `iapo tiny`. Heavy imports stay inside the verbs, so that `iapo --help` answers at once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="The packaged tiny models.", no_args_is_help=True)


@app.command("build")
def tiny_build(
    out: Annotated[Path, typer.Option(help="Where the checkpoint folders are written.")] = Path("runs/tiny"),
    model: Annotated[str, typer.Option(help="tiny-student, tiny-teacher, tiny-qwen3-vl-teacher or all.")] = "all",
    stage: Annotated[str | None, typer.Option(help="sight, protocol or teacher; all that the model has.")] = None,
    seed: Annotated[int, typer.Option(help="Of weights, lessons, rollouts and measurements.")] = 0,
    scale: Annotated[float, typer.Option(help="Factor on the number of steps, for a quick trial.")] = 1.0,
) -> None:
    """Make the tiny models from nothing: short lessons, whole episodes, for the teachers GRPO."""
    from iapo.tiny.command import build_models

    build_models(out, model, stage=stage, seed=seed, scale=scale)


@app.command("evaluate")
def tiny_evaluate(
    models: Annotated[str, typer.Option(help="Packaged names or folders, by commas.")] = "tiny-student,tiny-teacher",
    families: Annotated[str, typer.Option(help="Families of pictures, by commas.")] = "all",
    samples: Annotated[int, typer.Option(help="Pictures a family.")] = 100,
    seed: Annotated[int, typer.Option(help="Of the pictures, the tool sets and the sampling.")] = 0,
    temperature: Annotated[float, typer.Option(help="Of the sampling; 0 is greedy.")] = 1.0,
    json: Annotated[Path | None, typer.Option(help="A file for all numbers.")] = None,
) -> None:
    """Measure tiny models by family and tool names, and where their calls come from.

    For example: iapo tiny evaluate --models tiny-student --families vbar,hbar --samples 50 --json runs/tiny.json
    """
    from iapo.tiny.command import evaluate_models

    chosen = None if families == "all" else families.split(",")
    evaluate_models(models.split(","), chosen, samples=samples, seed=seed, temperature=temperature, out=json)
