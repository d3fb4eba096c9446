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


def host_name(host: str) -> str | None:
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
