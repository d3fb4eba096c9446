"""Finding the final answer in a model's text, and what of its markup may be its own (docs/grading.md)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from iapo.grading.text import CLOSING_STOPS

_MARKUP = "*_` \t"
# Possessive quantifiers keep the time linear on long runs of markup.
_MARK = re.compile(
    r"final[ _]*+answer(?P<inside>[*_ ]*+(?:is[*_ ]*+)?)[:=\uff1a]"
    # A heading, or a bold line of its own.
    r"|^[ \t]*+(?:\#++[ \t]*+[*_]*+|\*\*|__)final[ _]*+answer[*_ \t]*+$",
    re.IGNORECASE | re.MULTILINE,
)
# Not \b, for which the underscore of _TERMINATE_ is part of the word. What is written around it is not the answer's.
_END = re.compile(
    r"(?P<around>\*{1,3}|_{1,3}|`)TERMINATE(?P=around)|(?<![^\W_])TERMINATE(?![^\W_])",
    re.IGNORECASE,
)
_BULLET = re.compile(r"[-*\u2022][ \t]+(?=\S)|\d{1,2}[.)][ \t]+(?=\S)")
_ABBREVIATION = re.compile(r"\b(?:[A-Za-z]\.)+[A-Za-z]\.$|\b(?:Dr|Mr|Mrs|Ms|St|Jr|Sr|Inc|Co|Corp|Ltd|No|vs|etc)\.$")
_FORMULA_ENDS = {"\\[": "\\]", "\\(": "\\)", "$$": "$$", "<answer>": "</answer>"}
"""Lines that only open a formula or an answer, and those that close it."""
_DELIMITERS = frozenset((*_FORMULA_ENDS, *_FORMULA_ENDS.values()))
# Emphasis, code and bold type of words inside; 2**3**4 and snake_case_names are none.
_INNER = re.compile(r"(?<![\w*_`])(?P<run>\*{1,3}|_{1,3}|`)(?P<said>[^\s*_`](?:[^*_`]*[^\s*_`])?)(?P=run)(?![\w*_`])")
_RUN = re.compile(r"\*+|_+|`+")
_PIPES = re.compile(r"\s*\|{2,3}\s*")
# "# 5" may be number five.
_HEADING = re.compile(r"(?:\#{2,6}|\#(?=[ \t]+[^\s\d]))[ \t]+(?=[^\s#])")
_TAGGED = re.compile(r"<answer>(?P<said>(?:(?!</?answer>).)++)</answer>", re.IGNORECASE | re.DOTALL)
_LONGEST_EDGE = 8
"""Characters of markup at an end of the answer; of more, all are its own or none."""


def extract_answer(text: str) -> str | None:
    """Finds the final answer in a model's text: what follows the last `FINAL ANSWER:`, up to `TERMINATE`.

    Any case, markdown emphasis and headings, and a missing or repeated `TERMINATE` are accepted; decimals and
    abbreviations such as `3.5`, `U.S.` and `St. Louis` stay whole. The answer is one line; the items of a bullet list
    are joined by `||`.

    Returns:
        The answer without surrounding white space, markup and closing full stop, or None if there is none.
    """
    found = _find(text)
    return None if found is None else _without_markup(found[1]) or None


def read_answers(text: str) -> list[str]:
    """Reads the final answer in each way that its markup allows: `SMU*` may be `SMU` or `SMU*`, `**SMU***` these too.

    What opens markup and what closes it belong together: of `A**` no star alone is left out. So do those inside:
    `**A** and **B**` may be `A and B`.

    Returns:
        The readings, first what `extract_answer` returns; none where nothing is answered. Some may be markup alone.
    """
    found = _find(text)
    if found is None:
        return []
    opened, lines = found
    items = _items(lines)
    if len(items) > 1:
        own = [_joined(map(_unwrapped, items)), _joined(items)]
    else:
        place = next((place for place, line in enumerate(lines) if line.strip(_MARKUP)), 0)
        before = " ".join([opened, *lines[:place]])
        own = [one for line in _wrapped(lines[place]) for one in _with_own_markup(before, line)] if lines else []
    ways = [one for one in dict.fromkeys([_without_markup(lines), *own]) if one]
    return list(dict.fromkeys([*ways, *filter(None, map(_without_inner, ways))]))


def _without_inner(text: str) -> str:
    bare = _INNER.sub(r"\g<said>", text)
    return text if bare == text else without_stop(bare)


def answer_lines(text: str) -> list[str]:
    """Returns all lines between the last `FINAL ANSWER:` and `TERMINATE` that are not empty, markup and all."""
    found = _find(text)
    return [] if found is None else found[1]


def _find(text: str) -> tuple[str, list[str]] | None:
    """Returns the markup that is open where the answer begins, and the lines that follow; None without a mark."""
    marks = list(_MARK.finditer(text))
    if not marks:
        return None
    mark = marks[-1]
    end = _END.search(text, mark.end())
    said = text[mark.end() : len(text) if end is None else end.start()]
    opened = ""
    if mark["inside"] is not None:
        before = text[max(0, mark.start() - _LONGEST_EDGE) : mark.start()]
        opened = before[len(before.rstrip(_MARKUP)) :] + mark["inside"]
    lines = [line for line in map(str.strip, said.splitlines()) if line]
    # As with formulas, neither of two is the answer.
    tagged = dict.fromkeys(_unwrapped(" ".join(one["said"].split())) for one in _TAGGED.finditer(said))
    return opened, [_joined(tagged)] if len(tagged) > 1 else _without_delimiters(lines)


def _without_delimiters(lines: list[str]) -> list[str]:
    """Returns lines without those that only open and close a formula, whose own lines make one.

    Formulas with which an answer begins, one behind the other, are the items of a list: neither of two is the answer.
    """
    bare = [line.strip(_MARKUP).lower() for line in lines]
    formulas, begin = [], 0
    while begin < len(lines) and (end := _FORMULA_ENDS.get(bare[begin])) is not None:
        if (place := next((place for place in range(begin + 1, len(lines)) if bare[place] == end), None)) is None:
            break
        formulas.append(" ".join(lines[begin + 1 : place]))
        begin = place + 1
    formulas = list(dict.fromkeys(filter(None, formulas)))
    rest = [line for line, alone in zip(lines[begin:], bare[begin:], strict=True) if alone not in _DELIMITERS]
    if not formulas:
        # $$ alone is a price.
        return rest or lines
    return [formulas[0] if len(formulas) == 1 else _joined(formulas), *rest]


def _items(lines: Sequence[str]) -> list[str]:
    """Returns the items of the bullet list with which the lines begin."""
    items = []
    for line in lines:
        if not line.strip(_MARKUP):
            continue
        bullet = _BULLET.match(line)
        if bullet is None:
            break
        items.append(line[bullet.end() :])
    return items


def _without_markup(lines: Sequence[str]) -> str:
    """Returns the first line, or the items of the bullet list that begins there, without markup and closing stop."""
    items = _items(lines)
    # One line that begins with a dash is a negative number rather than a list.
    if len(items) > 1:
        answer = _joined(item.strip(_MARKUP) for item in items)
    else:
        first = next((line for line in lines if line.strip(_MARKUP)), "")
        answer = _wrapped(first)[-1].strip(_MARKUP).rstrip("|" + _MARKUP)
    closed = without_stop(answer)
    return answer if closed == answer else closed.rstrip(_MARKUP)


def _wrapped(line: str) -> list[str]:
    """Returns a line, and where it is a heading or an `<answer>` what it says."""
    said = line[heading.end() :] if (heading := _HEADING.match(line)) else line
    tagged = _TAGGED.fullmatch(without_stop(said.strip(_MARKUP)))
    return list(dict.fromkeys((line, said if tagged is None else tagged["said"].strip())))


def _with_own_markup(opened: str, line: str) -> list[str]:
    """Returns the ways to read a line with markup at its ends, where what is left out of them opens and closes."""
    own = []
    for whole in dict.fromkeys((without_stop(line), line)):
        head = len(whole) - len(whole.lstrip(_MARKUP))
        tail = len(whole) - len(whole.rstrip(_MARKUP))
        if max(head, tail) <= _LONGEST_EDGE:
            own += [
                whole[start : len(whole) - end].strip()
                for start in range(head + 1)
                for end in range(min(tail, len(whole) - start) + 1)
                if _is_closed(f"{opened} {whole[:start]} {whole[len(whole) - end :]}")
            ]
    own = own or [without_stop(line), line]
    if "||" in line:
        own.append(_joined(map(_unwrapped, _PIPES.split(line))))
    # "..." may be all of it, or have a closing stop itself; behind a letter or a digit the stop says nothing.
    return [
        *(without_stop(one) for one in own if not one.endswith("..")),
        *(one for one in own if not one[-2:-1].isalnum()),
    ]


def _unwrapped(text: str) -> str:
    """Leaves out the markup around a text as often as it stands on both sides, and the closing stop."""
    text = without_stop(text.strip())
    while (run := _RUN.match(text)) is not None:
        width = min(len(run[0]), len(text) - len(text.rstrip(run[0][0])))
        if not width or 2 * width >= len(text):
            break
        text = without_stop(text[width:-width].strip())
    return text


def _is_closed(markup: str) -> bool:
    """Tells whether runs of markup, the answer between them left out, open and close in turn."""
    still_open: list[str] = []
    for run in _RUN.findall(markup):
        if still_open and still_open[-1] == run:
            still_open.pop()
        else:
            still_open.append(run)
    return not still_open


def without_stop(text: str) -> str:
    """Leaves out a closing full stop, which ends the sentence, unless the word is an abbreviation (U.S., Dr.)."""
    # Only the last few characters are looked at, since the pattern takes quadratic time.
    if text.endswith(CLOSING_STOPS) and not _ABBREVIATION.search(text[-12:]):
        return text[:-1].rstrip()
    return text


def _joined(items: Iterable[str]) -> str:
    return " || ".join(without_stop(item) for item in items)
