"""Numbers in words: `forty-two`, `two hundred bars`, `twice`, `two thirds`."""

from __future__ import annotations

import re

_SMALL_NAMES = """
zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen
nineteen
"""
_SMALL = {word: number for number, word in enumerate(_SMALL_NAMES.split())}
_TENS_NAMES = "twenty thirty forty fifty sixty seventy eighty ninety"
_TENS = {word: 10 * number for number, word in enumerate(_TENS_NAMES.split(), start=2)}
_DIGIT = "|".join(list(_SMALL)[1:10])
_NUMBER = re.compile(
    rf"(?:(?P<hundreds>a|{_DIGIT}) hundred(?: and(?= ))?(?:$| ))?"
    rf"(?:(?P<tens>{'|'.join(_TENS)})(?:[ -](?P<digit>{_DIGIT})(?![a-z]))?|(?P<small>{'|'.join(_SMALL)}))?"
    r"(?P<rest>(?:(?:^| |(?<= )).+)?)",
    re.IGNORECASE | re.ASCII,
)
_PLURALS = """
persons aircraft spacecraft watercraft fish sheep deer cattle moose bison swine salmon trout
staff personnel crew police clergy youth offspring livestock poultry feet teeth geese mice oxen alumni alumnae
criteria phenomena bacteria media data fungi cacti nuclei radii stimuli syllabi larvae formulae vertebrae
"""
IRREGULAR_PLURAL = (
    rf"(?!specimen|acumen|omen|abdomen|regimen|stamen|lumen|albumen|bitumen|semen|ramen|dolmen)"
    rf"[a-z-]{{0,20}}(?:men|people|children)|{'|'.join(_PLURALS.split())}"
)
"""A plural without an s, in lower case."""
# A scale, a percentage, or a plural in small letters, so that no name (One Direction, Seven Samurai) is a number; one
# has a singular.
_SCALES = "thousand|million|billion|trillion|percent|per cent|%|percentage points?"
_REST = re.compile(rf"(?:{_SCALES})(?: .*)?|(?:[a-z-]{{2,20}} ){{0,2}}(?:[a-z]{{2,20}}s|{IRREGULAR_PLURAL})", re.ASCII)
_SINGULAR = re.compile(r"[a-z]{2,20}", re.ASCII)
_OFTEN = {"once": "1", "twice": "2", "thrice": "3"}
_FOLD = re.compile(rf"(\d{{1,6}}(?:\.\d{{1,3}})?|{'|'.join(list(_SMALL)[2:])})[ -]?fold", re.IGNORECASE | re.ASCII)
_OF_A_SCALE = re.compile(
    r"a (?P<scale>thousand|million|billion|trillion)(?P<rest> .+)?|(?P<half>half )?a dozen(?P<dozens> .+)?",
    re.IGNORECASE | re.ASCII,
)
_LONGEST = 100

_PARTS = {
    **{"half": 2, "third": 3, "quarter": 4, "fourth": 4, "fifth": 5, "sixth": 6, "seventh": 7, "eighth": 8},
    **{"ninth": 9, "tenth": 10},
}
# Behind a whole number: and a half, and two thirds, and 1/2.
_AND_PART = re.compile(
    rf"[ -]and[ -](?:(?P<count>an?|{_DIGIT})[ -](?P<part>{'|'.join(_PARTS)})s?"
    r"|(?P<digits>\d{1,3}/\d{1,3}))(?![\w/])",
    re.IGNORECASE | re.ASCII,
)
_FRACTION = re.compile(
    rf"(?P<count>{_DIGIT})[ -](?P<part>{'|'.join(_PARTS)})s?|(?:a )?(?P<alone>half)"
    r"|a (?P<one>third|quarter|fifth|tenth)",
    re.IGNORECASE | re.ASCII,
)


def in_digits(text: str) -> str:
    """Rewrites a number in words, with what stands behind it, in digits; any other text stays as it is.

    Args:
        text: Text with single spaces.
    """
    if len(text) > _LONGEST:
        return text
    if (fold := _FOLD.fullmatch(text)) is not None:
        return f"{in_digits(fold[1])} times"
    if text.casefold() in _OFTEN:
        return f"{_OFTEN[text.casefold()]} times"
    if (scaled := _OF_A_SCALE.fullmatch(text)) is not None:
        return _of_a_scale(text, scaled)
    if (part := _AND_PART.search(text)) is not None:
        return _with_part(text, part)
    found = _NUMBER.fullmatch(text)
    if found is None or not (found["hundreds"] or found["tens"] or found["small"]):
        return text
    value = sum(
        table[found[part].casefold()] * times
        for part, table, times in (
            ("hundreds", {"a": 1, **_SMALL}, 100),
            ("tens", _TENS, 1),
            ("digit", _SMALL, 1),
            ("small", _SMALL, 1),
        )
        if found[part]
    )
    rest = found["rest"].strip()
    if rest and not _REST.fullmatch(rest) and not (value == 1 and _SINGULAR.fullmatch(rest)):
        return text
    return f"{value} {rest}".rstrip()


def _of_a_scale(text: str, scaled: re.Match[str]) -> str:
    """Rewrites `a million` and `half a dozen eggs`."""
    rest = (scaled["rest"] or scaled["dozens"] or "").strip()
    if rest and not _REST.fullmatch(rest):
        return text
    number = f"1 {scaled['scale']}" if scaled["scale"] else "6" if scaled["half"] else "12"
    return f"{number} {rest}".rstrip()


def _with_part(text: str, part: re.Match[str]) -> str:
    """Rewrites a whole number and a part behind it: `two and a half million` is `2 1/2 million`."""
    whole, rest = in_digits(text[: part.start()]), text[part.end() :].strip(" -")
    if not (whole.isascii() and whole.isdecimal()) or (rest and not _REST.fullmatch(rest)):
        return text
    written = part["digits"]
    if written is None:
        count = part["count"].casefold()
        written = f"{1 if count in ('a', 'an') else _SMALL[count]}/{_PARTS[part['part'].casefold()]}"
    return f"{whole} {written} {rest}".rstrip()


def read_fraction(text: str) -> tuple[int, int] | None:
    """Reads `two thirds`, `half` or `a third` as a numerator and a denominator; `third` is a place."""
    found = _FRACTION.fullmatch(text) if len(text) <= _LONGEST else None
    if found is None:
        return None
    part = (found["part"] or found["alone"] or found["one"]).casefold()
    return _SMALL[(found["count"] or "one").casefold()], _PARTS[part]
