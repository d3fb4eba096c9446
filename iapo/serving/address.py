"""Addresses that a server listens at, and is asked for by; without torch, so that what cannot be is refused at once."""

from __future__ import annotations

import socket
from ipaddress import ip_address
from typing import cast
from urllib.parse import urlsplit

from iapo.errors import InputError


def check_port(host: str, port: int) -> None:
    """Refuses an address that is taken, before a model is loaded.

    Raises:
        InputError: If so.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind((host, port))
        except (OSError, ValueError, TypeError) as error:
            # Of a name that no machine has the system is not even asked.
            reason = error.strerror if isinstance(error, OSError) else "no address"
            raise InputError(
                f"cannot listen at {host}, port {port} ({reason}); choose another --host or --port"
            ) from error


def refusal(host: str, origin: str | None, *, local: bool) -> str:
    """Says why a request is not answered by where it comes from; empty if it is.

    Args:
        host: Its `Host` header; empty if it has none.
        origin: Its `Origin` header.
        local: Whether the server listens to its own machine alone.
    """
    host = host.lower()
    name = _host_name(host)
    if local and host and not (name == "localhost" or is_loopback(name or "")):
        return "this server answers to localhost alone; ask for it by that name"
    if origin is not None and origin.lower().partition("://")[2] != host:
        return "this server answers no pages of other sites"
    return ""


def _host_name(host: str) -> str | None:
    """Returns the name in a `Host` header, without its port; None where it is none."""
    try:
        return None if set(host) & set("/\\@?# \t") else urlsplit(f"//{host}").hostname
    except ValueError:
        return None


def is_loopback(host: str | bytes | bytearray) -> bool:
    """Tells whether an address is this machine's alone."""
    try:
        return ip_address(cast(str, host)).is_loopback
    except ValueError:
        return False
