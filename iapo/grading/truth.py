"""Yes and no, true and false, supported and refuted, with an explanation behind them or not (docs/grading.md)."""

from __future__ import annotations

import itertools
import re
from typing import Literal

from iapo.grading.doubts import DOUBTS, NOT, STOPS, has_doubt, holds_in_part, is_denial, is_limited, is_open
from iapo.grading.left_out import without_actually, without_exceptions, without_names
from iapo.grading.reasons import contradicts, doubts_claim
from iapo.grading.units import Side

_TRUTH = {"yes": True, "true": True, "no": False, "false": False}
_SUPPORTED = "supported supports support entailed entails correct accurate"
_REFUTED = """
refuted refutes refute contradicted contradicts contradict incorrect inaccurate untrue unsupported wrong
"""
_VERIFIED = {"verified": True, "consistent": True, "inconsistent": False, "match": True, "matches": True}
# "matches the table", "consistent with the data"; elsewhere these words are a game, or steady.
_EVIDENCE_NAMES = "table data chart image picture figure graph evidence information"
_EVIDENCE = frozenset(_EVIDENCE_NAMES.split())
# "The year matches the table" and "It should match the table" do not say it of the claim.
_CLAIM_ITSELF = re.compile(
    r"(?:(?:so|thus|therefore|hence|yes|no|and) )*"
    r"(?:(?:(?:the|this|that|your) (?:given |whole |entire )?(?:statement|claim|sentence|hypothesis)"
    r"|it|it's|this|that|which)(?: |$))?"
    r"(?:(?:is|isn't|was|wasn't|does|doesn't|did|didn't|do|don't|has|hasn't|have|been|not|fully|completely|entirely"
    r"|exactly|also|indeed|clearly|all)(?: |$))*"
)
_CLAIM = {**dict.fromkeys(["true", *_SUPPORTED.split()], True), **dict.fromkeys(["false", *_REFUTED.split()], False)}
_BARE = frozenset(("0", "1", "yes", "no"))
_JUDGING = _BARE | _CLAIM.keys() | _VERIFIED.keys()
# What is false in part is false.
_PARTIAL = frozenset(("partially", "partly", "mostly"))
_FALSE = frozenset(("false", "incorrect", "wrong", "inaccurate", "untrue", "refuted", "contradicted"))
# "not partially false", "true or partly false"
_LIMITING_NAMES = "no nothing none without only just merely or either neither nor than"
_LIMITING = NOT | frozenset(_LIMITING_NAMES.split())
_REMAINDER = frozenset(("right", "rest", "remainder", "largely", "ok", "fine"))
# "No, quite the opposite" says no.
_CONTRARY = """
opposite contrary reverse lie myth nonsense mistake mistaken misleading nope nah
"""
_OPPOSITES = frozenset(_CONTRARY.split())
_REVERSES = frozenset(("reverse", "contrary", "converse", "inverse"))
_YES = frozenset(("yes", "yep", "yeah", "yup"))
_REASONS = frozenset(("since", "because", "as", "for", "given"))
_SUBORDINATE = _REASONS | {"while", "when", "whereas", "which", "who", "where", "so"}
_SAID_OF_IT = frozenset(("not", "is", "that's", "isn't", "it's", "quite", "you're"))
_HOLDING = frozenset(("statement", "claim", "it", "that", "this"))
_NOTHING = frozenset(itertools.product(("is", "are", "was", "were", "there's"), ("no", "none")))
_THINKING = frozenset(("think", "believe", "suppose", "hope"))
_OPPOSED_PAIRS = frozenset({("fails", "to"), ("fail", "to"), ("failed", "to"), ("far", "from")})
_NO_SUBJECTS = frozenset(("no", "none", "nothing", "nobody", "neither", "nor"))
_CLAIM_DOUBTS = """
mostly unlikely could either somewhat might opposite hardly barely scarcely say saying otherwise unverified unverifiable
dubious questionable debatable
"""
_CLAIM_DOUBT = DOUBTS | frozenset(_CLAIM_DOUBTS.split())
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
_BRACKETED_LAST = re.compile(r"\s\(([^()]*)\)\s?\.?$")
_BRACKETED = re.compile(r"(\w{1,5}) \(([^()]*)\)\.?")
_AUXILIARIES = "is are was were do does did has have had can will would should could"
_AUXILIARY = frozenset(_AUXILIARIES.split())
_PRONOUNS = frozenset(["it", "they", "there", "this", "that", "these", "those", "he", "she", "we", "i"])
_STRESSES = frozenset(["definitely", "certainly", "indeed", "really", "clearly", "surely", "absolutely"])
_PERSONS = frozenset(["he", "she", "we", "i"])
_CLAUSES = frozenset(["it's", "that's", "there's", "they're", "he's", "she's", "we're"])
_VERBS = _AUXILIARY | {"isn't", "aren't", "wasn't", "weren't", "doesn't", "don't", "didn't", "hasn't", "haven't"}
_SMALL_WORDS = frozenset(["a", "an", "the", "of", "for", "and", "or", "in", "on", "at", "to", "by", "with", "from"])
"""Words without a capital in a title."""
_CROSSES = re.compile("[\u274c\u2717\u2718\u2716\u26d4\U0001f6ab\U0001f44e]")
"""Pictures that deny what they stand beside."""
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
    if any(word in NOT or word in _TRUTH or word.endswith("n't") for word in words) or is_open(words):
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
    behind = [word for word in words[1:] if word not in STOPS]
    named = all(word[0].isupper() or word[0].isdecimal() or word in _SMALL_WORDS for word in behind)
    if len(behind) < 2 or not named or not behind[0][0].isupper():
        return False
    if words[1] not in STOPS:
        return True
    if behind[0].casefold() not in _PRONOUNS | _CLAUSES | _VERBS:
        return False
    # "Yes, It Is" may be a sentence, "Yes, We Can" is none about a chart.
    return behind[0].casefold() in _PERSONS or not _says_only(text.casefold())


