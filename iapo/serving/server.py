"""The HTTP server: sizes, times and numbers of requests are bounded, and nothing of the disk is served."""

from __future__ import annotations

import contextlib
import json
import socket
import sys
import threading
import time
from collections.abc import Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from multiprocessing.connection import wait
from typing import Any

from iapo.agent.agent import Agent
from iapo.agent.answers import Event
from iapo.endpoints.chat import EndpointError
from iapo.errors import InputError, NumberError
from iapo.records import MOST_IMAGES
from iapo.serving.address import is_loopback, refusal
from iapo.serving.limits import Limits
from iapo.serving.replies import Completion, error_body
from iapo.serving.requests import ChatRequest, RequestError, read_request
from iapo.serving.stream import Stream

PAGE: Mapping[str, tuple[str, str]] = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/pictures.js": ("pictures.js", "text/javascript; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
}
"""The page's files by their paths; no other path leads to a file."""

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Content-Security-Policy": _POLICY,
}


class Server(ThreadingHTTPServer):
    """Serves one agent.

    Args:
        agent: The agent.
        name: Name of the model that it has here.
        host: Address to listen at.
        port: Port; 0 takes a free one.
        limits: What it takes.
        log: Whether a line a request is written to standard error.

    Attributes:
        url: Its address.

    Raises:
        InputError: If the address cannot be had.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(
        self, agent: Agent, name: str, host: str, port: int, limits: Limits | None = None, *, log: bool = True
    ) -> None:
        self.agent, self.name, self.limits, self.log = agent, name, limits or Limits(), log
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.pages = {
            path: (resources.files("iapo.serving").joinpath("page", file).read_bytes(), kind)
            for path, (file, kind) in PAGE.items()
        }
        self._connections = threading.BoundedSemaphore(self.limits.connections)
        self.room = threading.BoundedSemaphore(agent.at_once + self.limits.waiting)
        self.work = threading.BoundedSemaphore(agent.at_once)
        self.stopping = threading.Event()
        self.under_way: set[Handler] = set()
        try:
            super().__init__((host, port), Handler)
        except (OSError, OverflowError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise InputError(
                f"cannot listen at {host}, port {port} ({reason}); choose another --host or --port"
            ) from error
        self.local = host == "localhost" or is_loopback(self.server_address[0])
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{self.server_port}"

    def drain(self, seconds: float) -> bool:
        """Ends the answers that are written, at their next token, and begins no other.

        Args:
            seconds: Longest wait for them.

        Returns:
            Whether all ended.
        """
        self.stopping.set()
        end = time.monotonic() + seconds
        free = all(self.work.acquire(timeout=max(0.0, end - time.monotonic())) for _ in range(self.agent.at_once))
        # Those that wait are told so, which takes them a moment.
        while self.under_way and time.monotonic() < end:
            time.sleep(0.01)
        return free and not self.under_way

    def cut_off(self) -> None:
        """Tells the clients whose answers did not end in time that they come to nothing."""
        for one in list(self.under_way):
            one.cut_off()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Starts a thread for a connection, or refuses it; the library calls it."""
        if self._connections.acquire(blocking=False):
            try:
                super().process_request(request, client_address)
            except BaseException:
                self._connections.release()
                raise
            return
        body = json.dumps(error_body(503, "there are too many connections; try again later")).encode()
        head = f"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        try:
            request.settimeout(1)
            request.sendall(head.encode() + b"Retry-After: 1\r\nConnection: close\r\n\r\n" + body)
        except OSError:
            # Whoever is refused need not listen.
            pass
        self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serves a connection; the library calls it, in a thread of its own."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._connections.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Tells of what went wrong in a connection; a client that went away is none of it."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


def _status(error: RequestError | InputError | EndpointError) -> int:
    if isinstance(error, RequestError):
        return error.status
    return 502 if isinstance(error, EndpointError) else 500 if isinstance(error, NumberError) else 400


class _GoneError(Exception):
    """The client has closed the connection."""


_STOPPING = "the server is stopping; ask again when it is back"

_LOOK = 0.5
"""Seconds between two looks of a request that waits for others."""

_LINGER = 5.0
"""Seconds for which the rest of a refused request is read away."""


