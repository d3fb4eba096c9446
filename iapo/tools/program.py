"""From what a model wrote to the image that its program displays."""

from __future__ import annotations

from collections.abc import Mapping

from iapo.records import Sample, ToolResult
from iapo.tools.definitions import TOOLS, ToolDefinition
from iapo.tools.errors import ToolError
from iapo.tools.fences import extract_program
from iapo.tools.interpreter import Interpreter
from iapo.tools.language import RefusedError, parse

__all__ = ["execute", "extract_program"]


def execute(text: str, sample: Sample, tools: Mapping[str, ToolDefinition] = TOOLS) -> ToolResult:
    """Finds the program in a model's turn, checks it and carries it out.

    Nothing of the program is ever run as Python, and nothing in `text` makes this raise. A program that
    leaves the allowed language is refused before its first call, so only a failed one has calls beside its
    error.

    Args:
        text: Text that the model wrote.
        sample: The image and the boxes that the program works on; the image is not changed.
        tools: The tools that were offered to the model, by name.

    Returns:
        `no_call` where there is no code block or no statement in it, `refused` or `failed` with the reason,
        or `edited` with the image that was displayed last.
    """
    block = extract_program(text)
    if block is None:
        return ToolResult("no_call")
    program, span = block
    try:
        statements = parse(program, tools.keys() | TOOLS.keys())
    except RefusedError as error:
        return ToolResult("refused", error=str(error), span=span)
    if not statements:
        return ToolResult("no_call")
    interpreter = Interpreter(sample, tools)
    try:
        image = interpreter.run(statements)
    except ToolError as error:
        return ToolResult("failed", tuple(interpreter.calls), error=str(error), span=span)
    return ToolResult("edited", tuple(interpreter.calls), image, span=span)
