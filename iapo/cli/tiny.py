"""`iapo tiny`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from iapo.bounds import HEAT, Bound, split_list
from iapo.cli.base import Resumable, Verb, make_app
from iapo.cli.checks import check_checkpoint
from iapo.cli.options import Json, Quiet, at_least, folder, free, one_of, within, write_json
from iapo.errors import InputError, unknown

Scale = Annotated[
    float,
    typer.Option(
        callback=within(Bound(0, 1000, above=True)), help="Factor on the steps of what is taught, for a quick trial."
    ),
]

app = make_app(help="The packaged tiny models, and stand-ins of published checkpoints.")


@app.command("build", cls=Resumable)
def tiny_build(
    out: Annotated[Path, typer.Option(callback=folder, help="Folder to write the checkpoints to.")] = Path("runs/tiny"),
    model: Annotated[
        str, typer.Option(help="Model: tiny-student, tiny-teacher, tiny-qwen3-vl-teacher or all.")
    ] = "all",
    stage: Annotated[
        str | None,
        typer.Option(
            callback=one_of("sight", "protocol", "teacher"),
            help="Stage: sight, protocol or teacher; all that the model has.",
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option(callback=at_least(0), help="Seed of weights, lessons, rollouts and measurements.")
    ] = 0,
    scale: Scale = 1.0,
    json: Json = None,
    quiet: Quiet = False,
) -> None:
    """Make the tiny models from nothing: short lessons, whole episodes, for the teachers GRPO."""
    from iapo.training.declared import keys_of

    known = keys_of("iapo.tiny.recipes", "RECIPES")
    if model not in (*known, "all"):
        raise unknown("tiny model", model, (*known, "all"))
    from iapo.tiny.command import build_models

    write_json(json, build_models(out, model, stage=stage, seed=seed, scale=scale, quiet=quiet))


@app.command("evaluate", cls=Verb)
def tiny_evaluate(
    models: Annotated[
        str, typer.Option(help="Packaged names or folders, with commas between.")
    ] = "tiny-student,tiny-teacher",
    families: Annotated[str, typer.Option(help="Families of images, with commas between.")] = "all",
    samples: Annotated[int, typer.Option(callback=at_least(1), help="Images a family.")] = 100,
    seed: Annotated[
        int, typer.Option(callback=at_least(0), help="Seed of the images, the tool sets and the sampling.")
    ] = 0,
    temperature: Annotated[
        float, typer.Option(callback=within(HEAT), help="Temperature of the sampling; 0 is greedy.")
    ] = 1.0,
    json: Json = None,
    quiet: Quiet = False,
) -> None:
    """Measure tiny models by family and tool names, and where their calls come from.

    For example: iapo tiny evaluate --models tiny-student --families vbar,hbar --samples 50 --json runs/tiny.json
    """
    from iapo.data.synthetic.families import find_family

    chosen = None if families == "all" else split_list("--families", families)
    for family in chosen or ():
        find_family(family)
    if not (names := split_list("--models", models)):
        raise InputError("models names none; give packaged names or folders, with commas between")
    for name in names:
        check_checkpoint(name)
    from iapo.tiny.command import evaluate_models

    write_json(json, evaluate_models(names, chosen, samples=samples, seed=seed, temperature=temperature))


@app.command("causes", cls=Resumable)
def tiny_causes(
    model: Annotated[
        str, typer.Option(help="Student: packaged name or folder, of the tiny world.")
    ] = "tiny-student-causes",
    out: Annotated[
        Path | None,
        typer.Option(callback=folder, help="Folder for the data, the sets and the student as a start of trainings."),
    ] = None,
    new: Annotated[bool, typer.Option("--new", help="Teach tiny-student-causes anew, in the folder of --out.")] = False,
    seed: Annotated[
        int, typer.Option(callback=at_least(0), help="Seed of lessons, and of measured images and sampling.")
    ] = 0,
    samples: Annotated[int, typer.Option(callback=at_least(1), help="Charts of a family in each case.")] = 100,
    scale: Scale = 1.0,
    json: Json = None,
    quiet: Quiet = False,
) -> None:
    """Measure what leads a student to wrong tools, cause by cause; write the world of several causes to train it in.

    For example: iapo tiny causes --out runs/causes --json runs/causes.json
    """
    if new and out is None:
        raise InputError("--new needs a folder for the student; give --out")
    if new and model != "tiny-student-causes":
        raise InputError(f"--new teaches tiny-student-causes, not {model}; leave --model out")
    if not new:
        check_checkpoint(model)
    from iapo.tiny.causes.command import run_causes

    write_json(json, run_causes(model, out, new=new, seed=seed, samples=samples, scale=scale, quiet=quiet))


@app.command("stand-in", cls=Verb)
def tiny_stand_in(
    name: Annotated[str, typer.Argument(help="Checkpoint: qwen2.5-vl-3b, qwen2.5-vl-7b, qwen3-vl-4b or qwen3-vl-8b.")],
    out: Annotated[Path, typer.Option(callback=free, help="Folder to write.")],
    size: Annotated[
        str,
        typer.Option(
            callback=one_of("tiny", "wide", "full"),
            help="Size: tiny, wide (two true layers) or full (the published shape, 7 to 18 GB).",
        ),
    ] = "tiny",
    ranks: Annotated[
        Path | None, typer.Option(help="File qwen.tiktoken; the package dashscope's if not given.")
    ] = None,
    seed: Annotated[int, typer.Option(callback=at_least(0), help="Seed of the weights.")] = 0,
    quiet: Quiet = False,
) -> None:
    """Write a published checkpoint's folder with random weights: true tokenizer, chat format, limits and key names.

    For example: iapo tiny stand-in qwen2.5-vl-3b --out runs/student-3b
    """
    from iapo.standins.shapes import SIZES, STAND_INS

    if name not in STAND_INS:
        raise unknown("checkpoint", name, STAND_INS)
    if ranks is not None and not ranks.is_file():
        raise InputError(f"there is no file of ranks {ranks}; give qwen.tiktoken")
    from iapo.standins.folder import make_stand_in

    count = make_stand_in(name, out, size=SIZES[SIZES.index(size)], ranks=ranks, seed=seed)
    typer.echo(f"{out}: {name}, {size}, {count / 1e6:.1f} million random parameters")
