"""Words that doubt an answer, take it back, refuse it or let it hold only in part (docs/grading.md)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

STOPS = frozenset(".,:;!?-")
"""Marks that end a clause, each a word of its own."""
NOT = frozenset(
    {"not", "isn't", "wasn't", "aren't", "weren't", "doesn't", "don't", "didn't", "can't", "cannot", "never"}
)
_HEDGES = """
maybe perhaps possibly probably presumably apparently arguably conceivably allegedly reportedly supposedly seemingly
hopefully unsure uncertain guess guessing actually suspect assume
"""
HEDGES = frozenset(_HEDGES.split())
"""Behind or before an answer of any kind they leave it open."""
_DOUBTS = """
but however although though wait unclear unknown depends partially partly sometimes undetermined indeterminate sorry
correction unless whether assuming supposing impossible ambiguous inconclusive undecidable unanswerable unable depending
depend refuse
"""
DOUBTS = HEDGES | frozenset(_DOUBTS.split())
"""Beside yes, no and what is said of a claim they leave it open."""
_DENIALS = """
not no wrong incorrect false except than or isn't wasn't aren't weren't never unlike neither nor rather instead if
unless either could might
"""
DENIALS = HEDGES | frozenset(_DENIALS.split())
"""In a label or a note they deny the answer, doubt it, or name another one."""
_NOTES = """
yes true and to vs likely unlikely nearly almost excluded excluding alternatively also
"""
_IN_NOTES = DOUBTS | DENIALS | frozenset(_NOTES.split())

# "No, it cannot be determined", "No, there is not enough information", "No, there is no way to tell".
_OPEN = """
enough information, enough data, be determined, not necessarily, not enough, no way, no idea, no data, no information,
no answer, no clue, hard to, difficult to, in part, some extent, sort of, kind of, in theory, n a, provided that,
may be, might be, could be, too close, no access, no image, no picture, no chart, more information, more context,
more details, additional information, additional context, further information, language model, ai model, an ai
"""
_OPEN_PAIRS = frozenset(tuple(pair.split()) for pair in _OPEN.split(","))
# Behind a denial: "No, I cannot tell", "No, we don't know". "No, I don't think so" says no.
_KNOWLEDGE = """
tell know say determine judge decide answer conclude verify verified confirm confirmed sure certain clear possible known
given stated specified specify provided provide readable legible applicable available accessible loaded
"""
_TELLING = frozenset(_KNOWLEDGE.split())
_SEEING = frozenset(("see", "read", "view", "access", "open", "process", "analyze", "analyse", "interpret"))
_PICTURE_NAMES = "chart image picture figure graph table plot charts images pictures figures graphs plots"
_PICTURES = frozenset(_PICTURE_NAMES.split())
_SHOWN = _PICTURES | {"it", "that", "this", "clearly"}
# "No, the image is blurry", "No, the chart is missing".
_SPOILT_NAMES = "blurry blurred illegible unreadable unavailable inaccessible corrupted pixelated"
_SPOILT = frozenset(_SPOILT_NAMES.split())
_GONE = frozenset(("missing", "absent", "gone"))
_NEEDING_NAMES = "need needs needed require requires required"
_NEEDING = frozenset(_NEEDING_NAMES.split())
_NEEDED = _PICTURES | {"information", "data", "context", "details"}
# "No, I can't help with that"; "No, it did not help" says something.
_REFUSING = frozenset(("cannot", "can't", "won't"))
_SERVING = frozenset(("help", "assist", "comply", "load"))
_UNABLE = frozenset(("cannot", "can't", "couldn't", "not"))
_SEEN = frozenset(("seen", "said", "told", "read", "known", "answered", "decided", "judged"))
# "Yes, almost." and "Yes, nearly all"; "Yes, nearly twice as large" explains.
_SHORT_OF = frozenset(["almost", "nearly", "hardly", "scarcely", "mostly", "largely", "somewhat"])
_ALL = frozenset(["all", "always", "every", "each", "everywhere", "everyone"])
_EXCEPTIONS = frozenset(["except", "excepting", "excluding", "exception", "exceptions"])
_EXCEPTING_PAIRS = frozenset({("apart", "from"), ("aside", "from"), ("other", "than"), ("with", "exceptions")})
_FREE_OF = frozenset(("no", "not", "without", "beyond"))
# "Yes, for some of them", "true only for 2015", "Only the first part is true".
_PART_NAMES = "some most many several certain few part parts half portion majority minority only just"
_PARTS = frozenset(_PART_NAMES.split())
_PLACING = frozenset(("in", "for", "on", "at", "during", "with", "over"))
_SUBJECT_NAMES = "only some most many several few part parts half portion"
_SUBJECTS = frozenset(_SUBJECT_NAMES.split())
_PIECES = frozenset(("part", "parts", "half", "portion", "majority", "minority"))
_FREQUENCY_NAMES = "seldom rarely usually often generally normally typically occasionally mainly"
_FREQUENCIES = frozenset(_FREQUENCY_NAMES.split())
_LINKS = frozenset(("that", "because", "since", "as", "so", "which"))
_SHORT_CLAUSE = 5
"""Words of a sentence that adds nothing but a part."""


def is_denial(word: str) -> bool:
    """Tells whether a word denies what follows it: `not`, `isn't`."""
    return word in NOT or word.endswith("n't")


def is_doubted(words: Sequence[str]) -> bool:
    """Tells whether a note of words doubts the answer before it, denies it, or names another one: `also France`."""
    # Germany (also known as Deutschland).
    if words[0] == "also" and words[1:2] in (["known"], ["called"], ["spelled"], ["written"]):
        words = words[2:]
    return not _IN_NOTES.isdisjoint(words)


def is_open(words: list[str]) -> bool:
    """Tells whether nothing is said: `I cannot tell`, `there is not enough information`, `the image is blurry`."""
    if "insufficient" in words or not _SPOILT.isdisjoint(words):
        return True
    for place, pair in enumerate(itertools.pairwise(words)):
        # "no data point exceeds 5" says something.
        if pair in _OPEN_PAIRS and not (pair[1] == "data" and words[place + 2 : place + 3] in (["point"], ["points"])):
            return True
    for place, word in enumerate(words):
        behind = list(itertools.takewhile(lambda one: one not in STOPS, words[place + 1 : place + 5]))
        if word in _NEEDING and not _NEEDED.isdisjoint(behind):
            return True
        # "the chart is missing"; "no data is missing" says something.
        before = words[max(0, place - 4) : place]
        if word in _GONE and not _NEEDED.isdisjoint(before) and _FREE_OF.isdisjoint(before):
            return True
        if is_denial(word):
            near = behind[:3]
            if word in _REFUSING and not _SERVING.isdisjoint(near):
                return True
            if not _TELLING.isdisjoint(near) or (near[:1] == ["be"] and not _SEEN.isdisjoint(near)):
                return True
            # "I cannot see it"; "I do not see one" and "I cannot see any" deny.
            if word in _UNABLE and not _SEEING.isdisjoint(near[:1]) and not _SHOWN.isdisjoint(near):
                return True
    return False


def is_limited(rest: list[str], said: bool) -> bool:
    """Tells whether what is said holds with a condition, an exception or nearly: `unless it is 2015`, `almost`.

    Args:
        rest: The words behind yes or no.
        said: Whether it is yes.
    """
    pairs = list(itertools.pairwise(rest))
    if has_doubt(rest):
        return True
    if any(behind == "if" and before not in ("even", "as") for before, behind in pairs):
        return True
    if rest[0] in STOPS and rest[1:4] == ["as", "long", "as"]:
        return True
    if rest[0] in STOPS and _SHORT_OF.intersection(rest[1:2]):
        behind = [word for word in rest[2:] if word not in STOPS]
        if not behind or behind[0] in _ALL:
            return True
    # "No, in some years it was lower" says no.
    if said and (("vice", "versa") in pairs or (rest[0] in STOPS and _adds_part(rest))):
        return True
    if any(map(_is_likely, _clauses(rest))):
        return True
    # "No, all except Germany are" says no.
    begins = [(before in STOPS, *pair) for before, pair in zip(["", *rest], pairs, strict=False)]
    return any(
        (first in _EXCEPTIONS or (first, second) in _EXCEPTING_PAIRS) and (said or opens)
        for opens, first, second in [*begins, (rest[-2:-1] and rest[-2] in STOPS, rest[-1], "")]
    )


def has_doubt(words: list[str]) -> bool:
    """Tells whether a word is `doubt`, but for `no doubt`, `without a doubt` and the like."""
    return any(
        word.startswith("doubt") and _FREE_OF.isdisjoint(words[max(0, place - 3) : place])
        for place, word in enumerate(words)
    )


def holds_in_part(words: list[str], place: int) -> bool:
    """Tells whether the word that judges a claim judges a part of it, once, or with an exception.

    Args:
        words: The words.
        place: The place of the one that judges: `true` in `true for most rows`, `Only the first part is true`.
    """
    before = list(itertools.takewhile(lambda one: one not in STOPS, reversed(words[:place])))[::-1]
    behind = list(itertools.takewhile(lambda one: one not in STOPS | _LINKS, words[place + 1 :]))
    # What stands behind `that` is the claim's own.
    if "that" not in before and not (_SUBJECTS.isdisjoint(before[:1]) and _PIECES.isdisjoint(before)):
        return True
    if not _FREQUENCIES.isdisjoint([*before[-2:], *behind[:1]]) or "would" in before[-3:] or "used" in before[-3:-1]:
        return True
    if not _PARTS.isdisjoint(behind[:4]) or _excepts(behind):
        return True
    rest = words[place + 1 + len(behind) :]
    clause = next(iter(_clauses(rest)), [])
    if not rest or rest[0] not in STOPS or not clause:
        return False
    return (
        clause == ["not"]
        or (clause[0] == "only" and clause[1:2] != [] and clause[1] in _PLACING)
        or (clause[0] in _FREQUENCIES and len(clause) == 1)
        or clause[0] in _EXCEPTIONS
        or tuple(clause[:2]) in _EXCEPTING_PAIRS
        or (clause[0] == "with" and _excepts(clause))
        or _adds_part(rest)
    )


def _excepts(clause: list[str]) -> bool:
    return any(
        (word in _EXCEPTIONS or pair in _EXCEPTING_PAIRS) and _FREE_OF.isdisjoint(clause[max(0, place - 2) : place])
        for place, (word, pair) in enumerate(zip(clause, itertools.pairwise([*clause, ""]), strict=True))
    )


def _adds_part(rest: list[str]) -> bool:
    """Tells whether a mark and what follows it say of which part something holds: `, for some of them`."""
    clause = next(iter(_clauses(rest)), [])
    if not clause or clause[0] not in _PLACING or _PARTS.isdisjoint(clause[1:3]):
        return False
    # A sentence that begins so explains: "False. In some years it was lower."
    return rest[0] != "." or sum(word not in STOPS for word in rest) <= _SHORT_CLAUSE


def _is_likely(clause: list[str]) -> bool:
    """Tells whether a clause only says `likely`, `most likely` or `it is likely`; `men are more likely` explains."""
    if clause[:1] == ["likely"] or (clause[:1] in (["most"], ["very"], ["quite"]) and clause[1:2] == ["likely"]):
        return True
    short = len(clause) <= 4 and clause[-1:] == ["likely"]
    return short and {"more", "less", "as", "equally", "not"}.isdisjoint(clause)


def _clauses(words: list[str]) -> list[list[str]]:
    """Returns the words between the marks."""
    return [list(some) for is_mark, some in itertools.groupby(words, STOPS.__contains__) if not is_mark]
