"""Finds the program in what an instruction model wrote: a fenced block, a `<tool_call>`, or code behind `ACTION:`.

Which one counts, where there are several (docs/prompts.md): the first that calls a tool, be it a fenced block without
a language or in Python, a `<tool_call>` (or a fenced block of JSON that names a tool), or code without a fence behind
`ACTION:`. Where none calls a tool, it is the first fenced block of Python, or one without a language that is code.
"""

from __future__ import annotations

import ast
import bisect
import re
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from iapo.tools.fences import CodeBlock, code_blocks
from iapo.tools.language import LONGEST_PROGRAM, MOST_STATEMENTS

_TAG = re.compile(r"<tool_call>(?P<inside>.*?)(?:</tool_call>|(?=<tool_call>)|\Z)", re.DOTALL)
_LABELS = re.compile(r"(i?py(thon)?[\d.]*|tool_code|code)?", re.IGNORECASE)
_JSON_LABELS = re.compile(r"(json|tool_call)?", re.IGNORECASE)

# What stands before a part of a turn: `ACTION:`, `Action 1:`, `**ACTION:**`, `### Action`.
_MARKS = r"^[ \t>#*_-]*"
# Possessive quantifiers keep the time linear on long runs of spaces.
_ACTION = re.compile(
    _MARKS + r"action(?:[ \t]*+\d++)?[ \t]*+(?:[*_]*+:[ \t*_]*+|[*_]*+[ \t]*+$)", re.IGNORECASE | re.MULTILINE
)
_NEXT_PART = re.compile(
    _MARKS + r"(?:thought|observation|final[ \t]+answer|action|terminate)\b", re.IGNORECASE | re.MULTILINE
)


@dataclass(frozen=True, slots=True)
class Place:
    """A program in a text.

    Attributes:
        form: `python`, or `json` for tool calls as JSON.
        texts: The program; of JSON one text a call.
        span: Where it lies: character offsets in the text.
    """

    form: Literal["python", "json"]
    texts: tuple[str, ...]
    span: tuple[int, int]


def find_program(text: str, tool_names: Iterable[str]) -> Place | None:
    """Finds the program in a model's turn, as this module's head says; None where there is none.

    Args:
        text: Text that the model wrote.
        tool_names: Names that count as tools.
    """
    names = "|".join(map(re.escape, sorted(tool_names, key=len, reverse=True)))
    calls = re.compile(rf"\b(?:{names})\s*\(")
    mentions = re.compile(rf"\b(?:{names})\b")
    blocks = list(code_blocks(text))
    found = [
        Place("python", (block.text,), block.span)
        for block in blocks
        if _LABELS.fullmatch(block.label) and calls.search(block.text)
    ]
    found += _tagged(text, calls)
    found += [
        Place("json", (block.text,), block.span)
        for block in blocks
        if _JSON_LABELS.fullmatch(block.label) and _is_json(block) and mentions.search(block.text)
    ]
    if found:
        return min(found, key=lambda place: place.span)
    # Behind the fences, since a fence follows `ACTION:` as a rule.
    unfenced = next(_unfenced(text, calls, blocks), None)
    if unfenced is not None:
        return unfenced
    rest = (block for block in blocks if block.is_python or (not block.label and _is_code(block.text)))
    block = next(rest, None)
    return None if block is None else Place("python", (block.text,), block.span)


def _tagged(text: str, calls: re.Pattern[str]) -> list[Place]:
    """Returns all `<tool_call>` of a text as one program."""
    inside = [
        (found["inside"].strip(), found.start("inside"), found.end("inside"))
        for found in _TAG.finditer(text)
        if found["inside"].strip()
    ]
    if not inside:
        return []
    start, stop = inside[0][1], inside[-1][2]
    form: Literal["python", "json"] = "json"
    if calls.match(inside[0][0].removeprefix("display(")):
        # Python between the tags: the first of them is the program.
        form, inside, stop = "python", inside[:1], inside[0][2]
    start += len(text[start:stop]) - len(text[start:stop].lstrip())
    stop -= len(text[start:stop]) - len(text[start:stop].rstrip())
    return [Place(form, tuple(one for one, _, _ in inside), (start, stop))]


def _is_json(block: CodeBlock) -> bool:
    return block.text.lstrip().startswith(("{", "["))


def _unfenced(text: str, calls: re.Pattern[str], blocks: Iterable[CodeBlock]) -> Iterator[Place]:
    """Yields code without a fence behind `ACTION:`, up to the next part of the turn; lines of prose are left out."""
    # In order, as the blocks are.
    fenced = [block.span[0] for block in blocks]
    for action in _ACTION.finditer(text):
        start = action.end()
        following = _NEXT_PART.search(text, start)
        stop = len(text) if following is None else following.start()
        first = bisect.bisect_left(fenced, start)
        if (first < len(fenced) and fenced[first] < stop) or not calls.search(text, start, stop):
            continue
        yield Place("python", *_trimmed(text, start, min(stop, start + LONGEST_PROGRAM), calls))


def _trimmed(text: str, start: int, stop: int, calls: re.Pattern[str]) -> tuple[tuple[str], tuple[int, int]]:
    """Returns the longest run of whole lines that is Python and calls a tool; all of them where there is none."""
    lines: list[tuple[int, int]] = []
    for line in text[start:stop].splitlines(keepends=True)[: 2 * MOST_STATEMENTS]:
        begin = lines[-1][1] if lines else start
        lines.append((begin, begin + len(line)))
    with_call = [index for index, (begin, end) in enumerate(lines) if calls.search(text, begin, end)]
    first, last = (with_call[0], with_call[-1]) if with_call else (0, len(lines) - 1)
    for begin in range(max(0, first - 8), first + 1):
        for end in range(min(len(lines), last + 9), first, -1):
            span = _stripped(text, lines[begin][0], lines[end - 1][1])
            program = text[slice(*span)]
            if calls.search(program) and _is_python(program):
                return (program,), span
    span = _stripped(text, start, stop)
    return (text[slice(*span)],), span


def _stripped(text: str, start: int, stop: int) -> tuple[int, int]:
    """Returns the span without white space and backticks round it."""
    part = text[start:stop]
    start += len(part) - len(part.lstrip(" \t\r\n`"))
    return start, max(start, stop - (len(part) - len(part.rstrip(" \t\r\n`"))))


def _is_code(text: str) -> bool:
    """Tells whether a text is Python that does something; a table or an answer in a fence is none."""
    tree = _tree(text) if text.strip() else None
    # `Total: 5` is Python as well.
    return tree is not None and any(
        isinstance(node, ast.Call)
        or (isinstance(node, ast.stmt) and not isinstance(node, ast.Expr) and getattr(node, "value", True) is not None)
        for node in ast.walk(tree)
    )


def _is_python(text: str) -> bool:
    return _tree(text) is not None


def _tree(text: str) -> ast.Module | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(text)
    # Also what is nested too deeply, and half a surrogate pair.
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