def _says_only(text: str) -> bool:
    """Tells whether a text is yes or no, alone or with a clause of a pronoun and its verb: `No, they are not.`"""
    words = _words(text)
    rest = [word for word in words[1:] if word not in STOPS]
    if not rest or words[1] not in STOPS:
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
    words = _words(text if side == "gold" else without_names(text))
    said = _TRUTH.get(words[0]) if words else None
    if said is None or (said and _CROSSES.search(text)):
        return None
    rest = without_exceptions(without_actually(words))[1:]
    if not [word for word in rest if word not in STOPS]:
        return None if "?" in rest else said
    if rest[0] in STOPS:
        # No. 5, No. One, no-hitter.
        if _NAMED.match(text):
            return None
    elif rest[0] not in _OPENERS or _is_denied_itself(rest):
        return None
    return None if _takes_back(rest, said) else said


def read_claim(text: str) -> bool | None:
    """Reads what a text says of a claim: every word that judges it must say the same.

    Args:
        text: Text in lower case, with its punctuation.
    """
    # True (only 3 won).
    words = _words(without_names(_BRACKETED_LAST.sub(r", \1", text)))
    # Names, of which there may be thousands, are done with here.
    if _JUDGING.isdisjoint(words):
        return None
    words = _without_parts(without_exceptions(without_actually(words)))
    if not words or not _CLAIM_DOUBT.isdisjoint(words) or _is_asked(words) or is_open(words) or has_doubt(words):
        return None
    judged = [_judged(words, place) for place in range(len(words))]
    if doubts_claim(words, [one is not None or (not place and words[0] in _BARE) for place, one in enumerate(judged)]):
        return None
    if any(isinstance(said, bool) and holds_in_part(words, place, said=said) for place, said in enumerate(judged)):
        return None
    if words[0] in ("0", "1"):
        said = words[0] == "1"
        return said if _all_judged(words[1:]) == {said} and not contradicts(words, said=said) else None
    if words[0] in ("yes", "no"):
        return read_truth(text) if _all_judged(words[1:]) <= {_TRUTH[words[0]]} else None
    verdicts = _all_judged(words)
    if len(verdicts) != 1 or contradicts(words, said=True in verdicts):
        return None
    # A cross beside `false` agrees.
    return None if True in verdicts and _CROSSES.search(text) else verdicts.pop()


def _is_denied_itself(rest: list[str]) -> bool:
    """Tells whether the word yes or no is what a sentence denies: `No is incorrect`, `Yes is not the answer`."""
    if rest[0] not in ("is", "was", "isn't", "wasn't"):
        return False
    return any(map(is_denial, rest[:3])) or not {"incorrect", "wrong", "false", "untrue"}.isdisjoint(rest[:4])


