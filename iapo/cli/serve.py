"""`iapo serve`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from iapo.bounds import ASKED_HEAT, SECONDS
from iapo.cli.agent_options import (
    BoxKind,
    BoxNames,
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
from iapo.cli.base import Verb, make_app
from iapo.cli.checks import check_checkpoint, check_toolless, check_unused
from iapo.cli.loading import check_revision, loading_options
from iapo.cli.options import Quiet, at_least, between, one_of, within
from iapo.errors import InputError

app = make_app()

_OF_UPSTREAM = ("key_variable", "length_parameter", "endpoint_kind", "concurrency", "timeout")


@app.command(cls=Verb)
@loading_options("")
def serve(
    loading: dict[str, Any],
    context: typer.Context,
    model: Annotated[
        str,
        typer.Option(help="Packaged name, run folder, folder of a policy or adapter, hub id, or the upstream's model."),
    ],
    host: Annotated[str, typer.Option(help="Address to listen at; other machines reach 0.0.0.0.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(callback=between(0, 65535), help="Port; 0 takes a free one.")] = 8080,
    name: Annotated[str | None, typer.Option(help="Name of the model for clients; as --model if not given.")] = None,
    upstream: Annotated[
        str | None,
        typer.Option(help="Base address of an OpenAI-compatible server that has the model; the tools run here."),
    ] = None,
    key_variable: KeyVariable = "OPENAI_API_KEY",
    length_parameter: LengthParameter = "max_tokens",
    endpoint_kind: Annotated[
        str,
        typer.Option(callback=one_of("auto", "vllm", "openai"), help="What serves it, vllm or openai; auto asks it."),
    ] = "auto",
    concurrency: Annotated[
        int, typer.Option(callback=at_least(1), help="Questions under way at once with --upstream.")
    ] = 8,
    timeout: Annotated[
        float, typer.Option(callback=within(SECONDS), help="Seconds until a request to it counts as failed.")
    ] = 120.0,
    kind: BoxKind = "auto",
    names: BoxNames = "places",
    tools: OfferedTools = None,
    tool_timeout: ToolTimeout = None,
    prompt: Prompt = None,
    temperature: Annotated[
        float, typer.Option(callback=within(ASKED_HEAT), help="Temperature where a request has none; 0 is greedy.")
    ] = 0.0,
    max_turns: MaxTurns = None,
    max_turn_tokens: MaxTurnTokens = None,
    max_sequence_length: MaxSequenceLength = None,
    waiting: Annotated[
        int, typer.Option(callback=between(0, 10_000), help="Requests that wait for others; more are refused.")
    ] = 16,
    max_body: Annotated[int, typer.Option(callback=between(1, 500), help="Longest body of a request in MiB.")] = 20,
    device: Device = None,
    quiet: Quiet = False,
) -> None:
    """Serve a policy with its tools: chat completions as OpenAI has them, and a page to ask on.

    For example: iapo serve --model tiny-student --port 8080
    """
    from iapo.endpoints.address import check_address
    from iapo.rollout.load_settings import load_settings

    load_settings({**loading, "device": device}).check_packages()
    check_toolless(context, tools)
    if upstream is None:
        check_unused(context, _OF_UPSTREAM, "is of an upstream, and none is asked; give --upstream, or leave it out")
        check_checkpoint(model)
        check_revision(model, loading)
    else:
        if option := next(iter([*loading, *(["device"] if device else [])]), None):
            raise InputError(
                f"{option} is of a local model, and {model!r} is asked for at --upstream; give one of them"
            )
        check_address("upstream", upstream)
    from iapo.data.boxes.names import check_names
    from iapo.serving.address import check_port

    check_names(names)
    check_port(host, port)
    from iapo.agent.agent import Agent, with_limits
    from iapo.endpoints.chat import EndpointSettings
    from iapo.serving.command import run_server
    from iapo.serving.limits import Limits

    more: dict[str, Any] = {
        **{"tools": tools, "tool_timeout": tool_timeout, "prompt": prompt},
        **{"kind": kind, "names": names},
    }
    if upstream is None:
        agent = Agent.from_pretrained(model, loading=loading, device=device, **more)
    else:
        endpoint = EndpointSettings(
            model,
            upstream,
            key_variable,
            length_parameter=length_parameter,  # type: ignore[arg-type]
            kind=endpoint_kind,  # type: ignore[arg-type]
            timeout=timeout,
            concurrency=concurrency,
        )
        agent = Agent.from_endpoint(endpoint, **more)
    agent.settings = with_limits(
        agent.settings,
        temperature=temperature,
        max_turns=max_turns,
        max_turn_tokens=max_turn_tokens,
        max_sequence_length=max_sequence_length,
    )
    # A connection for each request that is answered or waits, and some for the page and for refusals.
    connections = agent.at_once + waiting + 15
    limits = Limits(body=max_body * 2**20, waiting=waiting, connections=connections)
    run_server(agent, name or model, host, port, limits, log=not quiet)
