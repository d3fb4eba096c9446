"""Words that doubt an answer, take it back, refuse it or let it hold only in part (docs/grading.md)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from iapo.grading.refusals import refuses

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
depend refuse oops hmm hmmm recheck rechecking
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
yes true and to vs likely unlikely nearly almost excluded excluding alternatively also doubtful dubious questionable
debatable unconfirmed unverified
"""
_IN_NOTES = DOUBTS | DENIALS | frozenset(_NOTES.split())

# "No, it cannot be determined", "No, there is not enough information", "No, there is no way to tell".
_OPEN = """
enough information, enough data, be determined, not necessarily, not enough, no way, no idea, no data, no information,
no answer, no clue, hard to, difficult to, in part, some extent, sort of, kind of, in theory, n a, provided that,
may be, might be, could be, too close, no access, no image, no picture, no chart
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
# "No, the image is blurry", "No, the chart is missing"; "corrupted files" may be what a chart shows.
_SPOILT_NAMES = "blurry blurred illegible unreadable unavailable inaccessible corrupted pixelated"
_SPOILT = frozenset(_SPOILT_NAMES.split())
_GONE = frozenset(("missing", "absent", "gone"))
_NEEDING_NAMES = "need needs needed require requires required"
_NEEDING = frozenset(_NEEDING_NAMES.split())
_NEEDED = _PICTURES | {"information", "data", "context", "details"}
_MORE = frozenset(("more", "additional", "further"))
_ASKING = frozenset(("i", "i'd", "i'll", "we", "we'd", "question", "answering"))
_SPOILING = _NEEDED | {"text", "labels", "resolution"}
_EMPTY = frozenset(("it", "it's", "is", "are", "was", "were", "too", "very", "all", "the"))
# "No, as an AI model I cannot look at it"; "the AI model scored lower" is about one.
_MODELS = frozenset((("language", "model"), ("ai", "model"), ("ai", "assistant"), ("an", "ai")))
_BEING = frozenset((("as", "a"), ("as", "an"), ("i", "am"), ("am", "a"), ("i'm", "a"), ("i'm", "an"), ("i'm", "just")))
_GIVING = frozenset(("provide", "upload", "share", "attach", "send", "resend", "give", "try", "specify", "clarify"))
# "No, I can't help with that"; "No, it did not help" says something.
_REFUSING = frozenset(("cannot", "can't", "won't"))
_SERVING = frozenset(("help", "assist", "comply", "load"))
_LOADING = frozenset(("load", "render"))
_UNABLE = frozenset(("cannot", "can't", "couldn't", "not"))
_SEEN = frozenset(("seen", "said", "told", "read", "known", "answered", "decided", "judged"))
# "Yes, almost." and "Yes, nearly all"; "Yes, nearly twice as large" explains.
_SHORT_OF = frozenset(["almost", "nearly", "hardly", "scarcely", "mostly", "largely", "somewhat"])
# "Yes, roughly all"; "No, roughly all of the sales came from Asia" explains.
_ROUGHLY = frozenset(("broadly", "roughly", "virtually", "practically"))
_ALL = frozenset(["all", "always", "every", "each", "everywhere", "everyone"])
_NAMED_EXCEPTIONS = frozenset(["exception", "exceptions"])
_EXCEPTIONS = _NAMED_EXCEPTIONS | {"except", "excepting", "excluding"}
_EXCEPTING_PAIRS = frozenset({("apart", "from"), ("aside", "from"), ("other", "than"), ("with", "exceptions")})
_FREE_OF = frozenset(("no", "not", "without", "beyond"))
# "Yes, for some of them"; "Yes, in most years" and "Yes, over half of them are" say yes.
_SOME = frozenset(("some", "certain", "few", "part", "parts"))
# "true only for 2015", "Only the first part is true".
_PART_NAMES = "most many several half portion majority minority only just"
_PARTS = _SOME | frozenset(_PART_NAMES.split())
_INSTANCES = (["cases"], ["instances"], ["situations"], ["respects"], ["ways"])
_PLACING = frozenset(("in", "for", "on", "during"))
_SUBJECT_NAMES = "only some most many several few part parts half portion"
_SUBJECTS = frozenset(_SUBJECT_NAMES.split())
_PIECES = frozenset(("part", "parts", "half", "portion", "majority", "minority"))
_WHOLES = frozenset(("both", "all", "every", "each"))
_RARELY = frozenset(("seldom", "rarely", "occasionally"))
# "Largely true", "true in a sense"; what is largely false is false.
_DEGREE_NAMES = """
largely broadly substantially essentially basically roughly approximately virtually practically fairly reasonably
relatively mostly partially partly
"""
_DEGREES = frozenset(_DEGREE_NAMES.split())
_SENSES = frozenset(map(tuple, map(str.split, ("in a sense", "in some sense", "in a way"))))
_MOSTLY_NAMES = """
for the most part, more or less, by and large, on the whole, to a degree, to a large degree, to a great degree,
to a large extent, to a great extent
"""
_OVERALL = frozenset((("by", "and", "large"), ("on", "the", "whole")))
_MOSTLY = _SENSES | {tuple(phrase.split()) for phrase in _MOSTLY_NAMES.split(",")}
_BEING_SO = frozenset(("it", "it's", "they", "that", "this", "is", "are", "was", "were", "true", "at", "least"))
_FREQUENCY_NAMES = "usually often generally normally typically mainly"
_FREQUENCIES = _RARELY | frozenset(_FREQUENCY_NAMES.split())
_LINKS = frozenset(("that", "because", "since", "as", "so", "which"))
# Behind them the claim is spoken of: "Only Germany won and the statement is true".
_JOINING = _LINKS | frozenset(("and", "but", "thus", "hence", "therefore", "making", "makes", "make"))
# "supported by several rows", "true given the few games".
_REASONING = frozenset(("by", "given", "with", "considering", "when", "and"))
_CLAUSE_NAMES = "they he she we i there is are was were do does did has have had will can"
_CLAUSE_WORDS = frozenset(_CLAUSE_NAMES.split())
_LISTING = frozenset(("such", "like", "including", "especially", "not", "e", "i", "namely"))


def is_denial(word: str) -> bool:
    """Tells whether a word denies what follows it: `not`, `isn't`."""
    return word in NOT or word.endswith("n't")


def is_doubted(words: Sequence[str]) -> bool:
    """Tells whether a note of words doubts the answer before it, denies it, or names another one: `also France`."""
    # Germany (also known as Deutschland).
    if words[0] == "also" and words[1:2] in (["known"], ["called"], ["spelled"], ["written"]):
        words = words[2:]
    # Georgia (France too), Georgia (as well as France), 1st (from last).
    if (words[-1] == "too" and len(words) > 1) or list(words[:3]) == ["as", "well", "as"]:
        return True
    if words[0] == "from" and words[-1] in ("last", "bottom", "end", "back", "rear") and len(words) <= 3:
        return True
    return not _IN_NOTES.isdisjoint(words)


def is_open(words: list[str]) -> bool:
    """Tells whether nothing is said: `I cannot tell`, `there is not enough information`, `the image is blurry`."""
    if "insufficient" in words or any(_is_refusal(one) or refuses(one) for one in _clauses(words)):
        return True
    for place, pair in enumerate(itertools.pairwise(words)):
        # "no data point exceeds 5" says something.
        if pair in _OPEN_PAIRS and not (pair[1] == "data" and words[place + 2 : place + 3] in (["point"], ["points"])):
            return True
    for place, word in enumerate(words):
        behind = list(itertools.takewhile(lambda one: one not in STOPS, words[place + 1 : place + 5]))
        # "the chart is missing"; "no data is missing" says something.
        before = words[max(0, place - 4) : place]
        if word in _GONE and not _NEEDED.isdisjoint(before) and _FREE_OF.isdisjoint(before):
            return True
        if is_denial(word):
            near = behind[:3]
            if word in _REFUSING and not _SERVING.isdisjoint(near):
                return True
            if not _LOADING.isdisjoint(near) and not _PICTURES.isdisjoint(before):
                return True
            if not _TELLING.isdisjoint(near) or (near[:1] == ["be"] and not _SEEN.isdisjoint(near)):
                return True
            # "I cannot see it"; "I do not see one" and "I cannot see any" deny.
            if word in _UNABLE and not _SEEING.isdisjoint(near[:1]) and not _SHOWN.isdisjoint(near):
                return True
    return False


def _is_refusal(clause: list[str]) -> bool:
    """Tells whether a clause asks for more, or says that nothing can be seen: `I need more data`, `it is blurry`."""
    if clause[0] == "please" and not _GIVING.isdisjoint(clause[1:3]):
        return True
    for place, word in enumerate(clause):
        before, behind = clause[max(0, place - 4) : place], clause[place + 1 : place + 5]
        if word in _SPOILT:
            is_seen = not _SPOILING.isdisjoint(before) or not _PICTURES.isdisjoint(behind[:1])
            if is_seen or _EMPTY.issuperset([*clause[:place], *clause[place + 1 :]]):
                return True
        if word in _NEEDING:
            asks = not place or not _ASKING.isdisjoint(before)
            if asks and not _NEEDED.isdisjoint(behind):
                return True
            # "more information is needed"
            if not behind and not _MORE.isdisjoint(before) and not _NEEDED.isdisjoint(before):
                return True
        if (
            word == "without"
            and clause[:place] in ([], ["not"])
            and not _MORE.isdisjoint(behind[:1])
            and not _NEEDED.isdisjoint(behind[1:2])
        ):
            return True
        if tuple(clause[place : place + 2]) in _MODELS:
            begin = clause[max(0, place - 4) : place + 1]
            if not _BEING.isdisjoint(itertools.pairwise(begin)):
                return True
        if word == "resolution" and ("too", "low") in itertools.pairwise(clause[place:]):
            return True
        if word in ("failed", "fails") and not _LOADING.isdisjoint(behind[1:2]) and not _PICTURES.isdisjoint(before):
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
    clauses = _clauses(rest)
    roughly = clauses[0] if clauses and clauses[0][0] in _ROUGHLY else None
    if roughly and _ALL.issuperset(roughly[1:2]) and roughly[2:] in ([], ["of", "them"]):
        return True
    # "Yes, in a sense", "Yes, it is for the most part"
    if clauses and _is_qualified(clauses[0], _MOSTLY) and _closes(rest, clauses[0]):
        return True
    # "No, in some years it was lower" says no.
    if said and (("vice", "versa") in pairs or _adds_part(rest, _SOME)):
        return True
    if any(map(_is_likely, clauses)):
        return True
    # "No, all except Germany are" says no.
    return any(
        (first in _EXCEPTIONS or (first, second) in _EXCEPTING_PAIRS) and (said or before in STOPS)
        for before, (first, second) in zip(["", *rest], itertools.pairwise([*rest, ""]), strict=False)
    )


def _closes(words: list[str], clause: list[str]) -> bool:
    """Tells whether the first clause of words is the last of its sentence; `By and large, sales grew` begins one."""
    place = next(place for place, word in enumerate(words) if word not in STOPS) + len(clause)
    return _OVERALL.isdisjoint(zip(clause, clause[1:], clause[2:], strict=False)) or words[place : place + 1] != [","]


def _is_qualified(clause: list[str], phrases: frozenset[tuple[str, ...]]) -> bool:
    """Tells whether a clause only says how far something holds: `in a sense`, `it is for the most part`."""
    if tuple(clause[:3]) in _SENSES and clause[3:4] not in (["that"], ["similar"], ["like"]):
        return True
    return any(
        tuple(clause[start:end]) in phrases and _BEING_SO.issuperset([*clause[:start], *clause[end:]])
        for start, end in _spans(clause)
    )


def has_doubt(words: list[str]) -> bool:
    """Tells whether a word is `doubt`, but for `no doubt`, `without a doubt` and the like."""
    return any(
        word.startswith("doubt")
        and not word.startswith("doubtless")
        and _FREE_OF.isdisjoint(words[max(0, place - 3) : place])
        for place, word in enumerate(words)
    )


def holds_in_part(words: list[str], place: int, *, said: bool) -> bool:
    """Tells whether the word that judges a claim judges a part of it, once, or with an exception.

    What is said right beside the word limits it, a reason or a clause of its own does not. A claim that is false in
    part is false.

    Args:
        words: The words.
        place: The place of the one that judges: `true` in `true for most rows`, `Only the first part is true`.
        said: Whether it says that the claim is true.
    """
    before = list(itertools.takewhile(lambda one: one not in STOPS, reversed(words[:place])))[::-1]
    behind = list(itertools.takewhile(lambda one: one not in STOPS | _LINKS, words[place + 1 :]))
    rare = _FREQUENCIES if said else _RARELY
    if not rare.isdisjoint([*before[-2:], *behind[:1]]) or "would" in before[-3:] or "used" in before[-3:-1]:
        return True
    # What stands behind `that` is the claim's own.
    if "that" not in before and _is_about_a_part(before, said=said):
        return True
    if _is_attached(behind, said=said) or _excepts(behind):
        return True
    if said and not _DEGREES.isdisjoint([*before[-2:], *behind[:1]]):
        return True
    phrases = _MOSTLY if said else _SENSES
    earlier = _clauses(words[: place - len(before)])
    said_before = "that" not in before and _holds_phrase(before, phrases)
    said_behind = _holds_phrase(behind, phrases) and words[place + 1 + len(behind) :][:1] != ["that"]
    if said_before or said_behind or (earlier and tuple(earlier[-1]) in phrases):
        return True
    rest = words[place + 1 + len(behind) :]
    clauses = _clauses(rest)
    if not clauses or rest[0] not in STOPS:
        return False
    clause = clauses[0]
    if clause == ["not"] or (len(clause) == 1 and clause[0] in (rare | _PARTS | _DEGREES if said else rare)):
        return True
    if _is_qualified(clause, phrases) and _closes(rest, clause):
        return True
    if said and clause[0] in _PARTS and clause[1:] in (["of", "it"], ["of", "them"]):
        return True
    excepts = clause[0] in _EXCEPTIONS or tuple(clause[:2]) in _EXCEPTING_PAIRS
    named = not _NAMED_EXCEPTIONS.isdisjoint(clause) and _CLAUSE_WORDS.isdisjoint(clause)
    if excepts or named or (clause[0] == "with" and _excepts(clause)):
        # "False. Except for Germany, all lost."
        return not _says_more(clauses) if not said or rest[0] == "." else True
    if said and clause[0] == "only" and clause[1:2] != [] and clause[1] in _PLACING and not _says_more(clauses):
        return True
    return _adds_part(rest, _PARTS if said else _SOME)


def _is_about_a_part(before: list[str], *, said: bool) -> bool:
    """Tells whether what is judged is a part of a claim: `Only the first part is`; not `both parts are`."""
    subject = list(itertools.takewhile(lambda one: one not in _JOINING, reversed(before)))[::-1]
    if not said:
        return subject[:1] == ["only"]
    if not _SUBJECTS.isdisjoint(subject[:1]) or _excepts(subject):
        return True
    return not _PIECES.isdisjoint(subject) and _WHOLES.isdisjoint(subject[:2])


def _is_attached(behind: list[str], *, said: bool) -> bool:
    """Tells whether words right behind the one that judges say of which part: `for most rows`, `only in 2015`."""
    if not said:
        return behind[:1] in (["only"], ["just"]) or (
            not _PLACING.isdisjoint(behind[:1]) and not _SOME.isdisjoint(behind[1:3])
        )
    if behind[:1] == ["with"]:
        return not _SOME.isdisjoint(behind[1:3])
    return _REASONING.isdisjoint(behind[:1]) and not _PARTS.isdisjoint(behind[:4])


def _says_more(clauses: list[list[str]]) -> bool:
    """Tells whether clauses say something themselves: `in most games, they lost`; not `in some years, 2015`."""
    if not _CLAUSE_WORDS.isdisjoint(clauses[0]):
        return True
    behind = clauses[1] if len(clauses) > 1 else []
    return len(behind) > 1 and behind[0] not in _LISTING and not any(word[0].isdecimal() for word in behind)


def _holds_phrase(clause: list[str], phrases: frozenset[tuple[str, ...]]) -> bool:
    return any(tuple(clause[start:end]) in phrases for start, end in _spans(clause))


def _spans(clause: list[str]) -> Iterator[tuple[int, int]]:
    """Yields where three words or four of a clause begin and end."""
    return ((place, place + length) for length in (3, 4) for place in range(len(clause) - length + 1))


def _excepts(clause: list[str]) -> bool:
    return any(
        word in _NAMED_EXCEPTIONS
        or (
            (word in _EXCEPTIONS or pair in _EXCEPTING_PAIRS) and _FREE_OF.isdisjoint(clause[max(0, place - 2) : place])
        )
        for place, (word, pair) in enumerate(zip(clause, itertools.pairwise([*clause, ""]), strict=True))
    )


def _adds_part(rest: list[str], parts: frozenset[str]) -> bool:
    """Tells whether a mark and what follows it say of which part something holds, and no more: `, for some of them`.

    Args:
        rest: The words behind what is said.
        parts: The words for a part.
    """
    clauses = _clauses(rest)
    if not clauses or rest[0] not in STOPS or clauses[0][0] not in _PLACING or _says_more(clauses):
        return False
    clause = clauses[0][2:] if clauses[0][1:2] in (["a"], ["the"]) else clauses[0][1:]
    if clause[-1:] == ["only"] and "only" in parts:
        return len(clause) <= 3
    if clause[:1] == ["most"] and (clause[1:2] in _INSTANCES or clause[1:] in (["of", "them"], ["of", "these"])):
        return True
    # "Yes, in some years sales increased" explains.
    return not parts.isdisjoint(clause[:1]) and len(clause) <= (5 if clause[1:2] == ["of"] else 3)


def _is_likely(clause: list[str]) -> bool:
    """Tells whether a clause only says `likely`, `most likely` or `it is likely`; `men are more likely` explains."""
    if clause[:1] == ["likely"] or (clause[:1] in (["most"], ["very"], ["quite"]) and clause[1:2] == ["likely"]):
        return True
    short = len(clause) <= 4 and clause[-1:] == ["likely"]
    return short and {"more", "less", "as", "equally", "not"}.isdisjoint(clause)


def _clauses(words: list[str]) -> list[list[str]]:
    """Returns the words between the marks."""
    return [list(some) for is_mark, some in itertools.groupby(words, STOPS.__contains__) if not is_mark]