def _words(text: str) -> list[str]:
    return _WORD.findall(text) if len(text) <= _LONGEST else []


def _is_asked(words: list[str]) -> bool:
    """Tells whether it is left open: `true or not`, `whether it is true`, a question mark."""
    pairs = set(itertools.pairwise(words))
    asked = {("or", "not"), ("not", "sure"), ("may", "be"), ("not", "certain")}
    return not {"?", "whether", "if", "unless"}.isdisjoint(words) or not asked.isdisjoint(pairs)


def _without_parts(words: list[str]) -> list[str]:
    """Leaves out `partially` in `partially false`: a claim that is false in part is false."""
    kept: list[str] = []
    for word, behind in itertools.pairwise([*words, ""]):
        limits = word not in _PARTIAL or behind not in _FALSE or not _REMAINDER.isdisjoint(words)
        if limits or not _LIMITING.isdisjoint(_clause(kept)) or not (_is_clause_of_it(kept) or not _clause(kept)):
            kept.append(word)
    return kept


def _clause(words: list[str]) -> list[str]:
    """Returns the words behind the last mark."""
    return list(itertools.takewhile(lambda one: one not in STOPS, reversed(words)))[::-1]


def _all_judged(words: list[str]) -> set[bool]:
    """Returns what words say of a claim; both where one of them is unclear."""
    said = [_judged(words, place) for place in range(len(words))]
    return {True, False} if "unclear" in said else {one for one in said if isinstance(one, bool)}


def _judged(words: list[str], place: int) -> bool | Literal["unclear"] | None:
    """Returns what the word at a place says of the claim, `not` before it heeded; None if it judges nothing."""
    word = words[place]
    said = _CLAIM.get(word)
    if said is None and word in _VERIFIED and _is_checked(words, place):
        said = _VERIFIED[word]
    if said is None or _is_attribute(words, place):
        return None
    clause = list(itertools.takewhile(lambda one: one not in STOPS, reversed(words[:place])))
    # "not the case that it is true" and "does not list it so it is false" look alike: what is far off says nothing.
    if not NOT.isdisjoint(clause[3:]):
        return "unclear"
    # "The reverse is true", "less than true".
    if not _REVERSES.isdisjoint(clause[1:2]) or clause[:2] == ["than", "less"]:
        return "unclear"
    # "There is no doubt that it is true" denies the doubt alone.
    denying = NOT if "doubt" in clause else NOT | _NONE
    return said if denying.isdisjoint(clause) else not said


def _is_checked(words: list[str], place: int) -> bool:
    """Tells whether a word says how a claim and the evidence agree: `matches the table`, `it is verified`."""
    subject = itertools.takewhile(lambda one: one not in STOPS, reversed(words[:place]))
    if _CLAIM_ITSELF.fullmatch(" ".join(reversed(list(subject)))) is None:
        return False
    if words[place] == "verified":
        return True
    begins = {"match": ["the", "this"], "matches": ["the", "this"]}.get(words[place], ["with"])
    behind = words[place + 1 : place + 5]
    return behind[:1] != [] and behind[0] in begins and not _EVIDENCE.isdisjoint(behind)


def _is_attribute(words: list[str], place: int) -> bool:
    """Tells whether a word judges no claim but says which value: `the correct number is 5`, `the true value was 5`."""
    if words[place] not in ("correct", "true", "accurate") or place == 0 or words[place - 1] != "the":
        return False
    if not NOT.isdisjoint(words[max(0, place - 4) : place]):
        return False
    noun = list(itertools.takewhile(lambda one: one not in STOPS | _VERBS, words[place + 1 : place + 6]))
    return bool(noun) and words[place + 1 + len(noun) :][:1] in (["is"], ["are"], ["was"], ["were"], ["should"])


def _says_yes(words: list[str], place: int) -> bool:
    """Tells whether a word is a yes: `yes`, `I think so`, `the statement holds`."""
    word, behind = words[place], words[place + 1] if place + 1 < len(words) else "."
    if word in _YES:
        return True
    holds = word == "holds" and behind in STOPS and not _HOLDING.isdisjoint(words[:place][-1:])
    return (holds or (word in _THINKING and behind == "so")) and not _denied(words, place)


