"""Words and clauses that are left out before a verdict is read: `actually`, names in quotes, `without exception`."""

from __future__ import annotations

import itertools
import re

from iapo.grading.doubts import NOT, STOPS
from iapo.grading.reasons import ACTIONS, AUXILIARIES, DOING, LINKS, WEAK

_PRONOUNS = frozenset(("it", "they", "there", "this", "that", "these", "those", "he", "she"))
_SHORTENED = frozenset(("it's", "that's", "they're", "he's", "she's"))
_NEVER_BESIDE = WEAK | LINKS | {"i", "we", "you", "i'm", "or", "nor", "but", "and", "as", "so", "well"}
_BREAKS = STOPS - {","}
_NEGATIVE = frozenset(("no", "false", "incorrect", "wrong", "untrue", "refuted"))
_EXCEPTIONS = frozenset(("exception", "exceptions"))
_FREED_NAMES = """
without exception, without exceptions, without any exception, without any exceptions, without a single exception,
with no exception, with no exceptions, no exceptions, there are no exceptions, there is no exception
"""
_FREED = frozenset(tuple(phrase.split()) for phrase in _FREED_NAMES.split(","))
_SAVING = frozenset(
    ("save", "bar", "barring", "besides", "but", "only", "except", "excepting", "apart", "aside", "other")
)
_VERDICTS = frozenset(("yes", "no", "true", "false", "correct", "incorrect", "supported", "refuted", "0", "1"))
_LONGEST = 1000
"""Characters; in a longer text no name is looked for."""

# 5" and '90s open nothing.
_QUOTED = re.compile(r'(?<![\w"])"(?=\S)[^"]{1,60}(?<=\S)"(?!\w)')
_MARK = re.compile(r"[,:;!?]|\.(?!\d)")
_MORE = r"(?:higher|lower|larger|smaller|greater|bigger|taller|shorter|more|less|fewer) than"
_MOST = r"(?:highest|lowest|largest|smallest|greatest|biggest|tallest|shortest)"
_PART = r"(?:bars?|lines?|category|group|slices?|segments?)"
_SHARE = r"\$?\d[\d.,]*%?(?: percent)?(?= (?:and|of the|in)\b|$)"
_MEASURED = rf"(?:(?:only|just|about) )?(?:{_SHARE}|{_MORE} (?:the )?[_\d]|the {_MOST})"
_SAID_BEFORE = re.compile(
    r"(?:\b(?:value|share|percentage|percent|proportion|number|count|rate|height|size|bar|line|segment|slice|category"
    rf"|group) (?:of|for) (?:the )?|\b(?:is|are|was|were) (?:\w+ )?{_MORE} (?:the )?"
    r"|\b(?:people|those|respondents) who (?:say|said|answer|answered) )$"
)
_AT_THE_START = re.compile(r"(?:(?:^|.* and) ?(?:the )?)$")
_SAID_BEHIND = re.compile(rf" (?:{_PART} )?(?:is|are|was|were) {_MEASURED}")
_IN_A_CLAUSE = re.compile(rf"\b(?:is|are|was|were) {_MEASURED}")


def without_actually(words: list[str]) -> list[str]:
    """Leaves out `actually` within a clause, before its verb or behind it: `it is actually lower`, `it actually is`.

    Before a clause or a sentence what follows may be the answer that is meant: `No. Actually, it is higher`.

    Args:
        words: What is said.
    """
    return [word for place, word in enumerate(words) if word != "actually" or not _is_within(words, place)]


def _is_within(words: list[str], place: int) -> bool:
    before = list(itertools.takewhile(lambda one: one not in STOPS, reversed(words[:place])))[::-1]
    behind = [*words[place + 1 : place + 3], ".", "."]
    said = words[: place - len(before)]
    # "Yes. It is actually lower" may begin again, "No. It is actually lower" does not.
    if not _BREAKS.isdisjoint(said) and (_NEGATIVE.isdisjoint(said) or not NOT.isdisjoint(said)):
        return False
    if not before or not _NEVER_BESIDE.isdisjoint(before):
        return False
    if before[-1] in _SHORTENED or (len(before) > 1 and before[-1] in AUXILIARIES - DOING):
        return True
    # "it actually is", and neither "it actually is higher" nor "Germany actually did win", which stress what was denied
    if behind[0] in AUXILIARIES:
        return before[-1] in _PRONOUNS and behind[1] in STOPS
    return behind[0] in ACTIONS


def without_names(text: str) -> str:
    """Leaves out what stands between quotes where it is the name of something that is measured: `"Don't know" is 5%`.

    Args:
        text: Text in lower case, with its punctuation.
    """
    if len(text) > _LONGEST or '"' not in text:
        return text
    # The last one of an answer is left out with those around it.
    text += '"' if text.count('"') % 2 else ""
    found = list(_QUOTED.finditer(text))
    hidden = _QUOTED.sub(lambda quoted: "_" * len(quoted[0]), text)
    marks = [0, *(mark.end() for mark in _MARK.finditer(hidden)), len(text) + 1]
    for quoted in reversed(found):
        start = max(mark for mark in marks if mark <= quoted.start())
        end = min(mark for mark in marks if mark > quoted.end()) - 1
        before, behind = hidden[start : quoted.start()].lstrip(), hidden[quoted.end() : end]
        named = _SAID_BEFORE.search(before) and _IN_A_CLAUSE.search(hidden[start:end])
        if named or (_AT_THE_START.match(before) and _SAID_BEHIND.match(behind)):
            text = f"{text[: quoted.start()]}category{text[quoted.end() :]}"
    return text


def without_exceptions(words: list[str]) -> list[str]:
    """Leaves out clauses that say that there is no exception: `without exception`; not `almost without exception`.

    Args:
        words: What is said, with the verdict.
    """
    if _EXCEPTIONS.isdisjoint(words):
        return words
    for place, word in enumerate(words):
        for start in range(max(0, place - 3), place):
            if word in _EXCEPTIONS and tuple(words[start : place + 1]) in _FREED:
                begins = not start or words[start - 1] in STOPS | _VERDICTS | ACTIONS
                follows = list(itertools.dropwhile(STOPS.__contains__, words[place + 1 : place + 3]))
                closed = words[place + 1 : place + 2] == [] or words[place + 1] in STOPS
                if begins and closed and _SAVING.isdisjoint(follows[:1]):
                    return without_exceptions([*words[:start], *words[place + 1 :]])
    return words
