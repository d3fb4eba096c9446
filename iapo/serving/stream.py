"""The reply to a request in events, as they come."""

from __future__ import annotations

from collections.abc import Mapping
from io import BufferedIOBase
from typing import Any, Protocol

from iapo.serving.replies import Completion, sse


class Replying(Protocol):
    """What a stream needs of the handler of a connection.

    Attributes:
        close_connection: Whether the connection ends with the reply.
        wfile: Where the reply is written to.
    """

    close_connection: bool
    wfile: BufferedIOBase

    def start(self, status: int, kind: str, more: Mapping[str, str]) -> None:
        """Writes the head of a response."""


class Stream:
    """The events of a completion, whose head is written with the first: what is refused before it has its status."""

    def __init__(self, handler: Replying, done: Completion) -> None:
        self._handler, self._done = handler, done
        self.open = False

    def send(self, data: Mapping[str, Any] | str) -> None:
        """Sends an event."""
        if not self.open:
            self.open = True
            # It ends with the connection.
            self._handler.close_connection = True
            self._handler.start(200, "text/event-stream", {})
            self._handler.wfile.write(sse(self._done.start()))
        self._handler.wfile.write(sse(data))
        self._handler.wfile.flush()

    def end(self, last: list[dict[str, Any]]) -> None:
        """Sends the last events."""
        for data in last:
            self.send(data)
        self.send("[DONE]")