def _is_said_of_it(words: list[str]) -> bool:
    return not _SAID_OF_IT.isdisjoint(words[-1:]) or words[-2:] == ["you", "are"]


def _is_clause_of_it(words: list[str]) -> bool:
    """Tells whether words end as `this is` and `the statement is not`."""
    clause = _clause(words)
    return bool(clause) and _CLAIM_ITSELF.fullmatch(" ".join(clause)) is not None


def _compares(words: list[str]) -> bool:
    """Tells whether words end a comparison, before its verb: `lower than they`, `not as high as it`."""
    if words[-2:-1] == ["than"]:
        return True
    # One word or two between `as` and `as`.
    begins = (words[-place:][:1] == ["as"] and STOPS.isdisjoint(words[-place:]) for place in (4, 5))
    return words[-2:-1] == ["as"] and any(begins)


def _takes_back(rest: list[str], said: bool) -> bool:
    """Tells whether an explanation says the opposite, or doubts."""
    if not DOUBTS.isdisjoint(rest) or "?" in rest or is_open(rest) or is_limited(rest, said):
        return True
    if contradicts(rest, said=said) or (said and _denies(rest)):
        return True
    if rest[0] in ("or", "and") or (rest[0] in STOPS and (rest[1:2] == ["or"] or (said and rest[1:2] == ["not"]))):
        return True
    for place, word in enumerate(rest):
        behind = rest[place + 1] if place + 1 < len(rest) else "."
        denied = _denied(rest, place)
        if word in ("true", "false", "correct", "incorrect", "wrong", "untrue") and not _is_attribute(rest, place):
            # "not true" is a no, "not false" a yes.
            means = (word in ("true", "correct")) != denied
            if means != said and (word not in ("correct", "wrong", "incorrect") or behind in STOPS):
                return True
        elif (not said and _says_yes(rest, place)) or (word in _OPPOSITES and said and not denied):
            return True
        # "this is accurate"; "a forecast is accurate" is no judgement.
        elif word in ("accurate", "inaccurate") and behind in STOPS and _is_clause_of_it(rest[:place]):
            if ((word == "accurate") != denied) != said:
                return True
        elif word == "affirmative" and behind in STOPS and rest[place - 1] in STOPS:
            if not said:
                return True
        # "that's not right", "you are right"; elsewhere it is a side.
        elif word == "right" and behind in STOPS and _is_said_of_it(rest[:place]):
            if denied == said:
                return True
        elif word == "no" and said and (behind in STOPS or behind in _OPENERS):
            # "no country is larger" denies something else.
            return True
        # "Yes, it is not." and "No, it is." end with the opposite.
        elif behind in STOPS and place and rest[place - 1] not in STOPS:
            if said and (word == "not" or word.endswith("n't")):
                return True
            # "No, only three of them are." does not, nor does "No, Germany is."
            before = rest[:place] if rest[place - 1] not in _STRESSES else rest[: place - 1]
            short = not _OPENERS.isdisjoint(before[-1:]) and not _compares(before)
            if not said and word in _AUXILIARY and short and not denied and "only" not in rest[:place]:
                return True
    return False


def _denies(rest: list[str]) -> bool:
    """Tells whether the sentence behind `yes` denies: `it is not larger`, `none of them is`.

    Without the question it cannot be told from a contradiction. `No country is larger` denies something else.
    """
    behind = list(itertools.dropwhile(STOPS.__contains__, rest))
    clause = list(itertools.takewhile(lambda word: word not in STOPS, behind))
    if not clause or clause[0] in _REASONS:
        return False
    if not _OPPOSED_PAIRS.isdisjoint(itertools.pairwise(clause)):
        return True
    if clause[0] in _NO_SUBJECTS:
        return "other" not in clause and (clause[-1] in _NO_SUBJECTS | _AUXILIARY | {"one"} or "of" in clause[-3:-1])
    main = list(itertools.takewhile(lambda word: word not in _SUBORDINATE, clause))
    if any(map(is_denial, main)):
        return True
    return (
        "doubt" not in main
        and main[:1] in (["there"], ["there's"])
        and not _NOTHING.isdisjoint(itertools.pairwise(main))
    )


def _denied(words: list[str], place: int) -> bool:
    return any(map(is_denial, words[max(0, place - 3) : place]))
