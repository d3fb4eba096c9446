"""Options of the verbs that ask a policy (`iapo ask`, `iapo serve`) or an endpoint (`iapo evaluate`, `iapo serve`)."""

from __future__ import annotations

from typing import Annotated

import typer

from iapo.bounds import SECONDS, TURNS
from iapo.cli.checks import offered, prompt, variable
from iapo.cli.options import at_least, one_of, within

BoxKind = Annotated[
    str,
    typer.Option(
        "--kind",
        callback=one_of("auto", "chart", "table"),
        help="What boxes are looked for of: auto, chart or table.",
    ),
]
BoxNames = Annotated[
    str,
    typer.Option("--names", callback=one_of("places", "ocr"), help="Names of found boxes: places or ocr."),
]
OfferedTools = Annotated[
    str | None,
    typer.Option(
        "--tools",
        callback=offered,
        help="Offered tools: FILE.py, FILE.py:NAME, names, standard or none; the run's.",
    ),
]
ToolTimeout = Annotated[
    float | None,
    typer.Option(
        "--tool-timeout",
        callback=within(SECONDS),
        help="Longest call of a tool, in seconds, in a process of its own; the run's, or no limit.",
    ),
]
Prompt = Annotated[
    str | None,
    typer.Option("--prompt", callback=prompt, help="Prompt: tools, tiny, FILE.yaml; the policy's own, or tools."),
]
MaxTurns = Annotated[
    int | None,
    typer.Option("--max-turns", callback=within(TURNS), help="Most turns, 2 to 8; the run's, or 2."),
]
MaxTurnTokens = Annotated[
    int | None,
    typer.Option("--max-turn-tokens", callback=at_least(1), help="Longest turn in tokens; the run's, or 512."),
]
MaxSequenceLength = Annotated[
    int | None,
    typer.Option(
        "--max-sequence-length",
        callback=at_least(1),
        help="Longest sequence in tokens; what the model takes if not given.",
    ),
]
Device = Annotated[str | None, typer.Option("--device", help="Device of the model; the CPU if not given.")]

KeyVariable = Annotated[
    str, typer.Option("--key-variable", callback=variable, help="Environment variable with its key.")
]
LengthParameter = Annotated[
    str,
    typer.Option(
        "--length-parameter",
        callback=one_of("max_tokens", "max_completion_tokens"),
        help="Its name for the longest turn: max_tokens or max_completion_tokens.",
    ),
]
