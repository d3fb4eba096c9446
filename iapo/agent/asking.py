"""`iapo ask`: one question about one image, answered in the terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from iapo.agent.agent import Agent
from iapo.agent.answers import Answer, Event, ObservationEvent
from iapo.agent.questions import Question
from iapo.display.terminal import plain, say
from iapo.display.terminal_image import drawn, protocol_of
from iapo.errors import InputError
from iapo.records import save_png
from iapo.results import stamp
from iapo.storage import make_folder


def edited_path(image: Path) -> Path:
    """Returns where the edited image of an image file is written: beside it, under a name that is free.

    `chart.png` becomes `chart.edited.png`, or `chart.edited-2.png` where there is one.
    """
    names = (f"{image.stem}.edited{'' if number == 1 else f'-{number}'}.png" for number in range(1, 10_000))
    found = next((one for name in names if not (one := image.with_name(name)).exists()), None)
    if found is None:
        raise InputError(f"{image} has thousands of edited images beside it; give --out")
    return found


def run_ask(agent: Agent, question: Question, out: Path, *, model: str, attribution: bool) -> dict[str, Any]:
    """Asks, prints what happened, and writes the image that a tool made.

    Args:
        agent: The agent.
        question: The question.
        out: PNG file for the last image that a program displayed; not written where none was.
        model: Name of the model.
        attribution: Whether the shares of the blocks before each turn's call are shown.

    Returns:
        The answer as `--json` has it.
    """
    say(f"question  {plain(question.sample.question)}")
    say(f"boxes     {plain(question.note)}")
    seen: dict[int, ObservationEvent] = {}

    def watch(event: Event) -> None:
        if isinstance(event, ObservationEvent):
            seen[event.turn] = event

    found = agent.ask(question, attribution=attribution, watch=watch)
    if found.image is not None:
        make_folder(out.parent)
        if out.exists():
            raise InputError(f"{out} was written meanwhile; choose another --out")
        save_png(found.image, out)
    for line in lines(found, out, seen):
        say(line)
    protocol = protocol_of(sys.stdout)
    if found.image is not None and protocol is not None:
        sys.stdout.write(drawn(found.image, protocol))
    if attribution:
        _say_shares(found)
    image = None if found.image is None else str(out)
    numbers = {"model": model, "prompt": agent.template.name, "tools": list(agent.tools)}
    return stamp("answer", {**numbers, **found.to_json(image=False), "image": image})


def lines(answer: Answer, out: Path, seen: Mapping[int, ObservationEvent]) -> Iterator[str]:
    """Yields what happened, a line or a few each: the turns with their programs, the saved image, the answer.

    Args:
        answer: The answer.
        out: Where its image is.
        seen: What the model was shown, by the number of the turn before; told where it is no image and no error.
    """
    for number, turn in enumerate(answer.turns, 1):
        result = turn.result
        if turn.program is None or result is None:
            yield _labelled(f"turn {number}", turn.text.strip() or "(nothing)")
            continue
        yield _labelled("program", turn.program)
        shown = f"; the image is {out}" if result.image is not None and result.image is answer.image else ""
        why = f" ({plain(result.error)})" if result.error else ""
        yield f"status    {result.status}{why}{shown}"
        if number in seen and seen[number].image is None and not result.error:
            yield _labelled("shown", seen[number].text)
    if answer.status == "no_call":
        yield "status    no_call"
    if not answer.whole:
        yield "cut off   the last turn, or what it was to be shown, did not fit; see --max-turn-tokens"
    yield f"answer    {'none' if answer.answer is None else plain(answer.answer)}"


def _labelled(label: str, text: str) -> str:
    # What a model wrote must not steer the terminal.
    return f"{label:<10}" + "\n          ".join(_safe(line) for line in text.splitlines())


def _safe(line: str) -> str:
    indent = len(line) - len(line.lstrip(" "))
    return " " * indent + plain(line)


def _say_shares(answer: Answer) -> None:
    explained = [(number, turn) for number, turn in enumerate(answer.turns, 1) if turn.attribution]
    if not explained:
        say("shares    none: there is no call that can be attributed")
    for number, turn in explained:
        called = {f"tool:{call.name}" for call in turn.result.calls} if turn.result is not None else set()
        caption = "* the call uses this tool" if called else None
        table = Table(title=f"where the call of turn {number} came from", caption=caption)
        table.add_column("block", no_wrap=True)
        table.add_column("share", justify="right")
        for name, share in turn.attribution.items():
            # Names of tools are not markup.
            table.add_row(Text(name + (" *" if name in called else "")), f"{share:.3f}")
        Console(highlight=False, markup=False).print(table)
