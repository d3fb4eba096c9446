"""Several answers in one text: how it is taken apart, and whether the parts are the gold answers one to one."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

_PIPES = re.compile(r"\|{2,3}")
_ANY_PIPES = re.compile(r"\|+")
_LOOSE = re.compile(r", and |, & |, | and | & |(?<=\w),(?=\w)(?!(?<=\d,)\d{3}(?!\d))")
_IN_BRACES = re.compile(r"\(([^()]*)\)|\{([^{}]*)\}")
_SEPARATOR = re.compile(r"\s?(?:\|+|;|,(?!\d{3}(?!\d)))(?:\s(?:and|&)\s|\s?)|\s(?:and|&|/)\s")
_THOUSANDS = re.compile(r"\d,\d{3}(?!\d)", re.ASCII)
_APART = re.compile(r"[;,](?!\d{3}(?!\d))", re.ASCII)
_BOTH = re.compile(r"^both ", re.IGNORECASE)
_MOST_PIECES = 1000
"""Above it a list without marks is taken apart at its semicolons, or at all its commas and `and`, and not otherwise."""
MOST_PAIRED = 200
"""Answers; more are paired with the gold ones where they say the same, and otherwise in their order."""
_MOST_TRIES = 50_000
"""Comparisons and steps of a search for items that hold commas themselves."""


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


def readings(answer: str, wanted: int, *, wide: bool = False) -> Iterator[list[str]]:
    """Yields the ways to take an answer apart; commas and `and` part it only where several answers are asked for.

    Args:
        answer: The answer, cleaned.
        wanted: Number of answers that are asked for, equal ones too.
        wide: One pipe is a mark too.
    """
    parts = marked_parts(answer, wide=wide)
    yield parts
    if len(parts) > 1 and wanted == 1 and wide and answer.startswith("[") and answer.endswith("]"):
        # One gold answer with commas.
        yield [answer[1:-1].strip()]
    if len(parts) == 1 and wanted > 1:
        parts = [without_brackets(parts[0])]
        yield [part for part in parts[0].split(";") if part.strip()]
        yield _LOOSE.split(parts[0])


def without_brackets(text: str) -> str:
    """Returns what stands in `(2010, 2015)` or `{2010, 2015}`; another text as it is."""
    found = _IN_BRACES.fullmatch(text)
    return text if found is None else (found[1] or found[2] or "").strip()


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


def is_list_of(
    answer: str, golds: Sequence[str], accepts: Callable[[int, str], bool], said: Callable[[str], str] | None = None
) -> bool:
    """Tells whether an answer is a list of the gold answers in any order; an item may hold commas and `and` itself.

    Args:
        answer: The answer.
        golds: The gold answers, which tell how many pieces an item may have.
        accepts: Whether a gold answer, by its number, accepts an item.
        said: What an item says, where of items that say the same one counts; None where each counts.
    """
    answer = without_brackets(answer[1:-1] if answer.startswith("[") and answer.endswith("]") else answer)
    answer = _BOTH.sub("", answer)
    starts, ends = [0], []
    for mark in _SEPARATOR.finditer(answer):
        ends.append(mark.start())
        starts.append(mark.end())
    ends.append(len(answer))
    if not len(golds) <= len(starts) <= _MOST_PIECES:
        return False
    items = [answer[start:end].strip() for start, end in zip(starts, ends, strict=True)]
    if said is not None:
        items = list({said(item): item for item in items}.values())
    if pair_up(len(items), len(golds), lambda gold, piece: accepts(gold, items[piece])):
        return True
    longest = max(len(_SEPARATOR.findall(gold)) + 1 for gold in golds)
    return longest > 1 and _covers(_Pieces(answer, starts, ends), golds, longest, accepts)


@dataclass(frozen=True, slots=True)
class _Pieces:
    """A text and where its pieces begin and end."""

    text: str
    starts: Sequence[int]
    ends: Sequence[int]

    def join(self, first: int, last: int) -> str:
        return self.text[self.starts[first] : self.ends[last]].strip()


def _covers(pieces: _Pieces, golds: Sequence[str], longest: int, accepts: Callable[[int, str], bool]) -> bool:
    """Searches for items of one piece or more that are the gold answers one to one; at most `_MOST_TRIES` steps."""
    # The gold answers of a text, as bits: of equal ones it does not matter which one an item is.
    places: dict[str, int] = {}
    for place, gold in enumerate(golds):
        places[gold.casefold()] = places.get(gold.casefold(), 0) | 1 << place
    count, tries = len(pieces.starts), 0

    @functools.cache
    def fitting(start: int, end: int) -> list[int]:
        nonlocal tries
        item = pieces.join(start, end)
        # The same word for word is that gold answer and no other, so that a long list takes few comparisons.
        if (same := places.get(item.casefold())) is not None:
            return [same]
        tries += len(places)
        if tries > _MOST_TRIES:
            return []
        return [some for some in places.values() if accepts((some & -some).bit_length() - 1, item)]

    def steps(start: int, left: int) -> Iterator[tuple[int, int]]:
        # Each of the others needs a piece; where none is left, nothing fits.
        for end in range(start, min(count - left.bit_count() + 1, start + longest) if left else start):
            for some in fitting(start, end):
                if mine := left & some:
                    yield end + 1, left & ~(mine & -mine)

    begin = (0, (1 << len(golds)) - 1)
    seen, open_steps = {begin}, [steps(*begin)]
    while open_steps and tries <= _MOST_TRIES:
        tries += 1
        step = next(open_steps[-1], None)
        if step is None:
            open_steps.pop()
        elif step == (count, 0):
            return True
        elif step not in seen:
            seen.add(step)
            open_steps.append(steps(*step))
    return False


def _bracketed(text: str) -> list[str]:
    # [1,200, 3,400] are two numbers, [1,200,3] are three.
    if _THOUSANDS.search(text) and ", " in text:
        return [part for part in _APART.split(text[1:-1]) if part.strip()]
    try:
        values = json.loads(text)
    # Too many digits are a plain ValueError, too many brackets a RecursionError.
    except (ValueError, RecursionError):
        values = None
    if isinstance(values, list) and all(isinstance(value, (str, int, float)) for value in values):
        return [str(value) for value in values]
    return [part for part in re.split(r"[;,]", text[1:-1]) if part.strip()]
