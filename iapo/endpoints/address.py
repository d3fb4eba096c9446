"""Addresses of endpoints and names of the variables with their keys: what they may be, and texts without the passwords
in them; the standard library alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from iapo.errors import InputError

ADDRESSES = ("judge_url", "verifier_url", "vllm_server_base_url")
"""Settings of a training that are addresses."""

_WORD = re.compile(r"[^\s'\"<>]+")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SCHEME = re.compile(r":/{1,2}")
# In a longer text a quote or an angle bracket ends an address, so none may be in one.
_ODD = re.compile(r"[\s\\'\"<>\x00-\x1f\x7f]")
_REQUEST = re.compile(r"(/chat/completions|/completions|/responses|/messages)/*$")
"""Ends of addresses to which requests are sent, as documentation shows them."""


def without_credentials(text: str) -> str:
    """Returns a text without the `user:password@` of addresses in it, also where a password holds a `/`, `?` or `@`."""
    return _WORD.sub(lambda word: _without(word[0]), text) if "@" in text else text


def _without(word: str) -> str:
    """Leaves out what stands between the first scheme of a word and its last `@`; each is looked for once."""
    scheme, end = _SCHEME.search(word), word.rfind("@")
    return word if scheme is None or end < scheme.end() else word[: scheme.end()] + word[end + 1 :]


def hide_credentials(value: Any) -> Any:
    """Returns a configuration without the `user:password@` of addresses in it."""
    if isinstance(value, Mapping):
        return {key: hide_credentials(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [hide_credentials(inner) for inner in value]
    if not isinstance(value, str):
        return value
    # An address alone may have what would end it in a longer text.
    return _without(value) if value.startswith(("http:", "https:")) else without_credentials(value)


def holds_credentials(text: str) -> bool:
    """Tells whether a text has an address with a user or a password in it."""
    return without_credentials(text) != text


VARIABLES = ("judge_key",)
"""Settings of a training that are names of environment variables with a key."""


def check_asked(settings: Mapping[str, Any]) -> None:
    """Refuses settings of a training that say where to ask and cannot: `check_address` and `check_variable`."""
    for name in ADDRESSES:
        check_address(name, settings.get(name))
    for name in VARIABLES:
        check_variable(name, settings.get(name))


def check_variable(name: str, variable: str | None) -> None:
    """Refuses what is no name of an environment variable: it may be the key itself, and is not repeated.

    Args:
        name: Name of the setting or option.
        variable: The variable's name; None is not checked.

    Raises:
        InputError: If it is none.
    """
    if variable is not None and not _VARIABLE.fullmatch(variable):
        raise InputError(
            f"{name} is no name of an environment variable; put the key into one, and give its name, such as "
            "OPENAI_API_KEY"
        )


def check_address(name: str, url: str | None) -> None:
    """Refuses what is no base address of an endpoint; the sentence repeats no part that may be a password.

    Args:
        name: Name of the setting or option.
        url: The address; None is not checked.

    Raises:
        InputError: If it is none, is a request's, or has more behind its path than the client would send.
    """
    if url is None:
        return
    if not url.startswith(("http://", "https://")):
        # Without a scheme nothing tells a password from a name.
        shown = repr(url) if "@" not in url else "an address without http:// or https://"
        raise InputError(f"{name} is {shown}; give its base address, which begins with http:// or https://")
    try:
        parts = urlsplit(url)
        fits = bool(parts.hostname) and (parts.port is None or parts.port > 0) and not _ODD.search(url)
    except ValueError:
        fits = False
    if not fits:
        raise InputError(
            f"{name} is no address of a host and a port; write http://HOST:PORT/v1, and what is odd in a user or a "
            "password as %2F, %27 and the like"
        )
    if request := _REQUEST.search(parts.path):
        raise InputError(
            f"{name} ends in {request[1]}, which the client adds; give the base address, which ends before it"
        )
    if parts.query or parts.fragment:
        raise InputError(f"{name} goes on behind its path, with ? or #, which is not sent; give the base address alone")
