"""One spelling for words that mean the same (docs/grading.md)."""

from __future__ import annotations

import re
import unicodedata

from iapo.grading.forms import spell_ordinals
from iapo.grading.text import tighten, without_towers
from iapo.grading.times import spell_clock
from iapo.grading.years import read_era_day, read_era_year, read_fiscal, spell_eras

_DOT = re.compile(r"\.(?!\d)")
_AND = re.compile(r" & |(?<=\w)&(?=\w)")
# "A third" is a part, and "third" a place.
_ARTICLE = re.compile(r"^(?:the|an|a(?! (?:third|fifth|tenth)$)) ")
# Between letters, or a letter and a digit; 12-13 is a range, xx-10-23 a date, and 1e-6 a number.
_HYPHEN = re.compile(r"(?<=[^\W\d_])(?<!\de)-(?=[^\W_])(?!\d+-)|(?<=\d)-(?=[^\W\d_])")
# n-1 is no name as F-16 is: a small letter that stands for a number or an index.
_SUBTRACTED = re.compile(r"(?<![\w.-])([ijkmntxyz])-(?=\d{1,3}(?![\w-]))", re.ASCII)
# Not between thousands.
_CLOSE_COMMA = re.compile(r"(?<=\w),(?=\w)(?!(?<=\d,)\d{3}(?!\d))", re.ASCII)
_SLASH = re.compile(r" ?/ ?")
_LABEL = re.compile(r"\(?([^\W\d_]{1,3})\)")
_MARKED = ("LATIN", "GREEK", "ARABIC", "HEBREW")
"""Scripts whose marks are accents, or vowels that are left out as often as not."""
_LETTERS = str.maketrans({"\u0142": "l", "\u00f8": "o", "\u0111": "d", "\u0451": "\u0435"})
_OVERSEAS = """
grey colour colours centre favour favourable unfavourable favourite behaviour labour neighbour defence programme
aluminium theatre theatres litre litres metre metres fibre catalogue travelling traveller travellers travelled
modelling jewellery analyse analysed neighbourhood honour humour flavour harbour tumour licence ageing coloured
programmes centres labelled cancelled
"""
_AMERICAN = """
gray color colors center favor favorable unfavorable favorite behavior labor neighbor defense program
aluminum theater theaters liter liters meter meters fiber catalog traveling traveler travelers traveled
modeling jewelry analyze analyzed neighborhood honor humor flavor harbor tumor license aging colored
programs centers labeled canceled
"""
_BRITISH = dict(
    zip(
        _OVERSEAS.split(),
        _AMERICAN.split(),
        strict=True,
    )
)
_BRITISH_WORD = re.compile(rf"\b(?:{'|'.join(_BRITISH)})\b")
_IN_TWO = """
health care, child care, e mail, e commerce, wi fi, web site, north east, north west, south east, south west,
smart phone, data set, life style, non profit, non profits, co operation, semi finals, semi final, quarter finals
"""
_COMPOUNDS = {words.strip(): words.strip().replace(" ", "") for words in _IN_TWO.split(",")}
_COMPOUND = re.compile(rf"\b(?:{'|'.join(_COMPOUNDS)})\b")
# J. K. Rowling.
_INITIALS = re.compile(r"(?<![^\W_])([^\W\d_]\.) (?=[^\W\d_]\.)")
_DECADE = re.compile(r"(?<!\w)(\d{3}0)'s(?!\w)", re.ASCII)
_ISATION = re.compile(r"(?<=[a-z]{2})isation(?=s?\b)")
_SHORT = {"saint": "st", "mount": "mt", "upper": "top", "lower": "bottom"}
_SHORTENED = re.compile(r"\b(?:(?:saint|mount)(?= [a-z])|(?:upper|lower)(?=[ -](?:left|right)\b))")
_NOT = re.compile(r"\b(do|does|did|is|are|was|were|has|have|had|would|could|should) not\b")
_SUFFIX = re.compile(r", (?=(?:jr|sr|dc|inc|ltd|llc|ii|iii)$)")


def _inflected(verb: str) -> list[str]:
    forms = [f"{verb}s", f"{verb}d", f"{verb[:-1]}ing"]
    return [*forms, f"it {forms[0]}", *(f"{who} {forms[2]}" for who in ("it is", "they are", "both are"))]


