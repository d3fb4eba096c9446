"""Secrets that are sent to an endpoint, taken out of what it says; the standard library alone."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Iterator, Sequence
from urllib.parse import unquote, urlsplit

from iapo.answer_texts import is_blank
from iapo.endpoints.address import without_credentials
from iapo.errors import InputError

_LONG = 8
"""Characters from which on a secret is looked for within words, too."""

_PART = 12
"""Characters of a secret that are hidden where a text has these alone; what a service shows of a masked key is
shorter."""

_READ, _REST = 2**16, 2**12
"""Characters of a text that are searched, and of these the last, which are not said where it goes on: a secret that is
broken off there would not be known."""

_ROUNDS = 5
"""Times that a text is unescaped: a text within a text within another."""

_ESCAPE = re.compile(
    r"(?<!\\)\\+(?:(?-i:U)(000[0-9a-f]{5})|u([0-9a-f]{4})|x([0-9a-f]{2})|([0-3][0-7]{2})|([^\\]))"
    r"|%([0-9a-f]{2})|(&(?:#[0-9]{1,7}|#x[0-9a-f]{1,6}|[a-z]{2,8});)",
    re.ASCII | re.IGNORECASE,
)
_ENCODED = re.compile(r"[\w+/=-]{0,64}", re.ASCII)
"""What goes on around an encoded secret and may hold the rest of it."""

_Letter = tuple[str, int, int]
"""A character, and from where to where it stands in the text, escaped."""

_LEAST = 4
"""Characters of a secret that is told from a word at all."""


def split_credentials(url: str) -> tuple[str, str]:
    """Returns an address without its credentials, and these as they stand there: no log and no error then repeats
    them.
    """
    user, at, host = urlsplit(url).netloc.rpartition("@")
    return (url.replace(f"{user}@{host}", host, 1), user) if at else (url, "")


def basic(credentials: str) -> str:
    """Returns what HTTP's basic authentication sends for `user:password`, percent-encoded as in an address."""
    return base64.b64encode(unquote(credentials).encode()).decode()


def check_key(variable: str, key: str) -> None:
    """Refuses a key that no header can hold: the libraries' own errors repeat it.

    Raises:
        InputError: If it has space at its ends, or what is not printable ASCII.
    """
    if key and not (key.isascii() and key.isprintable() and key == key.strip()):
        raise InputError(
            f"the key in the variable {variable} has space at an end, or what is not printable ASCII; set it anew"
        )


class Hiding:
    """What is sent to one endpoint and may not be said.

    Args:
        key: The key; None where there is none.
        credentials: `user:password` of the address, percent-encoded as it stands there; empty where there is none.
    """

    def __init__(self, key: str | None, credentials: str) -> None:
        user, _, password = credentials.partition(":")
        found: dict[str, str] = {}
        if credentials:
            found[unquote(credentials if password else f"{user}:")] = "(the user and the password)"
            if password:
                found[unquote(password)] = "(the password)"
            # A token may stand in the user's place.
            if not password or len(unquote(user)) >= _LONG:
                found[unquote(user)] = "(the user)"
        # A short word, such as `none` or `EMPTY`, is what is given where no key is needed.
        if key and not (len(key) < _LONG and key.isalpha()):
            found[key] = "(the key)"
        self._long: dict[str, tuple[str, bool]] = {}
        short: dict[str, str] = {}
        for secret, name in found.items():
            # Its codes are longer than a secret that is too short, and are no words either.
            for form, encoded in _forms(secret) if len(_bare(secret)) >= _LEAST else ():
                bare = _bare(form)
                if len(bare) >= _LONG:
                    for start in range(max(1, len(bare) - _PART + 1)):
                        self._long.setdefault(bare[start : start + _PART], (name, encoded))
                elif len(bare) >= _LEAST:
                    short.setdefault(bare, name)
        self._lengths = sorted({len(part) for part in self._long}, reverse=True)
        self._short = short
        words = "|".join(map(re.escape, sorted(short, key=len, reverse=True)))
        self._word = re.compile(rf"(?<!\w)(?:{words})(?!\w)") if short else None

    def plain(self, text: str) -> str:
        """Returns a text without the secrets and without those of other addresses.

        A secret is found as it is, percent-encoded, escaped as in JSON, Python and HTML, also several times, in base64
        and hex, alone or in something longer, in any case, and broken by white space and invisible characters; so are
        12 characters in a row of one. Of a long text the beginning is returned: no sentence repeats more.
        """
        end = len(text) if len(text) <= _READ else _READ - _REST
        text = text[:_READ]
        said, shown = [], 0
        for start, stop, name in _merged(self._found(text)):
            if start >= end:
                break
            said += [text[shown:start], name]
            shown = stop
        return without_credentials("".join([*said, text[shown:end]]))

    def _found(self, text: str) -> Iterator[tuple[int, int, str]]:
        """Yields from where to where a secret, or a part of one, stands in a text, and its name."""
        if not self._long and not self._short:
            return
        letters: Sequence[_Letter] = [(one, place, place + 1) for place, one in enumerate(text)]
        for _ in range(_ROUNDS):
            seen = [one for one in letters if one[0] != "\\" and (one[0].isspace() or not is_blank(one[0]))]
            if self._word is not None:
                for word in self._word.finditer(_joined(seen)):
                    yield seen[word.start()][1], seen[word.end() - 1][2], self._short[word[0]]
            seen = [one for one in seen if not one[0].isspace()]
            joined = _joined(seen)
            for length in self._lengths:
                for place in range(len(joined) - length + 1):
                    if (part := self._long.get(joined[place : place + length])) is not None:
                        name, encoded = part
                        start, stop = seen[place][1], seen[place + length - 1][2]
                        yield (*(_whole(text, start, stop) if encoded else (start, stop)), name)
            inner = _unescaped(letters)
            if len(inner) == len(letters):
                return
            letters = inner


