"""Numbers in answers: what is written, in which unit, and when two are the same (docs/grading.md)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal

from iapo.grading.number_words import in_digits
from iapo.grading.rules import Rules
from iapo.grading.units import (
    COUNTED,
    Side,
    is_known,
    is_money,
    is_percentage,
    measures,
    read_currency,
    read_rest,
    same_unit,
)

LONGEST = 100
"""Characters; what is longer is no number that anybody answers with."""

_LARGEST_COUNT = 10_000
_YEARS = (1000, 2200)
_LARGEST_UNSCALED = 10_000_000
"""From here on a number is written out, and no scale is understood."""
_SMALLEST_SCALE = 3
"""No axis is in hundreds."""
_SMALLEST_UNSCALED = Decimal("0.1")
"""Below it no number is one of thousands or millions that is written out: an axis has another scale then."""

_ABOUT = re.compile(r"(?:~|≈|(?:about|around|roughly|approximately|approx\.?|circa|ca\.) )\s*", re.IGNORECASE)
_NUMBER = re.compile(
    r"(?P<sign>[+-]?)\s?(?P<currency>(?:US)?\$|[€£¥₹])?\s?(?P<inner>[+-]?)"
    r"(?P<digits>(?:\d{1,3}(?:,\d{3})+|\d{1,3}(?: \d{3})+|\d+)(?P<point>\.\d+)?|\.\d+)"
    r"(?:e(?P<e>[+-]?\d{1,3})|\s?[x×*·]\s?10\^(?P<power>[+-]?\d{1,3}))?"
    r"(?P<rest>\D.*)?",
    re.IGNORECASE | re.ASCII,
)
# An accountant's negative: (16.7), $(16.7) million, (7.0)%, (7.0%).
_NEGATIVE = re.compile(r"(?P<currency>[^\w\s()-]?)\s?\((?P<inner>[^\w\s()-]?\d[^()]*)\)(?P<rest>[^()]*)")
_POWER = re.compile(r"(?P<sign>[+-]?)10\s?(?:\^|\*\*)\s?[({]?(?P<power>[+-]?\d{1,2})[)}]?", re.ASCII)
_CODE = re.compile(r"(?P<sign>[+-]?)(?P<code>(?:[A-Z]{1,2}\$|[A-Z]{3}|₩|Rs\.?)) ?(?=[\d.])", re.ASCII)
# Parts that have an end in decimals: 8 1/2, 8-1/2, but not the difference 8 - 1/2.
_MIXED = re.compile(r"(?<![\d.,/])(\d{1,6})[ -](\d{1,2})/(2|4|5|8|10|16|20|25|32|64)(?![\d/])", re.ASCII)
_MINUS = re.compile(r"(?:minus|negative) (?=\S)", re.IGNORECASE | re.ASCII)
_YEAR = re.compile(r"\d{4}", re.ASCII)
_DIGITS_BEGIN = re.compile(r"[$€£¥]?\.?\d", re.ASCII)


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number as it stands in an answer.

    Attributes:
        value: Its value, scale words such as `million` multiplied in; 5% has the value 5.
        unit: Its unit, one name for all spellings; empty without one.
        measured: Whether it is a measured value, which may be off a little, and not a year or a count.
        scale: The power of ten that a scale word names; 0 without one.
    """

    value: Decimal
    unit: str
    measured: bool
    scale: int = 0

    @property
    def whole(self) -> bool:
        """Whether nothing stands behind the point."""
        return self.value == self.value.to_integral_value()

    @property
    def _has_digits(self) -> bool:
        """Whether it has three digits or more that are no mere zeros, so that thousands of it are no accident."""
        return len(str(self.value.normalize()).strip("-").replace(".", "").split("E")[0]) > 2

    def accepts(self, answer: Quantity, rules: Rules) -> bool:
        """Returns whether an answer is right where this is the gold one.

        Args:
            answer: The answer. Where both name a unit, it must be the same.
            rules: The data set's rules.
        """
        if rules.wide and self._is_share(answer):
            as_fraction = answer.value.scaleb(-2 if answer.unit else 2)
            return self._near(as_fraction, rules) or self._near(answer.value, rules)
        if self.unit and answer.unit:
            same = same_unit(self.unit, answer.unit) if rules.wide else self.unit == answer.unit
            if not same:
                return False
        return self._near(answer.value, rules) or (rules.free_scale and self._unscaled(answer, rules))

    def _near(self, value: Decimal, rules: Rules) -> bool:
        if not (self.measured and rules.tolerance):
            return self.value == value
        return abs(self.value - value) <= Decimal(str(rules.tolerance)) * abs(self.value)

    def _is_share(self, answer: Quantity) -> bool:
        """Tells whether one is a percentage and the other may be the same as a fraction: 22% and 0.22."""
        percent, other = (self, answer) if is_percentage(self.unit) else (answer, self)
        return is_percentage(percent.unit) and not other.unit and not other.scale and 0 < abs(other.value) < 1

    def _unscaled(self, answer: Quantity, rules: Rules) -> bool:
        """Tells whether an answer adds only the scale that an axis or a header has and this number leaves out."""
        if self.scale or is_percentage(self.unit) or is_percentage(answer.unit) or abs(self.value) >= _LARGEST_UNSCALED:
            return False
        # What is counted is written out: 24 teams are not 24 million. So are hours, degrees, kilograms and rates.
        if self.unit and not is_money(self.unit):
            return False
        if answer.scale >= _SMALLEST_SCALE and self._near(answer.value.scaleb(-answer.scale), rules):
            return True
        # Written out, all digits must agree: 6.3 and 6,300,000, but not 42 and 42,000, nor 2.02 and the year 2020.
        if abs(self.value) < _SMALLEST_UNSCALED or abs(answer.value) < _YEARS[1]:
            return False
        powers = (6, 9, 12) if self.whole and not (answer.scale and self._has_digits) else (3, 6, 9, 12)
        return any(answer.value == self.value.scaleb(power) for power in powers)


