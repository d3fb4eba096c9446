"""Scales and units behind a number: which there are, and when two units are the same (docs/grading.md)."""

from __future__ import annotations

import re
from typing import Literal

from iapo.grading.doubts import HEDGES

Side = Literal["gold", "answer"]

_SCALES = {"thousand": 3, "k": 3, "million": 6, "mn": 6, "mio": 6, "billion": 9, "bn": 9, "trillion": 12, "tn": 12}
_MORE_SCALES = _SCALES | {
    **{"hundred": 2, "lakh": 5, "crore": 7, "mln": 6, "mil": 6, "mrd": 9},
    **{"thousands": 3, "millions": 6, "billions": 9, "trillions": 12, "lakhs": 5, "crores": 7},
}
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
_MORE_NAMES = {
    "%": "percents percentage_point percentage_points pp",
    "$": "united_states_dollar united_states_dollars american_dollars",
    "£": "british_pound british_pounds pound_sterling pounds_sterling",
    # Money or weight.
    "pounds": "pound pounds",
    "ca$": "c$ ca$ cad canadian_dollar canadian_dollars",
    "au$": "a$ au$ aud australian_dollar australian_dollars",
    "nz$": "nz$ nzd new_zealand_dollar new_zealand_dollars",
    "hk$": "hk$ hkd hong_kong_dollar hong_kong_dollars",
    "sg$": "s$ sg$ sgd singapore_dollar singapore_dollars",
    "r$": "r$ brl brazilian_real brazilian_reais",
    "chf": "chf swiss_franc swiss_francs",
    "nok": "nok norwegian_krone norwegian_kroner",
    "sek": "sek swedish_krona swedish_kronor",
    "dkk": "dkk danish_krone danish_kroner",
    "mxn": "mxn mexican_peso mexican_pesos",
    "₩": "₩ krw won south_korean_won",
    "rub": "rub ruble rubles russian_rubles",
    "zar": "zar rand south_african_rand",
    "pln": "pln z\u0142 zloty zlotys z\u0142oty polish_zloty polish_zlotys",
    "try": "try turkish_lira turkish_liras",
    "czk": "czk czech_koruna czech_korunas",
    "huf": "huf hungarian_forint hungarian_forints",
    "ils": "ils israeli_shekel israeli_shekels",
    "thb": "thb baht thai_baht",
    "idr": "idr indonesian_rupiah indonesian_rupiahs",
    "php": "php philippine_peso philippine_pesos",
    "myr": "myr malaysian_ringgit malaysian_ringgits",
    "aed": "aed uae_dirham uae_dirhams",
    "sar": "sar saudi_riyal saudi_riyals",
    "ngn": "ngn nigerian_naira",
    "pkr": "pkr pakistani_rupee pakistani_rupees",
    "₹": "indian_rupee indian_rupees",
    "¥": "japanese_yen",
    "cny": "chinese_yuan",
    "t": "metric_ton metric_tons metric_tonne metric_tonnes",
    "ft^2": "ft^2 ft2 sq_ft square_foot square_feet",
    "mi^2": "mi^2 sq_mi square_mile square_miles",
    "year": "years_old",
    "times": "times x \u00d7",
    "\u00a2": "\u00a2 cents",
    "mph": "miles_per_hour",
    "km/h": "kilometers_per_hour kilometres_per_hour km_per_hour",
    "m/s": "meters_per_second metres_per_second m_per_second",
    "°c": "celsius degrees_c deg_c",
    "°f": "fahrenheit degrees_f deg_f",
    "kwh": "kilowatt_hour kilowatt_hours",
    "mwh": "megawatt_hour megawatt_hours",
    "gwh": "gigawatt_hour gigawatt_hours",
    "twh": "terawatt_hour terawatt_hours",
    "mb": "megabyte megabytes",
    "gb": "gigabyte gigabytes",
    "tb": "terabyte terabytes",
    "watt": "watt watts",
    "kw": "kw kilowatt kilowatts",
    "mw": "mw megawatt megawatts",
    "gw": "gw gigawatt gigawatts",
    "hz": "hz hertz",
    "khz": "khz kilohertz",
    "mhz": "mhz megahertz",
    "ghz": "ghz gigahertz",
    "oz": "oz ounce ounces",
    "ha": "ha hectare hectares",
    "db": "db decibel decibels",
    "\u03bcm": "\u03bcm um micrometer micrometers micrometre micrometres",
    "ms": "ms millisecond milliseconds",
    "ppm": "ppm parts_per_million",
    "ppb": "ppb parts_per_billion",
    "bps": "bps basis_point basis_points",
}


