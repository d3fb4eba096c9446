"""A local server that speaks the chat-completions protocol, with faults on demand."""

from __future__ import annotations

import base64
import io
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from PIL import Image

Reply = str | int | bytes | float
"""The assistant's text, an HTTP status, a raw body, or seconds of silence."""


@dataclass
class Server:
    """What it was asked, and how it answers.

    Attributes:
        reply: A request -> the reply.
        faults: Taken off the front before each answer; None for no fault.
        status: HTTP status of what is no fault.
        said: What a fault says; its status if empty.
        models: Who owns the models that it lists, or the status with which it refuses to list any.
        retry_after: Sent with each status of an error, unless None.
        content_type: Sent with each answer.
        extra: Value of a header of its own, unless empty.
        requests: All requests in order of arrival.
        headers: Their headers, names in lower case.
        most_at_once: How many were under way at the same time.
        url: Its base address.
    """

    reply: Callable[[dict[str, Any]], Reply]
    faults: list[Reply | None] = field(default_factory=list)
    status: int = 200
    said: str = ""
    models: str | int = 404
    retry_after: str | None = None
    content_type: str = "application/json"
    extra: str = ""
    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    most_at_once: int = 0
    url: str = ""
    _at_once: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def handle(self, handler: BaseHTTPRequestHandler) -> None:
        request = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
        with self._lock:
            self.requests.append(request)
            self.headers.append({name.lower(): value for name, value in handler.headers.items()})
            fault = self.faults.pop(0) if self.faults else None
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            reply = self.reply(request) if fault is None else fault
        finally:
            with self._lock:
                self._at_once -= 1
        if isinstance(reply, float):
            time.sleep(reply)
            reply = 500
        status, content = self.status, reply
        if isinstance(reply, int):
            message = self.said or f"fault {reply}"
            status, content = reply, json.dumps({"error": {"message": message, "code": "x"}}).encode()
        elif isinstance(reply, str):
            content = completion(reply, model=request["model"])
        assert isinstance(content, bytes)
        try:
            handler.send_response(status)
            handler.send_header("Content-Type", self.content_type)
            handler.send_header("Content-Length", str(len(content)))
            if self.extra:
                handler.send_header("X-Extra", self.extra)
            if status != 200 and self.retry_after is not None:
                handler.send_header("Retry-After", self.retry_after)
            handler.end_headers()
            handler.wfile.write(content)
        except (BrokenPipeError, ConnectionResetError):
            # A client that gave up does not read.
            return


def completion(words: object, reason: object = "stop", model: object = "m", **more: object) -> bytes:
    message = {"role": "assistant", "content": words} | more
    body = {"id": "1", "object": "chat.completion", "created": 0, "model": model}
    return json.dumps(body | {"choices": [{"index": 0, "message": message, "finish_reason": reason}]}).encode()


def pictures(message: dict[str, Any]) -> list[Image.Image]:
    """The pictures of a message as it came over the wire."""
    parts = message["content"] if isinstance(message["content"], list) else []
    urls = [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]
    assert all(url.startswith("data:image/png;base64,") for url in urls)
    return [Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))) for url in urls]


def text(message: dict[str, Any]) -> str:
    """The text of a message as it came over the wire."""
    content = message["content"]
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


@contextmanager
def serve(reply: Callable[[dict[str, Any]], Reply]) -> Iterator[Server]:
    """Runs a server on a free port of this machine."""
    server = Server(reply)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            assert self.path == "/v1/models"
            status = server.models if isinstance(server.models, int) else 200
            content = json.dumps({"object": "list", "data": [{"id": "m", "owned_by": server.models}]}).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def do_POST(self) -> None:
            assert self.path == "/v1/chat/completions"
            server.handle(self)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    server.url = f"http://127.0.0.1:{http.server_port}/v1"
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
        thread.join()
