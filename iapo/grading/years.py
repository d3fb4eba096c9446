"""Years with an era and fiscal years, one spelling of each: `70 AD` and `AD 70`, `FY15` and `fiscal 2015`."""

from __future__ import annotations

import re

from iapo.grading.forms import QUARTER, full_year, read_date, read_part

_FISCAL_YEAR = r"(?:the )?(?:fy|fiscal(?: year)?) ?(?P<year>'?\d\d|\d{4})(?:[-/](?P<next>\d\d|\d{4}))?"
_FISCALS = [
    re.compile(pattern, re.ASCII)
    for pattern in (
        rf"(?:(?P<quarter>{QUARTER}),? ?(?:of |in )?)?{_FISCAL_YEAR}",
        rf"{_FISCAL_YEAR},? ?(?P<quarter>{QUARTER})",
    )
]
_NUMBER = r"\d{1,3}(?:,\d{3})+|\d{1,7}"
ERA_YEAR = re.compile(
    rf"(?<![\w.,])(?:(?P<before>ad|bce?|ce) ?(?P<one>{_NUMBER})|(?P<other>{_NUMBER}) ?(?P<behind>bce?|ce|ad))(?!\w)",
    re.ASCII,
)
_ABOUT = re.compile(r"(?:about|around|approximately|roughly) |(?:circa|ca|c)(?: |\. ?)|~ ?")
_DAY_OF_ERA = re.compile(rf"(?P<day>[a-z\d. ]{{5,20}}?),? (?P<year>{ERA_YEAR.pattern})", re.ASCII)
_CENTURY = re.compile(r"(?<=century )(?:bce?|ce|ad)(?!\w)")
_LONGEST = 1000
"""Characters."""


def read_era_year(words: str) -> str | None:
    """Returns one spelling of a year with its era, `AD 70`, `70 CE`, `c. 1,000 BC`; None where it is something else.

    Args:
        words: What `spell` returned.
    """
    about = _ABOUT.match(words)
    found = ERA_YEAR.fullmatch(words[about.end() if about else 0 :]) if len(words) <= _LONGEST else None
    return None if found is None else _era_year(found)


def read_era_day(words: str) -> str | None:
    """Returns one spelling of a day of a year with its era, `March 15, 44 BC`; None where it is something else.

    Args:
        words: What `spell` returned.
    """
    found = _DAY_OF_ERA.fullmatch(words) if len(words) <= _LONGEST else None
    date = None if found is None else read_date(found["day"])
    if found is None or date is None or date[0] is not None or date[2] is None:
        return None
    return f"{date[1]}-{date[2]} {read_era_year(found['year'])}"


def spell_eras(words: str) -> str:
    """Returns words with one spelling of the years and centuries with an era in them.

    Args:
        words: What `spell` returned.
    """
    return _CENTURY.sub(lambda found: _era(found[0]), ERA_YEAR.sub(_era_year, words))


def read_fiscal(words: str) -> str | None:
    """Returns one spelling of a fiscal year, or a quarter of one: `FY15`, `Q1 FY2015`; None where it is none.

    Args:
        words: What `spell` returned.
    """
    for pattern in _FISCALS if len(words) <= _LONGEST else ():
        if (found := pattern.fullmatch(words)) is None:
            continue
        parts = found.groupdict()
        year = full_year(parts["year"] if len(parts["year"]) == 4 else f"'{parts['year'][-2:]}")
        # Two years, of which the second is the end of the first.
        behind = f"-{parts['next'][-2:]}" if parts["next"] else ""
        quarter = f" q{-read_part(parts['quarter'])}" if parts["quarter"] else ""
        return f"fiscal {year}{behind}{quarter}"
    return None


def _era_year(found: re.Match[str]) -> str:
    year = int((found["one"] or found["other"]).replace(",", ""))
    return f"{year} {_era(found['before'] or found['behind'])}"


def _era(text: str) -> str:
    return "bc" if text in ("bc", "bce") else "ad"
