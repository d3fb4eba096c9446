"""A local HTTP server that speaks the chat-completions protocol, with faults on demand."""

from __future__ import annotations

import base64
import io
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from endpoint_server import listening
from PIL import Image


@dataclass
class ChatServer:
    """What it was asked, and how it answers.

    Attributes:
        reply: A request -> the text of the next turn.
        faults: Taken off the front before each answer: a status, raw bytes sent as they are, or None for no fault.
        requests: All requests in order of arrival.
        url: Its base address.
    """

    reply: Callable[[dict[str, Any]], str]
    faults: list[int | bytes | None] = field(default_factory=list)
    requests: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    url: str = ""


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


def completion(words: str | None, reason: str = "stop") -> bytes:
    message = {"role": "assistant", "content": words}
    body = {"id": "1", "object": "chat.completion", "created": 0, "model": "m"}
    return json.dumps(body | {"choices": [{"index": 0, "message": message, "finish_reason": reason}]}).encode()


@contextmanager
def serve(reply: Callable[[dict[str, Any]], str]) -> Iterator[ChatServer]:
    """Runs a server on a free port."""
    server = ChatServer(reply)
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v1/chat/completions"
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                server.requests.append(request)
                server.keys.append(self.headers.get("Authorization"))
                fault = server.faults.pop(0) if server.faults else None
            status, body = 200, b""
            if isinstance(fault, int):
                status, body = fault, json.dumps({"error": {"message": f"fault {fault}"}}).encode()
            else:
                body = completion(server.reply(request)) if fault is None else fault
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            if status == 429:
                self.send_header("Retry-After", "7")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with listening(Handler) as server.url:
        yield server
