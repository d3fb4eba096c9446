"""Yes and no, true and false, supported and refuted, with an explanation behind them or not (docs/grading.md)."""

from __future__ import annotations

import itertools
import re
from typing import Literal

from iapo.grading.units import Side

_TRUTH = {"yes": True, "true": True, "no": False, "false": False}
_SUPPORTED = "supported supports support entailed entails correct accurate"
_REFUTED = """
refuted refutes refute contradicted contradicts contradict incorrect inaccurate untrue unsupported wrong
"""
_CLAIM = {**dict.fromkeys(_SUPPORTED.split(), True), **dict.fromkeys(_REFUTED.split(), False)}
_NOT = frozenset(
    {"not", "isn't", "wasn't", "aren't", "weren't", "doesn't", "don't", "didn't", "can't", "cannot", "never"}
)
_DOUBTS = """
but however although though actually wait maybe perhaps possibly probably unclear unknown unsure uncertain depends
partially partly sometimes undetermined indeterminate sorry correction unless whether assuming supposing impossible
ambiguous inconclusive undecidable unanswerable unable guess guessing depending depend supposedly seemingly refuse
"""
_DOUBT = frozenset(_DOUBTS.split())
# "No, it cannot be determined", "No, there is not enough information", "No, there is no way to tell".
_OPEN = """
enough information, enough data, be determined, not necessarily, not enough, no way, no idea, no data, no information,
no answer, no clue, hard to, difficult to, in part, some extent, sort of, kind of, in theory, n a, provided that,
may be, might be, could be, too close
"""
_OPEN_PAIRS = frozenset(tuple(pair.split()) for pair in _OPEN.split(","))
# Behind a denial: "No, I cannot tell", "No, we don't know". "No, I don't think so" says no.
_KNOWLEDGE = """
tell know say determine judge decide answer conclude verify confirm sure certain clear possible known given stated
specified specify provided provide readable legible applicable
"""
_TELLING = frozenset(_KNOWLEDGE.split())
_SEEING = frozenset(("see", "read", "view", "access"))
_SHOWN = frozenset(["it", "that", "this", "chart", "image", "picture", "figure", "graph", "table", "plot", "clearly"])
# "Yes, almost." and "Yes, nearly all"; "Yes, nearly twice as large" explains.
_SHORT_OF = frozenset(["almost", "nearly", "hardly", "scarcely", "mostly", "largely", "somewhat"])
_ALL = frozenset(["all", "always", "every", "each", "everywhere", "everyone"])
_EXCEPTIONS = frozenset(["except", "excepting", "excluding", "exception", "exceptions"])
_EXCEPTING_PAIRS = frozenset({("apart", "from"), ("aside", "from"), ("other", "than"), ("with", "exceptions")})
# "No, quite the opposite" says no.
_CONTRARY = """
opposite contrary reverse lie myth nonsense mistake mistaken misleading nope nah
"""
_OPPOSITES = frozenset(_CONTRARY.split())
_YES = frozenset(("yes", "yep", "yeah", "yup"))
_REASONS = frozenset(("since", "because", "as", "for", "given"))
_SUBORDINATE = _REASONS | {"while", "when", "whereas", "which", "who", "where", "so"}
_SAID_OF_IT = frozenset(("not", "is", "that's", "isn't", "it's", "quite"))
_UNABLE = frozenset(("cannot", "can't", "couldn't", "not"))
_SEEN = frozenset(("seen", "said", "told", "read", "known", "answered", "decided", "judged"))
_NOTHING = frozenset(itertools.product(("is", "are", "was", "were", "there's"), ("no", "none")))
_THINKING = frozenset(("think", "believe", "suppose", "hope"))
_OPPOSED_PAIRS = frozenset({("fails", "to"), ("fail", "to"), ("failed", "to"), ("far", "from")})
_NO_SUBJECTS = frozenset(("no", "none", "nothing", "nobody", "neither", "nor"))
_CLAIM_DOUBTS = """
half mostly nearly almost likely unlikely somewhat fails fail nobody neither nor might could
either opposite hardly far barely scarcely say saying otherwise
"""
_CLAIM_DOUBT = _DOUBT | frozenset(_CLAIM_DOUBTS.split())
_NONE = frozenset({"no", "nothing", "none", "without"})
# Words behind yes or no with which an explanation begins; "No Doubt" and "No. 5" are names.
_BEGINNINGS = """
it it's they there the this that these those he she we i as since because its their both all each none only a an
is are was were does did do has have had in according
"""
_OPENERS = frozenset(_BEGINNINGS.split())
_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*|[.,:;!?-]")
_HEAD = re.compile(r"(?P<head>\w+)(?:(?P<mark>[,:;]|[.!](?=\s)|\s?-(?=\s))(?P<rest>.*)|\s?\.*)", re.DOTALL)
# No. 5, No. 10 Downing Street; but "No. 45 exceeds 30" and "No. 2015 was lower than 2014" are sentences.
_NAMED = re.compile(
    r"no\.\s*(?:\d(?![\d.,]*%? (?:(?:is|are|was|were) \S|[^\W\d_]+ (?:\S*\d|\S+ \S)))"
    r"|(?:one|two|three|four|five|six|seven|eight|nine|ten)\.?$)|\w+-\w"
)
_PARTING = (",", ":", ";", None)
_BRACKETED = re.compile(r"(\w{1,5}) \(([^()]*)\)\.?")
_STOPS = frozenset(".,:;!?-")
_AUXILIARIES = "is are was were do does did has have had can will would should could"
_AUXILIARY = frozenset(_AUXILIARIES.split())
_PRONOUNS = frozenset(["it", "they", "there", "this", "that", "these", "those", "he", "she", "we", "i"])
_PERSONS = frozenset(["he", "she", "we", "i"])
_CLAUSES = frozenset(["it's", "that's", "there's", "they're", "he's", "she's", "we're"])
_VERBS = _AUXILIARY | {"isn't", "aren't", "wasn't", "weren't", "doesn't", "don't", "didn't", "hasn't", "haven't"}
_SMALL_WORDS = frozenset(["a", "an", "the", "of", "for", "and", "or", "in", "on", "at", "to", "by", "with", "from"])
"""Words without a capital in a title."""
_LONGEST = 1000
"""Characters; longer texts say neither."""


