"""Ranges, ratios, ordinals and dates in answers (docs/grading.md)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal

from iapo.grading.number_words import in_digits, read_fraction
from iapo.grading.numbers import LONGEST, Quantity, read_quantity
from iapo.grading.rules import Rules
from iapo.grading.units import Side, is_percentage, same_unit

_NUMBER = r"[$€£¥]?(?:\d{1,3}(?:,\d{3})++|\d++)(?:\.\d++)?"
_RANGE = re.compile(
    rf"(?P<open>from |between )?(?P<start>-?{_NUMBER})(?P<unit>%| ?[^\W\d_]{{1,12}})??"
    rf"(?P<joint> to | through | until | till |\s?-\s?| and )(?P<end>-?{_NUMBER})(?P<rest>\D.*)?",
    re.IGNORECASE | re.ASCII,
)
_RATIO = re.compile(
    r"(?P<one>\d{1,7}(?:\.\d{1,6})?)(?P<joint>\s?[:/]\s?| to )(?P<other>\d{1,7}(?:\.\d{1,6})?)", re.ASCII
)
# 1 in 4, nine out of ten.
_SHARE = re.compile(r"(\d{1,7}|[a-z]{3,9}) (?:in|of|out of) (?:every )?(\d{1,7}|[a-z]{3,9})", re.IGNORECASE | re.ASCII)
_LARGEST_PART = 10
"""From here on `26:12` is no ratio where ratios are none of numbers."""
_SEASON = re.compile(r"([12]\d{3})\s?/\s?(\d\d(?:\d\d)?)(?: season)?", re.ASCII)
_MIXED = re.compile(r"(\d{1,6})[ -](\d{1,3})/(\d{1,3})", re.ASCII)
_PADDED = re.compile(r"0\d")
_ORDINAL = re.compile(r"(\d{1,4})(st|nd|rd|th)", re.ASCII)
_ORDINAL_WORDS = """
first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth fifteenth
sixteenth seventeenth eighteenth nineteenth twentieth
"""
_ORDINALS = {word: number for number, word in enumerate(_ORDINAL_WORDS.split(), start=1)}
_ORDINAL_TENS = {"twenty": 2, "thirty": 3, "forty": 4, "fifty": 5, "sixty": 6, "seventy": 7, "eighty": 8, "ninety": 9}
_ORDINAL_WORD = re.compile(
    rf"\b(?:(?P<tens>{'|'.join(_ORDINAL_TENS)})[ -](?=(?:{'|'.join(list(_ORDINALS)[:9])})\b))?"
    rf"(?P<place>{'|'.join(_ORDINALS)})\b"
)
_MONTH_NAMES = "january february march april may june july august september october november december"
MONTHS = {
    short: number
    for number, name in enumerate(_MONTH_NAMES.split(), start=1)
    for short in (name, name[:3], *(("sept",) if number == 9 else ()))
}
_WEEKDAY_NAMES = "monday tuesday wednesday thursday friday saturday sunday"
WEEKDAYS = {
    short: number
    for number, name in enumerate(_WEEKDAY_NAMES.split(), start=1)
    for short in (name, name[:3], *{"tuesday": ("tues",), "thursday": ("thur", "thurs")}.get(name, ()))
}
_WEEKDAY = re.compile(rf"(?:{'|'.join(WEEKDAYS)}),? (?=\S)")
_MONTH = r"(?P<month>[a-z]{3,9})\.?"
_DAY = r"(?P<day>\d{1,2})(?:st|nd|rd|th)?"
_YEAR = r"(?P<year>\d{4}|'\d\d)"
QUARTER = "q[1-4]|quarter [1-4]|[1-4]q|(?:first|second|third|fourth|1st|2nd|3rd|4th) quarter"
_PART = rf"{QUARTER}|h[12]|[12]h|(?:first|second|1st|2nd) half"
_DIGIT = re.compile(r"\d", re.ASCII)
_DATES = [
    re.compile(pattern, re.ASCII)
    for pattern in (
        rf"{_MONTH} {_DAY}(?:,? {_YEAR})?",
        rf"(?:the )?{_DAY} (?:of )?{_MONTH}(?:,? {_YEAR})?",
        # 14-Mar-14.
        rf"{_DAY} {_MONTH} (?P<short>\d\d)",
        rf"{_MONTH},? {_YEAR}",
        rf"{_MONTH}",
        rf"{_YEAR},? {_MONTH}(?: {_DAY})?",
        rf"(?P<part>{_PART})(?:-|,? ?(?:of |in )?){_YEAR}",
        # 1Q20, Q1 20; 1h20 is a time.
        r"(?P<part>q[1-4]|[1-4]q|h[12])[ '-]{0,2}(?P<short>\d\d)",
        rf"{_YEAR},? ?(?P<part>{_PART})",
        rf"(?P<part>{QUARTER})",
        # As WikiTableQuestions has it, xx for what is not said.
        r"(?P<year>\d{4}|x{2,4})-(?P<number>\d{1,2})-(?P<day>\d{1,2}|xx)",
        r"(?P<year>[12]\d{3})-(?P<month_number>0[1-9]|1[0-2])",
        r"(?P<year>\d{4})(?P<mark>[/.])(?P<number>\d{1,2})(?P=mark)(?P<day>\d{1,2})",
        # Where the day is none that a month can have: 3/15/2014, 15.3.2014.
        r"(?P<number>\d{1,2})(?P<mark>[/.-])(?P<day>1[3-9]|[23]\d)(?P=mark)(?P<year>\d{4})",
        # 03/2020; 3/2020 may be a fraction.
        r"(?P<number>0[1-9]|1[0-2])/(?P<year>(?:19|20)\d\d)",
        r"(?P<day>1[3-9]|[23]\d)(?P<mark>[/.-])(?P<number>\d{1,2})(?P=mark)(?P<year>\d{4})",
    )
]

Date = tuple[int | None, int, int | None]
"""Year, month (or the quarter, less than 0, or the half-year, less than -10), day."""


@dataclass(frozen=True, slots=True)
class Span:
    """A range of numbers.

    Attributes:
        start: Its first number.
        end: Its last one; of `2003-05` it is 2005.
    """

    start: Quantity
    end: Quantity

    def accepts(self, answer: Span, rules: Rules) -> bool:
        """Returns whether an answer is right where this is the gold one: both ends are exact."""
        gold, other = self.end, answer.end
        if gold.unit and other.unit and not same_unit(gold.unit, other.unit):
            return False
        # $10K-$20K, written out.
        whole = (self.start.value.scaleb(gold.scale), gold.value)
        if whole == (answer.start.value.scaleb(other.scale), other.value):
            return True
        scaled = is_percentage(gold.unit) or is_percentage(other.unit)
        if gold.scale != other.scale and not (rules.free_scale and not gold.scale and not scaled):
            return False
        mine = (self.start.value, gold.value.scaleb(-gold.scale))
        return mine == (answer.start.value, other.value.scaleb(-other.scale))


@dataclass(frozen=True, slots=True)
class Ratio:
    """`4:1`, `4 to 1` or `1/2`.

    Attributes:
        one: The number before the mark.
        other: The number behind it.
        slash: Whether it is written as a fraction.
        worded: Whether it is written with `to`, and may be a range as well.
    """

    one: Decimal
    other: Decimal
    slash: bool
    worded: bool = False

    def is_number(self, number: Quantity, rules: Rules) -> bool:
        """Tells whether it has the value of a number: `1:2` is 0.5, and where there are ratios `4:1` is 4."""
        # 3000 to 4000 is no 0.75.
        if self.worded and self.other != 1:
            return False
        # 26:12 is a score or a time.
        if not (rules.ratios or self.slash or self.worded) and max(self.one, self.other) >= _LARGEST_PART:
            return False
        value = self.one / self.other
        if self.slash and number.unit == "%" and not number.scale:
            # A third is 33%, and 33.3%.
            return abs(100 * value - number.value) <= Decimal(5).scaleb(int(number.value.as_tuple().exponent) - 1)
        if number.unit or number.scale:
            return False
        if number.whole:
            return rules.ratios and not self.slash and self.other == 1 and value == number.value
        digits = -int(number.value.as_tuple().exponent)
        # 0.33 is 1:3.
        room = max(Decimal(5).scaleb(-digits - 1) if digits > 1 else Decimal(0), Decimal(str(rules.tolerance)) * value)
        return abs(value - number.value) <= room


def read_span(text: str, side: Side) -> Span | None:
    """Reads a range, `2003 to 2005`, `2003-2005` or `between 5 and 10%`; None where it is something else."""
    found = _RANGE.fullmatch(text) if len(text) <= LONGEST else None
    if found is None:
        return _season(text)
    opened = (found["open"] or "").strip().casefold()
    if (opened == "between") != (found["joint"] == " and ") and found["joint"].strip() != "-":
        return None
    start = read_quantity(found["start"] + (found["unit"] or ""), side)
    end = read_quantity(found["end"] + (found["rest"] or ""), side)
    if start is None or end is None:
        return None
    if start.unit and end.unit and not same_unit(start.unit, end.unit):
        return None
    if start.scale:
        # 5 million to 10 million is 5 to 10 million.
        if start.scale != end.scale:
            return None
        start = Quantity(start.value.scaleb(-start.scale), start.unit, start.measured)
    if len(found["end"]) == 2 and 1000 <= start.value < 2200 and end.unit in ("", "season"):
        # 1998-99, and 1999-00.
        year = start.value + 1 if end.value == (start.value + 1) % 100 else start.value // 100 * 100 + end.value
        if year > start.value:
            end = Quantity(year, end.unit, measured=False)
    return Span(start, Quantity(end.value, end.unit or start.unit, end.measured, end.scale))


def _season(text: str) -> Span | None:
    """Reads two years that follow each other, `2019/20` or `2019/2020`."""
    found = _SEASON.fullmatch(text) if len(text) <= LONGEST else None
    if found is None:
        return None
    start, end = int(found[1]), int(found[2])
    if (start + 1) % (100 if len(found[2]) == 2 else 10_000) != end:
        return None
    return Span(*(Quantity(Decimal(year), "", measured=False) for year in (start, start + 1)))


def read_ratio(text: str) -> Ratio | None:
    """Reads a ratio or a fraction, in words too; None where it is something else, such as a time (`1:05`)."""
    if len(text) <= LONGEST and (mixed := _MIXED.fullmatch(in_digits(text))) is not None:
        whole, over, under = map(int, mixed.groups())
        return Ratio(Decimal(whole * under + over), Decimal(under), slash=True) if 0 < over < under else None
    if (fraction := read_fraction(text)) is not None:
        return Ratio(Decimal(fraction[0]), Decimal(fraction[1]), slash=True)
    if len(text) <= LONGEST and (share := _SHARE.fullmatch(text)) is not None:
        text = "/".join(map(in_digits, share.groups()))
    found = _RATIO.fullmatch(text) if len(text) <= LONGEST else None
    # 2019/20 is a season, and 03/2020 a month.
    if found is None or _season(text) is not None or _PADDED.match(found["one"]) or _PADDED.match(found["other"]):
        return None
    one, other = Decimal(found["one"]), Decimal(found["other"])
    joint = found["joint"]
    return Ratio(one, other, "/" in joint, "to" in joint) if one and other else None


def spell_ordinals(words: str) -> str:
    """Returns words with the places in an order in digits: `19th century`, `2nd place`, `21st`.

    Args:
        words: The text, in lower case.
    """
    return _ORDINAL_WORD.sub(lambda found: _ordinal(found["tens"], found["place"]), words)


def _ordinal(tens: str | None, place: str) -> str:
    number = (10 * _ORDINAL_TENS[tens] if tens else 0) + _ORDINALS[place]
    return f"{number}{_ending(number)}"


def _ending(number: int) -> str:
    teen = number % 100 in (11, 12, 13)
    return "th" if teen else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")


def read_ordinal(words: str) -> int | None:
    """Reads `1st` or `first`."""
    found = _ORDINAL.fullmatch(words)
    if found is None:
        return _ORDINALS.get(words)
    number = int(found[1])
    return number if found[2] == _ending(number) else None


def read_date(words: str) -> Date | None:
    """Reads a date with a month or a quarter: `January 26, 1995`, `26 Jan 1995`, `1995-01-26`, `Jan '95`, `Q1 1995`."""
    if len(words) > LONGEST:
        return None
    # Behind a weekday stands the whole date, which tells the weekday.
    if (weekday := _WEEKDAY.match(words)) is not None:
        date = read_date(words[weekday.end() :])
        return date if date is not None and date[0] is not None and date[2] is not None else None
    for pattern in _DATES:
        found = pattern.fullmatch(words)
        if found is None:
            continue
        parts = found.groupdict()
        # 2003-05 is a range, 2014-03 is none.
        if parts.get("month_number") and int(parts["month_number"]) > int(parts["year"]) % 100:
            continue
        year = full_year(f"'{parts['short']}" if parts.get("short") else parts.get("year"))
        if part := parts.get("part"):
            return year, read_part(part), None
        said = parts.get("number") or parts.get("month_number")
        month = int(said) if said else MONTHS.get(parts.get("month") or "")
        day = int(parts["day"]) if (parts.get("day") or "").isdigit() else None
        if month is None or not 1 <= month <= 12 or (day is not None and not 1 <= day <= 31):
            continue
        return year, month, day
    return None


def read_part(text: str) -> int:
    """Returns a quarter of a year, less than 0, or a half of one, less than -10."""
    number = _DIGIT.search(text)
    place = _ORDINALS[text.split()[0]] if number is None else int(number[0])
    is_quarter = text.endswith("quarter") or "q" in text
    return -place if is_quarter else -10 - place


def full_year(text: str | None) -> int | None:
    """Returns a year; `'15` is 2015 and `'85` 1985."""
    if text is None or not text.strip("'").isdigit():
        return None
    year = int(text.strip("'"))
    return year + (1900 if year >= 50 else 2000) if text.startswith("'") else year
