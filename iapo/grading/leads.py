"""Words around an answer that say nothing: `The answer is 42`, `There are 14`, `In 2015`, `the pink bar`, `x = 5`."""

from __future__ import annotations

import re

from iapo.grading.doubts import DENIALS
from iapo.grading.forms import MONTHS, QUARTER, WEEKDAYS, full_year
from iapo.grading.numbers import read_quantity
from iapo.grading.sums import comes_to
from iapo.grading.units import Side

_WHAT = """
answer result value total sum difference average mean median number count percentage share ratio country state year
color colour name category region city label trend model method group team player age month
"""
_NAMED_WHAT = (
    rf"(?:(?:so|thus|hence|therefore),? )?(?:the |my )?(?:(?:correct|right|final|total|average|highest|lowest"
    rf"|largest|smallest|greatest|maximum|minimum|overall|combined) )?"
    rf"(?:(?:{'|'.join(_WHAT.split())})(?:e?s)?|countries|cities|categories)"
)
_SAID = re.compile(rf"{_NAMED_WHAT}(?: (?:is|was|are|were|would be)(?: ?: ?| )| ?: )", re.IGNORECASE)
# What is asked for, said at length: the value of the blue bar is 14, the country with the most medals is Germany.
_SAID_AT_LENGTH = re.compile(
    rf"{_NAMED_WHAT} (?:of|for|in|to|between|among|with|from|by|at|on|that|which|whose|who|where|when|above|below|over"
    r"|under|across|during) (?P<which>[^.,:;!?]{1,120}?) (?:is|was|are|were) ",
    re.IGNORECASE,
)
_COPULA = re.compile(r"\b(?:is|are|was|were|be|been|being|(?:it|that|there|he|she|what)'s|they're)\b", re.IGNORECASE)
_LONGEST_SENTENCE = 250
"""Characters of a sentence that says at length what is asked for."""
_NUMBERS = "one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve"
_BEGINS_LIKE_A_NUMBER = rf"[-+(~]?[$€£¥]?\.?\d|(?<= )(?:{_NUMBERS})\b"
# Behind the others must stand what begins like a number, so that no title loses its first words.
_IT_IS = re.compile(
    rf"(?:it(?: is|'s| was) ?(?={_BEGINS_LIKE_A_NUMBER}|(?<= )\w))?"
    r"(?:(?:it equals|(?:that|this) is"
    r"|there (?:is|are|was|were)(?:(?: only| just)? an? (?:total|sum|average|mean|median|difference) of)?|equals|="
    r"|only|just|exactly|(?:a )?total of|an? (?:sum|average|mean|median|difference|count) of|ages?|aged)"
    rf"(?: only| just)? ?(?={_BEGINS_LIKE_A_NUMBER}))?",
    re.IGNORECASE,
)
_IT = re.compile(r"it(?: is|'s| was) (?=just\b|only\b)", re.IGNORECASE)
_MONTH_BEGINS = "|".join(dict.fromkeys(name[:3] for name in MONTHS))
_MONTH_ALONE = "|".join(MONTHS)
_ERAS = r"(?:b\.?c\.?(?:e\.?)?|c\.?e\.?|a\.?d\.?)"
# What may stand behind `in` or `on` beside a year and a date: Q1 2020, 44 BC, Monday, the 1990s, the 5th century.
_OTHER_TIMES = (
    rf"(?:the )?(?:{QUARTER})(?:,? (?:of )?(?:fy ?)?'?\d{{2,4}})?|\d{{4}},? q[1-4]"
    rf"|{_ERAS} ?\d[\d,]{{0,8}}|\d[\d,]{{0,8}} ?{_ERAS}|{'|'.join(name for name in WEEKDAYS if len(name) > 5)}"
    rf"|(?:the )?\d{{4}}s|(?:the )?\d{{1,2}}(?:st|nd|rd|th) century(?: {_ERAS})?"
)
_FISCAL = r"(?:the )?(?:fiscal(?: year)?|fy) ?'?"
# The whole text must be a year or a date: `in 5 years` is a time to come, and `in 2015 dollars` a unit.
_DATED = re.compile(
    r"(?:(?:in |on )?(?:the )?years? (?:of )?|as of |in |on |during )"
    rf"(?={_FISCAL}\d{{2,4}}(?:[-/]\d{{2,4}})?$"
    rf"|\d{{4}}(?:$|-\d\d?-\d\d?$|(?:, | and )\d{{4}}$)|(?:(?:{_MONTH_BEGINS})[a-z.]{{0,7}} [\d, ]{{1,9}}"
    rf"|\d{{1,2}} (?:{_MONTH_BEGINS})[a-z.]{{0,7}}(?:,? \d{{4}})?|(?:{_MONTH_ALONE})\.?|{_OTHER_TIMES})$)",
    re.IGNORECASE | re.ASCII,
)
_OF_A_FISCAL_YEAR = re.compile(rf"{_FISCAL}(?=\d{{4}}$)", re.IGNORECASE | re.ASCII)
# What a part of a chart or a table is called: the pink bar, subplot (b), silver medal.
_PARTS = """
bar bars line lines segment segments slice slices sector wedge color colour category group subplot plot panel curve
medal place
"""
_BEHIND = re.compile(
    rf"(?P<name>[^\d]{{1,80}}?|\d{{1,2}}(?:st|nd|rd|th)) (?:{'|'.join(_PARTS.split())})"
    r"|(?:the )?(?P<side>left|right|top|bottom|upper|lower|middle) one",
    re.IGNORECASE,
)
_COLORED = re.compile(
    r"(?:the )?(?:(?:light|dark|bright|pale|deep)[ -])?(?:red|green|blue|yellow|orange|purple|pink|brown|black|white"
    r"|gr[ae]y|teal|cyan|magenta|navy|maroon|olive|violet|turquoise|beige|gold|silver)",
    re.IGNORECASE,
)
_BEFORE = re.compile(
    r"(?:the )?(?:subplot|plot|panel|color|colour|category) (?P<name>[^\d]{1,80})",
    re.IGNORECASE,
)
_LABELLED = re.compile(
    r"(?=[\d.,%$ (]{0,40}\d[%)]{0,4} ?[-+*/x×÷(])(?P<terms>(?:,(?! )|[\d.%$+*/x×÷() -]){3,80})= ?(?P<sum>[^:=]{1,60})"
    r"|(?P<label>[^:=\d][^:=]{0,60})(?:: | ?= ?)(?P<number>[^:=]{1,60})"
)
# A number in a label that another item follows is another candidate: `Germany 20, France: 24`. Those of `Sum of 20 and
# 4`, `Ages 65 and over`, `COVID-19`, `$50,000` and `June 5, 2015` are none, nor is a year, but where the answer is one.
_CANDIDATE = re.compile(
    rf";|(?<![^\W_])(?:\d[^,;]{{0,12}}|(?:{_NUMBERS}|\w+teen|(?:twen|thir|for|fif|six|seven|eigh|nine)ty)),"
    r"|\b(?:is|are|was|were|from|[a-z]) \d",
    re.IGNORECASE,
)
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_DAY = re.compile(rf"\b(?:{_MONTH_BEGINS})[a-z]{{0,6}}\.? \d\d?, ?(?=$|[12]\d{{3}})", re.IGNORECASE)
_YEAR = re.compile(r"(?<![\w.,-])[12]\d{3}(?:-[12]\d{3}|-\d\d)?(?![\w.,%-]*\d)", re.ASCII)
_WHERE = re.compile(
    r" (?:(?:in|on) (?:the|this) (?:chart|graph|figure|table|plot|picture|image)|in total|altogether)$", re.IGNORECASE
)
# Behind a number alone: `Grand total` and `First overall` are names.
_BEHIND_A_NUMBER = re.compile(
    r"(?P<number>[$€£¥]?\d[\d.,]*%?) (?:total|overall|in all|approximately|approx\.?|roughly)", re.IGNORECASE | re.ASCII
)
# 24 is the answer.
_IS_THE_ANSWER = re.compile(
    r"(?P<answer>.{1,100}?) (?:is|was|are|were) (?:the|my) (?:(?:correct|right|final) )?answers?", re.IGNORECASE
)
_CHEERED = re.compile(r"[\w%)]!")
_COMBINED = re.compile(r"an? (?:sum|average|mean|median|difference) of (?=[$€£¥]?\.?\d)", re.IGNORECASE)
_SHORT_FISCAL = re.compile(r"fy ?'?(\d\d)", re.IGNORECASE | re.ASCII)
_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)*")
_COMPARED = ("<", ">", "!", "\u2264", "\u2265", "\u2260", "~", "\u2248")
_LIMITED = frozenset(["but", "without", "excluding", "assuming", "unknown", "likely", "cannot"])
# Behind one of these the number is a bound, or another one: `Up to: 24`, `at most: 24`, `minimum of: 24`. Elsewhere in
# a label they tell what it is: `Above average: 24`, `Most goals: 24`.
_OPEN = """
of to by from at and least most over under above below exceeding within almost nearly minus half double triple twice
thrice
"""
_OPEN_ENDED = frozenset(_OPEN.split())