def read_plain_truth(text: str, side: Side) -> bool | None:
    """Reads yes or no, also with a sentence behind a comma, colon, semicolon, full stop or dash that agrees with it.

    Args:
        text: Text in lower case, with its punctuation.
        side: Who wrote it: a gold answer of several sentences, or with `no` or `not` in it, may be a name.
    """
    found = _HEAD.fullmatch(text)
    said = None if found is None else _TRUTH.get(found["head"])
    if found is None or said is None or (side == "gold" and not _says_only(text)):
        return None
    rest = found["rest"] or ""
    if side == "answer":
        if read_truth(text) is None:
            return None
        # A sentence of its own is told from a name (No. One) by the word that begins it; No. 5 is none of these.
        begins = _words(rest)[:1]
        if found["mark"] in _PARTING or (begins and (begins[0] in _OPENERS or begins[0][0].isdecimal())):
            return said
    if found["mark"] not in _PARTING:
        return None
    words = re.findall(r"\w+(?:'\w+)*", rest)
    if any(word in _NOT or word in _TRUTH or word.endswith("n't") for word in words) or _is_open(words):
        return None
    # "No, it is" says the opposite, "No, France is" does not.
    return None if not said and _ends_as_yes(words) else said


def is_title(text: str) -> bool:
    """Tells whether a text that begins with yes or no is a title: `Yes We Can`, `No, It Is Not Unusual`.

    Every word behind yes or no begins with a capital; `No, New Zealand` is no title, nor is `Yes, It Is`.

    Args:
        text: Text in its own case.
    """
    words = _words(text)
    if not words or words[0].casefold() not in _TRUTH or text.isupper():
        return False
    behind = [word for word in words[1:] if word not in _STOPS]
    named = all(word[0].isupper() or word[0].isdecimal() or word in _SMALL_WORDS for word in behind)
    if len(behind) < 2 or not named or not behind[0][0].isupper():
        return False
    if words[1] not in _STOPS:
        return True
    if behind[0].casefold() not in _PRONOUNS | _CLAUSES | _VERBS:
        return False
    # "Yes, It Is" may be a sentence, "Yes, We Can" is none about a chart.
    return behind[0].casefold() in _PERSONS or not _says_only(text.casefold())


def _says_only(text: str) -> bool:
    """Tells whether a text is yes or no, alone or with a clause of a pronoun and its verb: `No, they are not.`"""
    words = _words(text)
    rest = [word for word in words[1:] if word not in _STOPS]
    if not rest or words[1] not in _STOPS:
        return not rest
    return rest[0] in _CLAUSES or (rest[0] in _PRONOUNS and bool(_VERBS.intersection(rest[1:2])))


def _ends_as_yes(words: list[str]) -> bool:
    """Tells whether a sentence ends as one that says yes: `it is`, `they did`."""
    return len(words) > 1 and words[-1] in _AUXILIARY and words[-2] in _OPENERS


