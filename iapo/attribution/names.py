"""Which tokens of a program name the tools that it calls, and with which tokens other offered names would go on.

A name is often several tokens. Where `focus_on_rows_with_mask` and `focus_on_columns_with_mask` are offered, they
part at the token that writes `rows`: what stands before it is the same, and what follows is given by it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# What stands in a comment or a text is no call.
_SKIPPED = r"""#[^\n]*|"(?:\\.|[^"\\\n])*+"|'(?:\\.|[^'\\\n])*+'"""
REMEMBERED = 4096
"""Distinct programs whose names are remembered."""


@dataclass(frozen=True, slots=True)
class NamedTokens:
    """The names in one program.

    Attributes:
        names: Tokens of the turn that share a character with the name of a called tool.
        choices: By place in the turn, the first token of each name at which another offered name would go on otherwise,
            with the tokens that it could have been then.
    """

    names: tuple[bool, ...]
    choices: tuple[tuple[int, tuple[int, ...]], ...]


class NameFinder:
    """Finds the names of called tools in turns.

    Args:
        tokenizer: Tokenizer of the turns.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        self._known = lru_cache(REMEMBERED)(self._find)

    def find(self, ids: Sequence[int], program: Sequence[bool], tools: Sequence[str]) -> NamedTokens:
        """Finds the names in a turn's program.

        Args:
            ids: The turn's tokens, length T.
            program: Tokens that belong to the program, length T.
            tools: Names of the offered tools.

        Returns:
            Masks of length T without a true one where the program calls no offered tool by its name.
        """
        return self._known(tuple(ids), tuple(program), tuple(tools))

    def _find(self, ids: tuple[int, ...], program: tuple[bool, ...], tools: tuple[str, ...]) -> NamedTokens:
        text, ends = self._read(ids)
        starts = [0, *ends[:-1]]
        inside = [index for index, its in enumerate(program) if its]
        names = [False] * len(ids)
        choices: dict[int, tuple[int, ...]] = {}
        if inside:
            for start, end in _called(text, (starts[inside[0]], ends[inside[-1]]), tools):
                places = [index for index in inside if starts[index] < end and ends[index] > start]
                for index in places:
                    names[index] = True
                found = self._choice(
                    ids, text, (start, end), [(index, starts[index], ends[index]) for index in places], tools
                )
                choices.update(found)
        return NamedTokens(tuple(names), tuple(sorted(choices.items())))

    def _read(self, ids: Sequence[int]) -> tuple[str, list[int]]:
        """Returns the turn's text without special tokens, and where the text of each token ends."""
        text: str = self.tokenizer.decode(list(ids), skip_special_tokens=True)
        ends = [len(self.tokenizer.decode(list(ids[: i + 1]), skip_special_tokens=True)) for i in range(len(ids))]
        return text, [min(len(text), end) for end in ends]

    def _choice(
        self,
        ids: Sequence[int],
        text: str,
        span: tuple[int, int],
        places: Sequence[tuple[int, int, int]],
        tools: Sequence[str],
    ) -> dict[int, tuple[int, ...]]:
        """Returns the first token of a name at which others part from it, and theirs; nothing where none does."""
        start, end = span
        others = {name: text[:start] + name + text[end:] for name in tools if name != text[start:end]}
        for place, before, after in places:
            going = [other for other in others.values() if other.startswith(text[:before])]
            is_last = place == places[-1][0]
            # A longer name that begins with this one parts from it where this one ends.
            parted = [other for other in going if is_last or not other.startswith(text[:after])]
            tokens = {self._next(other, before) for other in parted} - {ids[place], None}
            if tokens:
                return {place: tuple(sorted(token for token in tokens if token is not None))}
        return {}

    def _next(self, text: str, position: int) -> int | None:
        """Returns the token with which a text goes on at a position: that of the whole text where one begins there."""
        settings = {"add_special_tokens": False, "split_special_tokens": True}
        whole = self.tokenizer(text, return_offsets_mapping=True, **settings)
        for token, (first, last) in zip(whole["input_ids"], whole["offset_mapping"], strict=True):
            if first == position and last > first:
                return int(token)
        rest = self.tokenizer(text[position:], **settings)["input_ids"]
        return int(rest[0]) if rest else None


def _called(text: str, program: tuple[int, int], tools: Sequence[str]) -> list[tuple[int, int]]:
    """Returns where in a text the names of called tools stand: before a bracket in Python, as a value in JSON."""
    if not tools:
        return []
    names = "|".join(map(re.escape, sorted(tools, key=len, reverse=True)))
    python = re.compile(rf"{_SKIPPED}|(?<![\w.])(?P<name>{names})(?=\s*\()")
    json = re.compile(rf':\s*"(?P<name>{names})"')
    for pattern in (python, json):
        spans = [one.span("name") for one in pattern.finditer(text, *program) if one["name"] is not None]
        if spans:
            return spans
    return []