def without_leads(text: str) -> list[str]:
    """Returns an answer and what is left of it, step by step, without words that say nothing.

    They stand before it, but `in the chart` behind it. The last text has none of them; it is the first one where the
    answer has none.

    Args:
        text: An answer of the model's, cleaned; never a gold answer, in which every word may count.
    """
    # The end is looked at alone, for the pattern takes quadratic time.
    texts = [text]
    if _CHEERED.fullmatch(text[-2:]):
        texts.append(text[:-1])
    for behind, group in ((_BEHIND_A_NUMBER, "number"), (_IS_THE_ANSWER, "answer")):
        if len(texts[-1]) <= _LONGEST_SENTENCE and (found := behind.fullmatch(texts[-1])) is not None:
            texts.append(found[group])
    texts.append(_WHERE.sub("", texts[-1]))
    if (place := _end_of_long_lead(texts[-1])) > 0:
        texts.append(texts[-1][place:])
    for lead in (_SAID, _IT_IS, _DATED, _OF_A_FISCAL_YEAR):
        if (found := lead.match(texts[-1])) is not None and found.end() < len(texts[-1]):
            # "It is Just 4 Kids" names a film.
            named = [texts[-1][begun.end() :]] if lead is _IT_IS and (begun := _IT.match(texts[-1])) else []
            texts += [*named, texts[-1][found.end() :]]
    # FY15, as fiscal 2015, is an answer where 2015 is the gold one.
    if (fiscal := _SHORT_FISCAL.fullmatch(texts[-1])) is not None:
        texts.append(str(full_year(f"'{fiscal[1]}")))
    return list(dict.fromkeys(texts))