_QUARTERS = ("first quarter", "second quarter", "third quarter", "fourth quarter")
_WHOLE = {
    **dict(zip(("q1", "q2", "q3", "q4"), _QUARTERS, strict=True)),
    **dict(zip(("1q", "2q", "3q", "4q"), _QUARTERS, strict=True)),
    **dict(zip(("1st quarter", "2nd quarter", "3rd quarter", "4th quarter"), _QUARTERS, strict=True)),
    **dict.fromkeys(("us", "usa", "united states of america"), "united states"),
    **dict.fromkeys(("uk", "great britain, northern ireland"), "united kingdom"),
    **dict.fromkeys(_inflected("increase"), "increase"),
    **dict.fromkeys(_inflected("decrease"), "decrease"),
}
_AGES = r"(?:ages? |aged )?(\d{1,3})"
_AGE_GROUP = re.compile(_AGES + r" ?(?:-|to) ?(\d{1,3})(?: ?years?(?: olds?)?)?", re.ASCII)
_CROSS = re.compile(r"(?<=\d)(?: ?[x\u00d7] ?| by )(?=\d)", re.ASCII)
_SLASHED_DAY = re.compile(r"(\d\d?)([/.])(\d\d?)\2(\d{4}|(?<=/)\d\d)", re.ASCII)
_BETWEEN = re.compile(r" ?\+ ?")
_INDEX = re.compile(r"(?<=\w)_(?:(\d)|\{(\w{1,9})\})(?!\w)")
_APART = re.compile(r"(?<=[a-z]) (?=\d)")
# N = 1,502, but no list of numbers.
_THOUSANDS = re.compile(r"(?<![\w.,])\d{1,3}(?:,\d{3})+(?![\w,])", re.ASCII)
_LETTER = re.compile(r"[^\W\d_]")
_IN_BRACKETS = re.compile(r"[(\[].*[)\]]")
_ORDERED = re.compile(
    r"\b(?:incr|decr|(?:rises?|rising|rose|falls?|falling|fell|up|down|then|first|second|last|wins?|won|loss|lost|low"
    r"|high|yes|no|true|false)\b)"
)
_LONGEST = 1000
"""Characters."""


def _folded(text: str) -> str:
    """Returns a text without the marks on letters of scripts that are read without them, too."""
    if text.isascii():
        return text
    kept, drops = [], True
    for one in unicodedata.normalize("NFKD", text):
        if unicodedata.category(one) != "Mn":
            drops = not one.isalpha() or unicodedata.name(one, "").startswith(_MARKED)
        elif drops:
            continue
        kept.append(one)
    # Marks of other scripts tell letters apart: those of \u30d0\u30ea and \u30d1\u30ea, or the vowels of Hindi.
    return unicodedata.normalize("NFKC", "".join(kept))


def keep_minus(text: str) -> str:
    """Returns a text in which the minus of `n-1` is none of the hyphens that `spell` leaves out.

    Args:
        text: The text, cleaned, in its own case.
    """
    return _SUBTRACTED.sub("\\1\u2212", text)


def space_commas(text: str) -> str:
    """Returns a text with a space behind each comma: `Red,Blue`, `2003,2005`; not between thousands, `1,200`."""
    return _CLOSE_COMMA.sub(", ", text)


def spell(text: str) -> str:
    """Returns one spelling of a text: diacritics, articles, dots, hyphens and the kinds of `and` left out.

    Args:
        text: Text in lower case.
    """
    folded = _INITIALS.sub(r"\1", _folded(without_towers(text)))
    words = " ".join(_AND.sub(" and ", _DOT.sub("", folded.translate(_LETTERS))).split())
    words = space_commas(words.replace(" ,", ",")).replace(", and ", ", ").replace(" and ", ", ").replace("; ", ", ")
    words = _ARTICLE.sub("", _SLASH.sub("/", _HYPHEN.sub(" ", words)))
    words = _ISATION.sub("ization", _BRITISH_WORD.sub(lambda word: _BRITISH[word[0]], words))
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
    words = _CROSS.sub("x", words)
    if group := _AGE_GROUP.fullmatch(words):
        return f"{group[1]}-{group[2]}"
    if (special := read_fiscal(words) or read_era_year(words) or read_era_day(words)) is not None:
        return special
    # 1/5/2014 and 01/05/2014, whichever is the month.
    if day := _SLASHED_DAY.fullmatch(words):
        return f"{int(day[1])}{day[2]}{int(day[3])}{day[2]}{day[4]}"
    words = spell_clock(spell_ordinals(spell_eras(words)))
    words = _DECADE.sub(r"\1s", words)
    words = _COMPOUND.sub(lambda word: _COMPOUNDS[word[0]], words)
    words = _SUFFIX.sub(" ", _NOT.sub(r"\1n't", _SHORTENED.sub(lambda word: _SHORT[word[0]], words)))
    if _IN_BRACKETS.fullmatch(words):
        words = words.replace(", ", ",")
    elif _LETTER.search(words):
        words = _THOUSANDS.sub(lambda number: number[0].replace(",", ""), words)
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
