"""`iapo attribute`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from iapo.bounds import CHART, TURNS
from iapo.cli.base import Verb, make_app
from iapo.cli.checks import check_unused, checkpoint, offered, prompt
from iapo.cli.loading import check_loading, check_revision, loading_options
from iapo.cli.options import Json, Quiet, at_least, between, folder, within, write_json
from iapo.errors import InputError

app = make_app()


@app.command(cls=Verb)
@loading_options("", "teacher")
def attribute(
    loading: dict[str, Any],
    context: typer.Context,
    out: Annotated[
        Path, typer.Option(callback=folder, help="Folder to write attribution.png and attribution.json to.")
    ],
    run: Annotated[
        Path | None,
        typer.Argument(metavar="[RUN]", help="Run folder: its policy, teacher, tools and settings; a held-out sample."),
    ] = None,
    model: Annotated[
        str | None, typer.Option(callback=checkpoint, help="Student; the run's last policy, or tiny-student.")
    ] = None,
    teacher: Annotated[
        str | None, typer.Option(callback=checkpoint, help="Model that explains the call as well; the run's own.")
    ] = None,
    family: Annotated[
        str | None, typer.Option(help="Family of a synthetic image; without a run vbar if not given.")
    ] = None,
    index: Annotated[
        int,
        typer.Option(callback=within(CHART), help="Number of the run's sample or the family's chart, 0 to 100,000."),
    ] = 0,
    seed: Annotated[int, typer.Option(callback=at_least(0), help="Seed of the charts.")] = 0,
    size: Annotated[
        int, typer.Option(callback=between(112, 1000), help="Side of the chart in pixels, 112 to 1000.")
    ] = 112,
    sample: Annotated[Path | None, typer.Option(help="JSON file with a line of own data, instead of a chart.")] = None,
    call: Annotated[str | None, typer.Option(help="First turn, or @file; the model's own if not given.")] = None,
    method: Annotated[
        str | None,
        typer.Option(help="Method: gradient, integrated, occlusion, attention, FILE.py:NAME; the run's, or gradient."),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(callback=at_least(1), help="Points of the path, with --method integrated; 32.")
    ] = None,
    max_turn_tokens: Annotated[
        int | None, typer.Option(callback=at_least(1), help="Longest turn in tokens; the run's, or 512.")
    ] = None,
    max_turns: Annotated[
        int | None, typer.Option(callback=within(TURNS), help="Most turns of the rollout, 2 to 8; the run's, or 2.")
    ] = None,
    turn: Annotated[
        int | None, typer.Option(callback=between(1, 7), help="Number of the turn whose call is explained; the first.")
    ] = None,
    tools: Annotated[
        str | None, typer.Option(callback=offered, help="Offered tools, with commas between; the run's, or the six.")
    ] = None,
    prompt: Annotated[
        str | None,
        typer.Option(callback=prompt, help="Prompt: tools, tiny, FILE.yaml; the run's or student's own."),
    ] = None,
    device: Annotated[str | None, typer.Option(help="Device of the models; the CPU if not given.")] = None,
    json: Json = None,
    quiet: Quiet = False,
) -> None:
    """Show which part of the prompt one tool call came from, for a student and beside it for a teacher.

    For example: iapo attribute --teacher tiny-teacher --family hbar --out runs/attribute
    """
    from iapo.data.synthetic.families import find_family
    from iapo.studies.attribute_given import check_call, read_call, read_sample
    from iapo.studies.folders import find_runs
    from iapo.tools import offered_tools
    from iapo.training.settings import check_method

    if family is not None:
        find_family(family)
    check_method(method)
    if sample is not None and family is not None:
        raise InputError("--sample and --family are two ways to choose what is explained; give one of them")
    if sample is not None:
        check_unused(context, ("index", "seed", "size"), "is of a chart, and --sample is explained; give one of them")
    elif run is not None and family is None:
        check_unused(context, ("seed", "size"), "is of a drawn chart, and a run's own is explained; give --family, too")
    if sample is not None and not sample.is_file():
        raise InputError(f"cannot read the sample {sample}: there is no such file")
    if call is not None and call.startswith("@") and not Path(call[1:]).is_file():
        raise InputError(f"cannot read the turn {call[1:]}: there is no such file")
    for name in ("attribution.json", "attribution.png"):
        if (out / name).exists():
            raise InputError(f"{out / name} already exists; choose another --out or remove it")
    check_loading(loading, device)
    check_revision(model, loading)
    check_revision(teacher, loading, "teacher")
    if tools == "none":
        raise InputError("tools are none; there is no call to attribute without a tool")
    given = None if sample is None else read_sample(sample)
    first = None if call is None else read_call(call)
    runs = [] if run is None else find_runs([str(run)])
    if first is not None:
        of_run = runs[0].manifest.config.get("run") if runs else None
        check_call(first, offered_tools(tools or (of_run.get("tools") if isinstance(of_run, dict) else None)))
    from iapo.studies.attribute import run_attribute
    from iapo.studies.attribute_inputs import chart_sample, held_out_sample, plan_of

    changes = {"model": model, "teacher": teacher, "method": method, "steps": steps, "tools": tools, "prompt": prompt}
    lengths = {"max_turn_tokens": max_turn_tokens, "max_turns": max_turns, "turn": turn}
    plan = plan_of(run, {**changes, **lengths}, loading)
    if given is not None:
        chosen = given
    elif run is not None and family is None:
        chosen = held_out_sample(run, index)
    else:
        chosen = chart_sample(family or "vbar", index, seed=seed, size=size)
    write_json(json, run_attribute(plan, out, sample=chosen, call=first, device=device))
