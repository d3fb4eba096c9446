"""From what a model wrote to the image that its program displays."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from iapo.kinds import check_kind, checks_kinds, plain
from iapo.records import Sample, ToolResult
from iapo.tools.definitions import TOOLS, ToolDefinition, check_tools, define
from iapo.tools.errors import ToolError, listed, quoted
from iapo.tools.fences import extract_program
from iapo.tools.interpreter import Interpreter
from iapo.tools.language import MOST_STATEMENTS, RefusedError, Statement, check_length, parse
from iapo.tools.lenient import parse_lenient, read_json_call
from iapo.tools.places import Place, find_program

__all__ = ["check_program", "execute", "extract_program"]


def execute(
    text: str, sample: Sample, tools: Mapping[str, ToolDefinition] = TOOLS, *, lenient: bool = False
) -> ToolResult:
    """Finds the program in a model's turn, checks it and carries it out.

    Nothing of the program is ever run as Python, and nothing in `text` makes this raise. A program that
    leaves the allowed language is refused before its first call, so only a failed one has calls beside its
    error. A tool that fails by its own fault is a failed program as well, with the tool's name (`broken`).

    Args:
        text: Text that the model wrote.
        sample: The image and the boxes that the program works on; the image is not changed.
        tools: The tools that were offered to the model, by name.
        lenient: Whether what instruction models write is understood as well (docs/prompts.md); a template of a prompt
            says so (`iapo.rollout.template.PromptTemplate`).

    Returns:
        `no_call` where there is no program or no statement in it, `refused` or `failed` with the reason,
        or `edited` with the image that was displayed last, and the texts that were displayed.

    Raises:
        InputError: If an argument is of another type, a judge of misuse fails (`iapo.tools.judges`), or a tool stands
            under another name than its own.
    """
    check_tools(tools)
    check_kind("the text", text, (str,))
    check_kind("the sample", sample, (Sample,))
    check_kind("lenient", lenient := plain(lenient), (bool,))
    known = {**TOOLS, **tools}
    place = _find(text, known, lenient=lenient)
    if place is None:
        return ToolResult("no_call")
    try:
        statements = _parse(place, known, lenient=lenient)
    except RefusedError as error:
        return ToolResult("refused", error=f"{error}{_hint(tools) if lenient else ''}", span=place.span)
    if not statements:
        return ToolResult("no_call")
    interpreter = Interpreter(sample, tools, lenient=lenient)
    try:
        shown = interpreter.run(statements)
    except ToolError as error:
        broken = interpreter.broken
        return ToolResult("failed", tuple(interpreter.calls), error=str(error), span=place.span, broken=broken)
    calls = tuple(interpreter.calls)
    return ToolResult(
        "edited",
        calls,
        shown.image,
        span=place.span,
        text=shown.text,
        made_of=shown.made_of,
        moved=shown.moved,
        kept=shown.kept,
    )


@checks_kinds
def check_program(text: str, tool_names: Iterable[str], *, lenient: bool) -> str | None:
    """Says why the program in a text would be refused; None where it would not be, or there is none.

    Args:
        text: Text as a model would write it.
        tool_names: Names that may be called, besides the standard tools'.
        lenient: Whether it is read as in `execute`.

    Raises:
        InputError: If an argument is of another type.
    """
    # What another tool takes is not known here, so that it may be free.
    known = {**TOOLS, **{name: _ANY for name in tool_names if name not in TOOLS}}
    place = _find(text, known, lenient=lenient)
    try:
        if place is not None:
            _parse(place, known, lenient=lenient)
    except RefusedError as error:
        return str(error)
    return None


def why_no_call(text: str, tools: Mapping[str, ToolDefinition] = TOOLS, *, lenient: bool) -> str | None:
    """Says, as a predicate of a turn, why nothing in it would be carried out; None where something would be.

    Args:
        text: Text as a model would write it.
        tools: The offered tools by name.
        lenient: Whether it is read as in `execute`.
    """
    known = {**TOOLS, **tools}
    place = _find(text, known, lenient=lenient)
    try:
        if place is not None and _parse(place, known, lenient=lenient):
            return None
    except RefusedError as error:
        return f"has a program that is refused ({str(error).rstrip('.')})"
    return "calls no tool (a call stands in a ```python block)"


def _any() -> str:
    """Stand for a tool of which only the name is known."""
    return ""


_ANY = define(_any)


def _find(text: str, known: Mapping[str, ToolDefinition], *, lenient: bool) -> Place | None:
    if lenient:
        return find_program(text, known)
    block = extract_program(text)
    return None if block is None else Place("python", (block[0],), block[1])


def _parse(place: Place, known: Mapping[str, ToolDefinition], *, lenient: bool) -> tuple[Statement, ...]:
    if place.form == "json":
        return tuple(read_json_call(one, known) for text in place.texts for one in _json(text))
    (program,) = place.texts
    if lenient:
        return parse_lenient(program, known)
    return parse(program, known.keys(), free=any(tool.free is not None for tool in known.values()))


def _json(text: str) -> list[object]:
    check_length(text)
    try:
        found = json.loads(text, object_pairs_hook=_once)
        calls = found if isinstance(found, list) else [found]
        for call in calls:
            # Arguments as JSON in a text are a habit of some servers.
            if isinstance(call, dict) and isinstance(call.get("arguments"), str):
                call["arguments"] = json.loads(call["arguments"], object_pairs_hook=_once)
    except RefusedError:
        # A `ValueError` as well.
        raise
    except json.JSONDecodeError as error:
        raise RefusedError(f"the tool call is not valid JSON ({error.msg}, character {error.pos + 1})") from error
    except (ValueError, RecursionError) as error:
        raise RefusedError("the tool call is no readable JSON; its numbers or its nesting are too large") from error
    if len(calls) > MOST_STATEMENTS:
        raise RefusedError(f"there are {len(calls)} tool calls; write at most {MOST_STATEMENTS}")
    return calls


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Reads an object of a tool call, in which no key stands twice: JSON has no word on which of them counts."""
    found: dict[str, object] = {}
    for key, value in pairs:
        if key in found:
            raise RefusedError(f"the tool call was given {quoted(key)} twice; give it once")
        found[key] = value
    return found


def _hint(tools: Mapping[str, ToolDefinition]) -> str:
    """Says what a program may be, behind the reason why one is refused."""
    form = 'TOOL(image_1, ["NAME"], columns_bbox or rows_bbox)'
    if any(tool.free is not None for tool in tools.values()):
        form = "TOOL(...)"
    return f"; write display({form}) with one of the tools {listed(tools)}"