def read_truth(text: str, side: Side = "answer") -> bool | None:
    """Reads yes or no, bare or with an explanation that does not take it back.

    Args:
        text: Text in lower case, with its punctuation.
        side: Who wrote it: a gold answer that begins with yes or no may be a name (`Yes, Minister`).
    """
    if side == "gold" and not _says_only(text):
        return None
    # Yes (45 > 40).
    if (found := _BRACKETED.fullmatch(text)) is not None:
        text = f"{found[1]}, {found[2]}"
    words = _words(text)
    said = _TRUTH.get(words[0]) if words else None
    if said is None:
        return None
    rest = words[1:]
    if not [word for word in rest if word not in _STOPS]:
        return None if "?" in rest else said
    if rest[0] in _STOPS:
        # No. 5, No. One, no-hitter.
        if _NAMED.match(text):
            return None
    elif rest[0] not in _OPENERS:
        return None
    return None if _takes_back(rest, said) else said


def read_claim(text: str) -> bool | None:
    """Reads what a text says of a claim: every word that judges it must say the same.

    Args:
        text: Text in lower case, with its punctuation.
    """
    words = _words(text)
    if not words or not _CLAIM_DOUBT.isdisjoint(words) or _is_asked(words) or _is_open(words):
        return None
    if words[0] in ("0", "1"):
        return words[0] == "1" if _all_judged(words[1:]) == {words[0] == "1"} else None
    if words[0] in ("yes", "no"):
        return read_truth(text) if _all_judged(words[1:]) <= {_TRUTH[words[0]]} else None
    said = _all_judged(words)
    return said.pop() if len(said) == 1 else None


def _words(text: str) -> list[str]:
    return _WORD.findall(text) if len(text) <= _LONGEST else []


def _is_asked(words: list[str]) -> bool:
    """Tells whether it is left open: `true or not`, `whether it is true`, a question mark."""
    pairs = set(itertools.pairwise(words))
    asked = {("or", "not"), ("not", "sure"), ("may", "be"), ("not", "certain")}
    return not {"?", "whether", "if", "unless"}.isdisjoint(words) or not asked.isdisjoint(pairs)


def _all_judged(words: list[str]) -> set[bool]:
    """Returns what words say of a claim; both where one of them is unclear."""
    said = [_judged(words, place) for place in range(len(words))]
    return {True, False} if "unclear" in said else {one for one in said if isinstance(one, bool)}


def _judged(words: list[str], place: int) -> bool | Literal["unclear"] | None:
    """Returns what the word at a place says of the claim, `not` before it heeded; None if it judges nothing."""
    word = words[place]
    said = {"true": True, "false": False, **_CLAIM}.get(word)
    if said is None or _is_attribute(words, place):
        return None
    clause = list(itertools.takewhile(lambda one: one not in _STOPS, reversed(words[:place])))
    # "not the case that it is true" and "does not list it so it is false" look alike: what is far off says nothing.
    if not _NOT.isdisjoint(clause[3:]):
        return "unclear"
    return said if (_NOT | _NONE).isdisjoint(clause) else not said


def _is_attribute(words: list[str], place: int) -> bool:
    """Tells whether a word judges no claim but says which value: `the correct number is 5`, `the true value was 5`."""
    if words[place] not in ("correct", "true", "accurate") or place == 0 or words[place - 1] != "the":
        return False
    if not _NOT.isdisjoint(words[max(0, place - 4) : place]):
        return False
    noun = list(itertools.takewhile(lambda one: one not in _STOPS | _VERBS, words[place + 1 : place + 6]))
    return bool(noun) and words[place + 1 + len(noun) :][:1] in (["is"], ["are"], ["was"], ["were"], ["should"])


def _compares(words: list[str]) -> bool:
    """Tells whether words end a comparison, before its verb: `lower than they`, `not as high as it`."""
    if words[-2:-1] == ["than"]:
        return True
    # One word or two between `as` and `as`.
    begins = (words[-place:][:1] == ["as"] and _STOPS.isdisjoint(words[-place:]) for place in (4, 5))
    return words[-2:-1] == ["as"] and any(begins)


