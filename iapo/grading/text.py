"""One spelling for what looks alike (docs/grading.md)."""

from __future__ import annotations

import re
import unicodedata

_MOST_MARKS = 30
_FRACTION = re.compile("(?<=\\d)[\u00bc-\u00be\u2150-\u215f\u2189]")
_DIGIT = re.compile(r"(?![0-9])\d")
_SUPERSCRIPT = re.compile("[\u207b\u207a]?[\u2070\u00b9\u00b2\u00b3\u2074-\u2079]+")
_LATEX = re.compile(r"\\(?:boxed|text|textbf|textit|mathbf|mathrm|mathit|mbox)\{((?:[^{}]++|\{[^{}]*+\})*+)\}")
_BRACED_POWER = re.compile(r"\^\{([+-]?\w{1,9})\}", re.ASCII)
# Between thousands a thin space says nothing; elsewhere it is a space.
_THIN_COMMA = re.compile(r"(?<=\d)\\[,!](?=\d{3}(?!\d))", re.ASCII)
_LATEX_SPACE = re.compile(r"\\[,;:! ]|\\quad(?![A-Za-z])")
# Behind a whole number it is a part: 1\frac{1}{2}.
_LATEX_FRACTION = re.compile(
    r"(?P<whole>\d)?\\[dt]?frac(?:\{(?P<over>\d{1,9})\}\{(?P<under>\d{1,9})\}|(?P<one>\d)(?P<other>\d))", re.ASCII
)
# \\( \\) and, apart from other text, \\[ \\] are around a formula; in Gold\\[1\\] the brackets are its own.
_DELIMITER = re.compile(r"\\[()]|(?<!\S)\\\[|\\\](?![^\s.])")
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
        # The Arabic percent sign, point and comma between thousands.
        **{"\u066a": "%", "\u066b": ".", "\u066c": ","},
        **dict.fromkeys("\u200b\u200c\u200d\u2060\ufeff\u200e\u200f", None),
    }
)

CLOSING_STOPS = (".", "\u3002", "\uff61", "\uff0e", "\u06d4", "\u0964")
"""Full stops: also the ideographic ones, the Arabic one and the danda."""
_ROOMY = re.compile(r" ?([<>=\u2264\u2265\u00b1]) ?|(?<=[(\[]) | (?=[)\],;:!?])")


def clean(text: str) -> str:
    """Gives one spelling to what looks alike: Unicode forms, quotes, dashes, powers, LaTeX, white space."""
    text = _SUPERSCRIPT.sub(lambda power: "^" + power[0], without_towers(text))
    # In Unicode's form a half behind a one would be eleven over two.
    text = unicodedata.normalize("NFKC", _FRACTION.sub(r" \g<0>", text)).translate(_CHARACTERS)
    text = _DIGIT.sub(lambda digit: str(unicodedata.decimal(digit[0])), text)
    text = _BRACED_POWER.sub(r"^\1", text)
    if "\\" in text:
        text = _LATEX_FRACTION.sub(
            lambda of: (
                f"{of['whole'] + ' ' if of['whole'] else ''}{of['over'] or of['one']}/{of['under'] or of['other']}"
            ),
            text,
        )
        for _ in range(2):
            text = _LATEX.sub(r"\1", text)
        text = text.replace("\\%", "%").replace("\\$", "$").replace("\\times", "x")
        text = _LATEX_SPACE.sub(" ", _THIN_COMMA.sub("", text))
        text = _GREEK.sub(lambda name: _LETTERS[name[1]], _DELIMITER.sub("", text))
    text = " ".join(text.replace("{,}", ",").split())
    # $$$ is a price, and no formula.
    return text.strip("$") or text if len(text) > 2 and text.startswith("$") and text.endswith("$") else text


def tighten(text: str) -> str:
    """Leaves out the white space that says nothing: around `<`, `>` and `=`, inside brackets, before a comma.

    Args:
        text: The text, cleaned.
    """
    return _ROOMY.sub(lambda found: found[1] or "", text)


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