def read_quantity(text: str, side: Side | None = None) -> Quantity | None:
    """Reads a text that is a number and nothing else, beside its sign, scale, currency and unit.

    Args:
        text: Text in Unicode's NFKC form, powers written with `^`, single spaces.
        side: Who wrote it, for the wide forms: accountants' negatives, powers of ten, codes of currencies, numbers
            in words, and unknown words as units; None for the narrow ones alone.

    Returns:
        The number, or None where the text is anything else, for example `1.2.3`, `12,34` or `42 or 43`, and, among
        the narrow forms, `42 apples`.
    """
    if len(text) > LONGEST:
        return None
    text = _ABOUT.sub("", text, count=1) if _ABOUT.match(text) else text
    code = ""
    if side is not None:
        text, code = _narrowed(text)
    found = _NUMBER.fullmatch(text)
    if found is None or (found["sign"] and found["inner"]):
        return None
    rest = read_rest(
        found["rest"] or "", side, money=bool(code or found["currency"]), decade=bool(_YEAR.fullmatch(found["digits"]))
    )
    if rest is None:
        return None
    scale, unit = rest
    currency = code or (read_currency(found["currency"], wide=side is not None) if found["currency"] else "") or ""
    if currency and unit and currency != unit and not (side and same_unit(currency, unit)):
        if side is None or is_known(unit):
            return None
        # $5 per barrel.
        currency = f"{currency} {unit}"
    exponent = found["e"] or found["power"]
    value = Decimal(found["digits"].replace(",", "").replace(" ", "")).scaleb(int(exponent or 0) + scale)
    if "-" in (found["sign"], found["inner"]):
        value = -value
    unit = currency or unit
    scaled = bool(scale or exponent)
    return Quantity(value, unit, _is_measured(value, unit, has_point="." in found["digits"], scaled=scaled), scale)


def _narrowed(text: str) -> tuple[str, str]:
    """Rewrites a wide form as a narrow one; returns it and the currency of a code before the number."""
    minus = _MINUS.match(text)
    said = in_digits(text[minus.end() :] if minus else text)
    if minus is None or _DIGITS_BEGIN.match(said):
        text = f"-{said}" if minus else said
    text = spell_mixed(text)
    if power := _POWER.fullmatch(text):
        return f"{power['sign']}1e{power['power']}", ""
    if negative := _NEGATIVE.fullmatch(text):
        text = f"-{negative['currency']}{negative['inner']}{negative['rest']}"
    if found := _CODE.match(text):
        currency = read_currency(found["code"].rstrip("."), wide=True)
        if currency is not None:
            return found["sign"] + text[found.end() :], currency
    return text, ""


def spell_mixed(text: str) -> str:
    """Returns a text with its first mixed number as decimals: `10.5` for `10 1/2`."""
    return _MIXED.sub(_decimals, text, count=1)


def _decimals(mixed: re.Match[str]) -> str:
    """Returns a whole number and the part behind it as decimals; as it is where the part is no part."""
    over, under = int(mixed[2]), int(mixed[3])
    return str(int(mixed[1]) + Decimal(over) / under) if 0 < over < under else mixed[0]


def _is_measured(value: Decimal, unit: str, *, has_point: bool, scaled: bool) -> bool:
    whole = value == value.to_integral_value()
    if not whole or measures(unit):
        return True
    if unit in COUNTED:
        return False
    is_year = _YEARS[0] <= value < _YEARS[1]
    return not is_year and (has_point or scaled or abs(value) >= _LARGEST_COUNT)
