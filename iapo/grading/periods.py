"""Times from one point to another: `Q1-Q3`, `Jan to Mar 2015`, `May 5-10`, `27 BC - AD 14` (docs/grading.md)."""

from __future__ import annotations

import itertools
import re

from iapo.grading.forms import MONTHS, WEEKDAYS, Date, read_date
from iapo.grading.numbers import LONGEST
from iapo.grading.spelling import spell
from iapo.grading.times import read_decade, read_hour
from iapo.grading.years import ERA_YEAR, read_era_year, read_fiscal

_JOINT = re.compile(r" (?:to|through|thru|until|till|and) | ?- ?")
_OPENED = re.compile(r"(from|between) ")
_MOST_JOINTS = 6
"""Two dates with hyphens have five."""
# Without one of these a range is of numbers.
_NAMED = re.compile(
    rf"q[1-4]|[1-4]q|quarter|\bfy|fiscal|\b(?:{'|'.join(name for name in [*MONTHS, *WEEKDAYS] if len(name) == 3)})"
    rf"|{ERA_YEAR.pattern}|\d-\d\d?-\d|present|now|today|\d:\d\d|\d0'?s\b|\d ?[ap]\.?m|^[a-z] ?-|^(?:from )?[a-z] to",
    re.ASCII,
)
_YEAR = re.compile(r"[12]\d{3}", re.ASCII)
_DAY = re.compile(r"(\d{1,2})(?:st|nd|rd|th)?(?:,? (\d{4}))?", re.ASCII)


def read_period(said: str) -> str | None:
    """Reads a time from one point to another, and returns one spelling of it; None where it is something else.

    Args:
        said: The text, cleaned, in lower case.
    """
    if len(said) > LONGEST or _NAMED.search(said) is None:
        return None
    opened = _OPENED.match(said)
    said = said[opened.end() :] if opened else said
    joints = list(itertools.islice(_JOINT.finditer(said), _MOST_JOINTS))
    if len(joints) == _MOST_JOINTS:
        return None
    for joint in joints:
        if (joint[0] == " and ") != (opened is not None and opened[1] == "between"):
            continue
        ends = _two_points(spell(said[: joint.start()]), spell(said[joint.end() :]))
        if ends is not None:
            return " to ".join(ends)
    return None


def _two_points(first: str, last: str) -> tuple[str, str] | None:
    """Reads two points of time; the month or the year of one of them may stand at the other."""
    if last in ("present", "now", "today") and (_YEAR.fullmatch(first) or read_date(first) is not None):
        return str(read_date(first) or first), "present"
    for read in (read_era_year, read_fiscal, WEEKDAYS.get, read_hour, read_decade, _letter):
        start, end = read(first), read(last)
        if start is not None and end is not None:
            return str(start), str(end)
    dates = _two_dates(first, last)
    return None if dates is None else (str(dates[0]), str(dates[1]))


def _letter(words: str) -> str | None:
    return words if len(words) == 1 and words.isalpha() else None


def _two_dates(first: str, last: str) -> tuple[Date, Date] | None:
    start, end = read_date(first), read_date(last)
    # May 5-10, 2015.
    if start is not None and end is None and start[2] is not None and (day := _DAY.fullmatch(last)) is not None:
        end = (int(day[2]) if day[2] else start[0], start[1], int(day[1]))
    # 5-10 May 2015.
    if start is None and end is not None and end[2] is not None and (day := _DAY.fullmatch(first)) and not day[2]:
        start = (end[0], end[1], int(day[1]))
    if start is None or end is None:
        return None
    kinds = {(date[1] > 0, date[2] is None) for date in (start, end)}
    if len(kinds) > 1:
        return None
    # Jan-Mar 2015; of Nov-Jan 2015 the first year is another.
    if start[0] is None and end[0] is not None and _place(start) <= _place(end):
        start = (end[0], start[1], start[2])
    return start, end


def _place(date: Date) -> tuple[int, int]:
    return abs(date[1]), date[2] or 0
