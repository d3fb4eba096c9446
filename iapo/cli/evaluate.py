"""`iapo evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from iapo.bounds import HEAT, PART, SECONDS, TOGETHER, check_repeats
from iapo.cli.agent_options import (
    Device,
    KeyVariable,
    LengthParameter,
    MaxSequenceLength,
    MaxTurns,
    MaxTurnTokens,
    OfferedTools,
    Prompt,
    ToolTimeout,
)
from iapo.cli.base import Resumable, make_app
from iapo.cli.checks import (
    check_checkpoint,
    check_drawn,
    check_ended,
    check_questions,
    check_sets,
    check_toolless,
    check_unused,
)
from iapo.cli.loading import check_revision, loading_options
from iapo.cli.options import DataDamage, Json, Quiet, at_least, between, folder, one_of, within, write_json
from iapo.errors import InputError

app = make_app()

_OF_ENDPOINT = ("key_variable", "length_parameter", "endpoint_kind", "concurrency", "timeout")
_OF_MODEL = ("batch_size", "device", "max_sequence_length")


@app.command(cls=Resumable)
@loading_options("")
def evaluate(
    loading: dict[str, Any],
    context: typer.Context,
    model: Annotated[str, typer.Option(help="Packaged name, folder, hub id, or the endpoint's model.")],
    out: Annotated[
        Path, typer.Option(callback=folder, help="Run folder; an evaluation that was stopped there goes on.")
    ],
    sets: Annotated[str, typer.Option(help="Test sets, with commas between (docs/comparing.md).")] = "vbar,hbar",
    samples: Annotated[int, typer.Option(callback=at_least(0), help="Samples of each set; 0: all of it.")] = 100,
    data_seed: Annotated[
        int | None, typer.Option(callback=at_least(0), help="Seed of synthetic images; 0 if not given.")
    ] = None,
    split: Annotated[
        str, typer.Option(help="Split: validation or test of synthetic images; any of the data's.")
    ] = "test",
    size: Annotated[
        int | None,
        typer.Option(callback=between(112, 1000), help="Longer side of synthetic images, 112 to 1000 pixels; 112."),
    ] = None,
    question_types: Annotated[
        str, typer.Option(help="Question types of synthetic images, with commas between; all if empty.")
    ] = "",
    tools: OfferedTools = None,
    prompt: Prompt = None,
    tool_timeout: ToolTimeout = None,
    no_tools: Annotated[bool, typer.Option("--no-tools", help="Answers in one turn, without tools.")] = False,
    data_damage: DataDamage = "strict",
    temperature: Annotated[
        float, typer.Option(callback=within(HEAT), help="Temperature of the sampling; 0 is greedy.")
    ] = 0.0,
    top_p: Annotated[float, typer.Option(callback=within(PART), help="Nucleus where it samples.")] = 1.0,
    repeats: Annotated[int, typer.Option(callback=at_least(1), help="Rollouts of each sample, where it samples.")] = 1,
    seed: Annotated[int, typer.Option(callback=at_least(0), help="Seed of the sampling.")] = 0,
    max_turns: MaxTurns = None,
    max_turn_tokens: MaxTurnTokens = None,
    max_sequence_length: MaxSequenceLength = None,
    batch_size: Annotated[int, typer.Option(callback=at_least(1), help="Rollouts generated at once.")] = 64,
    device: Device = None,
    vllm: Annotated[bool, typer.Option("--vllm", help="Generates with vLLM in this process (docs/vllm.md).")] = False,
    vllm_memory: Annotated[
        float, typer.Option(callback=within(PART), help="Share of the device's memory that vLLM takes.")
    ] = 0.9,
    endpoint: Annotated[str | None, typer.Option(help="Base address of an OpenAI-compatible endpoint.")] = None,
    key_variable: KeyVariable = "OPENAI_API_KEY",
    length_parameter: LengthParameter = "max_tokens",
    endpoint_kind: Annotated[
        str,
        typer.Option(
            callback=one_of("auto", "vllm", "openai"),
            help="What serves it, vllm or openai; auto asks it. To vllm the whole sampling is told.",
        ),
    ] = "auto",
    endpoint_served_as: Annotated[
        str | None, typer.Option(help="Model that its answers name, where that is another; the asked one.")
    ] = None,
    concurrency: Annotated[
        int, typer.Option(callback=within(TOGETHER), help="Samples under way at once at an endpoint.")
    ] = 8,
    timeout: Annotated[
        float, typer.Option(callback=within(SECONDS), help="Seconds until a request to it counts as failed.")
    ] = 120.0,
    json: Json = None,
    quiet: Quiet = False,
) -> None:
    """Measure a policy on test sets: accuracy, tool calls, intervals.

    A policy of `iapo train` is used as its run used it, an adapter with its base. For example:
    iapo evaluate --model tiny-student --sets vbar,hbar --question-types value --out runs/start
    """
    from iapo.bounds import split_list
    from iapo.endpoints.address import check_address
    from iapo.rollout.load_settings import check_vllm, load_settings

    check_sets(sets, split)
    families = split_list("--sets", sets)
    check_questions(question_types, families)
    drawn = {"--question-types": question_types, "--size": size, "--data-seed": data_seed}
    check_drawn(drawn, families)
    if no_tools and tools not in (None, "none"):
        raise InputError(f"--no-tools offers none, and --tools is {tools!r}; give one of them")
    check_toolless(context, "none" if no_tools else tools)
    check_ended(samples, families)
    local = load_settings({**loading, "device": device})
    if endpoint is not None and (name := next(iter(loading), None)):
        raise InputError(f"{name} is of a local model, and {model!r} is asked for at an endpoint; give one of them")
    if endpoint_served_as is not None and (endpoint is None or not endpoint_served_as.strip()):
        raise InputError("--endpoint-served-as is the name of a model in the answers of an --endpoint; give both")
    if endpoint is None:
        check_unused(context, _OF_ENDPOINT, "is of an endpoint, and none is asked; give --endpoint, or leave it out")
    else:
        check_unused(context, _OF_MODEL, f"is of a local model, and {model!r} is an endpoint's; leave it out")
    if not vllm:
        check_unused(context, ["vllm_memory"], "is of vLLM, which does not generate here; give --vllm, or leave it out")
    if temperature == 0:
        check_unused(context, ["top_p"], "does nothing in greedy sampling; set --temperature, or leave it out")
    if vllm:
        if endpoint is not None:
            raise InputError("--vllm and --endpoint are two ways to generate; give one of them")
        check_vllm(local)
    if endpoint is None:
        check_checkpoint(model)
        check_revision(model, loading)
    else:
        check_address("endpoint", endpoint)
    check_repeats(repeats, temperature)
    from rich.console import Console

    from iapo.agent.sources import find_source, plain_source
    from iapo.display.tables import evaluation_table
    from iapo.display.terminal import say
    from iapo.evaluation.plan import make_plan
    from iapo.evaluation.run import evaluate_with_progress
    from iapo.evaluation.sets import loss_lines
    from iapo.evaluation.shortfalls import shortfall_lines
    from iapo.results import stamp

    source = plain_source(model, local) if endpoint is not None else find_source(model, {**loading, "device": device})
    plan = make_plan(
        source.model,
        sets,
        count=samples,
        data_seed=data_seed or 0,
        split=split,
        size=size or 112,
        question_types=question_types,
        tools="none" if no_tools else source.tools(tools),
        prompt=prompt or source.prompt,
        temperature=temperature,
        top_p=top_p,
        repeats=repeats,
        seed=seed,
        max_turns=max_turns or source.usage.max_turns,
        max_turn_tokens=max_turn_tokens or source.usage.longest_turn,
        max_sequence_length=max_sequence_length,
        batch_size=batch_size,
        # What of a run's loading is Transformers' own is nothing to vLLM.
        loading=local if vllm else source.loading,
        endpoint=endpoint,
        key_variable=key_variable,
        length_parameter=length_parameter,
        endpoint_kind=endpoint_kind,
        concurrency=concurrency,
        timeout=timeout,
        served_as=endpoint_served_as,
        vllm_memory=vllm_memory if vllm else None,
        data_damage=data_damage,
        tool_timeout=source.usage.tool_timeout if tool_timeout is None else tool_timeout,
    )
    if source.line:
        say(source.line)
    found = evaluate_with_progress(plan, out)
    Console().print(evaluation_table(found))
    for line in (*loss_lines(found, str(out)), *shortfall_lines([found])):
        say(line)
    write_json(json, stamp("test_sets", found.to_json()))
