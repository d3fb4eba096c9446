"""One spelling of decades, seasons and times of the day: `1990's`, `summer of 2012`, `7:00 p.m.` (docs/grading.md)."""

from __future__ import annotations

import re

_DECADE = re.compile(r"(?:the )?(?P<full>\d{3}0)'?s|(?:the )?'(?P<short>[2-9]0)'?s|the (?P<bare>[2-9]0)s", re.ASCII)
_SEASONS = "spring|summer|autumn|fall|winter"
_SEASON = re.compile(
    rf"(?:the )?(?P<season>{_SEASONS}),? (?:of |in )?(?P<year>\d{{4}})|(?P<first>\d{{4}}),? (?P<behind>{_SEASONS})",
    re.ASCII,
)
# 10:30 a.m., 7pm; the full stop behind `p` is gone where `spell` has been at work.
_CLOCK = re.compile(r"(?<![\w:.])(\d{1,2})(?::(\d\d))? ?([ap])\.?m(?!\w)\.?", re.ASCII)
_HOUR = re.compile(r"(\d{1,2}:\d\d)(?: (am|pm))?", re.ASCII)


def read_decade(said: str) -> int | None:
    """Reads a decade, `1990s`, `1990's`, `the '90s` or `the 90s`; None where it is something else, as `90s` may be.

    Args:
        said: The text, in lower case.
    """
    found = _DECADE.fullmatch(said)
    if found is None:
        return None
    return int(found["full"] or f"19{found['short'] or found['bare']}")


def read_season(said: str) -> tuple[int, str] | None:
    """Reads a season of a year, `Summer 2012` or `summer of 2012`; None where it is something else.

    Args:
        said: The text, in lower case.
    """
    found = _SEASON.fullmatch(said)
    if found is None:
        return None
    season = found["season"] or found["behind"]
    return int(found["year"] or found["first"]), "autumn" if season == "fall" else season


def spell_clock(words: str) -> str:
    """Returns words with one spelling of the times of the day in them: `7:00 pm`."""
    return _CLOCK.sub(lambda found: f"{int(found[1])}:{found[2] or '00'} {found[3]}m", words)


def read_hour(words: str) -> str | None:
    """Returns one spelling of a time of the day, `9 am` or `17:00`; None where it is something else."""
    found = _HOUR.fullmatch(spell_clock(words))
    return None if found is None else found[0]