class Handler(BaseHTTPRequestHandler):
    """Answers the requests of one connection."""

    protocol_version = "HTTP/1.1"
    server_version, sys_version = "iapo", ""
    server: Server

    def setup(self) -> None:
        """Prepares the connection; the library calls it."""
        self._late, self._replied, self._unread = False, False, False
        self._watch: threading.Timer | None = None
        self._stream: Stream | None = None
        super().setup()
        self.connection.settimeout(self.server.limits.seconds)

    def handle_one_request(self) -> None:
        """Answers a request, which must have arrived in time: a drip never reaches the timeout of the socket."""
        self._late, self._replied, self._stream = False, False, None
        self._watch = threading.Timer(self.server.limits.seconds, self._too_late)
        self._watch.daemon = True
        self._watch.start()
        try:
            super().handle_one_request()
        finally:
            self._watch.cancel()

    def do_GET(self) -> None:
        """Answers with the page, the model, or how the server is."""
        path = self.path.partition("?")[0]
        if not self._is_welcome():
            return
        if path in self.server.pages:
            self._send(200, *self.server.pages[path])
        elif path == "/health":
            most = {"max_images": MOST_IMAGES, "max_body": self.server.limits.body}
            self._json(200, {"status": "ok", "model": self.server.name, **most})
        elif path == "/v1/models":
            one = {"id": self.server.name, "object": "model", "created": 0, "owned_by": "iapo"}
            self._json(200, {"object": "list", "data": [one]})
        elif path == "/v1/chat/completions":
            self._fail(405, "chat completions are asked for with POST")
        else:
            self._fail(404, "there is nothing at this path; see /, /health, /v1/models and /v1/chat/completions")

    def do_POST(self) -> None:
        """Answers a chat completion."""
        self._unread = True
        if not self._is_welcome():
            return
        if self.path.partition("?")[0] != "/v1/chat/completions":
            self._fail(404, "nothing can be posted at this path; chat completions are at /v1/chat/completions")
            return
        try:
            self._post()
        finally:
            self.server.under_way.discard(self)

    def _post(self) -> None:
        try:
            body = self._body()
            self.server.under_way.add(self)
            if not self.server.room.acquire(blocking=False):
                raise RequestError(503, "there are too many requests; try again later")
            try:
                while not self.server.work.acquire(timeout=_LOOK):
                    self._check()
                try:
                    self._check()
                    # Also images are decoded within the bound.
                    self._chat(read_request(body, self.server.name, self.server.agent.settings))
                finally:
                    self.server.work.release()
            finally:
                self.server.room.release()
        except (RequestError, InputError, EndpointError) as error:
            self._fail(_status(error), str(error), getattr(error, "param", None), getattr(error, "code", None))
        except _GoneError:
            self.close_connection = self._replied = True
            self.log_message('"%s" ended: the client went away', self.requestline)
        finally:
            # Anything else is a bug, which `handle_error` tells of; the client learns that there is one.
            if not self._replied and sys.exception() is not None:
                self._fail(500, "the server failed at this request; its log says why")

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Refuses what is no request, or of another method; the library calls it."""
        if code == HTTPStatus.NOT_IMPLEMENTED:
            code, message = HTTPStatus.METHOD_NOT_ALLOWED, f"nothing here takes {self.command[:20]}; use GET or POST"
        self._fail(code, message or HTTPStatus(code).phrase)

    def log_message(self, format: str, *args: Any) -> None:
        """Writes a line on a request; the library calls it."""
        if self.server.log:
            super().log_message(format, *args)

    def _chat(self, asked: ChatRequest) -> None:
        agent, done = self.server.agent, Completion(self.server.name)
        question = agent.question(asked.images, asked.question, asked.boxes)
        how: dict[str, Any] = {"attribution": asked.attribution, "settings": asked.settings, "check": self._check}
        if not asked.stream:
            found = agent.ask(question, **how)
            self._json(200, done.whole(found, shown=asked.shown))
            return
        stream = self._stream = Stream(self, done)

        def watch(event: Event) -> None:
            stream.send(done.event(event, shown=asked.shown))

        try:
            found = agent.ask(question, **how, watch=watch)
        except (RequestError, InputError, EndpointError) as error:
            if not stream.open:
                raise
            stream.end([error_body(_status(error), str(error))])
        else:
            stream.end(done.end(found, usage=asked.usage))

    def _check(self) -> None:
        """Ends the work on a request that nobody waits for, or whose answer the server's end would cut off.

        Raises:
            RequestError: If the server is stopping.
            _GoneError: If the client has closed the connection.
        """
        if self.server.stopping.is_set():
            raise RequestError(503, _STOPPING)
        if wait([self.connection], 0):
            try:
                gone = not self.connection.recv(1, socket.MSG_PEEK)
            except ConnectionError:
                gone = True
            if gone:
                raise _GoneError

    def cut_off(self) -> None:
        """Tells the client, from another thread, that the server ends in the midst of its answer."""
        # Whoever has gone away is not told.
        with contextlib.suppress(OSError):
            if self._stream is not None and self._stream.open:
                self._stream.end([error_body(503, _STOPPING)])
            elif not self._replied:
                self._fail(503, _STOPPING)

    def _body(self) -> bytes:
        limits, given = self.server.limits, self.headers.get_all("Content-Length") or []
        if self.headers.get("Transfer-Encoding") is not None or len(given) != 1 or not given[0].strip().isdecimal():
            raise RequestError(411, "the request does not say how long it is; send one Content-Length, and no chunks")
        length = int(given[0]) if len(given[0].strip()) < 16 else limits.body + 1
        if length > limits.body:
            raise RequestError(413, f"the body is longer than {limits.body:,} bytes; send fewer or smaller images")
        if self.headers.get_content_type() != "application/json":
            raise RequestError(415, "the body is not said to be JSON; send it as Content-Type: application/json")
        try:
            body = self.rfile.read(length)
        except TimeoutError:
            self._late, body = True, b""
        if self._late:
            raise RequestError(408, f"the body did not arrive in {self.server.limits.seconds:g} seconds")
        if len(body) < length:
            raise RequestError(400, "the body is shorter than its Content-Length")
        self._unread = False
        assert self._watch is not None
        # An answer may take as long as it takes.
        self._watch.cancel()
        return body

    def _is_welcome(self) -> bool:
        """Refuses other sites' pages: in a browser on this machine they reach what listens to this machine alone."""
        sentence = refusal(self.headers.get("Host") or "", self.headers.get("Origin"), local=self.server.local)
        if sentence:
            self._fail(403, sentence)
        return not sentence

    def _too_late(self) -> None:
        self._late = True
        try:
            # What waits for more reads the end; an answer can still be written.
            self.connection.shutdown(socket.SHUT_RD)
        except OSError:
            # It is closed already.
            return

    def _fail(self, status: int, message: str, param: str | None = None, code: str | None = None) -> None:
        # What was not read of the request would be taken for the next one.
        self.close_connection = True
        self._json(status, error_body(status, message, param, code))

    def _json(self, status: int, data: Mapping[str, Any]) -> None:
        self._send(status, json.dumps(data).encode(), "application/json")

    def _send(self, status: int, content: bytes, kind: str) -> None:
        self.start(status, kind, {"Content-Length": str(len(content))})
        if self.command != "HEAD":
            self.wfile.write(content)

    def finish(self) -> None:
        """Ends the connection; the library calls it.

        What was refused unread is read away for a while: closed with bytes unread, the connection is reset, and the
        client may not see why.
        """
        super().finish()
        if not self._unread:
            return
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_WR)
            self.connection.settimeout(1)
            end = time.monotonic() + _LINGER
            while time.monotonic() < end and self.connection.recv(65536):
                pass

    def start(self, status: int, kind: str, more: Mapping[str, str]) -> None:
        """Writes the head of a response.

        Args:
            status: HTTP status.
            kind: Content type.
            more: Further headers.
        """
        self._replied = True
        self.send_response(status)
        headers = {"Content-Type": kind, **more, **_HEADERS}
        if status == 503:
            headers["Retry-After"] = "1"
        if status == HTTPStatus.METHOD_NOT_ALLOWED:
            headers["Allow"] = "POST" if self.path.partition("?")[0] == "/v1/chat/completions" else "GET"
        if self.close_connection:
            headers["Connection"] = "close"
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
