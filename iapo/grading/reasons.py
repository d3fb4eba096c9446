"""Reasons behind a verdict: words that doubt it where they stand beside it, and in a clause of their own say something.

`almost true` is no verdict; `False, the score is almost twice as large` is one with a reason (docs/grading.md).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Sequence

from iapo.grading.doubts import STOPS, is_denial

_WEAK_NAMES = "half mostly nearly almost likely unlikely fails fail neither nor nobody could either far"
_WEAK = frozenset(_WEAK_NAMES.split())
"""Beside a verdict they doubt it; in a reason they may say what a table shows."""
_AUXILIARY_NAMES = "is are was were has had have did do does isn't aren't wasn't weren't doesn't don't didn't can will"
_AUXILIARIES = frozenset(_AUXILIARY_NAMES.split())
_VERB_NAMES = """
won win wins lost lose loses scored scores played plays finished ended began started made got took came beat drew
received reached rose fell grew increased decreased declined dropped exceeds exceeded attended hosted competed shows
"""
_FINITE = _AUXILIARIES | frozenset(_VERB_NAMES.split())
# What a clause with one of these says is said of the claim, the answer or the one who answers.
_ABOUT_NAMES = """
statement claim sentence hypothesis answer verdict conclusion right ok valid everything details facts match matches
matching agree agrees agreed hold holds fit fits apply applies check checks certain certainly sure confident chance
point verified consistent inconsistent so
"""
_ABOUT_THE_CLAIM = frozenset(_ABOUT_NAMES.split())
_SPEAKER_NAMES = """
it it's that that's this which what who i i'm i'd we we'd you one someone others or nor not if at for in on during
"""
_NO_SUBJECTS = frozenset(_SPEAKER_NAMES.split())
_EVIDENCE = frozenset(("table", "data", "chart", "image", "picture", "figure", "graph", "evidence", "information"))
_LINKS = frozenset(("because", "since"))
_THUS = frozenset(("so", "thus", "hence", "therefore", "making"))
_BEFORE_A_REASON = _LINKS | {"and", "as"}
_ITSELF = frozenset(("it", "this", "that", "them", "these", "those", "which", "what"))
_COUNTED_NAMES = "all every each half twice double triple a an no two three four five six seven eight nine ten"
_COUNTED = frozenset(_COUNTED_NAMES.split())
_COMPARED_NAMES = "more less fewer higher lower larger smaller greater bigger above below ahead behind"
_COMPARED = frozenset(_COMPARED_NAMES.split())

_PRONOUNS = frozenset(("it", "they", "there", "this", "that", "these", "those", "he", "she", "which"))
_SPEAKERS = frozenset(("i", "we", "you", "i'm", "i'd", "we'd", "my", "let", "let's"))
_PARTING = frozenset(("or", "nor", "but"))
_TURNED = frozenset(("opposite", "reverse", "contrary", "answer", "mistake", "mistaken", "wrong", "incorrect"))
_SHORTEST = 3
"""Words of a reason."""
_LONGEST = 1000
"""Characters; in a longer text no name is looked for."""

_QUOTED = re.compile(r'"[^"]{1,60}"|(?<!\w)\'[^\']{1,60}\'(?!\w)')
_MARK = re.compile(r"[,:;!?]|\.(?!\d)")
_MEASURED = re.compile(
    r"\d|\b(?:higher|lower|larger|smaller|greater|bigger|taller|shorter|highest|lowest|largest|smallest|tallest"
    r"|shortest|(?:more|less|fewer) than|exceeds)\b"
)
_OF_THE_ANSWER = re.compile(
    r"\b(?:answers?|correct|incorrect|right|wrong|true|false|statements?|claims?|verdict|options?|certain\w*|sure"
    r"|accurate|inaccurate|likely|unlikely|possib\w+|probabl\w+|confiden\w+|choices?|conclu\w+|responses?|better|best"
    r"|i|my|mine|what|mean\w*|words?)\b"
)
_NAMES_BEFORE = re.compile(
    r"\b(?:of|for|than|the|in|with|(?:who|that) (?:say|said|answer|answered|chose|choose|responded|think|selected)) $"
)
_NAMES_BEHIND = re.compile(
    r" (?:is|are|was|were|has|had|have|bars?|lines?|category|categories|group|slices?|segment)\b"
)


def doubts_claim(words: Sequence[str], judges: Sequence[bool]) -> bool:
    """Tells whether a word like `almost` or `half` doubts a verdict: wherever it stands but in a reason of its own.

    Args:
        words: What is said of a claim.
        judges: Of each word, whether it judges the claim.
    """
    if _WEAK.isdisjoint(words):
        return False
    clauses = list(_split(words, judges))
    judging = [place for place, (_, judged) in enumerate(clauses) if judged]
    for place, (clause, judged) in enumerate(clauses):
        if _WEAK.isdisjoint(clause):
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
        if word in STOPS or (judged and word in _LINKS):
            if clause:
                yield clause, judged
            clause, judged = [], False
        if word not in STOPS:
            clause.append(word)
            judged |= judging
    if clause:
        yield clause, judged


def _is_reason(clause: list[str]) -> bool:
    """Tells whether a clause says something itself, and not of the claim: `neither team won`; not `it almost is`."""
    clause = list(itertools.dropwhile(_BEFORE_A_REASON.__contains__, clause))
    if len(clause) < _SHORTEST or clause[0] in _NO_SUBJECTS or not _ABOUT_THE_CLAIM.isdisjoint(clause):
        return False
    if _FINITE.isdisjoint(clause[1:]) and {"fails", "fail", "could"}.isdisjoint(clause[1:]):
        return False
    if clause[-1] in _AUXILIARIES | _WEAK or is_denial(clause[-1]):
        return False
    return all(_tells(clause, place) for place, word in enumerate(clause) if word in _WEAK)


def _tells(clause: list[str], place: int) -> bool:
    """Tells whether a weak word in a clause says how much or who: `almost twice`, `by far`, `neither team`."""
    word, before, behind = clause[place], clause[:place], [*clause[place + 1 : place + 4], "", "", ""]
    if word == "half":
        return not (behind[0] == "of" and behind[1] in _ITSELF) and behind[:2] != ["the", "time"]
    if word in ("almost", "nearly"):
        part_of_it = behind[1] == "of" and behind[2] in _ITSELF
        return (behind[0] in _COUNTED or behind[0][:1].isdecimal()) and not part_of_it
    if word == "mostly":
        return len(before) > 1 and before[-1] in _AUXILIARIES
    if word in ("likely", "unlikely"):
        compared = before[-1:] in (["more"], ["less"], ["equally"])
        return compared or (
            behind[0] == "to" and behind[1] not in ("be", "have") and before[-1:] not in (["most"], ["very"], ["quite"])
        )
    if word in ("neither", "nobody"):
        return not before and behind[0] not in _AUXILIARIES and behind[0] not in ("in", "on", "for")
    if word == "nor":
        return "neither" in before
    if word == "either":
        return any(map(is_denial, before))
    if word == "could":
        return bool(before) and behind[0] in ("not", "only")
    if word == "far":
        return len(before) > 1 and (before[-1] == "by" or behind[0] in _COMPARED)
    # "he fails in round 2"; "the table fails to show it" is said of the claim.
    return bool(before) and _EVIDENCE.isdisjoint(before)


def without_actually(words: list[str], denies: Callable[[int], bool]) -> list[str]:
    """Leaves out `actually` where it takes nothing back: `it is actually lower`; behind `no` also `Actually, it is`.

    `Yes. Actually, ...` may be followed by the answer that is meant, and so may `42, actually`.

    Args:
        words: What is said.
        denies: Whether what is said before a place is no, or that the claim is false.
    """
    kept: list[str] = []
    skips = False
    for place, word in enumerate(words):
        if word == "actually" and _takes_nothing_back(words, place, denies):
            skips = True
        elif not (skips and word == ","):
            kept.append(word)
            skips = False
    return kept


def _takes_nothing_back(words: list[str], place: int, denies: Callable[[int], bool]) -> bool:
    before = list(itertools.takewhile(lambda one: one not in STOPS, reversed(words[:place])))[::-1]
    behind = words[place + 1 :]
    if before and before[-1] not in _LINKS:
        # "it actually is", "it is actually", "Germany actually won"; not "45 actually 43", "or actually".
        beside = before[-1] in _AUXILIARIES or (before[-1] in _PRONOUNS and behind[:1] != [] and behind[0] not in STOPS)
        follows = behind[:1] != [] and behind[0] in _FINITE
        return (beside or follows) and (_SPEAKERS | _WEAK | _PARTING).isdisjoint(before)
    if behind[:1] == [","]:
        behind = behind[1:]
    clause = list(itertools.takewhile(lambda one: one not in STOPS, behind))
    if len(clause) < _SHORTEST or clause[-1] in _AUXILIARIES or not _SPEAKERS.isdisjoint(clause[:1]):
        return False
    return denies(place) and _TURNED.isdisjoint(clause) and not _FINITE.isdisjoint(clause[1:])


def without_names(text: str) -> str:
    """Leaves out what stands between quotes where it is the name of something that is measured: `"Don't know" is 5%`.

    Args:
        text: Text in lower case, with its punctuation.
    """
    if len(text) > _LONGEST or ('"' not in text and "'" not in text):
        return text
    found = list(_QUOTED.finditer(text))
    hidden = _QUOTED.sub(lambda quoted: "_" * len(quoted[0]), text)
    marks = [0, *(mark.end() for mark in _MARK.finditer(hidden)), len(text)]
    for quoted in reversed(found):
        start = max(mark for mark in marks if mark <= quoted.start())
        clause = hidden[start : min(mark for mark in marks if mark >= quoted.end())]
        if (
            _MEASURED.search(clause)
            and not _OF_THE_ANSWER.search(clause)
            and (_NAMES_BEFORE.search(text[start : quoted.start()]) or _NAMES_BEHIND.match(text, quoted.end()))
        ):
            text = f"{text[: quoted.start()]}category{text[quoted.end() :]}"
    return text
