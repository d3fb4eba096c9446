"""Measures in several units: `2 h 30 min`, `2 hours and 30 minutes`, `6'2"`, `6 ft 2 in` (docs/grading.md)."""

from __future__ import annotations

import re

from iapo.grading.numbers import LONGEST, spell_mixed

_NAMES = {
    "year": "years year yrs yr y",
    "month": "months month mos mo",
    "week": "weeks week wks wk",
    "day": "days day d",
    "h": "hours hour hrs hr h",
    "min": "minutes minute mins min",
    "s": "seconds second secs sec s",
    "ft": "feet foot ft '",
    "in": "inches inch in \" ''",
    "lb": "pounds pound lbs lb",
    "oz": "ounces ounce oz",
    "m": "meters meter metres metre m",
    "cm": "centimeters centimeter centimetres centimetre cm",
    "kg": "kilograms kilogram kg",
    "g": "grams gram g",
}
_UNITS = {name: unit for unit, names in _NAMES.items() for name in names.split()}
_ORDER = list(_NAMES)
_GROUPS = (("year", "month", "week", "day", "h", "min", "s"), ("ft", "in"), ("lb", "oz"), ("m", "cm"), ("kg", "g"))
_UNIT = "|".join(re.escape(name) for name in sorted(_UNITS, key=lambda name: (-len(name), name)))
_NUMBER = r"\d{1,6}(?:\.\d{1,6})?"
_INNER_JOINT = re.compile(
    rf"(?<=\d)(?P<before>[ -]?(?P<unit>{_UNIT})\.?)(?:,? and |, )(?={_NUMBER}[ -]?(?P<next>{_UNIT})(?!\w))",
    re.IGNORECASE | re.ASCII,
)
_PIECE = re.compile(rf"(?P<number>{_NUMBER})[ -]?(?:(?P<unit>{_UNIT})(?:(?<=\w)\.)?)?(?P<joint>,? and |, | |$|(?=\d))")


def read_compound(said: str) -> str | None:
    """Returns one spelling of a measure in two units or more, the larger first; None where it is something else.

    Args:
        said: The text, cleaned, in lower case.
    """
    if len(said) > LONGEST:
        return None
    said = spell_mixed(said.replace("\u2032", "'"))
    place, pieces = 0, list[tuple[str, str]]()
    while place < len(said):
        found = _PIECE.match(said, place)
        if found is None:
            return None
        unit = _UNITS.get(found["unit"] or "")
        if pieces and pieces[-1][1] == "h" and unit == "m":
            unit = "min"
        if unit == "s" and len(pieces) == 1 and pieces[0][1] == "m":
            # 1m 45s.
            pieces[0] = (pieces[0][0], "min")
        # Quotes around an answer are left out, and with them the inches of 6'2".
        if unit is None and found.end() == len(said) and pieces and found.group(0) == found["number"]:
            unit = "in" if pieces[-1][1] == "ft" else None
        if unit is None:
            return None
        pieces.append((found["number"], unit))
        place = found.end()
    units = [unit for _, unit in pieces]
    if len(units) < 2 or sorted(set(units), key=_ORDER.index) != units:
        return None
    if not _are_alike(units):
        return None
    return " ".join(f"{number.lstrip('0') or '0'} {unit}" for number, unit in pieces)


def join_compounds(text: str) -> str:
    """Returns a text without commas and `and` inside measures in several units: `6 hours 22 minutes and 8 hours`.

    Args:
        text: The text, cleaned.
    """
    return _INNER_JOINT.sub(_joined, text)


def _joined(joint: re.Match[str]) -> str:
    units = [_UNITS[joint[name].casefold()] for name in ("unit", "next")]
    falls = _ORDER.index(units[0]) < _ORDER.index(units[1])
    return f"{joint['before']} " if falls and _are_alike(units) else joint[0]


def _are_alike(units: list[str]) -> bool:
    return any(set(units) <= set(group) for group in _GROUPS)
