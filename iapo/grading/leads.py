"""Words that a sentence puts before an answer and that say nothing: `The answer is 42`, `There are 14`, `In 2015`."""

from __future__ import annotations

import re

_SAID = re.compile(
    r"(?:(?:so|thus|hence|therefore),? )?(?:the |my )?(?:(?:correct|right|final) )?answer (?:is|was|would be)"
    r"(?: ?: ?| )",
    re.IGNORECASE,
)
# What follows must begin like a number, so that no title loses its first words.
_COUNTED = re.compile(
    r"(?:it(?: is|'s| was| equals)|(?:that|this) is|there (?:is|are|was|were)|equals|=) ?(?=[-+(~]?[$€£¥]?\.?\d)",
    re.IGNORECASE,
)
_MONTHS = "jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec"
# The whole text must be a year or a date: `in 5 years` is a time to come, and `in 2015 dollars` a unit.
_DATED = re.compile(
    rf"(?:(?:in |on )?the year |in |on |year )(?=\d{{4}}(?:$|-\d\d?-\d\d?$)|(?:(?:{_MONTHS})[a-z.]{{0,7}} [\d, ]{{1,9}}"
    rf"|\d{{1,2}} (?:{_MONTHS})[a-z.]{{0,7}}(?:,? \d{{4}})?)$)",
    re.IGNORECASE | re.ASCII,
)


def without_lead(text: str) -> str:
    """Returns an answer without the words before it that say nothing.

    Args:
        text: An answer of the model's, cleaned; never a gold answer, in which every word may count.
    """
    for lead in (_SAID, _COUNTED, _DATED):
        if (found := lead.match(text)) is not None and found.end() < len(text):
            text = text[found.end() :]
    return text