def _forms(secret: str) -> Iterator[tuple[str, bool]]:
    """Yields how a secret is written once nothing is escaped, and whether that is encoded."""
    sent = secret.encode()
    # Percent-encoding is of bytes, and has a plus for a blank in forms.
    for one in (secret, sent.decode("latin-1")):
        yield from ((one, False), (one.replace(" ", "+"), False))
    yield from ((sent.hex(mark) if mark else sent.hex(), True) for mark in ("", ":", "-"))
    yield base64.b64encode(sent).decode().rstrip("="), True
    # Within something longer, such as `Bearer KEY`, it begins at any of three places of a group; what it shares with
    # its neighbours is not looked for.
    for before in range(3):
        whole = base64.b64encode(bytes(before) + sent).decode()
        inner = whole[-(-before * 4 // 3) : (before + len(sent)) * 4 // 3]
        if len(inner) >= _LONG:
            yield from ((inner, True), (inner.replace("+", "-").replace("/", "_"), True))


def _bare(text: str) -> str:
    """Returns a text as it is searched for: in lower case, without what may stand between its characters."""
    return "".join(one for one in text if one != "\\" and not is_blank(one)).lower()


def _joined(letters: Sequence[_Letter]) -> str:
    """Returns characters in lower case, each as one."""
    return "".join(low if len(low := one.lower()) == 1 else one for one, _, _ in letters)


def _unescaped(letters: Sequence[_Letter]) -> list[_Letter]:
    """Returns characters with each escape as the one character that it stands for."""
    text, found, done = "".join(one for one, _, _ in letters), list[_Letter](), 0
    for escape in _ESCAPE.finditer(text):
        widest, wide, byte, octal, plain, percent, entity = escape.groups()
        if plain:
            one = " " if plain in "nrt" else plain
        elif octal:
            one = chr(int(octal, 8))
        else:
            one = html.unescape(entity) if entity else chr(int(widest or wide or byte or percent, 16))
        if len(one) == 1:
            found += letters[done : escape.start()]
            found.append((one, letters[escape.start()][1], letters[escape.end() - 1][2]))
            done = escape.end()
    return found + list(letters[done:])


def _whole(text: str, start: int, stop: int) -> tuple[int, int]:
    """Returns from where to where an encoded text goes on around a part of it."""
    before = _ENCODED.match(text[max(0, start - 64) : start][::-1])
    after = _ENCODED.match(text, stop)
    return start - (before.end() if before else 0), after.end() if after else stop


def _merged(found: Iterator[tuple[int, int, str]]) -> list[tuple[int, int, str]]:
    """Returns stretches of a text in its order, those that overlap as one, with the name of the first."""
    merged: list[tuple[int, int, str]] = []
    for start, stop, name in sorted(found, key=lambda one: (one[0], -one[1])):
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(stop, merged[-1][1]), merged[-1][2])
        else:
            merged.append((start, stop, name))
    return merged
