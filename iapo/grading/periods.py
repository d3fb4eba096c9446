"""Times from one point to another: `Q1-Q3`, `Jan to Mar 2015`, `May 5-10`, `27 BC - AD 14` (docs/grading.md)."""

from __future__ import annotations

import itertools
import re

from iapo.grading.forms import MONTHS, WEEKDAYS, Date, read_date, spell_ordinals
from iapo.grading.numbers import LONGEST
from iapo.grading.spelling import spell
from iapo.grading.times import read_decade, read_hour
from iapo.grading.years import ERA_YEAR, read_era_year, read_fiscal, spell_eras

_JOINT = re.compile(r" (?:to|through|thru|until|till|and) | ?- ?")
_OPENED = re.compile(r"(from|between) ")
_MOST_JOINTS = 6
"""Two dates with hyphens have five."""
# Without one of these a range is of numbers.
_NAMED = re.compile(
    rf"q[1-4]|[1-4]q|quarter|\bfy|fiscal|\b(?:{'|'.join(name for name in [*MONTHS, *WEEKDAYS] if len(name) == 3)})"
    rf"|{ERA_YEAR.pattern}|\d-\d\d?-\d|present|now|today|centur"
    r"|\d:\d\d|\d0'?s\b|\d ?[ap]\.?m|^[a-z] ?-|^(?:from )?[a-z] to",
    re.ASCII,
)
_YEAR = re.compile(r"[12]\d{3}", re.ASCII)
_BARE_YEAR = re.compile(r"\d{1,3}(?:,\d{3})+|\d{1,7}", re.ASCII)
_ERA_BEFORE = re.compile(r"(?:ad|bce?|ce) ?(?=\d)", re.ASCII)
_ERA_BEHIND = re.compile(r"(?<=\d) ?(?:bce?|ce|ad)$", re.ASCII)
_HOUR = re.compile(r"(\d{1,2})(?::\d\d)?( ?[ap]m)?", re.ASCII)
_FISCAL = re.compile(r"(?:fy|fiscal(?: years?)?) ?'?((?:\d\d)?(\d\d))", re.ASCII)
_CENTURY = re.compile(r"(\d{1,2}(?:st|nd|rd|th))( centur(?:y|ies)(?: (?:bce?|ce|ad))?)?", re.ASCII)
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
    """Reads two points of time; what is said of one of them may stand at the other."""
    first, last = _completed(first, last)
    if last in ("present", "now", "today") and (_YEAR.fullmatch(first) or read_date(first) is not None):
        return str(read_date(first) or first), "present"
    for read in (read_era_year, read_fiscal, WEEKDAYS.get, read_hour, read_decade, _century, _letter):
        start, end = read(first), read(last)
        if start is not None and end is not None:
            return str(start), str(end)
    dates = _two_dates(first, last)
    return None if dates is None else (str(dates[0]), str(dates[1]))


def _completed(first: str, last: str) -> tuple[str, str]:
    """Returns two points of time with the era, the half of the day, or `FY` that is said of both at one of them."""
    if _BARE_YEAR.fullmatch(first) and (era := _ERA_BEHIND.search(last)) is not None:
        return first + era[0], last
    if _BARE_YEAR.fullmatch(last) and (era := _ERA_BEFORE.match(first)) is not None:
        return first, era[0] + last
    century = _CENTURY.fullmatch(spell_ordinals(last))
    bare = _CENTURY.fullmatch(spell_ordinals(first))
    if century and century[2] and bare and not bare[2]:
        return bare[0] + century[2], last
    start, end = _HOUR.fullmatch(first), _HOUR.fullmatch(last)
    # Of 11-1 pm and 12-3 pm one of them is another half of the day, or the hours go on.
    if start and end and end[2] and not start[2] and int(start[1]) < int(end[1]) < 12:
        return first + end[2], last
    year, end = _FISCAL.fullmatch(first), _FISCAL.fullmatch(f"fy{last}")
    # FY15-16 is one year, that ends in 2016.
    if year and end and len(end[1]) <= len(year[1]) and int(end[2]) > int(year[2]) + 1:
        return first, f"fy{last}"
    return first, last


def _century(words: str) -> str | None:
    """Returns one spelling of a century, `18th century`; None where it is something else."""
    found = _CENTURY.fullmatch(spell_eras(spell_ordinals(words)))
    return None if found is None or not found[2] else found[0].replace("centuries", "century")


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