def _by_name(names: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", " "): unit for unit, spellings in names.items() for name in spellings.split()}


_UNITS = _by_name(_UNIT_NAMES)
_MORE_UNITS = _UNITS | _by_name(_MORE_NAMES)
_KNOWN = frozenset(_MORE_UNITS.values())
_MORE_MONEY = "pln try czk huf ils thb idr php myr aed sar ngn pkr"
_MONEY = (
    "$",
    "€",
    "£",
    "¥",
    "cny",
    "₹",
    "pounds",
    "ca$",
    "au$",
    "nz$",
    "hk$",
    "sg$",
    "r$",
    "chf",
    "nok",
    "sek",
    "dkk",
    "mxn",
    "₩",
    "rub",
    "zar",
    *_MORE_MONEY.split(),
)
COUNTED = {"day", "week", "month", "year", "times"}
"""Units in which one counts; a whole number of them is exact."""

_IN_NAMES = "mm cm m km ft mi mg g kg lb ml l km/h mph min h day week month year %"
"""Units that stand in names: 110 m hurdles, 24 Hours of Le Mans; not `in` and `s`, which may be words or a plural."""


def _names_of(units: str) -> re.Pattern[str]:
    names = [name for name, unit in _UNITS.items() if unit in units.split()]
    names.sort(key=lambda name: (-len(name), name))
    words = "|".join(re.escape(name) for name in names)
    return re.compile(
        rf"(?<![\d.,])((?:\d{{1,3}}(?:,\d{{3}})+|\d+)(?:\.\d+)?)[ -]?({words})(?![\w/^'])", re.IGNORECASE | re.ASCII
    )


_MEASURE = _names_of(_IN_NAMES)
_WORD = re.compile(r"[^\W\d_][\w/^'-]*")
_PER = {"hundred": "100", "thousand": "1000", "million": "1000000"}
_PER_NUMBER = re.compile(r"\bper (10{0,2}(?:,000){1,2}|10{1,6}|hundred|thousand|million)\b", re.IGNORECASE | re.ASCII)
# What makes another number, several candidates, a condition or a doubt of it.
_NO_UNITS = """
or and to not no nor but if vs versus x by plus minus times more less fewer over under above below than least most
about around between except without instead approximately only in on at from for with since before after onward
onwards later earlier ago bc bce ad ce am pm half halves quarter quarters third thirds fourth fourths fifth fifths
sixth seventh eighth ninth tenth tenths hundredth hundredths thousandth thousandths dozen dozens zero one two three
four five six seven eight nine ten eleven twelve twenty thirty forty fifty sixty seventy eighty ninety hundred
hundreds lakh crore is are was were wrong incorrect false true yes unknown unclear isn't wasn't aren't weren't doesn't
don't didn't can't cannot won't never neither either unlikely likely excluded excluding included including too much
many think suppose through thru until till during else something anything nothing january february march april may
june july august september october november december jan feb mar apr jun jul aug sep sept oct nov dec
"""
# 24 pairs are 48, and may be the answer where pairs are asked for; what is asked for is not known here.
_MULTIPLES = """
pair pairs couple couples duo duos trio trios lakhs crores quadrillion quadrillions quintillion quintillions
sextillion zillion zillions twice thrice myriad myriads factorial sixths sevenths eighths ninths tens twelfths
sixteenths twentieths thousandths millionths billionths trillionths
"""
# 24 gross, 24 score of years, 24 squared; but 24 gross tons, 24 score points, 24 meters squared.
_OPENING_MULTIPLES = frozenset(["squared", "cubed", "doubled", "tripled", "quadrupled", "halved"])
_LONE_MULTIPLES = frozenset(
    ["gross", "score", "grand", "thou", "brace", "root", "power", "inverse", "double", "triple"]
)
_DOZENS = frozenset(["dozen", "dozens", "hundred", "hundreds", "thousand", "thousands", "million", "millions"])
_MULTIPLIERS = frozenset(_MULTIPLES.split())
_NOT_IN_UNITS = frozenset(_NO_UNITS.split()) | HEDGES | _MULTIPLIERS | (_MORE_SCALES.keys() - {"k"})
_TOLD = """
in on at from for with since before after only later earlier ago about around approximately am pm is are was were
including included january february march april may june july august september october november december
"""
# Behind a number in brackets the others tell what it is: 14 (after extra time), 3 (only women).
_NOT_IN_NOTES = (_NOT_IN_UNITS | {"negative", "off", "double", "triple"}) - frozenset(_TOLD.split())
_GENERATIONS = frozenset(["G", "H", "S", "T"])
"""Glued to a number they are no grams, hours, seconds and tons: 5G is a network, 5S a telephone."""
_LONGEST_UNIT = 40
"""Characters."""


def read_currency(text: str, *, wide: bool) -> str | None:
    """Returns the unit of a sign or code before a number, or None."""
    return (_MORE_UNITS if wide else _UNITS).get(text.casefold())


def read_rest(
    text: str, side: Side | None = None, *, money: bool = False, decade: bool = False
) -> tuple[int, str] | None:
    """Reads what follows a number's digits.

    Args:
        text: The text, with the space that is between it and the digits.
        side: Who wrote it, where unknown words are units too, if there is that space; None where only the known units
            are.
        money: Whether a sign of a currency stands before the digits: then `m` is a million.
        decade: Whether the digits may be a year: then `1990s` are no seconds.

    Returns:
        A power of ten and a unit, empty without one; None where the text is neither.
    """
    words = text.removesuffix(".").split()
    scale = 0
    if words:
        scales = _MORE_SCALES if side else _SCALES
        # 5M is five million, 5 m are five metres.
        power = _CAPITAL_SCALES.get(words[0]) or scales.get(words[0].casefold())
        if side and money:
            power = {"m": 6, "b": 9, "T": 12}.get(words[0], power)
        if power is not None:
            scale, words = power, words[1:]
    if not words:
        return scale, ""
    if (text == "s" and decade) or text in _GENERATIONS:
        return None
    if side is None:
        unit = _UNITS.get(" ".join(words).casefold())
    else:
        unit = _any_unit(" ".join(words), side, apart=scale > 0 or text[0] == " ", scaled=scale > 0)
    return None if unit is None else (scale, unit)


def _any_unit(text: str, side: Side, *, apart: bool, scaled: bool) -> str | None:
    """Reads a known unit, or words that can be one."""
    # U.S. dollars are US dollars.
    known = _MORE_UNITS.get(text.casefold().replace(".", "").replace("-", " "))
    if known is not None:
        return known
    if len(text) > _LONGEST_UNIT or not (apart or text.startswith("% of ")):
        return None
    # A gold answer with a capital behind a number is a name, such as that of a band.
    if side == "gold" and not scaled and text != text.casefold():
        return None
    # 4.4 deaths per 1,000 live births: one word, so that the number is none of its own.
    text = _PER_NUMBER.sub(lambda found: f"per_{_PER.get(found[1].casefold(), found[1].replace(',', ''))}", text)
    words = text.casefold().replace(".", "").split()
    if words[:2] == ["%", "of"]:
        words[0] = "percent"
    if (
        words[:1] in ([], ["of"])
        or words[0] in _OPENING_MULTIPLES
        or (words[0] in _LONE_MULTIPLES and words[1:2] in ([], ["of"]))
        or not all(_WORD.fullmatch(word) for word in words)
        or not _NOT_IN_UNITS.isdisjoint(words)
    ):
        return None
    # 5 dollars per barrel, 5 tons of rice: what is known keeps its one name.
    for joint in ("per", "of"):
        if joint in words:
            head = _MORE_UNITS.get(" ".join(words[: words.index(joint)]).replace(".", ""))
            if head is not None:
                return " ".join([head, *words[words.index(joint) :]])
    return " ".join(words).removesuffix("s")


def spell_measures(text: str) -> str | None:
    """Returns a text with one spelling of its measures, `110 metres hurdles` as `110m hurdles`.

    Args:
        text: The text, cleaned.

    Returns:
        The text; None where it has no measures, or is nothing else (`5M` and `5 m` are numbers).
    """
    # In 5M people the capital is a scale.
    found = [one for one in _MEASURE.finditer(text) if len(one[2]) > 1 or one[2].islower() or one[2] == "%"]
    if not found or not any(map(str.isalpha, _MEASURE.sub("", text))):
        return None
    pieces, end = [], 0
    for one in found:
        pieces += [text[end : one.start()], one[1].replace(",", ""), _UNITS[one[2].casefold()]]
        end = one.end()
    return "".join([*pieces, text[end:]])


def multiplies(note: str) -> bool:
    """Tells whether words behind a number make another one of it: `pairs`, `squared`."""
    words = note.casefold().split()
    return not (_MULTIPLIERS | _OPENING_MULTIPLES | _LONE_MULTIPLES | _DOZENS).isdisjoint(words)


def changes_number(note: str) -> bool:
    """Tells whether words in brackets behind a number make another one of it: `negative`, `plus one`, `out of ten`."""
    # 14 (with the most points).
    words = note.casefold().replace("the most ", "").split()
    return multiplies(note) or not _NOT_IN_NOTES.isdisjoint(words)


def is_known(unit: str) -> bool:
    """Tells whether a unit is one of the known ones, and not mere words behind a number."""
    return unit in _KNOWN


def measures(unit: str) -> bool:
    """Tells whether whole numbers of a unit are measured, and not counted: `km`, `$ per barrel`, `deaths per_1000`.

    Other words say what is counted, or name what a year is of: 24 teams, the 1998 season.
    """
    head = unit.partition(" per ")[0].partition(" of ")[0]
    return head not in COUNTED and (is_known(head) or _is_rate(unit) or is_percentage(unit))


def is_money(unit: str) -> bool:
    """Tells whether a unit is a currency, and no rate: `$`, `$ of sales`."""
    return unit.partition(" of ")[0] in _MONEY


def _is_rate(unit: str) -> bool:
    return "per" in unit.replace("_", " ").split()


def is_percentage(unit: str) -> bool:
    """Tells whether a unit is the percent sign, or says of what it is a percentage."""
    return unit == "%" or unit.startswith("% of ")


def same_unit(one: str, other: str) -> bool:
    """Tells whether two units are the same, or one of them says only more about it (`tons`, `tons of rice`)."""
    if one == other or {one, other} in ({"pounds", "£"}, {"pounds", "lb"}):
        return True
    short, long = sorted((one, other), key=len)
    # 5 per 1,000 people.
    if short.startswith("per_") and long.startswith(f"{short} "):
        return True
    if long.startswith((f"{short} of ", f"{short} per ") if short in _MONEY else f"{short} of "):
        return True
    return not is_known(short) and not is_known(long) and long.endswith(f" {short}") and not _is_rate(long)
