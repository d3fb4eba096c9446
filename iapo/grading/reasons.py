"""Reasons behind a verdict: words that doubt it, but for those in a clause that says something of data.

`almost true` is no verdict; `False, the score is almost twice as large` is one with a reason (docs/grading.md). What
counts as a reason is a closed list; all else is a doubt.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence

from iapo.grading.doubts import STOPS, is_denial

WEAK = frozenset(("half", "nearly", "almost", "likely", "fails", "fail", "neither", "nor", "nobody", "far"))
"""Beside a verdict they doubt it; in a reason they may say what a table shows."""
_COPULAS = frozenset(("is", "are", "was", "were"))
DOING = frozenset(("do", "does", "did"))
_DENIED_NAMES = "isn't aren't wasn't weren't doesn't don't didn't"
AUXILIARIES = _COPULAS | DOING | {"has", "have", "had", "can", "will", *_DENIED_NAMES.split()}
_ACTION_NAMES = """
won win wins lost lose loses scored scores played plays finished ended began started beat drew received reached rose
fell grew increased decreased declined dropped exceeds exceeded attended hosted competed
"""
ACTIONS = frozenset(_ACTION_NAMES.split())
_NUMBER_NAMES = "two three four five six seven eight nine ten"
_NUMBERS = frozenset(_NUMBER_NAMES.split())
_COMPARED_NAMES = """
more less fewer higher lower larger smaller greater bigger taller shorter above below ahead behind highest lowest
largest smallest greatest biggest tallest shortest
"""
_COMPARED = frozenset(_COMPARED_NAMES.split())
_MULTIPLES = frozenset(("twice", "double", "half"))
# What a clause with one of these says is said of the claim, the answer, the picture or the one who answers.
_ABOUT_NAMES = """
statement claim sentence hypothesis answer verdict conclusion right ok valid everything details facts match matches
matching agree agrees agreed hold holds fit fits apply applies check checks certain certainly sure confident chance
point verified consistent inconsistent so stated described shown listed same like given met fine confirmed backed line
accordance case text wording part parts label labels page file ocr model tool table data chart image picture figure
graph evidence information reading one ones us you me said claimed thought
legible readable visible illegible unreadable hidden missing blurry identified can cannot can't couldn't
"""
_ABOUT_THE_CLAIM = frozenset(_ABOUT_NAMES.split())
_NO_SUBJECT_NAMES = """
it it's that that's this which what who i i'm i'd we we'd you they they're these those there someone others and or nor
not if at for in on during while whereas when where though
"""
_NO_SUBJECTS = frozenset(_NO_SUBJECT_NAMES.split())
LINKS = frozenset(("because", "since"))
_THUS = frozenset(("so", "thus", "hence", "therefore", "making"))
_ITSELF = frozenset(("it", "this", "that", "them", "these", "those", "which", "what"))
_BEYOND_FAILING = _ITSELF | {"number", "numbers", "value", "values", "year", "sum", "total"}
_COUNTED = frozenset(("all", "every", "each", *_MULTIPLES, "triple", *_NUMBERS))
_SHORTEST = 3
"""Words of a reason."""
# "it is", "they actually did not", "it holds", "that is not the case"
_SHORT = re.compile(
    r"(?:(?:and|so|as|because|since|yes|no|in fact|indeed|well) )*+"
    r"(?:(?:(?:the|this|that) (?:statement|claim|sentence|hypothesis)|it|this|that|they|there|these|those|he|she)"
    r"(?: (?:definitely|certainly|indeed|really|clearly|surely|absolutely|also|just))*+ "
    r"(?P<verb>(?:is|are|was|were|do|does|did|has|have|had)(?:n't)?|holds?|stands?)|(?:it|that|they|he|she)'(?:s|re))"
    r"(?P<denied> not)?(?: (?:hold|stand|be))?(?P<tail> (?:so|right|the case|as (?:stated|described|claimed|given)))?"
    r"(?: (?:definitely|certainly|indeed|really|clearly|surely|absolutely|too|at all))*+"
)
_LONGEST = 1000
"""Characters of a clause."""


def doubts_claim(words: Sequence[str], judges: Sequence[bool]) -> bool:
    """Tells whether a word like `almost` or `half` doubts a verdict: wherever it stands but in a reason of its own.

    Args:
        words: What is said of a claim.
        judges: Of each word, whether it judges the claim.
    """
    if WEAK.isdisjoint(words):
        return False
    clauses = list(_split(words, judges))
    judging = [place for place, (_, judged) in enumerate(clauses) if judged]
    for place, (clause, judged) in enumerate(clauses):
        if WEAK.isdisjoint(clause):
            continue
        # "True, half of the games were lost."; "Half of the games were lost, so it is true."
        concluded = any(later > place and not _THUS.isdisjoint(clauses[later][0][:2]) for later in judging)
        if judged or not (concluded or any(earlier < place for earlier in judging)) or not _is_reason(clause):
            return True
    return False


def _split(words: Sequence[str], judges: Sequence[bool]) -> Iterator[tuple[list[str], bool]]:
    """Yields the clauses, and whether one judges the claim; a verdict's own ends at `because` too."""
    clause: list[str] = []
    judged = False
    for word, judging in zip(words, judges, strict=True):
        if word in STOPS or (judged and word in LINKS):
            if clause:
                yield clause, judged
            clause, judged = [], False
        if word not in STOPS:
            clause.append(word)
            judged |= judging
    if clause:
        yield clause, judged


