"""`iapo plan`."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from iapo.cli.base import SETTINGS, Verb, make_app, options_of
from iapo.cli.checks import check_checkpoint
from iapo.cli.options import Json, Quiet, at_least, between, one_of, write_json
from iapo.errors import InputError

app = make_app()

NAMES = ("model", "teacher", "eval_teacher")


def _size(parameter: typer.CallbackParam, value: str | None) -> str | None:
    """Refuses what is no size of an image."""
    if value is not None and not re.fullmatch(r"[1-9][0-9]{0,4}x[1-9][0-9]{0,4}", value):
        raise InputError(f"image is {value!r}; give width and height in pixels, 1 to 99999, for example 850x600")
    return value


@app.command(cls=Verb, context_settings=SETTINGS)
def plan(
    context: typer.Context,
    config: Annotated[str | None, typer.Option(help="As for `iapo train`; needed.")] = None,
    memory: Annotated[float, typer.Option(callback=at_least(0.1), help="GiB of one GPU.")] = 80.0,
    gpus: Annotated[int, typer.Option(callback=at_least(1), help="GPUs, a process each.")] = 1,
    sharding: Annotated[
        str | None,
        typer.Option(
            callback=one_of("none", "zero2", "zero3"),
            help="Split over them: none, zero2, or zero3 (FSDP); else as the setting deepspeed says.",
        ),
    ] = None,
    image: Annotated[
        str | None, typer.Option(callback=_size, help="Width x height of images in pixels; 850x600 where not known.")
    ] = None,
    images: Annotated[
        int, typer.Option(callback=between(1, 8), help="Images of a prompt, 1 to 8, all of that size.")
    ] = 1,
    text_tokens: Annotated[
        int | None, typer.Option(callback=at_least(1), help="Tokens of the prompt beside the image; else counted.")
    ] = None,
    json: Json = None,
    quiet: Quiet = False,
) -> None:
    """Say what a training takes of a GPU's memory, before it is started; no weights are read, and no GPU is used.

    For example: iapo plan --config demo-iapo --memory 80 --gpus 1 --model Qwen/Qwen2.5-VL-3B-Instruct
    """
    if config is None:
        raise InputError("iapo plan needs --config, a YAML file or the name of a packaged one; for example demo-iapo")
    if sharding not in (None, "none") and gpus < 2:
        raise InputError(f"sharding {sharding} splits over several GPUs; give --gpus 2 or more, or leave it out")
    from iapo.planning.given import read_given

    given = read_given(config, context.args, options_of(context))
    for name in NAMES:
        if given.get(name) is not None:
            check_checkpoint(given.get(name))
    if sharding is None:
        sharding = given.sharding if gpus > 1 else "none"
    from rich.console import Console

    from iapo.display.quiet import quiet_libraries
    from iapo.planning.report import make_report
    from iapo.planning.tables import change_table, lines, phase_table

    size = None if image is None else (int(image.partition("x")[0]), int(image.partition("x")[2]))
    with quiet_libraries():
        report = make_report(
            given, memory=memory, gpus=gpus, sharding=sharding, size=size, text_tokens=text_tokens, images=images
        )
    console = Console()
    console.print(phase_table(report.plan))
    if report.alone:
        console.print(change_table(report))
    if given.sharding != "none" and gpus == 1:
        console.print(f"The setting deepspeed splits over several GPUs ({given.sharding}); --gpus says over how many")
    for line in lines(report):
        console.print(line, soft_wrap=True, highlight=False)
    write_json(json, report.numbers())
