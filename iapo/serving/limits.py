"""What a server takes."""

from __future__ import annotations

from dataclasses import dataclass

from iapo.bounds import COUNT, COUNT_OR_NONE, SECONDS, check_number
from iapo.kinds import check_kinds


@dataclass(frozen=True, slots=True)
class Limits:
    """What a server takes.

    Attributes:
        body: Bytes of a request's body.
        seconds: Time in which a request must have arrived, and in which a client must take what is sent.
        waiting: Number of requests that wait while others are answered; more are refused.
        connections: Number of connections.

    Raises:
        InputError: If a number cannot be.
    """

    body: int = 20 * 2**20
    seconds: float = 30.0
    waiting: int = 16
    connections: int = 32

    def __post_init__(self) -> None:
        check_kinds(self)
        for name, bound in _BOUNDS.items():
            check_number(name, getattr(self, name), bound)


_BOUNDS = {"body": COUNT, "seconds": SECONDS, "waiting": COUNT_OR_NONE, "connections": COUNT}
