"""Finds the program in what a model wrote.

The first code block is the program; later ones are ignored, and so are blocks in another language. A fence is
three or more backticks, however far indented, followed by nothing or by `python`, `py`, `python3` and the
like in any case. A block that is not closed, as when generation was cut, runs to the end of the text. Habits
of small models are understood as well: words before a fence that names Python (`Action: ```python`), a
statement behind such a fence on the same line, and a closing fence right behind the last statement.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass

# Possessive quantifiers and the look-behind keep the time linear on long runs of backticks.
_FENCE = re.compile(
    r"(?:(?P<indent>^[ \t]*)|(?<!`))`{3,}+[ \t]*(?P<label>[\w.+#-]*)[ \t]*(?P<end>\r?\n|\Z)?", re.MULTILINE
)
_PYTHON = re.compile(r"py(thon)?[\d.]*", re.IGNORECASE)
_CLOSE = re.compile(r"^[ \t]*`{3,}+|(?<!`)`{3,}+[ \t]*\r?$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class CodeBlock:
    """A fenced block of a text.

    Attributes:
        label: Language that its fence names; empty where it names none.
        text: The block, dedented and with plain line ends.
        span: Where it lies: character offsets without the fences and without the line end before the closing one.
    """

    label: str
    text: str
    span: tuple[int, int]

    @property
    def is_python(self) -> bool:
        """Whether its fence names Python."""
        return _PYTHON.fullmatch(self.label) is not None


def extract_program(text: str) -> tuple[str, tuple[int, int]] | None:
    """Finds the program in a model's turn.

    Args:
        text: Text that the model wrote.

    Returns:
        The program, dedented and with plain line ends, and where it lies: character offsets in `text` without
        the fences and without the line end before the closing one. None where there is no code block.
    """
    for block in code_blocks(text):
        if block.is_python or not block.label:
            return block.text, block.span
    return None


def code_blocks(text: str) -> Iterator[CodeBlock]:
    """Yields the fenced blocks of a text, in order, whatever their language."""
    position = 0
    while (fence := _FENCE.search(text, position)) is not None:
        label, starts_line, ends_line = fence["label"], fence["indent"] is not None, fence["end"] is not None
        # A closing fence must not be taken for an opening one, so that each block is followed to its end.
        if (starts_line and ends_line) or (_PYTHON.fullmatch(label) and (starts_line or ends_line)):
            start = fence.end()
            close = _CLOSE.search(text, start)
            stop = len(text) if close is None else max(start, _before_line_end(text, close.start()))
            yield CodeBlock(label, textwrap.dedent(text[start:stop].replace("\r\n", "\n")), (start, stop))
            if close is None:
                return
            position = close.end()
        else:
            position = fence.end()


def _before_line_end(text: str, position: int) -> int:
    if text.endswith("\r\n", 0, position):
        return position - 2
    return position - 1 if text.endswith("\n", 0, position) else position
