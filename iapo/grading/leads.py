"""Words around an answer that say nothing: `The answer is 42`, `There are 14`, `In 2015`, `the pink bar`, `x = 5`."""

from __future__ import annotations

import re

from iapo.grading.forms import MONTHS, QUARTER, WEEKDAYS, full_year
from iapo.grading.numbers import read_quantity
from iapo.grading.units import Side

_WHAT = """
answer result value total sum difference average mean median number count percentage share ratio country state year
color colour name category region city label trend model method group team player age month
"""
_SAID = re.compile(
    rf"(?:(?:so|thus|hence|therefore),? )?(?:the |my )?(?:(?:correct|right|final|total|average) )?"
    rf"(?:{'|'.join(_WHAT.split())}) (?:is|was|would be)(?: ?: ?| )",
    re.IGNORECASE,
)
_NUMBERS = "one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve"
_BEGINS_LIKE_A_NUMBER = rf"[-+(~]?[$€£¥]?\.?\d|(?<= )(?:{_NUMBERS})\b"
# Behind the others must stand what begins like a number, so that no title loses its first words.
_IT_IS = re.compile(
    rf"(?:it(?: is|'s| was) ?(?={_BEGINS_LIKE_A_NUMBER}|(?<= )\w))?"
    r"(?:(?:it equals|(?:that|this) is|there (?:is|are|was|were)|equals|=|only|exactly|(?:a )?total of|ages?|aged)"
    rf"(?: only)? ?(?={_BEGINS_LIKE_A_NUMBER}))?",
    re.IGNORECASE,
)
_MONTH_BEGINS = "|".join(dict.fromkeys(name[:3] for name in MONTHS))
_MONTH_ALONE = "|".join(MONTHS)
_ERAS = r"(?:b\.?c\.?(?:e\.?)?|c\.?e\.?|a\.?d\.?)"
# What may stand behind `in` or `on` beside a year and a date: Q1 2020, 44 BC, Monday, the 1990s, the 5th century.
_OTHER_TIMES = (
    rf"(?:the )?(?:{QUARTER})(?:,? (?:of )?(?:fy ?)?'?\d{{2,4}})?|\d{{4}},? q[1-4]"
    rf"|{_ERAS} ?\d[\d,]{{0,8}}|\d[\d,]{{0,8}} ?{_ERAS}|{'|'.join(name for name in WEEKDAYS if len(name) > 5)}"
    rf"|(?:the )?\d{{4}}s|(?:the )?\d{{1,2}}(?:st|nd|rd|th) century(?: {_ERAS})?"
)
# The whole text must be a year or a date: `in 5 years` is a time to come, and `in 2015 dollars` a unit.
_DATED = re.compile(
    r"(?:(?:in |on )?the years? (?:of )?|(?:in )?(?:fiscal(?: year)?|fy) ?|as of |in |on |during |years? )"
    rf"(?=\d{{4}}(?:$|-\d\d?-\d\d?$|(?:, | and )\d{{4}}$)|(?:(?:{_MONTH_BEGINS})[a-z.]{{0,7}} [\d, ]{{1,9}}"
    rf"|\d{{1,2}} (?:{_MONTH_BEGINS})[a-z.]{{0,7}}(?:,? \d{{4}})?|(?:{_MONTH_ALONE})\.?|{_OTHER_TIMES})$)",
    re.IGNORECASE | re.ASCII,
)
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
    r"(?P<label>[^:=\d][^:=]{0,60})(?:: | ?= ?)(?P<number>[^:=]{1,60})|[\d.,%$+*/x() -]{3,80}= ?(?P<sum>[^:=]{1,60})"
)
_WHERE = re.compile(
    r" (?:(?:in|on) (?:the|this) (?:chart|graph|figure|table|plot|picture|image)|in total|altogether)$", re.IGNORECASE
)
_SHORT_FISCAL = re.compile(r"fy ?'?(\d\d)", re.IGNORECASE | re.ASCII)
_COMPARED = ("<", ">", "!", "\u2264", "\u2265", "\u2260", "~", "\u2248")
_DENIED = frozenset({"not", "no", "wrong", "incorrect", "false", "except", "than", "or", "isn't", "never", "unlike"})


def without_lead(text: str) -> str:
    """Returns an answer without the words before it, or `in the chart` behind it, that say nothing.

    Args:
        text: An answer of the model's, cleaned; never a gold answer, in which every word may count.
    """
    text = _WHERE.sub("", text)
    for lead in (_SAID, _IT_IS, _DATED):
        if (found := lead.match(text)) is not None and found.end() < len(text):
            text = text[found.end() :]
    # FY15, as fiscal 2015, is an answer where 2015 is the gold one.
    fiscal = _SHORT_FISCAL.fullmatch(text)
    return text if fiscal is None else str(full_year(f"'{fiscal[1]}"))


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


def without_label(text: str) -> str | None:
    """Returns the number behind a label or a sum: `K = 0.8`, `Total: 24`, `20 + 4 = 24`; None where there is none."""
    found = _LABELLED.fullmatch(text) if len(text) <= 150 else None
    label = (found["label"] or "").strip() if found is not None else ""
    # `<= 5` is a condition.
    if found is None or label.endswith(_COMPARED) or not _DENIED.isdisjoint(label.casefold().split()):
        return None
    number = (found["number"] or found["sum"]).strip()
    return number if read_quantity(number) is not None else None
