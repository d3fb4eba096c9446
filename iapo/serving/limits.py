"""What a server takes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """What a server takes.

    Attributes:
        body: Bytes of a request's body.
        seconds: Time in which a request must have arrived, and in which a client must take what is sent.
        waiting: Number of requests that wait while others are answered; more are refused.
        connections: Number of connections.
    """

    body: int = 20 * 2**20
    seconds: float = 30.0
    waiting: int = 16
    connections: int = 32
