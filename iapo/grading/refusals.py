"""Clauses that refuse or begin again: `nothing can be seen`, `the labels cannot be identified`, `on second thought`."""

from __future__ import annotations

import re

_READ_NAMES = """
found located processed opened checked compared established identified extracted retrieved parsed inferred computed
calculated measured assessed evaluated validated recognized recognised deciphered interpreted understood loaded proven
proved ascertained examined viewed accessed discerned deduced substantiated determined read seen verified confirmed
answered made derived estimated distinguished decided known told
"""
_READ = "|".join(_READ_NAMES.split())
# "No value is visible above 50" says something.
_READABLE = (
    "(?:legible|readable|visible|discernible|decipherable|recognisable|recognizable|identifiable)"
    r"(?= (?:in|on|from|here|at all|enough)\b|$)"
)
# What a picture, not its subject, is made of: "Germany could not be found" says something of Germany.
_SUBJECT = (
    r"(?:(?:the|any|its|their|all|some|such|exact|these|those|both|of|single|axis|bar|data|this|that) ){0,4}"
    r"(?:values?|labels?|numbers?|texts?|answers?|it|this|that|they|these|those|data|information|legends?|axis|digits?"
    r"|figures?|images?|charts?|pictures?|graphs?|tables?|statement|claim|question|truth)"
    r"(?: (?:of|in|on|for|at|from)(?: \w+){1,4}?)?"
)
_ADVERB = r"(?:(?:\w+ly|ever|even|just|here) )?"
_UNREAD = re.compile(
    rf"(?:.* )?(?:(?:^|(?<=and )|(?<=because )|(?<=since )|(?<=as )|(?<=so )|(?<=that )){_SUBJECT} |^)"
    rf"{_ADVERB}(?:cannot|can't|can not|could not|couldn't) {_ADVERB}be {_ADVERB}(?:{_READ})\b"
)
_NOTHING = re.compile(
    rf"(?:nothing|none|neither|no {_SUBJECT}|(?:none|neither) of {_SUBJECT}|neither {_SUBJECT}) {_ADVERB}"
    rf"(?:(?:can|could) {_ADVERB}be {_ADVERB}(?:{_READ})\b|(?:is|are|was|were) {_ADVERB}{_READABLE})"
)
_NOBODY = re.compile(
    rf"(?:nobody|no one|no reader|no human|(?:none|neither) of us)(?: \w+){{0,4}}? (?:(?:can|could) {_ADVERB}"
    r"(?:tell|know|say|see|determine|judge|decide|verify|identify|make out)|knows|(?:is|are) (?:sure|certain|able))\b"
)
_AGAIN = re.compile(
    r"(?:.*\b(?:and|so|because|since) )?(?:well |ah |oh |no |wait )?(?:hold on(?! to)|scratch that|rereading"
    r"|let's (?:recheck|see)"
    r"|(?:on|upon) (?:a )?(?:second|closer|further) (?:thoughts?|look|reading|inspection)"
    r"|(?:looking|reading|checking|counting) (?:\w+ )?again"
    r"|let me (?:\w+ )?(?:recheck|check|look|see|read|count|correct|rephrase|reconsider|double))\b"
)
_LONGEST = 1000
"""Characters of a clause; longer texts are no verdicts."""


def refuses(clause: list[str]) -> bool:
    """Tells whether a clause says that what is asked cannot be seen, or takes back what is said before it.

    Args:
        clause: Its words, in lower case.
    """
    text = " ".join(clause)
    return len(text) <= _LONGEST and any(one.match(text) for one in (_UNREAD, _NOTHING, _NOBODY, _AGAIN))
