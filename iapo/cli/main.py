"""The command line. Heavy imports stay inside the verbs, so that `iapo --help` answers at once."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from iapo.cli import data as data_verbs
from iapo.cli import study as study_verbs
from iapo.cli import tiny as tiny_verbs

app = typer.Typer(
    help="Teach small vision-language models to use tools (IAPO).",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(tiny_verbs.app, name="tiny")
teacher = typer.Typer(help="What a teacher is asked once, so that training need not load it.", no_args_is_help=True)
app.add_typer(teacher, name="teacher")
app.add_typer(data_verbs.app, name="data")
app.add_typer(study_verbs.app, name="study")

Runs = Annotated[list[str], typer.Argument(metavar="RUN...", help="Run folders, or NAME=FOLDER; or a folder of runs.")]


@app.command()
def demo(
    out: Annotated[Path | None, typer.Option(help="Parent of the run folders; runs/demo if not given.")] = None,
    steps: Annotated[int | None, typer.Option(help="Optimiser steps of each run; the demo's own if not given.")] = None,
    seed: Annotated[int, typer.Option(help="Of data order, sampling and evaluation.")] = 0,
) -> None:
    """Train the tiny student with GRPO and with IAPO from one start, and compare them on held-out charts."""
    from iapo.experiments.demo import run_demo

    run_demo(out, steps=steps, seed=seed)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def train(
    context: typer.Context,
    config: Annotated[str, typer.Option(help="A YAML file, or the name of a packaged one.")],
    list_settings: Annotated[bool, typer.Option(help="List every setting that can be given, and stop.")] = False,
) -> None:
    """Train a policy as a YAML file says; any setting can be overridden by a flag of its name.

    For example: iapo train --config demo-iapo --output_dir runs/mine --learning_rate 1e-4
    """
    from iapo.training.run import list_arguments, parse, run

    if list_settings:
        list_arguments()
        return
    run(*parse(config, context.args))


@app.command()
def attribute(
    out: Annotated[Path, typer.Option(help="The folder to write attribution.png and attribution.json to.")],
    run: Annotated[
        Path | None,
        typer.Argument(metavar="[RUN]", help="Run folder: its policy, teacher, tools and settings; a held-out sample."),
    ] = None,
    model: Annotated[str | None, typer.Option(help="The student; the run's last policy, or tiny-student.")] = None,
    teacher: Annotated[str | None, typer.Option(help="Explains the call as well; the run's own.")] = None,
    family: Annotated[
        str | None, typer.Option(help="Synthetic picture of this family; without a run vbar if not given.")
    ] = None,
    index: Annotated[int, typer.Option(help="Which held-out sample of the run or chart of the family, from 0.")] = 0,
    seed: Annotated[int, typer.Option(help="Of the charts.")] = 0,
    size: Annotated[int, typer.Option(help="The chart's side in pixels, 112 to 1000.")] = 112,
    sample: Annotated[Path | None, typer.Option(help="A sample as a JSON file, instead of a chart.")] = None,
    call: Annotated[str | None, typer.Option(help="The first turn, or @file; the model's own if not given.")] = None,
    method: Annotated[
        str | None, typer.Option(help="gradient, integrated, occlusion or FILE.py:NAME; the run's, or gradient.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Points of the path, with --method integrated; 32.")] = None,
    max_turn_tokens: Annotated[int | None, typer.Option(help="Longest turn in tokens; the run's, or 512.")] = None,
    tools: Annotated[str | None, typer.Option(help="Offered tools, with commas; the run's, or the six.")] = None,
    device: Annotated[str | None, typer.Option(help="Where the models run; the CPU if not given.")] = None,
) -> None:
    """Show which part of the prompt one tool call came from, for a student and beside it for a teacher.

    For example: iapo attribute --teacher tiny-teacher --family hbar --out runs/attribute
    """
    from iapo.studies.attribute import run_attribute
    from iapo.studies.attribute_inputs import chart_sample, held_out_sample, plan_of, read_call, read_sample

    changes = {"model": model, "teacher": teacher, "method": method, "steps": steps, "tools": tools}
    plan = plan_of(run, {**changes, "max_turn_tokens": max_turn_tokens})
    if sample is not None:
        chosen = read_sample(sample)
    elif run is not None and family is None:
        chosen = held_out_sample(run, index)
    else:
        chosen = chart_sample(family or "vbar", index, seed=seed, size=size)
    run_attribute(plan, out, sample=chosen, call=None if call is None else read_call(call), device=device)


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders, or folders that hold some.")],
    out: Annotated[Path | None, typer.Option(help="The page; report.html in the folder if not given.")] = None,
    pictures: Annotated[str, typer.Option(help="embed (in the page) or folder (beside it).")] = "embed",
    max_traces: Annotated[int, typer.Option(help="Traces at most, evenly from all runs; 0: all.")] = 2000,
    open: Annotated[bool, typer.Option("--open", help="Show it in the browser.")] = False,
) -> None:
    """Write one HTML page about runs: configurations, results, curves and a browser of traces (docs/report.md).

    For example: iapo report runs/demo
    """
    from iapo.display.terminal import say
    from iapo.report.command import describe, open_report, write_report

    written = write_report(runs, out, pictures=pictures, max_traces=max_traces)
    for line in describe(written):
        say(line)
    if open:
        open_report(written.path)


@app.command()
def evaluate(
    model: Annotated[str, typer.Option(help="A packaged name, a folder, a hub id, or the endpoint's model.")],
    out: Annotated[Path, typer.Option(help="The run folder; an evaluation that was stopped there goes on.")],
    sets: Annotated[str, typer.Option(help="Test sets, with commas between (docs/comparing.md).")] = "vbar,hbar",
    samples: Annotated[int, typer.Option(help="How many of each set; 0: all of it.")] = 100,
    data_seed: Annotated[int, typer.Option(help="Of synthetic pictures.")] = 0,
    split: Annotated[str, typer.Option(help="validation or test.")] = "test",
    size: Annotated[int, typer.Option(help="Longer side of synthetic pictures, 112 to 1000 pixels.")] = 112,
    question_types: Annotated[str, typer.Option(help="Of synthetic pictures, with commas between; all if empty.")] = "",
    tools: Annotated[
        str | None, typer.Option(help="Offered tools: FILE.py, FILE.py:NAME, names, with commas between; the six.")
    ] = None,
    no_tools: Annotated[bool, typer.Option("--no-tools", help="Have the answer in one turn.")] = False,
    temperature: Annotated[float, typer.Option(help="0 is greedy.")] = 0.0,
    top_p: Annotated[float, typer.Option(help="Nucleus where it samples.")] = 1.0,
    repeats: Annotated[int, typer.Option(help="Rollouts of each sample, where it samples.")] = 1,
    seed: Annotated[int, typer.Option(help="Of the sampling.")] = 0,
    max_turn_tokens: Annotated[int, typer.Option(help="Longest turn in tokens.")] = 512,
    batch_size: Annotated[int, typer.Option(help="Rollouts generated at once.")] = 64,
    device: Annotated[str | None, typer.Option(help="Where the model runs; the CPU if not given.")] = None,
    endpoint: Annotated[str | None, typer.Option(help="Base address of an OpenAI-compatible endpoint.")] = None,
    key_variable: Annotated[str, typer.Option(help="Environment variable with its key.")] = "OPENAI_API_KEY",
    length_parameter: Annotated[
        str, typer.Option(help="What it calls the longest turn: max_tokens or max_completion_tokens.")
    ] = "max_tokens",
    concurrency: Annotated[int, typer.Option(help="Samples under way at once at an endpoint.")] = 8,
    timeout: Annotated[float, typer.Option(help="Seconds until a request to it counts as failed.")] = 120.0,
) -> None:
    """Measure a policy on test sets: accuracy, tool calls, intervals.

    For example: iapo evaluate --model tiny-student --sets vbar,hbar --question-types value --out runs/start
    """
    from rich.console import Console

    from iapo.display.tables import evaluation_table
    from iapo.evaluation.run import evaluate_with_progress, make_plan

    plan = make_plan(
        model,
        sets,
        count=samples,
        data_seed=data_seed,
        split=split,
        size=size,
        question_types=question_types,
        tools="none" if no_tools else tools,
        temperature=temperature,
        top_p=top_p,
        repeats=repeats,
        seed=seed,
        max_turn_tokens=max_turn_tokens,
        batch_size=batch_size,
        device=device,
        endpoint=endpoint,
        key_variable=key_variable,
        length_parameter=length_parameter,
        concurrency=concurrency,
        timeout=timeout,
    )
    Console().print(evaluation_table(evaluate_with_progress(plan, out)))


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def compare(
    context: typer.Context,
    out: Annotated[Path, typer.Option(help="Holds all runs; a comparison that was stopped there goes on.")],
    preset: Annotated[str, typer.Option(help="smoke or full; what is given beside it counts instead.")] = "smoke",
    methods: Annotated[str | None, typer.Option(help="Rewards by name, with commas between.")] = None,
    seeds: Annotated[str | None, typer.Option(help="Of the trainings, with commas between.")] = None,
    config: Annotated[str | None, typer.Option(help="What all runs share: a YAML file or a packaged name.")] = None,
    reference: Annotated[str | None, typer.Option(help="The method that differences are taken to.")] = None,
    sets: Annotated[str | None, typer.Option(help="Test sets, with commas between.")] = None,
    samples: Annotated[int | None, typer.Option(help="How many of each test set.")] = None,
    temperature: Annotated[float | None, typer.Option(help="Of the evaluation; 0 is greedy.")] = None,
    repeats: Annotated[int | None, typer.Option(help="Rollouts of each test sample.")] = None,
    row: Annotated[list[str] | None, typer.Option(help="NAME=FOLDER, a finished iapo evaluate, as a row.")] = None,
    together: Annotated[int, typer.Option(help="Runs at a time, 1 or 2.")] = 2,
) -> None:
    """Train methods with several seeds from one start under equal budgets, and write Table 1.

    Any setting of the training can be given by a flag of its name and holds for all runs. For example:
    iapo compare --out runs/mine --methods grpo,iapo --seeds 0,1,2 --max_steps 40
    """
    from iapo.experiments.compare import compare, describe

    given: dict[str, object] = {
        "methods": methods,
        "seeds": seeds,
        "config": config,
        "reference": reference,
        "sets": sets,
    }
    given |= {"samples": samples, "temperature": temperature, "repeats": repeats}
    comparison, rows = describe(preset, given, context.args, row or [])
    compare(comparison, out, together=together, more_rows=rows)


@teacher.command("attribute", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def teacher_attribute(
    context: typer.Context,
    config: Annotated[str, typer.Option(help="Of the training: a YAML file, or the name of a packaged one.")],
    out: Annotated[Path, typer.Option(help="The parquet file to write; `teacher_table` of the training.")],
    model: Annotated[str | None, typer.Option(help="The teacher; the configuration's if not given.")] = None,
    split: Annotated[str, typer.Option(help="Whose samples: train, test or both.")] = "train",
) -> None:
    """Store a teacher's attribution of its own greedy call to every sample of a training.

    Any setting can be overridden by a flag of its name. For example:
    iapo teacher attribute --config demo-iapo --model tiny-teacher --out runs/teacher.parquet --train_samples 256
    """
    from iapo.training.store_teacher import store_teacher

    store_teacher(config, context.args, out, model=model, split=split)


def main() -> None:
    """Runs the command line.

    A refused input is one sentence on standard error and exit code 2, an endpoint that fails one and exit code 3. A
    process that fails is the end of its log and exit code 1.
    """
    from iapo.endpoints.chat import EndpointError
    from iapo.experiments.processes import JobError

    try:
        app()
    except EndpointError as error:
        sys.stderr.write(f"iapo: {error}\n")
        raise SystemExit(3) from error
    except JobError as error:
        sys.stderr.write(f"iapo: {error}\n")
        raise SystemExit(1) from error
    except ValueError as error:
        # What the package refuses is a ValueError with a sentence meant for people.
        sys.stderr.write(f"iapo: {error}\n")
        raise SystemExit(2) from error


if __name__ == "__main__":
    main()