def _takes_back(rest: list[str], said: bool) -> bool:
    """Tells whether an explanation says the opposite, or doubts."""
    if not _DOUBT.isdisjoint(rest) or "?" in rest or _is_open(rest) or _is_limited(rest, said):
        return True
    if said and _denies(rest):
        return True
    if rest[0] in ("or", "and") or (rest[0] in _STOPS and (rest[1:2] == ["or"] or (said and rest[1:2] == ["not"]))):
        return True
    for place, word in enumerate(rest):
        behind = rest[place + 1] if place + 1 < len(rest) else "."
        denied = _denied(rest, place)
        if word in ("true", "false", "correct", "incorrect", "wrong", "untrue") and not _is_attribute(rest, place):
            # "not true" is a no, "not false" a yes.
            means = (word in ("true", "correct")) != denied
            if means != said and (word not in ("correct", "wrong", "incorrect") or behind in _STOPS):
                return True
        elif (not said and (word in _YES or (word in _THINKING and behind == "so" and not denied))) or (
            word in _OPPOSITES and said and not denied
        ):
            return True
        # "that's not right"; elsewhere it is a side.
        elif word == "right" and behind in _STOPS and _SAID_OF_IT.intersection(rest[max(0, place - 1) : place]):
            if denied == said:
                return True
        elif word == "no" and said and (behind in _STOPS or behind in _OPENERS):
            # "no country is larger" denies something else.
            return True
        # "Yes, it is not." and "No, it is." end with the opposite.
        elif behind in _STOPS and place and rest[place - 1] not in _STOPS:
            if said and (word == "not" or word.endswith("n't")):
                return True
            # "No, only three of them are." does not, nor does "No, Germany is."
            short = rest[place - 1] in _OPENERS and not _compares(rest[:place])
            if not said and word in _AUXILIARY and short and not denied and "only" not in rest[:place]:
                return True
    return False


def _is_open(words: list[str]) -> bool:
    """Tells whether nothing is said: `I cannot tell`, `there is not enough information`."""
    if "insufficient" in words or not _OPEN_PAIRS.isdisjoint(itertools.pairwise(words)):
        return True
    for place, word in enumerate(words):
        if _is_denial(word):
            behind = list(itertools.takewhile(lambda one: one not in _STOPS, words[place + 1 : place + 4]))
            if not _TELLING.isdisjoint(behind) or (behind[:1] == ["be"] and not _SEEN.isdisjoint(behind)):
                return True
            # "I cannot see it"; "I do not see one" and "I cannot see any" deny.
            if word in _UNABLE and not _SEEING.isdisjoint(behind[:1]) and not _SHOWN.isdisjoint(behind):
                return True
    return False


def _is_limited(rest: list[str], said: bool) -> bool:
    """Tells whether what is said holds with a condition, an exception or nearly: `unless it is 2015`, `almost`."""
    pairs = list(itertools.pairwise(rest))
    if any(behind.startswith("doubt") and before not in ("no", "without") for before, behind in pairs):
        return True
    if any(behind == "if" and before not in ("even", "as") for before, behind in pairs):
        return True
    if rest[0] in _STOPS and rest[1:4] == ["as", "long", "as"]:
        return True
    if rest[0] in _STOPS and _SHORT_OF.intersection(rest[1:2]):
        behind = [word for word in rest[2:] if word not in _STOPS]
        if not behind or behind[0] in _ALL:
            return True
    # "No, all except Germany are" says no.
    begins = [(before in _STOPS, *pair) for before, pair in zip(["", *rest], pairs, strict=False)]
    return any(
        (first in _EXCEPTIONS or (first, second) in _EXCEPTING_PAIRS) and (said or opens)
        for opens, first, second in [*begins, (rest[-2:-1] and rest[-2] in _STOPS, rest[-1], "")]
    )


def _denies(rest: list[str]) -> bool:
    """Tells whether the sentence behind `yes` denies: `it is not larger`, `none of them is`.

    Without the question it cannot be told from a contradiction. `No country is larger` denies something else.
    """
    behind = list(itertools.dropwhile(_STOPS.__contains__, rest))
    clause = list(itertools.takewhile(lambda word: word not in _STOPS, behind))
    if not clause or clause[0] in _REASONS:
        return False
    if not _OPPOSED_PAIRS.isdisjoint(itertools.pairwise(clause)):
        return True
    if clause[0] in _NO_SUBJECTS:
        return "other" not in clause and (clause[-1] in _NO_SUBJECTS | _AUXILIARY | {"one"} or "of" in clause[-3:-1])
    main = list(itertools.takewhile(lambda word: word not in _SUBORDINATE, clause))
    if any(map(_is_denial, main)):
        return True
    return (
        "doubt" not in main
        and main[:1] in (["there"], ["there's"])
        and not _NOTHING.isdisjoint(itertools.pairwise(main))
    )


def _is_denial(word: str) -> bool:
    return word in _NOT or word.endswith("n't")


def _denied(words: list[str], place: int) -> bool:
    return any(map(_is_denial, words[max(0, place - 3) : place]))
