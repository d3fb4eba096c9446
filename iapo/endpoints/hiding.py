"""Secrets that are sent to an endpoint, taken out of what it says; the standard library alone."""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Iterator
from urllib.parse import quote, quote_plus, unquote, urlsplit

from iapo.endpoints.address import without_credentials
from iapo.errors import InputError

_LONG = 8
"""Characters from which on a secret is looked for within words, too."""

_READ = 2**16
"""Characters of a text that are searched."""

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
            for one in (basic(credentials), basic(f"{user}:{password}")):
                for form in (one, one.rstrip("="), one.replace("+", "-").replace("/", "_").rstrip("=")):
                    found[form] = "(the user and the password)"
            if password:
                found |= dict.fromkeys((credentials, unquote(credentials)), "(the user and the password)")
                found |= dict.fromkeys((password, unquote(password)), "(the password)")
            # A token may stand in the user's place.
            if not password or len(unquote(user)) >= _LONG:
                found |= dict.fromkeys((user, unquote(user)), "(the user)")
        # A short word, such as `none` or `EMPTY`, is what is given where no key is needed.
        if key and not (len(key) < _LONG and key.isalpha()):
            found |= dict.fromkeys((key, base64.b64encode(key.encode()).decode().rstrip("=")), "(the key)")
        self._names = {_bare(form): name for secret, name in found.items() for form in _forms(secret)}
        # The longest first, so that none is left in part.
        forms = sorted(self._names, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(_pattern, forms)), re.IGNORECASE) if forms else None

    def plain(self, text: str) -> str:
        """Returns a text without the secrets, however they are written in it, and without those of other addresses.

        Of a long one it is the beginning: no sentence repeats more.
        """
        text = text[:_READ]
        if self._pattern is not None:
            text = self._pattern.sub(lambda found: self._names.get(_bare(found[0]), "(a secret)"), text)
        return without_credentials(text)


def _forms(secret: str) -> Iterator[str]:
    """Yields how a secret is written: as it is, percent-encoded, in JSON and in HTML."""
    if len(secret) >= _LEAST:
        yield secret
        yield from (quote(secret), quote(secret, safe=""), quote_plus(secret))
        yield from (json.dumps(secret)[1:-1], html.escape(secret), html.escape(secret, quote=False))
        # White space is said as one blank.
        yield " ".join(secret.split())


def _bare(form: str) -> str:
    return form.replace("\\", "").lower()


def _pattern(form: str) -> str:
    # A text within a text within another has as many backslashes as there are texts.
    inner = r"\\*".join(map(re.escape, form))
    return inner if len(form) >= _LONG else rf"(?<!\w){inner}(?!\w)"
