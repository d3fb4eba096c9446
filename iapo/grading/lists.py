"""Several answers in one text: how it is taken apart, and whether the parts are the gold answers one to one."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Iterator, Sequence

_PIPES = re.compile(r"\|{2,3}")
_ANY_PIPES = re.compile(r"\|+")
_LOOSE = re.compile(r", and |, & |, | and | & ")
_SEPARATOR = re.compile(r"\s?(?:\|+|;|,(?!\d{3}(?!\d)))(?:\s(?:and|&)\s|\s?)|\s(?:and|&|/)\s")
_BOTH = re.compile(r"^both ", re.IGNORECASE)
_MOST_PIECES = 100
"""Above it a list without marks is not taken apart."""
MOST_PAIRED = 200
"""Answers; more are paired with the gold ones where they say the same, and otherwise in their order."""
_MOST_MIXED = 12
"""Gold answers of which some hold commas themselves; the ways to take a list apart double with each."""


def marked_parts(text: str, *, wide: bool = False) -> list[str]:
    """Returns the parts of an answer that is clearly several: between pipes, or a bracketed list.

    Args:
        text: The text, cleaned.
        wide: One pipe is a mark too.
    """
    pipes = _ANY_PIPES if wide else _PIPES
    if text.startswith("[") and text.endswith("]"):
        if pipes.search(text) is None:
            return _bracketed(text)
        text = text[1:-1]
    return [part.strip() for part in pipes.split(text) if part.strip()]


def readings(answer: str, wanted: int) -> Iterator[list[str]]:
    """Yields the ways to take an answer apart; commas and `and` part it only where several answers are asked for."""
    parts = marked_parts(answer)
    yield parts
    if len(parts) == 1 and wanted > 1:
        yield [part for part in parts[0].split(";") if part.strip()]
        yield _LOOSE.split(parts[0])


def pair_up(count: int, golds: int, accepts: Callable[[int, int], bool]) -> bool:
    """Returns whether answers and gold answers pair up one to one (augmenting paths, for tolerances may overlap).

    Args:
        count: Number of answers.
        golds: Number of gold answers.
        accepts: Whether a gold answer accepts an answer, both by their numbers.
    """
    if count != golds:
        return False
    if count > MOST_PAIRED:
        # In order alone: what is tried otherwise grows with the cube of their number.
        return all(accepts(index, index) for index in range(count))
    accepts = functools.cache(accepts)
    taken: dict[int, int] = {}

    def place(index: int, tried: set[int]) -> bool:
        for other in range(golds):
            if other not in tried and accepts(other, index):
                tried.add(other)
                if other not in taken or place(taken[other], tried):
                    taken[other] = index
                    return True
        return False

    return all(place(index, set()) for index in range(count))


def is_list_of(answer: str, golds: Sequence[str], accepts: Callable[[int, str], bool]) -> bool:
    """Tells whether an answer is a list of the gold answers in any order; an item may hold commas and `and` itself.

    Args:
        answer: The answer.
        golds: The gold answers, which tell how many pieces an item may have.
        accepts: Whether a gold answer, by its number, accepts an item.
    """
    if answer.startswith("[") and answer.endswith("]"):
        answer = answer[1:-1]
    answer = _BOTH.sub("", answer)
    starts, ends = [0], []
    for mark in _SEPARATOR.finditer(answer):
        ends.append(mark.start())
        starts.append(mark.end())
    ends.append(len(answer))
    pieces = len(starts)
    if not len(golds) <= pieces <= _MOST_PIECES:
        return False
    longest = max(len(_SEPARATOR.findall(gold)) + 1 for gold in golds)
    accepted = functools.cache(accepts)
    items = [answer[start:end].strip() for start, end in zip(starts, ends, strict=True)]
    if pair_up(pieces, len(golds), lambda gold, piece: accepted(gold, items[piece])):
        return True
    if longest == 1 or len(golds) > _MOST_MIXED:
        return False

    @functools.cache
    def rest_is(start: int, left: frozenset[int]) -> bool:
        if start == pieces or not left:
            return start == pieces and not left
        for end in range(start, min(pieces - len(left) + 1, start + longest)):
            item = answer[starts[start] : ends[end]].strip()
            if any(accepted(gold, item) and rest_is(end + 1, left - {gold}) for gold in left):
                return True
        return False

    return rest_is(0, frozenset(range(len(golds))))


def _bracketed(text: str) -> list[str]:
    try:
        values = json.loads(text)
    # Too many digits are a plain ValueError, too many brackets a RecursionError.
    except (ValueError, RecursionError):
        values = None
    if isinstance(values, list) and all(isinstance(value, (str, int, float)) for value in values):
        return [str(value) for value in values]
    return [part for part in re.split(r"[;,]", text[1:-1]) if part.strip()]
