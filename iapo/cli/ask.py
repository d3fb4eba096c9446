"""`iapo ask`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from iapo.bounds import ASKED_HEAT, PART
from iapo.cli.agent_options import (
    BoxKind,
    BoxNames,
    Device,
    MaxSequenceLength,
    MaxTurns,
    MaxTurnTokens,
    OfferedTools,
    Prompt,
    ToolTimeout,
)
from iapo.cli.base import Verb, make_app
from iapo.cli.checks import check_toolless, check_unused, checkpoint
from iapo.cli.loading import check_revision, loading_options
from iapo.cli.options import Json, Quiet, between, free, within, write_json
from iapo.errors import InputError

app = make_app()


@app.command(cls=Verb)
@loading_options("")
def ask(
    loading: dict[str, Any],
    context: typer.Context,
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="Image file; it is only read.")],
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="The question; - reads it from standard input.")],
    model: Annotated[
        str,
        typer.Option(callback=checkpoint, help="Packaged name, run folder, folder of a policy or adapter, or hub id."),
    ],
    more_image: Annotated[
        list[Path] | None, typer.Option(help="Further image of the question, in order; may be given several times.")
    ] = None,
    boxes: Annotated[
        Path | None, typer.Option(help="JSON file with the image's boxes (docs/using.md); looked for if not given.")
    ] = None,
    kind: BoxKind = "auto",
    names: BoxNames = "places",
    out: Annotated[
        Path | None,
        typer.Option(callback=free, help="PNG file for the edited image; beside the image if not given."),
    ] = None,
    attribution: Annotated[
        bool, typer.Option("--attribution", help="Show the share of each block before a turn in its call.")
    ] = False,
    tools: OfferedTools = None,
    tool_timeout: ToolTimeout = None,
    prompt: Prompt = None,
    temperature: Annotated[
        float, typer.Option(callback=within(ASKED_HEAT), help="Temperature of the sampling; 0 is greedy.")
    ] = 0.0,
    top_p: Annotated[float, typer.Option(callback=within(PART), help="Nucleus where it samples.")] = 1.0,
    seed: Annotated[int, typer.Option(callback=between(0, 2**32 - 1), help="Seed of the sampling.")] = 0,
    max_turns: MaxTurns = None,
    max_turn_tokens: MaxTurnTokens = None,
    max_sequence_length: MaxSequenceLength = None,
    device: Device = None,
    json: Json = None,
    quiet: Quiet = False,
) -> None:
    """Ask a policy about an image, or several: what it called, what it made of the image, what it answers.

    For example: iapo ask chart.png "value of H?" --model tiny-student
    """
    from iapo.rollout.load_settings import load_settings

    images = [image, *(more_image or [])]
    for one in images:
        _check_file(one, question)
    load_settings({**loading, "device": device}).check_packages()
    check_revision(model, loading)
    if out is not None and out.suffix.lower() != ".png":
        raise InputError(f"out is {out}; give a name that ends in .png")
    if out is not None and json is not None and out.absolute() == json.absolute():
        raise InputError(f"out and json are both {out}; give two files")
    check_toolless(context, tools)
    if temperature == 0:
        check_unused(context, ["top_p", "seed"], "does nothing in greedy sampling; set --temperature, or leave it out")
    if attribution and tools == "none":
        raise InputError("no tool is offered, so that there is no call to attribute; leave one of them out")
    from iapo.agent.questions import make_question, read_boxes
    from iapo.data.boxes.names import check_names
    from iapo.storage import check_place

    check_names(names)
    given = None if boxes is None else read_boxes(boxes)
    if out is None:
        check_place(image)
    text = _text(question)
    try:
        asked = make_question(images, text, given, kind=kind, names=names)  # type: ignore[arg-type]
    except InputError as error:
        if boxes is None:
            raise
        # What is wrong without its boxes, too, is said of the image or the question.
        make_question(images, text, {})
        raise InputError(f"{boxes}: {error}") from error
    from iapo.agent.agent import Agent, with_limits
    from iapo.agent.asking import edited_path, run_ask

    agent = Agent.from_pretrained(
        model, tools=tools, prompt=prompt, loading=loading, device=device, tool_timeout=tool_timeout
    )
    agent.settings = with_limits(
        agent.settings,
        temperature=temperature,
        top_p=top_p,
        seed=seed,
        max_turns=max_turns,
        max_turn_tokens=max_turn_tokens,
        max_sequence_length=max_sequence_length,
    )
    write_json(json, run_ask(agent, asked, out or edited_path(image), model=model, attribution=attribution))


def _check_file(image: Path, question: str) -> None:
    if image.is_file():
        return
    if image.is_dir():
        raise InputError(f"{image} is a folder; give the path of an image file")
    if str(image).startswith(("http:", "https:", "data:")):
        raise InputError(f"the image {str(image)[:100]} is an address, which is not fetched; give the path of a file")
    # A long question in the image's place need not be repeated.
    told = f"there is no image {str(image)[:200]}; give the path of an image file"
    raise InputError(f"{told}, then the question" if Path(question[:255]).is_file() else told)


def _text(question: str) -> str:
    if question != "-":
        return question
    try:
        return sys.stdin.read().strip()
    except UnicodeDecodeError as error:
        raise InputError("the question on standard input is no text; write it as UTF-8") from error