def without_sentence(text: str) -> str:
    """Returns an answer behind a lead that says what it is, `So, the answers are`; as it is where there is none.

    Args:
        text: An answer of the model's, cleaned, that may be a list.
    """
    said = _SAID.match(text)
    place = _end_of_long_lead(text) or (0 if said is None else said.end())
    return text[place:] or text


def combines(text: str) -> bool:
    """Tells whether a text names one number made of several, `a sum of 14 and 20`, and so is no list of them.

    Args:
        text: An answer of the model's, cleaned.
    """
    return _COMBINED.search(text) is not None and "|" not in text


def _end_of_long_lead(text: str) -> int:
    """Returns where the answer begins behind `The value of the blue bar is`; 0 where nothing of the kind is said.

    The sentence has one verb `to be`, and no word before it that denies or doubts.
    """
    found = _SAID_AT_LENGTH.match(text) if len(text) <= _LONGEST_SENTENCE else None
    if found is None or len(_COPULA.findall(text)) != 1:
        return 0
    words = _WORD.findall(found["which"].casefold())
    denied = any(word in DENIALS - {"than"} or word in _LIMITED or word.endswith("n't") for word in words)
    return 0 if denied else found.end()


def without_part(text: str, side: Side) -> str | None:
    """Returns the name in `the pink bar` or `subplot (b)`; None where there is no such word, or a digit in the name.

    Args:
        text: The text, cleaned.
        side: Who wrote it: in a gold answer only colors stand before a part (`solar panel` is a name).
    """
    found = (_BEHIND.fullmatch(text) or _BEFORE.fullmatch(text)) if len(text) <= 100 else None
    name = None if found is None else found["name"] or found.groupdict().get("side")
    if name is None or side == "answer" or _COLORED.fullmatch(name):
        return name
    return None


def without_label(text: str, side: Side) -> str | None:
    """Returns the number behind a label or a sum: `K = 0.8`, `Total: 24`, `20 + 4 = 24`; None where there is none.

    Args:
        text: The text, cleaned.
        side: Who wrote it: a gold answer names no other candidate.
    """
    found = _LABELLED.fullmatch(text) if len(text) <= 150 else None
    if found is None:
        return None
    label, number = (found["label"] or "").strip(), (found["number"] or found["sum"]).strip()
    words = _WORD.findall(label.casefold())
    # `<= 5` is a condition.
    if label.endswith(_COMPARED) or not DENIALS.isdisjoint(words) or _is_open(label, words):
        return None
    if side == "answer":
        label = _DAY.sub(" ", label)
        if _YEAR.fullmatch(number) and _YEAR.search(label):
            return None
        if _CANDIDATE.search(_THOUSANDS.sub("", _YEAR.sub("", label))):
            return None
    quantity = read_quantity(number)
    if quantity is None or (found["terms"] and not comes_to(found["terms"].strip(), quantity)):
        return None
    return number


def _is_open(label: str, words: list[str]) -> bool:
    """Tells whether a label ends as a bound does; not so `Class of 2015`, nor `Ages 65 and over`."""
    if not words or _OPEN_ENDED.isdisjoint(words[-1:]) or not label.casefold().rstrip(").]\"' ").endswith(words[-1]):
        return False
    return words[-1] not in ("over", "above", "under", "below") or words[-2:-1] not in (["and"], ["or"])
