"""One spelling for words that mean the same (docs/grading.md)."""

from __future__ import annotations

import re
import unicodedata

from iapo.grading.text import tighten, without_towers

_DOT = re.compile(r"\.(?!\d)")
_ARTICLE = re.compile(r"^(?:the|an|a) ")
# Between letters, or a letter and a digit; 12-13 is a range, and xx-10-23 a date.
_HYPHEN = re.compile(r"(?<=[^\W\d_])-(?=[^\W_])(?!\d+-)|(?<=\d)-(?=[^\W\d_])")
_SLASH = re.compile(r" ?/ ?")
_LABEL = re.compile(r"\(?([^\W\d_]{1,3})\)")
_LETTERS = str.maketrans({"\u0142": "l", "\u00f8": "o", "\u0111": "d"})
_OVERSEAS = """
grey colour colours centre favour favourable unfavourable favourite behaviour labour neighbour defence programme
"""
_AMERICAN = """
gray color colors center favor favorable unfavorable favorite behavior labor neighbor defense program
"""
_BRITISH = dict(
    zip(
        _OVERSEAS.split(),
        _AMERICAN.split(),
        strict=True,
    )
)
_BRITISH_WORD = re.compile(rf"\b(?:{'|'.join(_BRITISH)})\b")


def _inflected(verb: str) -> list[str]:
    forms = [f"{verb}s", f"{verb}d", f"{verb[:-1]}ing"]
    return [*forms, f"it {forms[0]}", *(f"{who} {forms[2]}" for who in ("it is", "they are", "both are"))]


_WHOLE = {
    **dict.fromkeys(("us", "usa", "united states of america"), "united states"),
    **dict.fromkeys(("uk", "great britain, northern ireland"), "united kingdom"),
    **dict.fromkeys(_inflected("increase"), "increase"),
    **dict.fromkeys(_inflected("decrease"), "decrease"),
}
_AGES = r"(?:ages |aged )?(\d{1,3})"
_AND_OLDER = re.compile(
    _AGES + r"(?: ?years)?(?: ?\+|(?:, | or )(?:older|over|above|more|up))(?: years(?: old)?)?", re.ASCII
)
_AGE_GROUP = re.compile(_AGES + r" ?(?:-|to) ?(\d{1,3})(?: years?(?: olds?)?)?", re.ASCII)
_GRID = re.compile(r"(\d{1,2}) ?(?:x|\u00d7|by) ?(\d{1,2})", re.ASCII)
_BETWEEN = re.compile(r" ?\+ ?")
_INDEX = re.compile(r"(?<=\w)_(?:(\d)|\{(\w{1,9})\})(?!\w)")
_APART = re.compile(r"(?<=[a-z]) (?=\d)")
_IN_BRACKETS = re.compile(r"[(\[].*[)\]]")
_ORDERED = re.compile(
    r"\b(?:incr|decr|(?:rises?|rising|rose|falls?|falling|fell|up|down|then|first|second|last|wins?|won|loss|lost|low"
    r"|high)\b)"
)
_LONGEST = 1000
"""Characters."""


def spell(text: str) -> str:
    """Returns one spelling of a text: diacritics, articles, dots, hyphens and the kinds of `and` left out.

    Args:
        text: Text in lower case.
    """
    folded = "".join(
        one for one in unicodedata.normalize("NFKD", without_towers(text)) if unicodedata.category(one) != "Mn"
    )
    words = " ".join(_DOT.sub("", folded.translate(_LETTERS)).replace(" & ", " and ").split())
    words = words.replace(" ,", ",").replace(", and ", ", ").replace(" and ", ", ").replace("; ", ", ")
    words = _ARTICLE.sub("", _SLASH.sub("/", _HYPHEN.sub(" ", words)))
    words = _BRITISH_WORD.sub(lambda word: _BRITISH[word[0]], words)
    if label := _LABEL.fullmatch(words):
        return label[1]
    return _WHOLE.get(words, words) or text


def spell_alike(words: str) -> str:
    """Returns one spelling of spelled words that are no number and no date: `65 or older` is `65+`, `PG 48` is `PG48`.

    Args:
        words: What `spell` returned.
    """
    if len(words) > _LONGEST:
        return words
    if older := _AND_OLDER.fullmatch(words):
        return f"{older[1]}+"
    if group := _AGE_GROUP.fullmatch(words):
        return f"{group[1]}-{group[2]}"
    if grid := _GRID.fullmatch(words):
        return f"{grid[1]} by {grid[2]}"
    if _IN_BRACKETS.fullmatch(words):
        words = words.replace(", ", ",")
    words = _INDEX.sub(lambda found: found[1] or f"_{found[2]}", words)
    return _APART.sub("", _BETWEEN.sub("+", tighten(words)).replace(" (", "("))


def items_of(words: str) -> tuple[str, ...]:
    """Returns the items of spelled words with commas, sorted; none where their order may count.

    Args:
        words: What `spell` returned.
    """
    if ", " not in words or len(words) > _LONGEST or _ORDERED.search(words) or "(" in words or "[" in words:
        return ()
    items = words.split(", ")
    # Numbers may be places of a point, and repeated items steps of a course.
    if len(set(items)) < len(items) or not all(item[:1].isalpha() for item in items):
        return ()
    return tuple(sorted(items))
