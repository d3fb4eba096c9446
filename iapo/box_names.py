"""Names of boxes: which are one, and what becomes of a name that stands twice."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence


def one_form(name: str) -> str:
    """Returns a name in the one form (NFC) of what looks alike: an accented letter may be one character, or two."""
    return unicodedata.normalize("NFC", name)


def unique_names(texts: Sequence[str], what: str | None, taken: Sequence[str] = ()) -> list[str]:
    """Returns names for columns or rows from their texts: a text that stands twice gets a number, as in `2001 (2)`, an
    empty one becomes `column 2` or `row 2`.

    Args:
        texts: The texts.
        what: `column` or `row`; None leaves an empty text as it is.
        taken: Names that are given already.
    """
    names, used = [], set(map(one_form, taken))
    # Where the search goes on for a text that stands there many times.
    counts: dict[str, int] = {}
    for number, text in enumerate(texts, start=1):
        name = unique = text if text or what is None else f"{what} {number}"
        count = counts.get(name, 1)
        while one_form(unique) in used:
            count += 1
            unique = f"{name} ({count})"
        counts[name] = count
        used.add(one_form(unique))
        names.append(unique)
    return names