def _is_reason(clause: list[str]) -> bool:
    """Tells whether a clause says something of data: `neither team won`; not `it almost is`, `neither can be read`."""
    if clause[0] in LINKS:
        clause = clause[1:]
    if len(clause) < _SHORTEST or clause[0] in _NO_SUBJECTS or not _ABOUT_THE_CLAIM.isdisjoint(clause):
        return False
    if clause[-1] in AUXILIARIES | WEAK or is_denial(clause[-1]):
        return False
    compares = not _COPULAS.isdisjoint(clause) and not _COMPARED.isdisjoint(clause)
    multiplies = any(first in _MULTIPLES and second == "as" for first, second in itertools.pairwise(clause))
    if not (compares or multiplies or _has_number(clause) or not ACTIONS.isdisjoint(clause[1:])):
        return False
    return all(_tells(clause, place) for place, word in enumerate(clause) if word in WEAK)


def _has_number(words: list[str]) -> bool:
    return any(word in _NUMBERS or word[0].isdecimal() for word in words)


def _tells(clause: list[str], place: int) -> bool:
    """Tells whether a weak word in a clause says how much or who: `almost twice`, `by far`, `neither team`."""
    word, before, behind = clause[place], clause[:place], [*clause[place + 1 : place + 4], "", "", ""]
    if word == "half":
        # "the first half had 3 goals", and neither "half is lost" nor "half of it"
        alone = behind[0] in AUXILIARIES | ACTIONS and before[-1:] not in (["first"], ["second"])
        return not alone and not (behind[0] == "of" and behind[1] in _ITSELF) and behind[:2] != ["the", "time"]
    if word in ("almost", "nearly"):
        part_of_it = behind[1] == "of" and behind[2] in _ITSELF
        return (behind[0] in _COUNTED or behind[0][:1].isdecimal()) and not part_of_it
    if word == "likely":
        compared = before[-1:] in (["more"], ["less"], ["equally"]) and "than" in clause[place + 3 :]
        return compared and behind[0] == "to" and behind[1] not in ("be", "have")
    if word == "neither":
        no_noun = behind[0] in AUXILIARIES | _ITSELF | _NO_SUBJECTS | _NUMBERS
        return not (before or no_noun or any(map(is_denial, clause)))
    if word == "nobody":
        return not before and behind[0] in ACTIONS
    if word == "nor":
        return "neither" in before
    if word == "far":
        return len(before) > 1 and (before[-1] == "by" or behind[0] in _COMPARED) and not any(map(is_denial, clause))
    # "he fails in round 2"
    return bool(before) and behind[0] != "to" and _BEYOND_FAILING.isdisjoint(before) and _has_number(clause[place:])


def contradicts(words: Sequence[str], *, said: bool) -> bool:
    """Tells whether a clause of a pronoun or the claim and its verb says the opposite: `False, it is`.

    Args:
        words: What is said, `actually` left out.
        said: The verdict.
    """
    for is_mark, clause in itertools.groupby(words, STOPS.__contains__):
        text = "" if is_mark else " ".join(clause)
        if len(text) <= _LONGEST and (found := _SHORT.fullmatch(text)) is not None:
            denied = found["denied"] is not None or (found["verb"] or "").endswith("n't")
            whole = found["verb"] or denied or found["tail"]
            if whole and denied == said:
                return True
    return False
