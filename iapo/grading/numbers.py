"""Numbers in answers: what is written, in which unit, and when two are the same (docs/grading.md)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal

TOLERANCE = 0.05
"""How far a measured value may be off, as a share of the gold value (ChartQA's relaxed accuracy, arXiv 2203.10244)."""

LONGEST = 100
"""Characters; what is longer is no number that anybody answers with."""

_LARGEST_COUNT = 10_000
_YEARS = (1000, 2200)

_SCALES = {"thousand": 3, "k": 3, "million": 6, "mn": 6, "mio": 6, "billion": 9, "bn": 9, "trillion": 12, "tn": 12}
_CAPITAL_SCALES = {"K": 3, "M": 6, "B": 9}
_UNIT_NAMES = {
    "%": "% percent percentage pct per_cent",
    "$": "$ us$ usd dollar dollars us_dollar us_dollars",
    "€": "€ eur euro euros",
    "£": "£ gbp",
    "¥": "¥ jpy yen",
    "cny": "cny rmb yuan",
    "₹": "₹ inr rs rupee rupees",
    "mm": "mm millimeter millimeters millimetre millimetres",
    "cm": "cm centimeter centimeters centimetre centimetres",
    "m": "m meter meters metre metres",
    "km": "km kilometer kilometers kilometre kilometres",
    "in": "in inch inches",
    "ft": "ft foot feet",
    "mi": "mi mile miles",
    "m^2": "m^2 m2 sq_m square_meters square_metres",
    "km^2": "km^2 km2 sq_km square_kilometers square_kilometres",
    "mg": "mg milligram milligrams",
    "g": "g gram grams",
    "kg": "kg kilogram kilograms",
    "t": "t ton tons tonne tonnes",
    "lb": "lb lbs pound pounds",
    "ml": "ml milliliter milliliters millilitre millilitres",
    "l": "l liter liters litre litres",
    "s": "s sec secs second seconds",
    "min": "min mins minute minutes",
    "h": "h hr hrs hour hours",
    "day": "day days",
    "week": "week weeks",
    "month": "month months",
    "year": "year years yr yrs",
    "°": "° degree degrees",
    "°c": "°c degrees_celsius",
    "°f": "°f degrees_fahrenheit",
    "kwh": "kwh",
    "mwh": "mwh",
    "gwh": "gwh",
    "twh": "twh",
    "mb": "mb",
    "gb": "gb",
    "tb": "tb",
    "km/h": "km/h kmh kph",
    "mph": "mph",
    "m/s": "m/s",
}
_UNITS = {name.replace("_", " "): unit for unit, names in _UNIT_NAMES.items() for name in names.split()}
_COUNTED = {"day", "week", "month", "year"}

_ABOUT = re.compile(r"(?:~|≈|(?:about|around|roughly|approximately|approx\.?) )\s*", re.IGNORECASE)
_NUMBER = re.compile(
    r"(?P<sign>[+-]?)\s?(?P<currency>(?:US)?\$|[€£¥₹])?\s?(?P<inner>[+-]?)"
    r"(?P<digits>(?:\d{1,3}(?:,\d{3})+|\d{1,3}(?: \d{3})+|\d+)(?P<point>\.\d+)?|\.\d+)"
    r"(?:e(?P<e>[+-]?\d{1,3})|\s?[x×*·]\s?10\^(?P<power>[+-]?\d{1,3}))?"
    r"(?P<rest>\D.*)?",
    re.IGNORECASE | re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number as it stands in an answer.

    Attributes:
        value: Its value, scale words such as `million` multiplied in; 5% has the value 5.
        unit: Its unit, one name for all spellings; empty without one.
        measured: Whether it is a measured value, which may be off a little, and not a year or a count.
    """

    value: Decimal
    unit: str
    measured: bool

    def accepts(self, answer: Quantity, tolerance: float = TOLERANCE) -> bool:
        """Returns whether an answer is right where this is the gold one.

        Args:
            answer: The answer. Where both name a unit, it must be the same.
            tolerance: Largest error of a measured value, as a share of this one.
        """
        if self.unit and answer.unit and self.unit != answer.unit:
            return False
        if not self.measured:
            return self.value == answer.value
        return abs(self.value - answer.value) <= Decimal(str(tolerance)) * abs(self.value)


def read_quantity(text: str) -> Quantity | None:
    """Reads a text that is a number and nothing else, beside its sign, scale, currency and unit.

    Args:
        text: Text in Unicode's NFKC form, powers written with `^`, single spaces.

    Returns:
        The number, or None where the text is anything else, for example `42 apples`, `1.2.3`, `12,34` or `42 or 43`.
    """
    if len(text) > LONGEST:
        return None
    found = _NUMBER.fullmatch(_ABOUT.sub("", text, count=1) if _ABOUT.match(text) else text)
    if found is None or (found["sign"] and found["inner"]):
        return None
    rest = _scale_and_unit((found["rest"] or "").strip())
    if rest is None:
        return None
    scale, unit = rest
    currency = _UNITS[found["currency"].casefold()] if found["currency"] else ""
    if currency and unit and currency != unit:
        return None
    exponent = found["e"] or found["power"]
    value = Decimal(found["digits"].replace(",", "").replace(" ", "")).scaleb(int(exponent or 0) + scale)
    if "-" in (found["sign"], found["inner"]):
        value = -value
    unit = currency or unit
    scaled = bool(scale or exponent)
    return Quantity(value, unit, _is_measured(value, unit, has_point="." in found["digits"], scaled=scaled))


def _scale_and_unit(text: str) -> tuple[int, str] | None:
    """Reads what follows the digits, as a power of ten and a unit; None where it is neither."""
    words = text.removesuffix(".").split()
    scale = 0
    if words:
        # 5M is five million, 5 m are five metres.
        power = _CAPITAL_SCALES.get(words[0]) or _SCALES.get(words[0].casefold())
        if power is not None:
            scale, words = power, words[1:]
    unit = _UNITS.get(" ".join(words).casefold()) if words else ""
    return None if unit is None else (scale, unit)


def _is_measured(value: Decimal, unit: str, *, has_point: bool, scaled: bool) -> bool:
    whole = value == value.to_integral_value()
    if not whole or (unit and unit not in _COUNTED):
        return True
    if unit:
        return False
    is_year = _YEARS[0] <= value < _YEARS[1]
    return not is_year and (has_point or scaled or abs(value) >= _LARGEST_COUNT)
