"""Finding the final answer in a model's text, and one spelling for what looks alike (docs/grading.md)."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

_MOST_MARKS = 30
_MARKUP = "*_` \t"
# Possessive quantifiers keep the time linear on long runs of markup.
_MARK = re.compile(
    r"final[ _]*+answer[*_ ]*+(?:is[*_ ]*+)?[:=\uff1a]"
    # A heading, or a bold line of its own.
    r"|^[ \t]*+(?:\#++[ \t]*+[*_]*+|\*\*|__)final[ _]*+answer[*_ \t]*+$",
    re.IGNORECASE | re.MULTILINE,
)
# Not \b, for which the underscore of _TERMINATE_ is part of the word.
_END = re.compile(r"(?<![^\W_])TERMINATE(?![^\W_])", re.IGNORECASE)
_BULLET = re.compile(r"[-*\u2022][ \t]+(?=\S)|\d{1,2}[.)][ \t]+(?=\S)")
_ABBREVIATION = re.compile(r"\b(?:[A-Za-z]\.)+[A-Za-z]\.$|\b(?:Dr|Mr|Mrs|Ms|St|Jr|Sr|Inc|Co|Corp|Ltd|No|vs|etc)\.$")

_FRACTION = re.compile("(?<=\\d)[\u00bc-\u00be\u2150-\u215f\u2189]")
_DIGIT = re.compile(r"(?![0-9])\d")
_SUPERSCRIPT = re.compile("[\u207b\u207a]?[\u2070\u00b9\u00b2\u00b3\u2074-\u2079]+")
_LATEX = re.compile(r"\\(?:boxed|text|textbf|mathbf|mathrm)\{([^{}]*)\}")
_LETTER_NAMES = """
alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi omicron pi rho sigma tau upsilon phi chi psi
omega
"""
_LETTERS = {
    cased(name): unicodedata.lookup(f"GREEK {case} LETTER {'LAMDA' if name == 'lambda' else name.upper()}")
    for name in _LETTER_NAMES.split()
    for cased, case in ((str, "SMALL"), (str.capitalize, "CAPITAL"))
}
_GREEK = re.compile(rf"\\({'|'.join(_LETTERS)})(?![A-Za-z])")
_CHARACTERS = str.maketrans(
    {
        **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2212", "-"),
        **dict.fromkeys("\u2018\u2019\u02bc", "'"),
        **dict.fromkeys("\u201c\u201d\u00ab\u00bb", '"'),
        "\u2044": "/",
        **dict.fromkeys("\u200b\u200c\u200d\u2060\ufeff\u200e\u200f", None),
    }
)


def extract_answer(text: str) -> str | None:
    """Finds the final answer in a model's text: what follows the last `FINAL ANSWER:`, up to `TERMINATE`.

    Any case, markdown emphasis and headings, and a missing or repeated `TERMINATE` are accepted; decimals and
    abbreviations such as `3.5`, `U.S.` and `St. Louis` stay whole. The answer is one line; the items of a bullet list
    are joined by `||`.

    Returns:
        The answer without surrounding white space, markup and closing full stop, or None if there is none.
    """
    marks = list(_MARK.finditer(text))
    if not marks:
        return None
    answer = _END.split(text[marks[-1].end() :], maxsplit=1)[0]
    answer = _first_line_or_list([line for line in map(str.strip, answer.splitlines()) if line.strip(_MARKUP)])
    # A closing full stop ends the sentence, unless the word is an abbreviation such as U.S. or Dr.; only the last few
    # characters are looked at, since the pattern takes quadratic time.
    if answer.endswith(".") and not _ABBREVIATION.search(answer[-12:]):
        answer = answer[:-1].rstrip(_MARKUP)
    return answer or None


def clean(text: str) -> str:
    """Gives one spelling to what looks alike: Unicode forms, quotes, dashes, powers, LaTeX, white space."""
    text = _SUPERSCRIPT.sub(lambda power: "^" + power[0], without_towers(text))
    # In Unicode's form a half behind a one would be eleven over two.
    text = unicodedata.normalize("NFKC", _FRACTION.sub(r" \g<0>", text)).translate(_CHARACTERS)
    text = _DIGIT.sub(lambda digit: str(unicodedata.decimal(digit[0])), text)
    if "\\" in text:
        for _ in range(2):
            text = _LATEX.sub(r"\1", text)
        text = text.replace("\\%", "%").replace("\\$", "$").replace("\\times", "x").replace("\\,", "")
        text = _GREEK.sub(lambda name: _LETTERS[name[1]], text.replace("\\(", "").replace("\\)", ""))
    text = " ".join(text.split())
    return text.strip("$") if len(text) > 2 and text.startswith("$") and text.endswith("$") else text


def without_towers(text: str) -> str:
    """Leaves out the combining marks on one letter beyond the 30 that a real text never has (UAX #15, stream-safe
    text): to put them in order, as all Unicode forms do, takes time that grows with the square of their number.
    """
    if text.isascii():
        return text
    kept, marks = [], 0
    for letter in text:
        marks = marks + 1 if unicodedata.combining(letter) else 0
        if marks <= _MOST_MARKS:
            kept.append(letter)
    return text if len(kept) == len(text) else "".join(kept)


def _first_line_or_list(lines: Sequence[str]) -> str:
    """Returns the first line, or the items of the bullet list that begins there, without markup."""
    items = []
    for line in lines:
        bullet = _BULLET.match(line)
        if bullet is None:
            break
        items.append(line[bullet.end() :].strip(_MARKUP).removesuffix("."))
    # One line that begins with a dash is a negative number rather than a list.
    if len(items) > 1:
        return " || ".join(items)
    return lines[0].strip(_MARKUP).rstrip("|" + _MARKUP) if lines else ""
